// Kernels that give a block to each row, which it holds in registers: sums over the row, and rows that are quantised on their
// way out.
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

// What a thread has of a row: four neighbouring columns, COUNT times. Rows with more columns than MOST allows are refused;
// norms, which keep more for each column, go as far as NORMED.
constexpr u32 FEW = 2, NORMED = 4, MOST = 8;

// f(i, c) for each four columns of this thread, from c on, of which the row has some.
template <u32 COUNT, class F>
DEVICE void each_four(u32 cols, F f) {
#pragma unroll
    for (u32 i = 0; i < COUNT; ++i) {
        u32 c = 4 * (threadIdx.x + i * ROW_THREADS);
        if (c < cols) f(i, c);
    }
}

// Columns c to c + 3, 0 past the row's end.
DEVICE void load_four(const float* row, u32 c, u32 cols, float (&x)[4]) {
    if (c + 4 <= cols && is_multiple(row, 16)) return load_f32x4(row + c, x);
#pragma unroll
    for (u32 e = 0; e < 4; ++e) x[e] = c + e < cols ? row[c + e] : 0.0f;
}

// The same of a row of this type.
DEVICE void load_four(const u8* row, u32 type, u32 c, u32 cols, float (&x)[4]) {
    if (type == F32) return load_four(reinterpret_cast<const float*>(row), c, cols, x);
    if (type == BF16 && c + 4 <= cols && is_multiple(row, 8)) {
        u32 low, high;
        load_u32x2(row + 2 * c, low, high);
        x[0] = bf16_float((u16)low);
        x[1] = bf16_float((u16)(low >> 16));
        x[2] = bf16_float((u16)high);
        x[3] = bf16_float((u16)(high >> 16));
        return;
    }
#pragma unroll
    for (u32 e = 0; e < 4; ++e) x[e] = c + e < cols ? load(row, type, c + e) : 0.0f;
}

DEVICE void store_four(u8* row, u32 type, u32 c, u32 cols, const float (&x)[4]) {
    if (c + 4 <= cols && is_multiple(row, 4 * size_of(type))) {
        if (type == I8) {
            u32 word = 0;
#pragma unroll
            for (u32 e = 0; e < 4; ++e) word |= ((u32)(int)x[e] & 0xff) << 8 * e;
            *reinterpret_cast<u32*>(row + c) = word;
        } else if (type == F32) {
            store_f32x4(reinterpret_cast<float*>(row) + c, x);
        } else if (type == F16) {
            store_u32x2(row + 2 * c, f16_pair(x[0], x[1]), f16_pair(x[2], x[3]));
        } else {
            store_u32x2(row + 2 * c, bf16_pair(x[0], x[1]), bf16_pair(x[2], x[3]));
        }
        return;
    }
#pragma unroll
    for (u32 e = 0; e < 4; ++e)
        if (c + e < cols) store(row, type, c + e, x[e]);
}

// 127 / most, the factor of int8 values, whose scale is written: max|x| / 127, or NaN where a value is not finite.
DEVICE float quantiser(float most, float* scale) {
    most = row_reduce(most, max_magnitude);
    // An infinity less itself is NaN.
    if (threadIdx.x == 0) *scale = most - most + most / 127.0f;
    float inverse = 127.0f / most;
    // Rows of zeros, and of numbers so small that the quotient overflows.
    return inverse <= 3.402823466e38f ? inverse : 0.0f;
}

// Writes a row, quantised where `out` is int8: q = round_ties_even(x · (127 / max|x|)).
template <u32 COUNT>
DEVICE void store_row(const AnyMatrix& out, float* out_scale, u32 row, u32 cols, float (&x)[COUNT][4]) {
    if (out.type == I8) {
        float most = 0.0f;
        each_four<COUNT>(cols, [&](u32 i, u32) {
            for (u32 e = 0; e < 4; ++e) most = max_magnitude(most, x[i][e]);
        });
        float inverse = quantiser(most, out_scale + row);
        each_four<COUNT>(cols, [&](u32 i, u32) {
            for (u32 e = 0; e < 4; ++e) x[i][e] = rintf(x[i][e] * inverse);
        });
    }
    u8* to = out.row(row);
    each_four<COUNT>(cols, [&](u32 i, u32 c) { store_four(to, out.type, c, cols, x[i]); });
}

constexpr u32 ROTATION = 16;
// What a thread has of a rotated row: groups of ROTATION columns, which lie apart so that neighbours are read together.
constexpr u32 GROUPS = 4 * MOST / ROTATION;

// Rotates a row of value(c) (core's rotate) and writes it, quantised or not. The row's end, shorter than ROTATION, is not
// rotated.
template <class F>
DEVICE void store_rotated(const AnyMatrix& out, float* out_scale, u32 row, u32 cols, F value) {
    u32 n = cols / ROTATION, end = n * ROTATION + threadIdx.x;
    float v[GROUPS][ROTATION], last = end < cols ? value(end) : 0.0f, most = max_magnitude(0.0f, last);
#pragma unroll
    for (u32 g = 0; g < GROUPS; ++g) {
        u32 i = threadIdx.x + g * ROW_THREADS;
        if (i >= n) break;
#pragma unroll
        for (u32 j = 0; j < ROTATION; ++j) v[g][j] = value(j * n + i);
#pragma unroll
        for (u32 bit = 1; bit < ROTATION; bit <<= 1) {
#pragma unroll
            for (u32 j = 0; j < ROTATION; ++j) {
                if (j & bit) continue;
                float p = v[g][j], q = v[g][j | bit];
                v[g][j] = p + q;
                v[g][j | bit] = p - q;
            }
        }
#pragma unroll
        for (u32 j = 0; j < ROTATION; ++j) {
            v[g][j] *= 0.25f;
            most = max_magnitude(most, v[g][j]);
        }
    }
    bool quantised = out.type == I8;
    float inverse = quantised ? quantiser(most, out_scale + row) : 1.0f;
    u8* to = out.row(row);
#pragma unroll
    for (u32 g = 0; g < GROUPS; ++g) {
        u32 i = threadIdx.x + g * ROW_THREADS;
        if (i >= n) break;
#pragma unroll
        for (u32 j = 0; j < ROTATION; ++j)
            store(to, out.type, j * n + i, quantised ? rintf(v[g][j] * inverse) : v[g][j]);
    }
    if (end < cols) store(to, out.type, end, quantised ? rintf(last * inverse) : last);
}

// Calls f with what a thread has of rows with so many columns.
#define WITH_ROWS(f, cols, most) ((cols) <= 4 * FEW * ROW_THREADS ? f<FEW>(a) : f<most>(a))
