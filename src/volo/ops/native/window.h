// One window of outlook attention for all heads: softmax, mixing, and their gradients.
//
// Shape letters: N heads, D head dim, K window. The logits of a window are (N, K², K²), contiguous. Each of its K²
// positions is a pointer to C = N·D channels; a position outside the map points to zeros (for reading) or to scratch
// memory (for writing). The weights stay in the first-level cache between softmax and mixing.
#pragma once

#include "simd.h"

namespace {

// The positions of one window. `sums[i]` is where position i is written; `before[i]` is the same place, or zeros if no
// earlier window has written there.
template <class A>
struct Positions {
    const A** value;
    const A** grad;
    A** sums;
    const A** before;
};

// Computes sums[i] = before[i] + Σ_j weights[i·row + j·col] · in[j] for R positions i and NV vectors of channels at d.
template <int R, int NV, class A>
VOLO_INLINE void mix_block(const A* weights, Index row, Index col, Index count, const A* const* in, A* const* sums,
                           const A* const* before, Index d) {
    constexpr int L = Vector<A>::lanes;
    typename Vector<A>::Type acc[R][NV] = {};
    for (Index j = 0; j < count; ++j) {
        typename Vector<A>::Type x[NV];
        unroll<NV>([&](auto n) VOLO_LAMBDA { x[n] = load(in[j] + d + n * L); });
        unroll<R>([&](auto i) VOLO_LAMBDA {
            const auto weight = splat(weights[i * row + j * col]);
            unroll<NV>([&](auto n) VOLO_LAMBDA { acc[i][n] += x[n] * weight; });
        });
    }
    unroll<R>([&](auto i) VOLO_LAMBDA {
        unroll<NV>([&](auto n) VOLO_LAMBDA {
            store(sums[i] + d + n * L, load(before[i] + d + n * L) + acc[i][n]);
        });
    });
}

// Does the same for all D channels of the head that starts at channel `offset`.
template <int R, class A>
VOLO_INLINE void mix(const A* weights, Index row, Index col, Index count, const A* const* in, A* const* sums,
                     const A* const* before, Index offset, Index dim) {
    constexpr int L = Vector<A>::lanes;
    const Index end = offset + dim;
    Index d = offset;
    for (; d + 2 * L <= end; d += 2 * L) mix_block<R, 2>(weights, row, col, count, in, sums, before, d);
    for (; d + L <= end; d += L) mix_block<R, 1>(weights, row, col, count, in, sums, before, d);
    for (; d < end; ++d) {
        for (int i = 0; i < R; ++i) {
            A acc = 0;
            for (Index j = 0; j < count; ++j) acc += weights[i * row + j * col] * in[j][d];
            sums[i][d] = before[i][d] + acc;
        }
    }
}

// Does the same for any number of positions, four at a time.
template <class A>
void mix_any(const A* weights, Index row, Index col, Index count, const A* const* in, A* const* sums,
             const A* const* before, Index first, Index last, Index offset, Index dim) {
    Index i = first;
    for (; i + 4 <= last; i += 4)
        mix<4>(weights + i * row, row, col, count, in, sums + i, before + i, offset, dim);
    for (; i < last; ++i) mix<1>(weights + i * row, row, col, count, in, sums + i, before + i, offset, dim);
}

// Returns the sum of the lanes, added in pairs: adding one lane after the other would accumulate rounding errors.
template <class A>
VOLO_INLINE A lane_sum(typename Vector<A>::Type x) {
    for (int half = Vector<A>::lanes / 2; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) x[lane] += x[lane + half];
    return x[0];
}

// Computes p = softmax(scale · logits) for rows of any length. `line` has space for a row, rounded up to whole vectors.
template <class A>
void softmax_rows(const A* logits, A* p, Index rows, Index cols, A scale, A* line) {
    typedef typename Vector<A>::Type V;
    constexpr int L = Vector<A>::lanes;
    const Index padded = (cols + L - 1) / L * L;
    const V lowest = splat(-(A)INFINITY);
    for (Index r = 0; r < rows; ++r, logits += cols, p += cols) {
        store(line + padded - L, lowest);
        for (Index j = 0; j < cols; ++j) line[j] = logits[j] * scale;
        V most = lowest;
        for (Index j = 0; j < padded; j += L) most = load(line + j) > most ? load(line + j) : most;
        A top = most[0];
        for (int lane = 1; lane < L; ++lane) top = most[lane] > top ? most[lane] : top;
        V total = {};
        for (Index j = 0; j < padded; j += L) {
            const V e = exp_of_negative(load(line + j) - top);
            store(line + j, e);
            total += e;
        }
        const A factor = 1 / lane_sum<A>(total);
        for (Index j = 0; j < cols; ++j) p[j] = line[j] * factor;
    }
}

template <class A>
VOLO_INLINE A dot(const A* a, const A* b, Index count) {
    typedef typename Vector<A>::Type V;
    constexpr int L = Vector<A>::lanes;
    V acc = {};
    Index d = 0;
    for (; d + L <= count; d += L) acc += load(a + d) * load(b + d);
    A sum = 0;
    for (; d < count; ++d) sum += a[d] * b[d];
    return sum + lane_sum<A>(acc);
}

// A window of any K, computed in A = float or double. `room` has space for scratch() numbers.
template <class A>
struct AnyWindow {
    static Index scratch(Index heads, Index window) {
        return 2 * heads * window * window + window + 2 * Vector<A>::lanes;
    }

    // Writes positions first to last of the window only.
    static void forward(const A* logits, const Positions<A>& at, Index heads, Index dim, Index window, A scale,
                        Index first, Index last, A* room) {
        A* p = room;
        softmax_rows(logits, p, heads * window, window, scale, p + heads * window * window);
        for (Index n = 0; n < heads; ++n, p += window * window)
            mix_any(p, window, 1, window, at.value, at.sums, at.before, first, last, n * dim, dim);
    }

    // Writes the gradient of value at positions first to last, and the gradient of logits unless `grad_logits` is null.
    static void backward(const A* logits, A* grad_logits, const Positions<A>& at, Index heads, Index dim,
                         Index window, A scale, Index first, Index last, A* room) {
        A* p = room;
        A* line = p + heads * window * window;
        softmax_rows(logits, p, heads * window, window, scale, line);
        for (Index n = 0; n < heads; ++n, p += window * window) {
            mix_any(p, 1, window, window, at.grad, at.sums, at.before, first, last, n * dim, dim);
            for (Index i = 0; grad_logits && i < window; ++i, grad_logits += window) {
                const A* row = p + i * window;
                for (Index j = 0; j < window; ++j) line[j] = dot(at.grad[i] + n * dim, at.value[j] + n * dim, dim);
                const A inner = dot(row, line, window);
                for (Index j = 0; j < window; ++j) grad_logits[j] = scale * row[j] * (line[j] - inner);
            }
        }
    }
};

// The paper's window, K = 3, in float32. The 9·9 weights of a head are treated as 81 consecutive numbers. Steps that
// need whole rows of 9 read them from the cache again and write them to another buffer; reads overlap the next row.
struct NineWindow {
    static constexpr int K2 = 9, K4 = 81;

    static Index scratch(Index heads, Index) { return 3 * (heads * K4 + 2 * kLanes); }

    // Computes p = softmax(scale · logits) of all rows. If |x| <= 40 everywhere, exp is taken without subtracting the
    // maximum of the row: nothing can overflow or lose digits then. As an integer, a NaN is larger than 40, too.
    static VOLO_INLINE void softmax(const float* logits, float* p, float* e, Index heads, float scale) {
        constexpr float kSafe = 40.0f;
        const Index count = heads * K4, rows = heads * K2;
        Ints largest = {};
        auto piece = [&](Floats x) VOLO_LAMBDA {
            const Floats scaled = x * scale;
            const Ints magnitude = (Ints)scaled & 0x7fffffff;
            largest = magnitude > largest ? magnitude : largest;
            return exp_in_range(scaled);
        };
        Index k = 0;
        for (; k + kLanes <= count; k += kLanes) store(e + k, piece(load(logits + k)));
        if (k < count) {
            float rest[kLanes] = {};
            std::memcpy(rest, logits + k, (count - k) * sizeof(float));
            store(e + k, piece(load(rest)));
        }
        std::int32_t most = 0, safe;
        for (int lane = 0; lane < kLanes; ++lane) most = largest[lane] > most ? largest[lane] : most;
        std::memcpy(&safe, &kSafe, sizeof safe);
        if (most > safe) return softmax_rows(logits, p, rows, K2, scale, e);
        for (Index r = 0; r < rows; ++r) {
            const float* row = e + r * K2;
            put_row(p + r * K2, row, 1.0f / row_sum(row));
        }
    }

    static VOLO_INLINE float row_sum(const float* x) {
        return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])) + x[8];
    }

    // Computes to[j] = from[j] · factor for a row of nine. With 16 lanes it also writes behind the row, so rows must be
    // written in increasing order.
    static VOLO_INLINE void put_row(float* to, const float* from, float factor) {
        store(to, load(from) * factor);
        if constexpr (kLanes == 4) store(to + 4, load(from + 4) * factor);
        if constexpr (kLanes < 16) to[8] = from[8] * factor;
    }

    template <bool Transposed>
    static VOLO_INLINE void mix_nine(const float* p, const float* const* in, const Positions<float>& at, Index first,
                                     Index last, Index offset, Index dim) {
        constexpr Index row = Transposed ? 1 : K2, col = Transposed ? K2 : 1;
        if (first != 0 || last != K2) {
            for (Index i = first; i < last; i += 3)
                mix<3>(p + i * row, row, col, K2, in, at.sums + i, at.before + i, offset, dim);
            return;
        }
#if defined(__AVX512F__) || defined(__aarch64__)  // 32 registers: enough for nine accumulators of two vectors each
        mix<9>(p, row, col, K2, in, at.sums, at.before, offset, dim);
#else
        mix<5>(p, row, col, K2, in, at.sums, at.before, offset, dim);
        mix<4>(p + 5 * row, row, col, K2, in, at.sums + 5, at.before + 5, offset, dim);
#endif
    }

    static void forward(const float* logits, const Positions<float>& at, Index heads, Index dim, Index, float scale,
                        Index first, Index last, float* room) {
        float *p = room, *e = p + heads * K4 + 2 * kLanes;
        softmax(logits, p, e, heads, scale);
        for (Index n = 0; n < heads; ++n)
            mix_nine<false>(p + n * K4, at.value, at, first, last, n * dim, dim);
    }

    // Computes dp[9·i + j] = grad_i · value_j, the inner product over the channels of a head.
    template <int Whole>  // dim in vectors if it is known at compile time, else 0
    static VOLO_INLINE void weight_gradients(float* dp, const Positions<float>& at, Index offset, Index dim) {
        const Index vectors = Whole ? Whole : dim / kLanes;
        auto partial = [&](int k) VOLO_LAMBDA {
            if (k >= K4) return Floats{};
            const float *a = at.grad[k / K2] + offset, *b = at.value[k % K2] + offset;
            Floats acc = {};
            if constexpr (Whole) {
                unroll<Whole>([&](auto n) VOLO_LAMBDA { acc += load(a + n * kLanes) * load(b + n * kLanes); });
            } else {
                for (Index n = 0; n < vectors; ++n) acc += load(a + n * kLanes) * load(b + n * kLanes);
            }
            return acc;
        };
        unroll<(K4 + kLanes - 1) / kLanes>([&](auto k) VOLO_LAMBDA { store(dp + k * kLanes, sums(partial, k * kLanes)); });
        for (Index d = vectors * kLanes; d < dim; ++d)
            for (int k = 0; k < K4; ++k) dp[k] += at.grad[k / K2][offset + d] * at.value[k % K2][offset + d];
    }

    static void backward(const float* logits, float* grad_logits, const Positions<float>& at, Index heads, Index dim,
                         Index, float scale, Index first, Index last, float* room) {
        const Index room_of_one = heads * K4 + 2 * kLanes, rows = heads * K2;
        float *p = room, *dp = p + room_of_one, *product = dp + room_of_one;
        softmax(logits, p, dp, heads, scale);
        for (Index n = 0; n < heads; ++n)
            mix_nine<true>(p + n * K4, at.grad, at, first, last, n * dim, dim);
        if (!grad_logits) return;
        for (Index n = 0; n < heads; ++n) {
            if (dim == 32) {
                weight_gradients<32 / kLanes>(dp + n * K4, at, n * dim, dim);
            } else {
                weight_gradients<0>(dp + n * K4, at, n * dim, dim);
            }
        }
        for (Index k = 0; k < heads * K4; k += kLanes) store(product + k, load(p + k) * load(dp + k) * scale);
        // grad = product - p · Σ_row product, where product is scaled; the last row must not write past the window.
        for (Index r = 0; r < rows; ++r) {
            const Index at_row = r * K2;
            const float inner = row_sum(product + at_row);
            auto gradient = [&](Index j) VOLO_LAMBDA {
                return load(product + at_row + j) - load(p + at_row + j) * inner;
            };
            float* to = grad_logits + at_row;
            if (kLanes < 16 || r + 1 < rows) {
                store(to, gradient(0));
                if constexpr (kLanes == 4) store(to + 4, gradient(4));
                if constexpr (kLanes < 16) to[8] = product[at_row + 8] - p[at_row + 8] * inner;
            } else {
                for (int j = 0; j < K2; ++j) to[j] = product[at_row + j] - p[at_row + j] * inner;
            }
        }
    }
};

}  // namespace
