// Vectors of VOLO_VECTOR_BYTES bytes, as GCC and Clang provide them for every processor, and the few operations that
// the windows need. Everything has internal linkage, because this header is compiled once for each instruction set:
// of an inline function with external linkage, the linker would keep the code of one set and use it for all.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define VOLO_INLINE inline __attribute__((always_inline))
#define VOLO_LAMBDA __attribute__((always_inline))

namespace {

typedef std::int64_t Index;

template <class A>
struct Vector {
    typedef A Type __attribute__((vector_size(VOLO_VECTOR_BYTES)));
    typedef A Unaligned __attribute__((vector_size(VOLO_VECTOR_BYTES), aligned(sizeof(A))));
    static constexpr int lanes = VOLO_VECTOR_BYTES / sizeof(A);
};

typedef Vector<float>::Type Floats;
typedef std::int32_t Ints __attribute__((vector_size(VOLO_VECTOR_BYTES)));
constexpr int kLanes = Vector<float>::lanes;

template <class A>
VOLO_INLINE typename Vector<A>::Type load(const A* from) {
    return *reinterpret_cast<const typename Vector<A>::Unaligned*>(from);
}

template <class A>
VOLO_INLINE void store(A* to, typename Vector<A>::Type x) {
    *reinterpret_cast<typename Vector<A>::Unaligned*>(to) = x;
}

template <class A>
VOLO_INLINE typename Vector<A>::Type splat(A x) {
    return x - typename Vector<A>::Type{};
}

// unroll<N>(f) calls f(0) ... f(N - 1) with compile-time constants, so that arrays of accumulators become registers.
template <int I>
struct Constant {
    constexpr operator int() const { return I; }
};

template <int N, int I = 0, class F>
VOLO_INLINE void unroll(const F& f) {
    if constexpr (I < N) {
        f(Constant<I>{});
        unroll<N, I + 1>(f);
    }
}

template <int... I>
struct Sequence {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
    typedef Sequence<I...> Type;
};

#if defined(__clang__) || __GNUC__ >= 12
#define VOLO_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VOLO_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// Adds neighboring elements of a, then of b: the even elements plus the odd ones. With Size 1, an element is a lane,
// and neighbors are in the same group of four lanes; with Size 4, an element is such a group. x86 has one instruction
// for each of these moves.
template <int Size>
constexpr int even_element(int lane) {
    constexpr int kSpan = Size == 1 ? 4 : kLanes;  // lanes within which elements move
    const int within = lane % kSpan / Size, half = kSpan / Size / 2;
    const int from = lane - lane % kSpan + within % half * 2 * Size + lane % Size;
    return within < half ? from : from + kLanes;
}

template <int Size, int... I>
VOLO_INLINE Floats add_neighbours(Floats a, Floats b, Sequence<I...>) {
    return VOLO_SHUFFLE(a, b, even_element<Size>(I)...) + VOLO_SHUFFLE(a, b, (even_element<Size>(I) + Size)...);
}

// Returns a vector whose lane l is the sum of all lanes of leaf(first + l), by a tree of additions over kLanes vectors.
template <int Leaves = kLanes, class F>
VOLO_INLINE Floats sums(const F& leaf, int first) {
    if constexpr (Leaves == 1) {
        return leaf(first);
    } else {
        constexpr int kHalf = Leaves / 2;
        return add_neighbours<(Leaves > 4 ? 4 : 1)>(sums<kHalf>(leaf, first), sums<kHalf>(leaf, first + kHalf),
                                                    typename Count<kLanes>::Type{});
    }
}

// e^x for -87.33 <= x <= 88, with a relative error below 1e-7. With x = n·ln 2 + r and |r| <= ln 2 / 2, a polynomial
// gives e^r (a minimax fit with a relative error of 5e-9), and n is added to its exponent bits. Adding 1.5·2^23 rounds
// to the nearest integer and leaves it in the low bits. ln 2 is split in two parts to keep r accurate without FMA.
VOLO_INLINE Floats exp_in_range(Floats x) {
    constexpr float kRound = 12582912.0f;
    const Floats shifted = x * 0x1.715476p+0f + kRound;
    const Floats n = shifted - kRound;
    const Floats r = (x - n * 0x1.63p-1f) + n * 0x1.bd0106p-13f;
    Floats p = 0x1.6a1a72p-10f * r + 0x1.123fc6p-7f;
    p = p * r + 0x1.555916p-5f;
    p = p * r + 0x1.55548ap-3f;
    p = p * r + 0x1.fffffcp-2f;
    p = (p * r) * r + r;
    p = p + 1.0f;
    return (Floats)((Ints)p + ((Ints)shifted << 23));
}

// e^x for x <= 0 and for NaN, as a softmax needs it; results that would be subnormal are 0.
VOLO_INLINE Floats exp_of_negative(Floats x) {
    constexpr float kLowest = -87.33f;
    const Ints tiny = x < kLowest;
    const Floats e = exp_in_range(tiny ? splat(kLowest) : x);
    return tiny ? Floats{} : (x == x ? e : x);  // adding to the exponent bits of a NaN would change it
}

VOLO_INLINE Vector<double>::Type exp_of_negative(Vector<double>::Type x) {
    for (int lane = 0; lane < Vector<double>::lanes; ++lane) x[lane] = std::exp(x[lane]);
    return x;
}

}  // namespace
