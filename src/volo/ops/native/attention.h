// Self-attention of one head in float32, for short sequences: the keys are transposed once, the scores of a few
// queries stay in the first-level cache until the values are mixed, and nothing else is written.
//
// Shape letters: L tokens, N heads, D head dim, C = N·D. Of every token there are 3·C numbers: query, key, value.
#pragma once

#include "call.h"
#include "simd.h"

namespace {

// 2^x for x <= 0, not below 2^-125; relative error below 1e-7 for small |x|. x = n + r with |r| <= 1/2, as in
// exp_in_range; the polynomial is a least-maximum fit of the relative error. A NaN gives any number.
VOLO_INLINE Floats exp2_of_negative(Floats x) {
    constexpr float kLowest = -125.0f, kRound = 12582912.0f;
    x = x < kLowest ? splat(kLowest) : x;
    const Floats shifted = x + kRound;
    const Floats r = x - (shifted - kRound);
    Floats p = 0x1.5c08e2p-10f * r + 0x1.3d0c52p-7f;
    p = p * r + 0x1.c6b6e6p-5f;
    p = p * r + 0x1.ebf918p-3f;
    p = p * r + 0x1.62e428p-1f;
    p = p * r + 0x1.000002p+0f;
    return (Floats)((Ints)p + ((Ints)shifted << 23));
}

// use(r, n, x) for the sums x over k of left[r · left_step + k] · right[k · right_step + n · lanes], R by NV vectors.
template <int R, int NV, class Use>
VOLO_INLINE void product(const float* left, Index left_step, const float* right, Index right_step, Index count,
                         const Use& use) {
    Floats acc[R][NV] = {};
    for (Index k = 0; k < count; ++k) {
        Floats x[NV];
        unroll<NV>([&](auto n) VOLO_LAMBDA { x[n] = load(right + k * right_step + n * kLanes); });
        unroll<R>([&](auto r) VOLO_LAMBDA {
            const Floats weight = splat(left[r * left_step + k]);
            unroll<NV>([&](auto n) VOLO_LAMBDA { acc[r][n] += x[n] * weight; });
        });
    }
    unroll<R>([&](auto r) VOLO_LAMBDA { unroll<NV>([&](auto n) VOLO_LAMBDA { use(r, n, acc[r][n]); }); });
}

class Attention {
public:
    static Index scratch(const VoloAttention& c) { return (c.dim + kRows) * padded(c.tokens); }

    // Queries first to last of one head of one image.
    Attention(const VoloAttention& call, Index image, Index head, float* room)
        : c(call), width(padded(c.tokens)), channels(c.heads * c.dim), row(3 * channels),
          query(c.qkv + image * c.tokens * row + head * c.dim), value(query + 2 * channels),
          out(c.out + image * c.tokens * channels + head * c.dim), keys(room), scores(room + c.dim * width) {}

    void run(Index first, Index last) {
        for (Index j = 0; j < width; ++j)
            for (Index d = 0; d < c.dim; ++d)
                keys[d * width + j] = j < c.tokens ? query[j * row + channels + d] : 0.0f;
        for (; first + kRows <= last; first += kRows) rows<kRows>(first);
        for (; first < last; ++first) rows<1>(first);
    }

private:
    // As many sums as registers hold beside what they are made from.
    static constexpr int kRows = kLanes == 16 ? 6 : 4, kVectors = kLanes == 16 ? 4 : 2;

    const VoloAttention& c;
    const Index width, channels, row;
    const float *query, *value;
    float *out, *keys, *scores;

    static Index padded(Index tokens) { return (tokens + kLanes - 1) / kLanes * kLanes; }

    template <int R>
    void rows(Index i) {
        Index j = 0;
        for (; j + kVectors * kLanes <= width; j += kVectors * kLanes) score<R, kVectors>(i, j);
        for (; j < width; j += kLanes) score<R, 1>(i, j);
        float factor[R];
        for (int r = 0; r < R; ++r) factor[r] = weigh(scores + r * width);
        Index d = 0;
        for (; d + 2 * kLanes <= c.dim; d += 2 * kLanes) mix<R, 2>(i, d, factor);
        for (; d < c.dim; d += kLanes) mix<R, 1>(i, d, factor);
    }

    template <int R, int NV>
    VOLO_INLINE void score(Index i, Index j) {
        product<R, NV>(query + i * row, row, keys + j, width, c.dim, [&](auto r, auto n, Floats x) VOLO_LAMBDA {
            store(scores + r * width + j + n * kLanes, x);
        });
    }

    template <int R, int NV>
    VOLO_INLINE void mix(Index i, Index d, const float* factor) {
        product<R, NV>(scores, width, value + d, row, c.tokens, [&](auto r, auto n, Floats x) VOLO_LAMBDA {
            store(out + (i + r) * channels + d + n * kLanes, x * factor[r]);
        });
    }

    // e^(scale · (x - the largest)) of a line of scores in their place; gives one by the sum, NaN where there is a NaN.
    VOLO_INLINE float weigh(float* line) {
        for (Index j = c.tokens; j < width; ++j) line[j] = -INFINITY;
        Floats most = load(line);
        Ints strange = {};
        for (Index j = 0; j < width; j += kLanes) {
            const Floats x = load(line + j);
            most = x > most ? x : most;
            strange |= x != x;
        }
        float top = most[0];
        bool nan = strange[0];
        for (int lane = 1; lane < kLanes; ++lane) {
            top = most[lane] > top ? most[lane] : top;
            nan = nan || strange[lane];
        }
        const float scale = c.scale * 0x1.715476p+0f;  // by log2(e)
        Floats total = {};
        for (Index j = 0; j < width; j += kLanes) {
            const Floats e = exp2_of_negative((load(line + j) - top) * scale);
            store(line + j, e);
            total += e;
        }
        float sum = 0;
        for (int lane = 0; lane < kLanes; ++lane) sum += total[lane];
        return nan || top == INFINITY ? NAN : 1 / sum;
    }
};

}  // namespace
