// Kernels that give a block to each row: sums over the row, and rows that are quantised on their way out.
#pragma once
#include "types.cuh"

constexpr u32 ROW_THREADS = 256;

// f(a, b) over the values of all threads of the block, the same on each.
template <class F>
DEVICE float row_reduce(float x, F f) {
    __shared__ float partial[ROW_THREADS / 32];
    for (u32 bits = 16; bits > 0; bits >>= 1) x = f(x, shuffle_xor(x, bits));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    x = partial[0];
    for (u32 i = 1; i < ROW_THREADS / 32; ++i) x = f(x, partial[i]);
    // Before the next reduction writes.
    __syncthreads();
    return x;
}

DEVICE float row_sum(float x) {
    return row_reduce(x, [](float a, float b) { return a + b; });
}

DEVICE float row_max(float x) {
    return row_reduce(x, [](float a, float b) { return fmaxf(a, b); });
}

// The larger of `a`, which is not negative, and |x|; of anything and an infinity or a NaN the latter, which fmaxf drops.
DEVICE float max_magnitude(float a, float x) {
    u32 bits = float_bits(fabsf(x));
    return float_bits(a) > bits ? a : bits_float(bits);
}

// Writes a row of value(c), quantised where `out` is int8: scale = max|x| / 127, q = round_ties_even(x · (127 / max|x|)).
// The scale is NaN where a value is not finite.
// The values are computed twice then, which costs less than keeping them.
template <class F>
DEVICE void store_row(const AnyMatrix& out, float* out_scale, u32 row, u32 cols, F value) {
    float inverse = 1.0f;
    if (out.type == I8) {
        float most = 0.0f;
        for (u32 c = threadIdx.x; c < cols; c += ROW_THREADS) most = max_magnitude(most, value(c));
        most = row_reduce(most, max_magnitude);
        inverse = 127.0f / most;
        // Rows of zeros, and of numbers so small that the quotient overflows.
        if (!(inverse <= 3.402823466e38f)) inverse = 0.0f;
        // An infinity less itself is NaN.
        if (threadIdx.x == 0) out_scale[row] = most - most + most / 127.0f;
    }
    u8* to = out.row(row);
    for (u32 c = threadIdx.x; c < cols; c += ROW_THREADS) {
        float x = value(c);
        store(to, out.type, c, out.type == I8 ? rintf(x * inverse) : x);
    }
}
