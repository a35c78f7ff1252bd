// Instructions of sm_80 and later, as functions.
#pragma once

DEVICE u32 float_bits(float x) { return __float_as_uint(x); }
DEVICE float bits_float(u32 x) { return __uint_as_float(x); }

// Every kernel begins with this. Devices of compute capability 9.0 and later launch a kernel while the one before still
// runs: here it waits until all results before are written. It then lets the kernel after it be launched.
DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// A product that no fused operation takes in.
DEVICE float multiply(float x, float y) { return __fmul_rn(x, y); }

// To 16 bits, ties to even.
DEVICE u16 f16_bits(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

DEVICE float f16_float(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

DEVICE u16 bf16_bits(float x) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// Two values as a word, the first in the lower half.
DEVICE u32 f16_pair(float x, float y) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
    return pair;
}

DEVICE u32 bf16_pair(float x, float y) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
    return pair;
}

// The value of the lane whose number differs in these bits.
DEVICE float shuffle_xor(float x, u32 bits) { return __shfl_xor_sync(0xffffffffu, x, bits); }

DEVICE u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }

// Two floats that are aligned to their size.
DEVICE void load_f32x2(const float* at, float& x, float& y) {
    float2 both = *reinterpret_cast<const float2*>(at);
    x = both.x;
    y = both.y;
}

DEVICE void store_f32x2(float* at, float x, float y) { *reinterpret_cast<float2*>(at) = make_float2(x, y); }

// Four of them.
DEVICE void load_f32x4(const float* at, float (&x)[4]) {
    float4 all = *reinterpret_cast<const float4*>(at);
    x[0] = all.x;
    x[1] = all.y;
    x[2] = all.z;
    x[3] = all.w;
}

DEVICE void store_f32x4(float* at, const float (&x)[4]) {
    *reinterpret_cast<float4*>(at) = make_float4(x[0], x[1], x[2], x[3]);
}

DEVICE void load_u32x2(const void* at, u32& x, u32& y) {
    uint2 both = *reinterpret_cast<const uint2*>(at);
    x = both.x;
    y = both.y;
}

DEVICE void store_u32x2(void* at, u32 x, u32 y) { *reinterpret_cast<uint2*>(at) = make_uint2(x, y); }

// Starts copying 16 bytes from global to shared memory, both aligned; of the source the first `live` are read, the
// others become 0.
DEVICE void copy_async_16(void* to, const void* from, u32 live) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(live));
}

// Closes a group of copies.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;"); }

// Waits until all of this thread's groups but the last `OPEN` have arrived.
template <int OPEN>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(OPEN) : "memory");
}

// Four matrices of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8, and gets in r[i] bytes
// 4 · (l % 4) to 4 · (l % 4) + 3 of row l / 4 of matrix i.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// The same, transposed as matrices of 8 × 8 16-bit elements: lane l gets elements l / 4 of rows 2 · (l % 4) and the next.
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// c += a · b of 16 × 16 and 16 × 8 elements. Lane l has of a rows l / 4 and l / 4 + 8, columns 2 · (l % 4) and the next,
// and those 8 further; of b the same rows of column l / 4; of c rows l / 4 (c[0], c[1]) and l / 4 + 8 (c[2], c[3]),
// columns 2 · (l % 4) and the next.
DEVICE void product_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void product_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of int8 with 32 columns of a: each word has four elements in place of two.
DEVICE void product_int8(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
