#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_vote : require
#pragma use_vulkan_memory_model
// The attention kernel by cooperative matrices of TM × TN × TK elements, a shape that the device lists. A subgroup has
// TM queries of a head; keys and values come to shared memory as f16, KEYS of them at a time, for all subgroups. While a
// tile is multiplied, the next one's keys, then its values, are on their way in registers.
//
// Which of a matrix's elements an invocation holds is the device's secret, so scores pass through shared memory, where an
// invocation has some keys of one query and makes weights of them: e^(score - most). For `most` any number near the row's
// largest score will do, so it follows that only when it has grown by SLACK, which is rare after the first tiles: e^SLACK
// is far below f16's largest number. Then the row's sums fade. A row's bytes depend on no other row.
//
// With SPLIT, f32 operands are kept to 22 bits: hi is the first 11, lo = f16(x - hi), and products are
// hi · hi + hi · lo + lo · hi. Without, scores are in powers of two.
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
layout(constant_id = 5) const uint KEYS = 32u;
layout(constant_id = 6) const uint SPLIT = 1u;
layout(constant_id = 7) const uint HEAD_DIM = 64u;
layout(constant_id = 8) const bool ALIGNED = false;
layout(constant_id = 9) const uint STAGES = 2u;
layout(constant_id = 10) const bool UNROLL = true;

const uint BQ = SUBGROUPS * TM;
// Channels up to whole matrices. Shared memory consists of units of four f16; rows are 16 bytes longer, so that eight
// meet different banks.
const uint UNIT = TN > TK ? TN : TK;
const uint WIDTH = (HEAD_DIM + UNIT - 1u) / UNIT * UNIT;
const uint QUADS = WIDTH / 4u;
const uint DS = QUADS + 2u;
// A tile has keys, then values, and behind them their lower parts. Queries are there first.
const uint LOWER = 2u * KEYS * DS;
const uint TILE = (1u + SPLIT) * LOWER;
const uint QUERIES = (1u + SPLIT) * BQ * DS;
const uint TILES = STAGES * TILE;
const uint LOADS = (KEYS * QUADS + THREADS - 1u) / THREADS;
// A subgroup's scores in f32, and in their place weights in f16 with lower parts behind. SHARE invocations have a row,
// MINE keys each.
const uint LANES = THREADS / SUBGROUPS;
const uint SHARE = LANES / TM;
const uint MINE = KEYS / SHARE;
const uint PS = KEYS / 2u + 2u;

// Matrices of keys, and of values, that a loop multiplies in a turn: where compilers are slow, one.
const uint KEY_TURN = UNROLL ? KEYS / TN : 1u;
const uint VALUE_TURN = UNROLL ? KEYS / TK : 1u;

const float SLACK = 8.0;
const float LOWEST = -1e38;

layout(set = 0, binding = 3) buffer Out { uint out_words[]; };

#include "attention_args.glsl"
#include "attention_rows.glsl"

shared uvec2 rows[TILES > QUERIES ? TILES : QUERIES];
shared uvec2 scores[BQ * PS];

DEFINE_STORE4(store, out_words, a.out_type)

#define Left coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA>
#define Right coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB>
#define Sum coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>

Left queries_hi[WIDTH / TK], queries_lo[WIDTH / TK];
Sum acc[WIDTH / TN];
// This invocation's row: what is subtracted from its scores, and the sum of this invocation's weights.
float most, total;
vec4 next[LOADS];

void subgroup_barrier() {
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
}

// The digits that f16 has room for. Compilers take a number that becomes f16 and f32 again for itself.
vec4 first_half(vec4 x) { return uintBitsToFloat(floatBitsToUint(x) & 0xffffe000u); }

uvec2 halves(vec4 x) { return uvec2(packHalf2x16(x.xy), packHalf2x16(x.zw)); }

// Puts four channels where they are multiplied. All four are asked at once whether any is out of range.
void put(uint at, uint lower, vec4 x) {
    uvec4 size = floatBitsToUint(x) & 0x7fffffffu;
    if (max(max(size.x, size.y), max(size.z, size.w)) > 0x477fe000u) {
        [[unroll]] for (uint i = 0u; i < 4u; ++i) x[i] = within_f16(x[i]);
    }
    vec4 hi = SPLIT != 0u ? first_half(x) : x;
    rows[at] = halves(hi);
    if (SPLIT != 0u) rows[at + lower] = halves(x - hi);
}

// Asks for the keys or values of a tile, four channels at a time, after the last token for that one again. Nothing decides
// whether to: what is on its way would have to arrive where two ways meet. `stash` puts them where they are multiplied.
#define FETCH(FROM, FIRST)                                                    \
    [[unroll]] for (uint i = 0u; i < LOADS; ++i) {                            \
        uint at = gl_LocalInvocationID.x + i * THREADS, c = at % QUADS * 4u;  \
        next[i] = FROM(FIRST + at / QUADS, ALIGNED ? min(c, HEAD_DIM - 4u) : c); \
    }

void stash(uint to) {
    [[unroll]] for (uint i = 0u; i < LOADS; ++i) {
        uint at = gl_LocalInvocationID.x + i * THREADS, c = at % QUADS;
        vec4 x = c * 4u < HEAD_DIM ? next[i] : vec4(0.0);
        if (at < KEYS * QUADS) put(to + at / QUADS * DS + c, LOWER, x);
    }
}

// Brings the queries to registers.
void load_queries(uint first) {
    float scale = SPLIT != 0u ? a.scale : a.scale * 1.44269504;
    for (uint i = gl_LocalInvocationID.x; i < BQ * QUADS; i += THREADS) {
        uint r = i / QUADS, c = i % QUADS;
        put(r * DS + c, BQ * DS, query(first + r, c * 4u) * scale);
    }
    barrier();
    [[unroll]] for (uint c = 0u; c < WIDTH / TK; ++c) {
        uint at = gl_SubgroupID * TM * DS + c * TK / 4u;
        coopMatLoad(queries_hi[c], rows, at, DS, gl_CooperativeMatrixLayoutRowMajor);
        if (SPLIT != 0u) coopMatLoad(queries_lo[c], rows, BQ * DS + at, DS, gl_CooperativeMatrixLayoutRowMajor);
    }
    barrier();
}

// Writes the scores of the subgroup's queries and a tile's keys. Products with lower parts, which are small, have a sum of
// their own: devices truncate a sum at each step, in proportion to its size.
void multiply_keys(uint tile) {
    for (uint turn = 0u; turn < KEYS / TN; turn += KEY_TURN) {
        [[unroll]] for (uint j = turn; j < turn + KEY_TURN; ++j) {
            Sum s = Sum(0.0), rest = Sum(0.0);
            [[unroll]] for (uint c = 0u; c < WIDTH / TK; ++c) {
                uint at = tile + j * TN * DS + c * TK / 4u;
                Right hi, lo;
                coopMatLoad(hi, rows, at, DS, gl_CooperativeMatrixLayoutColumnMajor);
                if (SPLIT != 0u) {
                    coopMatLoad(lo, rows, LOWER + at, DS, gl_CooperativeMatrixLayoutColumnMajor);
                    rest = coopMatMulAdd(queries_lo[c], hi, rest);
                    rest = coopMatMulAdd(queries_hi[c], lo, rest);
                }
                s = coopMatMulAdd(queries_hi[c], hi, s);
            }
            if (SPLIT != 0u) s += rest;
            uint to = gl_SubgroupID * TM * PS + j * TN / 2u;
            coopMatStore(s, scores, to, PS, gl_CooperativeMatrixLayoutRowMajor);
        }
    }
}

float weight(float x) { return SPLIT != 0u ? exp_below(x) : exp2(x); }

// Turns the scores of keys k0 on into weights. Keys that are not there have none.
void weigh(uint k0, uint keys) {
    uint row = (gl_SubgroupID * TM + gl_SubgroupInvocationID / SHARE) * PS, mine = gl_SubgroupInvocationID % SHARE * MINE;
    vec4 s[MINE / 4u];
    float now = LOWEST;
    [[unroll]] for (uint i = 0u; i < MINE / 4u; ++i) {
        uint at = row + mine / 2u + 2u * i;
        s[i] = uintBitsToFloat(uvec4(scores[at], scores[at + 1u]));
        if (k0 + KEYS > keys) {
            [[unroll]] for (uint e = 0u; e < 4u; ++e) s[i][e] = k0 + mine + 4u * i + e < keys ? s[i][e] : LOWEST;
        }
        now = max(now, max(max(s[i].x, s[i].y), max(s[i].z, s[i].w)));
    }
    [[unroll]] for (uint apart = 1u; apart < SHARE; apart *= 2u) now = max(now, subgroupShuffleXor(now, apart));
    bool has_grown = now > most + SLACK;
    float fade = 1.0;
    if (has_grown) {
        fade = weight(most - now);
        most = now;
        total *= fade;
    }
    // All have read their scores. Barriers stay outside of branches: a software device has all subgroups wait at each.
    subgroup_barrier();
    bool fades = k0 > 0u && subgroupAny(has_grown);
    if (fades) {
        for (uint c = mine / MINE; c < TN / 2u; c += SHARE) scores[row + c] = uvec2(floatBitsToUint(fade));
    }
    subgroup_barrier();
    if (fades) {
        Sum each;
        coopMatLoad(each, scores, gl_SubgroupID * TM * PS, PS, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) {
            for (int e = 0; e < each.length(); ++e) acc[n][e] *= each[e];
        }
    }
    subgroup_barrier();
    [[unroll]] for (uint i = 0u; i < MINE / 4u; ++i) {
        [[unroll]] for (uint e = 0u; e < 4u; ++e) s[i][e] = weight(s[i][e] - most);
        total += s[i].x + s[i].y + (s[i].z + s[i].w);
        vec4 hi = SPLIT != 0u ? first_half(s[i]) : s[i];
        uint to = row + mine / 4u + i;
        scores[to] = halves(hi);
        if (SPLIT != 0u) scores[to + KEYS / 4u] = halves(s[i] - hi);
    }
    subgroup_barrier();
}

// Adds the products of weights and a tile's values.
void multiply_values(uint tile) {
    for (uint turn = 0u; turn < KEYS / TK; turn += VALUE_TURN) {
        [[unroll]] for (uint j = turn; j < turn + VALUE_TURN; ++j) {
            Left p_hi, p_lo;
            uint from = gl_SubgroupID * TM * PS + j * TK / 4u;
            coopMatLoad(p_hi, scores, from, PS, gl_CooperativeMatrixLayoutRowMajor);
            if (SPLIT != 0u) coopMatLoad(p_lo, scores, from + KEYS / 4u, PS, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) {
                uint at = tile + (KEYS + j * TK) * DS + n * TN / 4u;
                Right hi, lo;
                coopMatLoad(hi, rows, at, DS, gl_CooperativeMatrixLayoutRowMajor);
                if (SPLIT != 0u) {
                    coopMatLoad(lo, rows, LOWER + at, DS, gl_CooperativeMatrixLayoutRowMajor);
                    acc[n] = coopMatMulAdd(p_lo, hi, acc[n]);
                    acc[n] = coopMatMulAdd(p_hi, lo, acc[n]);
                }
                acc[n] = coopMatMulAdd(p_hi, hi, acc[n]);
            }
        }
    }
}

// Writes the outputs of the subgroup's queries, of which `token` is this invocation's, as many channels at a time as it
// has keys.
void finish(uint token) {
    [[unroll]] for (uint apart = 1u; apart < SHARE; apart *= 2u) total += subgroupShuffleXor(total, apart);
    uint row = (gl_SubgroupID * TM + gl_SubgroupInvocationID / SHARE) * PS;
    bool there = token < a.q_image_tokens + a.q_context_tokens;
    uint to = a.out_at + q_row(token) * a.out_stride + gl_WorkGroupID.y * HEAD_DIM;
    [[dont_unroll]] for (uint first = 0u; first < WIDTH / TN; first += KEYS / TN) {
        [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) {
            if (n < first || n >= first + KEYS / TN) continue;
            uint at = gl_SubgroupID * TM * PS + (n - first) * TN / 2u;
            coopMatStore(acc[n], scores, at, PS, gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroup_barrier();
        for (uint i = gl_SubgroupInvocationID % SHARE; i < KEYS / 4u; i += SHARE) {
            uint c = first * TN + i * 4u;
            vec4 y = uintBitsToFloat(uvec4(scores[row + 2u * i], scores[row + 2u * i + 1u])) / total;
            if (there && c < HEAD_DIM) store(to + c, y, HEAD_DIM - c);
        }
        subgroup_barrier();
    }
}

void main() {
    uint first = gl_WorkGroupID.x * BQ, keys = a.k_image_tokens + a.k_context_tokens;
    load_queries(first);
    FETCH(key, 0u)
    stash(0u);
    FETCH(value, 0u)
    stash(KEYS * DS);
    barrier();

    most = LOWEST;
    total = 0.0;
    [[unroll]] for (uint n = 0u; n < WIDTH / TN; ++n) acc[n] = Sum(0.0);
    uint tile = 0u;
    for (uint k0 = 0u; k0 < keys; k0 += KEYS) {
        bool more = k0 + KEYS < keys;
        // Only with one tile in shared memory all have to be done with a part of it before the next takes its place.
        uint other = STAGES == 2u ? TILE - tile : 0u;
        FETCH(key, k0 + KEYS)
        multiply_keys(tile);
        subgroup_barrier();
        weigh(k0, keys);
        if (STAGES == 1u) barrier();
        if (more) stash(other);
        FETCH(value, k0 + KEYS)
        multiply_values(tile);
        if (STAGES == 1u) barrier();
        if (more) stash(other + KEYS * DS);
        barrier();
        tile = other;
    }
    finish(first + gl_SubgroupID * TM + gl_SubgroupInvocationID / SHARE);
}
