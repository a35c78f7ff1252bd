// Views as kernels see them, and element types. The Rust twins of these structs are in src/args.rs.
#pragma once
#include "device.cuh"

// A row-major matrix of T, `stride` elements from one row to the next.
template <class T>
struct Matrix {
    T* at;
    u32 stride;
    u32 rows;

    DEVICE T* row(u32 r) const { return at + (u64)r * stride; }
};

constexpr u32 F32 = 0;
constexpr u32 F16 = 1;
constexpr u32 BF16 = 2;
constexpr u32 I8 = 3;

DEVICE float bf16_float(u16 bits) { return bits_float((u32)bits << 16); }

// Element c of a row of this type, widened.
DEVICE float load(const void* row, u32 type, u32 c) {
    if (type == F32) return static_cast<const float*>(row)[c];
    if (type == I8) return static_cast<const i8*>(row)[c];
    u16 bits = static_cast<const u16*>(row)[c];
    return type == F16 ? f16_float(bits) : bf16_float(bits);
}

// Rounds to the type. int8 takes whole numbers.
DEVICE void store(void* row, u32 type, u32 c, float x) {
    if (type == F32) static_cast<float*>(row)[c] = x;
    else if (type == I8) static_cast<i8*>(row)[c] = (i8)(int)x;
    else static_cast<u16*>(row)[c] = type == F16 ? f16_bits(x) : bf16_bits(x);
}

// The same of elements c and c + 1, whose place is aligned to their size. There are no pairs of int8.
DEVICE void store_pair(void* row, u32 type, u32 c, float x, float y) {
    if (type == F32) store_f32x2(static_cast<float*>(row) + c, x, y);
    else reinterpret_cast<u32*>(static_cast<u16*>(row) + c)[0] = type == F16 ? f16_pair(x, y) : bf16_pair(x, y);
}

DEVICE bool is_finite(float x) { return (float_bits(x) & 0x7f800000u) != 0x7f800000u; }

DEVICE bool is_multiple(const void* at, u32 bytes) { return (u64)at % bytes == 0; }

DEVICE u32 size_of(u32 type) { return type == F32 ? 4 : type == I8 ? 1 : 2; }

// A matrix whose type an argument says.
struct AnyMatrix {
    u8* at;
    u32 stride;
    u32 type;

    DEVICE u8* row(u32 r) const { return at + (u64)r * stride * size_of(type); }
};

// core's TokenLayout: image tokens of every image in turn, then context tokens of every image in turn.
struct Tokens {
    u32 images;
    u32 image_tokens;
    u32 context_tokens;

    DEVICE u32 tokens() const { return image_tokens + context_tokens; }
    DEVICE u32 image_of(u32 row) const {
        u32 image_rows = images * image_tokens;
        return row < image_rows ? row / image_tokens : (row - image_rows) / context_tokens;
    }
    DEVICE u32 row_of(u32 image, u32 token) const {
        return token < image_tokens ? image * image_tokens + token
                                    : images * image_tokens + image * context_tokens + (token - image_tokens);
    }
};

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

// This thread's number in a line of blocks of 256.
constexpr u32 LINE_THREADS = 256;
DEVICE u32 line_index() { return blockIdx.x * LINE_THREADS + threadIdx.x; }
