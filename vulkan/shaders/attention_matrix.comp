#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#pragma use_vulkan_memory_model
// The attention kernel by cooperative matrices of TM × TN × TK elements, a shape that the device lists. A subgroup has
// TM queries of a head; keys and values come to shared memory as f16, RN · TN of them at a time, for all subgroups.
//
// Which of a matrix's elements an invocation holds is the device's secret, so nothing may depend on it: a first pass
// over the keys finds each row's largest score, element by element, and rows meet in shared memory once, at its end.
// The second pass then needs no sums rescaled. The largest score need not be exact, and the first pass multiplies once.
//
// With SPLIT, f32 operands are kept to 22 bits: hi is the first 11, lo = f16(x - hi), and products are
// hi · hi + hi · lo + lo · hi.
// What lies beyond f16's ±65504 is clamped: queries and keys are normed, and a value is a linear layer's output.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 128u;
layout(constant_id = 1) const uint TM = 16u;
layout(constant_id = 2) const uint TN = 16u;
layout(constant_id = 3) const uint TK = 16u;
layout(constant_id = 4) const uint SUBGROUPS = 4u;
layout(constant_id = 5) const uint RN = 2u;
layout(constant_id = 6) const uint SPLIT = 1u;
layout(constant_id = 7) const uint HEAD_DIM = 64u;
layout(constant_id = 8) const bool ALIGNED = false;

const uint BQ = SUBGROUPS * TM;
const uint BK = RN * TN;
// Channels up to whole matrices; rows are 16 bytes longer, so that they meet different banks.
const uint UNIT = TN > TK ? TN : TK;
const uint WIDTH = (HEAD_DIM + UNIT - 1u) / UNIT * UNIT;
const uint DS = WIDTH + 8u;
const uint PS = BK + 8u;
// Queries first, then keys and values together, take the same rows; their lower parts lie behind.
const uint ROWS = BQ > 2u * BK ? BQ : 2u * BK;

layout(set = 0, binding = 3) buffer Out { uint out_words[]; };

#include "attention_args.glsl"
#include "attention_rows.glsl"

shared float16_t rows[(1u + SPLIT) * ROWS * DS];
shared float16_t weights[(1u + SPLIT) * BQ * PS];
shared float sums[BQ * TN];

DEFINE_STORE4(store, out_words, a.out_type)
DEFINE_STORE2(store, out_words, a.out_type)

#define Left coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA>
#define Right coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB>
#define Sum coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>
#define Narrow coopmat<float16_t, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>

void subgroup_barrier() {
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
}

// The digits that f16 has room for. Compilers take a number that becomes f16 and f32 again for itself.
float first_half(float x) { return uintBitsToFloat(floatBitsToUint(x) & 0xffffe000u); }

void put(uint at, vec4 all) {
    [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        float x = within_f16(all[i]), hi = SPLIT != 0u ? first_half(x) : x;
        rows[at + i] = float16_t(hi);
        if (SPLIT != 0u) rows[ROWS * DS + at + i] = float16_t(x - hi);
    }
}

// Brings COUNT tokens of a head from FIRST on to rows TO on, four channels at a time.
#define FILL(FROM, COUNT, FIRST, TO, SCALE)                                   \
    for (uint i = gl_LocalInvocationID.x; i < COUNT * (WIDTH / 4u); i += THREADS) { \
        uint r = i / (WIDTH / 4u), c = i % (WIDTH / 4u) * 4u;                 \
        put((TO + r) * DS + c, FROM(FIRST + r, c) * SCALE);                   \
    }

Left queries_hi[WIDTH / TK], queries_lo[WIDTH / TK];

// Scores of the subgroup's queries and matrix j of the tile's keys. Products with lower parts, which are small, have a sum
// of their own: devices truncate a sum at each step, in proportion to its size.
Sum scores(uint j, bool exact) {
    Sum s = Sum(0.0), rest = Sum(0.0);
    [[unroll]] for (uint c = 0u; c < WIDTH / TK; ++c) {
        uint at = j * TN * DS + c * TK;
        Right hi, lo;
        coopMatLoad(hi, rows, at, DS, gl_CooperativeMatrixLayoutColumnMajor);
        if (SPLIT != 0u && exact) {
            coopMatLoad(lo, rows, ROWS * DS + at, DS, gl_CooperativeMatrixLayoutColumnMajor);
            rest = coopMatMulAdd(queries_lo[c], hi, rest);
            rest = coopMatMulAdd(queries_hi[c], lo, rest);
        }
        s = coopMatMulAdd(queries_hi[c], hi, s);
    }
    return SPLIT != 0u && exact ? s + rest : s;
}

// Each row's largest element, or sum, in all of its elements.
Sum across(Sum of, bool largest) {
    uint from = gl_SubgroupID * TM * TN;
    coopMatStore(of, sums, from, TN, gl_CooperativeMatrixLayoutRowMajor);
    subgroup_barrier();
    for (uint r = gl_SubgroupInvocationID; r < TM; r += THREADS / SUBGROUPS) {
        float whole = sums[from + r * TN];
        for (uint c = 1u; c < TN; ++c) {
            float next = sums[from + r * TN + c];
            whole = largest ? max(whole, next) : whole + next;
        }
        for (uint c = 0u; c < TN; ++c) sums[from + r * TN + c] = whole;
    }
    subgroup_barrier();
    coopMatLoad(of, sums, from, TN, gl_CooperativeMatrixLayoutRowMajor);
    subgroup_barrier();
    return of;
}

// What is added to the scores of keys that are there, and of those that are not.
Sum presence(uint first, uint keys) {
    uint from = gl_SubgroupID * TM * TN;
    for (uint i = gl_SubgroupInvocationID; i < TM * TN; i += THREADS / SUBGROUPS) {
        sums[from + i] = first + i % TN < keys ? 0.0 : -1e38;
    }
    subgroup_barrier();
    Sum mask;
    coopMatLoad(mask, sums, from, TN, gl_CooperativeMatrixLayoutRowMajor);
    subgroup_barrier();
    return mask;
}

void main() {
    uint first = gl_WorkGroupID.x * BQ, mine = gl_SubgroupID * TM, keys = a.k_image_tokens + a.k_context_tokens;
    FILL(query, BQ, first, 0u, a.scale)
    barrier();
    [[unroll]] for (uint c = 0u; c < WIDTH / TK; ++c) {
        uint at = mine * DS + c * TK;
        coopMatLoad(queries_hi[c], rows, at, DS, gl_CooperativeMatrixLayoutRowMajor);
        if (SPLIT != 0u) coopMatLoad(queries_lo[c], rows, ROWS * DS + at, DS, gl_CooperativeMatrixLayoutRowMajor);
    }

    Sum most = Sum(-1e38);
    for (uint k0 = 0u; k0 < keys; k0 += BK) {
        barrier();
        FILL(key, BK, k0, 0u, 1.0)
        barrier();
        [[dont_unroll]] for (uint j = 0u; j < RN; ++j) {
            Sum s = scores(j, false);
            for (int e = 0; e < s.length(); ++e) most[e] = max(most[e], s[e]);
        }
    }
    most = across(most, true);

    Sum total = Sum(0.0), acc[WIDTH / TN];
    [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) acc[n] = Sum(0.0);
    for (uint k0 = 0u; k0 < keys; k0 += BK) {
        barrier();
        FILL(key, BK, k0, 0u, 1.0)
        FILL(value, BK, k0, BK, 1.0)
        barrier();
        [[dont_unroll]] for (uint j = 0u; j < RN; ++j) {
            Sum s = scores(j, true);
            if (k0 + (j + 1u) * TN > keys) s += presence(k0 + j * TN, keys);
            for (int e = 0; e < s.length(); ++e) s[e] = exp_below(s[e] - most[e]);
            total += s;
            uint at = mine * PS + j * TN;
            if (SPLIT != 0u) {
                Sum rest = s;
                for (int e = 0; e < s.length(); ++e) {
                    s[e] = first_half(s[e]);
                    rest[e] -= s[e];
                }
                coopMatStore(Narrow(rest), weights, BQ * PS + at, PS, gl_CooperativeMatrixLayoutRowMajor);
            }
            coopMatStore(Narrow(s), weights, at, PS, gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroup_barrier();
        [[dont_unroll]] for (uint j = 0u; j < BK / TK; ++j) {
            Left p_hi, p_lo;
            uint from = mine * PS + j * TK;
            coopMatLoad(p_hi, weights, from, PS, gl_CooperativeMatrixLayoutRowMajor);
            if (SPLIT != 0u) coopMatLoad(p_lo, weights, BQ * PS + from, PS, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) {
                uint at = (BK + j * TK) * DS + n * TN;
                Right hi, lo;
                coopMatLoad(hi, rows, at, DS, gl_CooperativeMatrixLayoutRowMajor);
                if (SPLIT != 0u) {
                    coopMatLoad(lo, rows, ROWS * DS + at, DS, gl_CooperativeMatrixLayoutRowMajor);
                    acc[n] = coopMatMulAdd(p_lo, hi, acc[n]);
                    acc[n] = coopMatMulAdd(p_hi, lo, acc[n]);
                }
                acc[n] = coopMatMulAdd(p_hi, hi, acc[n]);
            }
        }
    }
    total = across(total, false);
    uint from = gl_SubgroupID * TM * TN;
    [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) {
        for (int e = 0; e < total.length(); ++e) acc[n][e] = acc[n][e] / total[e];
        coopMatStore(acc[n], sums, from, TN, gl_CooperativeMatrixLayoutRowMajor);
        subgroup_barrier();
        for (uint i = gl_SubgroupInvocationID * 2u; i < TM * TN; i += THREADS / SUBGROUPS * 2u) {
            uint token = first + mine + i / TN, c = n * TN + i % TN;
            if (token >= a.q_image_tokens + a.q_context_tokens || c >= HEAD_DIM) continue;
            vec2 y = vec2(sums[from + i], sums[from + i + 1u]);
            store_pair(a.out_at + q_row(token) * a.out_stride + gl_WorkGroupID.y * HEAD_DIM + c, y, HEAD_DIM - c);
        }
        subgroup_barrier();
    }
}
