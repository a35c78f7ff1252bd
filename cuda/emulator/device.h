// The instructions of ../kernels/instructions.cuh for a processor. A CUDA thread is a fiber: the fibers of a block take
// turns on one thread of the system, and change where the block or a warp waits for all of its threads. What CUDA leaves
// undefined is an error here, or gives numbers that no test passes: shared memory starts as NaN, asynchronous copies
// arrive only when they are waited for, vectors must be aligned.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define DEVICE inline
#define KERNEL(threads) extern "C" void
#define ARGUMENTS(type) const type&
#define DYNAMIC_SHARED(name) u8* name = emulator::dynamic_shared()
#define __shared__ static thread_local

namespace emulator {

struct Index {
    u32 x, y, z;
};

// What the lanes of a warp show each other.
struct Slot {
    u32 words[6];
    const void* row;
    int sums[4];
};

Index& block_index();
Index& grid_size();
Index& thread_index();
u8* dynamic_shared();
void sync_block();
// Ends the process: the kernel does what CUDA does not define.
[[noreturn]] void undefined(const char* what);
// Puts this lane's slot beside the others' and waits for them; the last to come runs `finish` on all 32. Slots stay as they
// are until the next exchange but one.
Slot* exchange(const Slot& mine, void (*finish)(Slot*));
u32 lane();
void copy_async(void* to, const void* from, u32 live);
void copy_commit();
void copy_wait(u32 open);
float half_to_float(u16 bits);
u16 float_to_half(float x);

// `finish` of the instructions on matrices.
void load_matrices(Slot* warp);
void load_matrices_transposed(Slot* warp);
void product_f16(Slot* warp);
void product_bf16(Slot* warp);
void product_int8(Slot* warp);

inline void aligned(const void* at, const char* what, u32 bytes = 16) {
    if ((uintptr_t)at % bytes != 0) undefined(what);
}

}  // namespace emulator

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index())
#define gridDim (emulator::grid_size())

// Here kernels run one after the other.
inline void wait_for_previous() {}
inline void __syncthreads() { emulator::sync_block(); }
inline u32 min(u32 a, u32 b) { return a < b ? a : b; }

inline u32 float_bits(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float multiply(float x, float y) { return x * y; }

inline float bits_float(u32 bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline u16 f16_bits(float x) { return emulator::float_to_half(x); }
inline float f16_float(u16 bits) { return emulator::half_to_float(bits); }

inline u16 bf16_bits(float x) {
    u32 bits = float_bits(x);
    if (x != x) return 0x7fff;
    return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline u32 f16_pair(float x, float y) { return f16_bits(x) | (u32)f16_bits(y) << 16; }
inline u32 bf16_pair(float x, float y) { return bf16_bits(x) | (u32)bf16_bits(y) << 16; }

inline float shuffle_xor(float x, u32 bits) {
    emulator::Slot mine = {{float_bits(x)}, nullptr, {}};
    return bits_float(emulator::exchange(mine, nullptr)[emulator::lane() ^ bits].words[0]);
}

inline void load_f32x2(const float* at, float& x, float& y) {
    emulator::aligned(at, "two floats that are not aligned", 8);
    x = at[0];
    y = at[1];
}

inline void store_f32x2(float* at, float x, float y) {
    emulator::aligned(at, "two floats that are not aligned", 8);
    at[0] = x;
    at[1] = y;
}

inline void load_f32x4(const float* at, float (&x)[4]) {
    emulator::aligned(at, "four floats that are not aligned");
    memcpy(x, at, 16);
}

inline void store_f32x4(float* at, const float (&x)[4]) {
    emulator::aligned(at, "four floats that are not aligned");
    memcpy(at, x, 16);
}

inline void load_u32x2(const void* at, u32& x, u32& y) {
    emulator::aligned(at, "two words that are not aligned", 8);
    memcpy(&x, at, 4);
    memcpy(&y, static_cast<const u8*>(at) + 4, 4);
}

inline void store_u32x2(void* at, u32 x, u32 y) {
    emulator::aligned(at, "two words that are not aligned", 8);
    memcpy(at, &x, 4);
    memcpy(static_cast<u8*>(at) + 4, &y, 4);
}

inline void copy_async_16(void* to, const void* from, u32 live) {
    emulator::aligned(to, "a copy to where no 16 bytes are aligned");
    emulator::aligned(from, "a copy from where no 16 bytes are aligned");
    emulator::copy_async(to, from, live);
}

inline void copy_commit() { emulator::copy_commit(); }

template <int OPEN>
inline void copy_wait() {
    emulator::copy_wait(OPEN);
}

inline void load(u32 (&r)[4], const void* row, void (*finish)(emulator::Slot*)) {
    emulator::aligned(row, "a matrix row that is not aligned");
    memcpy(r, emulator::exchange({{}, row, {}}, finish)[emulator::lane()].words, 16);
}

inline void load_matrices(u32 (&r)[4], const void* row) { load(r, row, emulator::load_matrices); }

inline void load_matrices_transposed(u32 (&r)[4], const void* row) {
    load(r, row, emulator::load_matrices_transposed);
}

template <class Sum>
inline void product(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, void (*finish)(emulator::Slot*)) {
    emulator::Slot mine = {{a[0], a[1], a[2], a[3], b0, b1}, nullptr, {}};
    memcpy(mine.sums, c, 16);
    memcpy(c, emulator::exchange(mine, finish)[emulator::lane()].sums, 16);
}

inline void product_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    product(c, a, b0, b1, emulator::product_f16);
}

inline void product_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    product(c, a, b0, b1, emulator::product_bf16);
}

inline void product_int8(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    product(c, a, b0, b1, emulator::product_int8);
}
