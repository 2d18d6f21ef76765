// Outlook attention, forward and backward, for one instruction set. CMake compiles this file once for each set, with
// VOLO_SET (its name) and VOLO_VECTOR_BYTES.
//
// An image is divided into bands of window rows. A band owns the map rows from the first row of its first window up to
// the first row of the next band, and no other band writes them. Windows of the band above that overlap these rows are
// computed again, for these rows only. So there is no race, and the windows are always summed in the same order: the
// result has the same bits for any number of bands and threads.
//
// In the backward pass `sums` is the gradient of value: a window adds Σ_i p_ij · grad_i to position j, just as in the
// forward pass it adds Σ_j p_ij · value_j to position i.

#include "call.h"
#include "window.h"

namespace {

VOLO_INLINE float widen_bfloat16(std::uint16_t x) {
    const std::uint32_t bits = (std::uint32_t)x << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

VOLO_INLINE std::uint16_t narrow_bfloat16(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (std::uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // round to nearest, ties to even
}

VOLO_INLINE float widen_float16(std::uint16_t x) {
    // Shifted up by 13 bits, the exponent is 112 too low for float32; infinity and NaN need all exponent bits set.
    std::uint32_t bits = (std::uint32_t)(x & 0x7fffu) << 13;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    wide *= 0x1p112f;
    std::memcpy(&bits, &wide, sizeof bits);
    if ((x & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
    bits |= (std::uint32_t)(x & 0x8000u) << 16;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

VOLO_INLINE std::uint16_t narrow_float16(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const std::uint16_t sign = (std::uint16_t)((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return sign | 0x7e00;
    if (bits >= 0x477ff000u) return sign | 0x7c00;  // 65520 and above round to infinity
    if (bits < 0x38800000u) {                       // subnormal: adding 0.5 rounds to a multiple of 2^-24
        float tiny;
        std::memcpy(&tiny, &bits, sizeof tiny);
        tiny += 0.5f;
        std::memcpy(&bits, &tiny, sizeof bits);
        return sign | (std::uint16_t)(bits - 0x3f000000u);
    }
    return sign | (std::uint16_t)((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13);
}

// Conversions between the stored type T and the type A that is used for computing.
struct Float32 {
    typedef float T;
    typedef float A;
    static constexpr bool direct = true;
};
struct Float64 {
    typedef double T;
    typedef double A;
    static constexpr bool direct = true;
};
struct BFloat16 {
    typedef std::uint16_t T;
    typedef float A;
    static constexpr bool direct = false;
    static VOLO_INLINE float widen(T x) { return widen_bfloat16(x); }
    static VOLO_INLINE T narrow(float x) { return narrow_bfloat16(x); }
};
struct Float16 {
    typedef std::uint16_t T;
    typedef float A;
    static constexpr bool direct = false;
    static VOLO_INLINE float widen(T x) { return widen_float16(x); }
    static VOLO_INLINE T narrow(float x) { return narrow_float16(x); }
};

template <class Dtype, class T, class A>
const A* widened(const T* from, A* room, Index count) {
    if constexpr (Dtype::direct) {
        return from;
    } else {
        for (Index k = 0; k < count; ++k) room[k] = Dtype::widen(from[k]);
        return room;
    }
}

template <class Dtype, class T, class A>
void narrow_into(T* to, const A* from, Index count) {
    if constexpr (!Dtype::direct)
        for (Index k = 0; k < count; ++k) to[k] = Dtype::narrow(from[k]);
}

inline Index clamp(Index x, Index low, Index high) { return x < low ? low : x > high ? high : x; }

// Returns the first map row that belongs to a band whose first window row is y.
inline Index first_row(const VoloCall& c, Index y) {
    if (y == 0) return 0;
    return y == c.h ? c.height : clamp(y * c.stride - c.padding, 0, c.height);
}

// Returns whether some position of the map is in no window.
inline bool has_gaps(const VoloCall& c) {
    return c.stride > c.kernel || (c.h - 1) * c.stride + c.kernel < c.height + c.padding ||
           (c.w - 1) * c.stride + c.kernel < c.width + c.padding;
}

// Hands out consecutive pieces of the scratch memory. With a null base it only counts the bytes.
class Room {
public:
    explicit Room(void* base) : base_(static_cast<char*>(base)) {}
    template <class P>
    P* take(Index count) {
        P* piece = reinterpret_cast<P*>(base_ + used_);
        used_ += (count * sizeof(P) + 63) / 64 * 64;
        return base_ ? piece : nullptr;
    }
    std::size_t used() const { return used_; }

private:
    char* base_;
    std::size_t used_ = 0;
};

// One band and its scratch memory, whose size grows with the length of a map row, not with the number of rows.
template <class Dtype, class Window>
struct Band {
    typedef typename Dtype::T T;
    typedef typename Dtype::A A;

    const VoloCall& c;
    Room room;
    const Index channels, window, row_size, weights;
    Positions<A> at;
    const A **value_rows, **grad_rows;  // the K map rows under the current windows; null: outside the map
    A** sums_rows;
    A *zeros, *trash, *window_room;
    A *value_ring, *grad_ring, *sums_ring, *wide_logits, *wide_grad_logits;  // for 16-bit types: rows in float32

    Band(const VoloCall& call, void* scratch)
        : c(call), room(scratch), channels(c.heads * c.dim), window(c.kernel * c.kernel),
          row_size(c.width * channels), weights(c.heads * window * window) {
        at.value = room.take<const A*>(window);
        at.grad = room.take<const A*>(window);
        at.sums = room.take<A*>(window);
        at.before = room.take<const A*>(window);
        value_rows = room.take<const A*>(c.kernel);
        grad_rows = room.take<const A*>(c.kernel);
        sums_rows = room.take<A*>(c.kernel);
        zeros = room.take<A>(channels);
        trash = room.take<A>(channels);
        window_room = room.take<A>(Window::scratch(c.heads, window));
        const Index ring = Dtype::direct ? 0 : c.kernel * row_size;
        value_ring = room.take<A>(ring);
        grad_ring = room.take<A>(c.grad ? ring : 0);
        sums_ring = room.take<A>(ring);
        wide_logits = room.take<A>(Dtype::direct ? 0 : weights);
        wide_grad_logits = room.take<A>(Dtype::direct || !c.grad ? 0 : weights);
    }

    void run(Index image, Index top, Index bottom) {
        for (Index k = 0; k < channels; ++k) zeros[k] = 0;
        const T* value = static_cast<const T*>(c.value) + image * c.height * row_size;
        const T* grad = static_cast<const T*>(c.grad) + (c.grad ? image * c.height * row_size : 0);
        T* sums = static_cast<T*>(c.sums) + image * c.height * row_size;
        const Index owned = first_row(c, top), end = first_row(c, bottom);
        if (has_gaps(c)) std::memset(sums + owned * row_size, 0, (end - owned) * row_size * sizeof(T));
        // Map rows are loaded into the ring when the windows reach them; `loaded` is the first row not loaded yet.
        const Index reach = (c.kernel - 1) / c.stride;
        Index y = top - reach > 0 ? top - reach : 0, loaded = 0;
        for (; y < bottom; ++y) {
            const Index first = y * c.stride - c.padding;
            loaded = clamp(first, loaded, c.height);
            for (; loaded < first + c.kernel && loaded < c.height; ++loaded) load_row(value, grad, loaded);
            Index low = c.kernel, high = 0;  // the window rows that are inside the map and belong to this band
            for (Index k = 0; k < c.kernel; ++k) {
                const Index row = first + k;
                const bool inside = row >= 0 && row < c.height;
                value_rows[k] = inside ? place(value, value_ring, row) : nullptr;
                grad_rows[k] = inside && c.grad ? place(grad, grad_ring, row) : nullptr;
                sums_rows[k] = inside ? place(sums, sums_ring, row) : nullptr;
                if (row < owned || row >= end) continue;
                low = k < low ? k : low;
                high = k + 1;
            }
            if (low < high || (c.grad && y >= top)) window_row(image, y, y >= top, low < high ? low : 0, high);
            const Index done = y + 1 == bottom ? end : first + c.stride;
            if constexpr (!Dtype::direct)
                for (Index row = first > owned ? first : owned; row < done && row < first + c.kernel && row < end; ++row)
                    narrow_into<Dtype>(sums + row * row_size, place(sums, sums_ring, row), row_size);
        }
    }

    template <class P, class Q>
    auto place(P* tensor, Q* ring, Index row) -> Q* {
        if constexpr (Dtype::direct) {
            return const_cast<Q*>(tensor + row * row_size);
        } else {
            return ring + row % c.kernel * row_size;
        }
    }

    void load_row(const T* value, const T* grad, Index row) {
        if constexpr (!Dtype::direct) {
            widened<Dtype>(value + row * row_size, place(value, value_ring, row), row_size);
            if (grad) widened<Dtype>(grad + row * row_size, place(grad, grad_ring, row), row_size);
            std::memset(place(value, sums_ring, row), 0, row_size * sizeof(A));
        }
    }

    // Computes all windows of window row y. Rows low to high of each window are written; the gradient of the logits is
    // written only if this band owns the window.
    void window_row(Index image, Index y, bool own, Index low, Index high) {
        const Index K = c.kernel, width = c.width;
        const T* logits = static_cast<const T*>(c.logits) + (image * c.h + y) * c.w * weights;
        T* grad_logits = static_cast<T*>(c.grad_logits) + (c.grad && own ? (image * c.h + y) * c.w * weights : 0);
        for (Index x = 0; x < c.w; ++x, logits += weights) {
            const Index left = x * c.stride - c.padding;
            for (Index k = 0; k < K; ++k) {
                // An earlier window has written this position if the window above or to the left contains it.
                const bool above = k + c.stride < K && y > 0;
                for (Index l = 0; l < K; ++l) {
                    const Index col = left + l, i = k * K + l;
                    const bool inside = col >= 0 && col < width && sums_rows[k];
                    const bool written = inside && (above || (l + c.stride < K && x > 0));
                    at.value[i] = inside ? value_rows[k] + col * channels : zeros;
                    at.grad[i] = inside && c.grad ? grad_rows[k] + col * channels : zeros;
                    at.sums[i] = inside ? sums_rows[k] + col * channels : trash;
                    at.before[i] = written ? at.sums[i] : zeros;
                }
            }
            const A* wide = widened<Dtype>(logits, wide_logits, weights);
            const A scale = (A)c.scale;
            if (!c.grad) {
                Window::forward(wide, at, c.heads, c.dim, window, scale, low * K, high * K, window_room);
                continue;
            }
            A* wide_grad = nullptr;
            if (own) {
                if constexpr (Dtype::direct) wide_grad = grad_logits;
                else wide_grad = wide_grad_logits;
            }
            Window::backward(wide, wide_grad, at, c.heads, c.dim, window, scale, low * K, high * K, window_room);
            if (!own) continue;
            narrow_into<Dtype>(grad_logits, wide_grad, weights);
            grad_logits += weights;
        }
    }
};

template <class F>
auto with_band(const VoloCall& c, void* scratch, const F& use) {
    const bool nine = c.kernel == 3;
    switch (c.dtype) {
        case kFloat64: return use(Band<Float64, AnyWindow<double>>(c, scratch));
        case kBFloat16:
            return nine ? use(Band<BFloat16, NineWindow>(c, scratch)) : use(Band<BFloat16, AnyWindow<float>>(c, scratch));
        case kFloat16:
            return nine ? use(Band<Float16, NineWindow>(c, scratch)) : use(Band<Float16, AnyWindow<float>>(c, scratch));
        default:
            return nine ? use(Band<Float32, NineWindow>(c, scratch)) : use(Band<Float32, AnyWindow<float>>(c, scratch));
    }
}

std::size_t scratch_bytes(const VoloCall& c) {
    return with_band(c, nullptr, [](auto&& band) { return band.room.used(); });
}

void run(const VoloCall& c, std::int64_t task, void* scratch) {
    const Index image = task / c.chunks, chunk = task % c.chunks;
    const Index top = c.h * chunk / c.chunks, bottom = c.h * (chunk + 1) / c.chunks;
    with_band(c, scratch, [&](auto&& band) { band.run(image, top, bottom); });
}

}  // namespace

#define VOLO_PASTE(a, b) a##b
#define VOLO_NAME(set) VOLO_PASTE(volo_, set)
#define VOLO_QUOTE_(x) #x
#define VOLO_QUOTE(x) VOLO_QUOTE_(x)

extern const VoloSet VOLO_NAME(VOLO_SET);
const VoloSet VOLO_NAME(VOLO_SET) = {VOLO_QUOTE(VOLO_SET), scratch_bytes, run};
