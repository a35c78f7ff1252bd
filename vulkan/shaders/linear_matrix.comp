#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#pragma use_vulkan_memory_model
// The linear kernel by cooperative matrices of TM × TN × TK elements, a shape that the device lists: f16 with sums in
// f32, and with -DINT8 int8 with sums in i32, then · x_scale[row] · w_scale[column]. With -DBF16 operands are bf16 and
// become f16 on their way to shared memory, see `operand`. A workgroup has SM × SN subgroups,
// a subgroup RM × RN matrices of sums. Both operands walk along K in tiles of 64 bytes a row in shared memory; the next
// tile is on its way in registers while one is multiplied.
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 128u;
layout(constant_id = 1) const uint TM = 16u;
layout(constant_id = 2) const uint TN = 16u;
layout(constant_id = 3) const uint TK = 16u;
layout(constant_id = 4) const uint RM = 2u;
layout(constant_id = 5) const uint RN = 2u;
layout(constant_id = 6) const uint SM = 2u;
layout(constant_id = 7) const uint SN = 2u;
layout(constant_id = 8) const bool ALIGNED = false;

#ifdef INT8
#define ELEMENT int8_t
#define SUM int
const uint BYTES = 1u;
#else
#define ELEMENT float16_t
#define SUM float
const uint BYTES = 2u;
#endif
const uint SUBGROUPS = SM * SN;
const uint BM = SM * RM * TM;
const uint BN = SN * RN * TN;
// A row of a tile: loads of 16 bytes, elements, and words of 8 bytes with padding, so that rows meet different banks.
// Rows of the smallest matrices have 8 bytes.
const uint LOADS = 4u;
const uint BK = LOADS * 16u / BYTES;
const uint KS = LOADS * 2u + 2u;
const uint X_LOADS = (BM * LOADS + THREADS - 1u) / THREADS;
const uint W_LOADS = (BN * LOADS + THREADS - 1u) / THREADS;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 0) readonly buffer X4 { uvec4 x_vec4[]; };
layout(set = 0, binding = 1) readonly buffer W { uint w_words[]; };
layout(set = 0, binding = 1) readonly buffer W4 { uvec4 w_vec4[]; };
#ifdef INT8
layout(set = 0, binding = 6) readonly buffer XScale { float x_scale[]; };
layout(set = 0, binding = 7) readonly buffer WScale { float w_scale[]; };
#endif

#include "linear_args.glsl"
#include "epilogue.glsl"
#include "bytes.glsl"

shared uvec2 xs[BM * KS];
shared uvec2 ws[BN * KS];
// A matrix of sums for each subgroup, on its way to `out`.
shared SUM sums[SUBGROUPS * TM * TN];

DEFINE_LOAD_BYTES(load_x, x_words, false)
DEFINE_LOAD_BYTES(load_w, w_words, false)

// uvec4 NAME(i, n): the bytes i to i + 15, of which those from n on are 0.
#define DEFINE_LOAD_16(NAME, ONE, VEC4)                                       \
    uvec4 NAME(uint i, uint n) {                                              \
        if (ALIGNED && n >= 16u) return VEC4[i >> 4];                         \
        uvec4 v = uvec4(0u);                                                  \
        for (uint j = 0u; j < 4u && j * 4u < n; ++j) v[j] = ONE(i + j * 4u, n - j * 4u); \
        return v;                                                             \
    }
DEFINE_LOAD_16(load_x16, load_x, x_vec4)
DEFINE_LOAD_16(load_w16, load_w, w_vec4)

uvec4 x_next[X_LOADS];
uvec4 w_next[W_LOADS];

// Starts to load the tiles from column k0 on.
void fetch(uint row0, uint col0, uint k0) {
    [[unroll]] for (uint i = 0u; i < X_LOADS; ++i) {
        uint at = gl_LocalInvocationID.x + i * THREADS, r = at / LOADS, c = k0 + at % LOADS * (16u / BYTES);
        uint live = r < BM && row0 + r < a.m && c < a.k ? (a.k - c) * BYTES : 0u;
        x_next[i] = load_x16((a.x_at + (row0 + r) * a.x_stride + c) * BYTES, live);
    }
    [[unroll]] for (uint i = 0u; i < W_LOADS; ++i) {
        uint at = gl_LocalInvocationID.x + i * THREADS, r = at / LOADS, c = k0 + at % LOADS * (16u / BYTES);
        uint live = r < BN && col0 + r < a.n && c < a.k ? (a.k - c) * BYTES : 0u;
        w_next[i] = load_w16((a.w_at + (col0 + r) * a.w_stride + c) * BYTES, live);
    }
}

// Eight bytes of a row as they are multiplied. A bf16 becomes the f16 of the same value from 2^-17 to 65504, what is
// smaller is off by 2^-25 at most, and what is larger is clamped.
uvec2 operand(uvec2 bits) {
#ifdef BF16
    [[unroll]] for (uint i = 0u; i < 2u; ++i) {
        vec2 pair = uintBitsToFloat(uvec2(bits[i] << 16, bits[i] & 0xffff0000u));
        bits[i] = packHalf2x16(vec2(within_f16(pair.x), within_f16(pair.y)));
    }
#endif
    return bits;
}

// Puts what `fetch` loaded into shared memory.
void stash() {
    [[unroll]] for (uint i = 0u; i < X_LOADS; ++i) {
        uint at = gl_LocalInvocationID.x + i * THREADS, to = at / LOADS * KS + at % LOADS * 2u;
        if (at >= BM * LOADS) break;
        xs[to] = operand(x_next[i].xy);
        xs[to + 1u] = operand(x_next[i].zw);
    }
    [[unroll]] for (uint i = 0u; i < W_LOADS; ++i) {
        uint at = gl_LocalInvocationID.x + i * THREADS, to = at / LOADS * KS + at % LOADS * 2u;
        if (at >= BN * LOADS) break;
        ws[to] = operand(w_next[i].xy);
        ws[to + 1u] = operand(w_next[i].zw);
    }
}

void subgroup_barrier() {
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared,
                   gl_SemanticsAcquireRelease);
}

// Writes a subgroup's matrix of sums, which lies in `sums`.
void finish_matrix(uint row0, uint col0) {
    uint from = gl_SubgroupID * TM * TN;
    for (uint i = gl_SubgroupInvocationID; i < TM * TN; i += THREADS / SUBGROUPS) {
        uint row = row0 + i / TN, col = col0 + i % TN;
        if (row >= a.m || col >= a.n) continue;
        float y = float(sums[from + i]);
#ifdef INT8
        y *= x_scale[a.x_scale_at + row] * w_scale[a.w_scale_at + col];
#endif
        finish(y, row, col, table_row(row));
    }
}

void main() {
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * BN;
    uint first_row = gl_SubgroupID / SN * RM * TM, first_col = gl_SubgroupID % SN * RN * TN;
    coopmat<SUM, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> acc[RM * RN];
    [[unroll]] for (uint i = 0u; i < RM * RN; ++i) {
        acc[i] = coopmat<SUM, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>(SUM(0));
    }

    fetch(row0, col0, 0u);
    for (uint k0 = 0u; k0 < a.k; k0 += BK) {
        barrier();
        stash();
        barrier();
        if (k0 + BK < a.k) fetch(row0, col0, k0 + BK);
        [[unroll]] for (uint k = 0u; k < BK; k += TK) {
            coopmat<ELEMENT, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> x[RM];
            [[unroll]] for (uint i = 0u; i < RM; ++i) {
                uint at = (first_row + i * TM) * KS + k * BYTES / 8u;
                coopMatLoad(x[i], xs, at, KS, gl_CooperativeMatrixLayoutRowMajor);
            }
            [[unroll]] for (uint j = 0u; j < RN; ++j) {
                coopmat<ELEMENT, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> w;
                uint at = (first_col + j * TN) * KS + k * BYTES / 8u;
                coopMatLoad(w, ws, at, KS, gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint i = 0u; i < RM; ++i) acc[i * RN + j] = coopMatMulAdd(x[i], w, acc[i * RN + j]);
            }
        }
    }
    [[unroll]] for (uint i = 0u; i < RM; ++i) {
        [[unroll]] for (uint j = 0u; j < RN; ++j) {
            uint to = gl_SubgroupID * TM * TN;
            coopMatStore(acc[i * RN + j], sums, to, TN, gl_CooperativeMatrixLayoutRowMajor);
            subgroup_barrier();
            finish_matrix(row0 + first_row + i * TM, col0 + first_col + j * TN);
            subgroup_barrier();
        }
    }
}
