// The arguments of one call of the operator, and the functions that the build for an instruction set provides.
#pragma once

#include <cstddef>
#include <cstdint>

enum VoloDtype { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

// B batch, H W map, h w strided map, N heads, D head dim, K window, s stride, p padding. All tensors contiguous:
// value, grad, sums (B, H, W, N·D); logits, grad_logits (B, h, w, N, K², K²).
struct VoloCall {
    const void* value;
    const void* logits;
    const void* grad;   // gradient of the output; null in a forward call
    void* sums;         // forward: the output; backward: the gradient of value
    void* grad_logits;  // the gradient of logits; null in a forward call
    std::int64_t batch, height, width, h, w, heads, dim, kernel, stride, padding;
    std::int64_t dtype;
    double scale;
    std::int64_t chunks;  // number of bands of window rows that an image is divided into
};

struct VoloSet {
    const char* name;
    std::size_t (*scratch_bytes)(const VoloCall&);
    // Computes band `task % chunks` of image `task / chunks`.
    void (*run)(const VoloCall&, std::int64_t task, void* scratch);
};

#if defined(__x86_64__)
extern const VoloSet volo_portable, volo_avx2, volo_avx512;
#elif defined(__aarch64__)
extern const VoloSet volo_neon;
#else
extern const VoloSet volo_portable;
#endif
