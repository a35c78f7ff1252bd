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
// become f16 on their way to shared memory, see `operand`. A workgroup has SM × SN subgroups, a subgroup RM × RN matrices
// of sums.
//
// Both operands walk along K in slabs of LOADS · 16 bytes a row. While slab s is multiplied, shared memory has room for it
// and the next, and AHEAD later ones are on their way in registers:
//
//     for slab s
//         to shared memory: slab s + 1, asked for AHEAD slabs ago; ask for slab s + 1 + AHEAD
//         for step in slab / TK
//             before the last step: barrier. All have read slab s, and slab s + 1 is there
//             load the next step's factors, of slab s + 1 after the last
//             multiply this step's
//
// Workgroups that run at once have the same columns: weights come from memory once, activations stay in the cache.
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
layout(constant_id = 9) const uint LOADS = 4u;
layout(constant_id = 10) const uint AHEAD = 1u;

// Shared memory consists of units: 16 bytes, or 8 where that may be a matrix's whole row.
#ifdef INT8
#define ELEMENT int8_t
#define SUM int
#define UNIT uvec2
const uint BYTES = 1u;
const uint UNIT_BYTES = 8u;
#else
#define ELEMENT float16_t
#define SUM float
#define UNIT uvec4
const uint BYTES = 2u;
const uint UNIT_BYTES = 16u;
#endif
const uint SUBGROUPS = SM * SN;
const uint LANES = THREADS / SUBGROUPS;
const uint BM = SM * RM * TM;
const uint BN = SN * RN * TN;
// Elements of a load, and of a row of a slab; even many steps of TK.
const uint AT_ONCE = 16u / BYTES;
const uint BK = LOADS * AT_ONCE;
const uint STEPS = BK / TK;
// Units of a row with padding, so that eight rows meet different banks, of an operand's slab, and of both.
const uint KS = (LOADS * 16u + 16u) / UNIT_BYTES;
const uint X_SLAB = BM * KS;
const uint SLAB = X_SLAB + BN * KS;
// Loads of an invocation for a slab, whose rows are ROWS apart.
const uint ROWS = THREADS / LOADS;
const uint X_LOADS = (BM + ROWS - 1u) / ROWS;
const uint W_LOADS = (BN + ROWS - 1u) / ROWS;
// Sums on their way to `out` take the slabs' place, a row of matrices for each subgroup: units of a row with padding, and
// quads of columns that an invocation has of it, BATCH at a time.
const uint SUMS_STRIDE = (RN * TN * 4u + 16u) / UNIT_BYTES;
const uint QUADS = RN * TN / 4u;
const uint EACH = (TM * QUADS + LANES - 1u) / LANES;
const uint BATCH = EACH < 4u ? EACH : 4u;
const uint SLABS = 2u * SLAB;
const uint SUMS = SUBGROUPS * TM * SUMS_STRIDE;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 0) readonly buffer X4 { uvec4 x_vec4[]; };
layout(set = 0, binding = 1) readonly buffer W { uint w_words[]; };
layout(set = 0, binding = 1) readonly buffer W4 { uvec4 w_vec4[]; };
layout(set = 0, binding = 2) readonly buffer Bias4 { vec4 bias4[]; };
layout(set = 0, binding = 3) readonly buffer Table4 { vec4 table4[]; };
layout(set = 0, binding = 5) buffer Out4 { vec4 result4[]; };
#ifdef INT8
layout(set = 0, binding = 6) readonly buffer XScale { float x_scale[]; };
layout(set = 0, binding = 7) readonly buffer WScale { float w_scale[]; };
layout(set = 0, binding = 7) readonly buffer WScale4 { vec4 w_scale4[]; };
#endif

#include "linear_args.glsl"
#include "epilogue.glsl"
#include "bytes.glsl"

shared UNIT units[SLABS > SUMS ? SLABS : SUMS];

#define Left coopmat<ELEMENT, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA>
#define Right coopmat<ELEMENT, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB>
#define Sum coopmat<SUM, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>

uint row0, col0;
uvec4 x_next[AHEAD * X_LOADS];
uvec4 w_next[AHEAD * W_LOADS];
// Factors of this step and of the next. A column's are replaced as soon as it is multiplied.
Left x_factors[2u * RM];
Right w_factors[RN];
Sum acc[RM * RN];

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

bool is_whole(uint slab) { return ALIGNED && (slab + 1u) * BK <= a.k; }

// Starts to load a slab; with ALIGNED there are AT_ONCE columns or more. Nothing decides whether to: what is on its way
// would have to arrive where two ways meet. So rows outside of a matrix are its last row again, whose outputs are not
// written, and columns its last ones, which `stash` ignores.
void fetch(uint set, uint slab) {
    if (!ALIGNED) return;
    uint r = gl_LocalInvocationID.x / LOADS, chunk = slab * LOADS + gl_LocalInvocationID.x % LOADS;
    uint k = min(chunk, a.k / AT_ONCE - 1u);
    [[unroll]] for (uint i = 0u; i < X_LOADS; ++i) {
        uint row = min(row0 + r + i * ROWS, a.m - 1u);
        x_next[set * X_LOADS + i] = x_vec4[(a.x_at + row * a.x_stride) / AT_ONCE + k];
    }
    [[unroll]] for (uint i = 0u; i < W_LOADS; ++i) {
        uint row = min(col0 + r + i * ROWS, a.n - 1u);
        w_next[set * W_LOADS + i] = w_vec4[(a.w_at + row * a.w_stride) / AT_ONCE + k];
    }
}

// 16 bytes as they are multiplied. A bf16 becomes the f16 of the same value from 2^-17 to 65504, what is smaller is off by
// 2^-25 at most, and what is larger is clamped if `any_size`.
uvec4 operand(uvec4 bits, bool any_size) {
#ifdef BF16
    [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        vec2 pair = uintBitsToFloat(uvec2(bits[i] << 16, bits[i] & 0xffff0000u));
        if (any_size) pair = vec2(within_f16(pair.x), within_f16(pair.y));
        bits[i] = packHalf2x16(pair);
    }
#endif
    return bits;
}

// Not 0 if one of eight bf16 is 65536, 0x4780, or larger.
uint large(uvec4 bits) {
#ifdef BF16
    bits = (bits & 0x7fff7fffu) + 0x38803880u;
    return (bits.x | bits.y | bits.z | bits.w) & 0x80008000u;
#else
    return 0u;
#endif
}

void put(uint at, uvec4 bytes, bool any_size) {
#ifdef INT8
    units[at] = bytes.xy;
    units[at + 1u] = bytes.zw;
#else
    units[at] = operand(bytes, any_size);
#endif
}

// Puts a slab into its half of shared memory. Some are loaded only now, one by one: those of which a part does not exist or
// whose rows start anywhere, which are the end of K and what no network has; and those with large numbers once more.
void stash(uint set, uint slab) {
    uint r = gl_LocalInvocationID.x / LOADS, chunk = gl_LocalInvocationID.x % LOADS;
    uint to = (slab & 1u) * SLAB + r * KS + chunk * (16u / UNIT_BYTES);
    if (is_whole(slab)) {
        uint larges = 0u;
        [[unroll]] for (uint i = 0u; i < X_LOADS; ++i) {
            uvec4 x = x_next[set * X_LOADS + i];
            if (BM % ROWS == 0u || r + i * ROWS < BM) put(to + i * ROWS * KS, x, false);
            larges |= large(x);
        }
        [[unroll]] for (uint i = 0u; i < W_LOADS; ++i) {
            uvec4 w = w_next[set * W_LOADS + i];
            if (BN % ROWS == 0u || r + i * ROWS < BN) put(to + X_SLAB + i * ROWS * KS, w, false);
            larges |= large(w);
        }
        if (larges == 0u) return;
    }
    uint k = slab * BK + chunk * AT_ONCE, live = k < a.k ? (a.k - k) * BYTES : 0u;
    [[dont_unroll]] for (uint i = 0u; r + i < BM; i += ROWS) {
        uint from = a.x_at + min(row0 + r + i, a.m - 1u) * a.x_stride + k;
        put(to + i * KS, load_x16(from * BYTES, live), true);
    }
    [[dont_unroll]] for (uint i = 0u; r + i < BN; i += ROWS) {
        uint from = a.w_at + min(col0 + r + i, a.n - 1u) * a.w_stride + k;
        put(to + X_SLAB + i * KS, load_w16(from * BYTES, live), true);
    }
}

void load_left(uint from_half, uint step) {
    uint at = from_half * SLAB + gl_SubgroupID / SN * RM * TM * KS + step * TK * BYTES / UNIT_BYTES;
    [[unroll]] for (uint i = 0u; i < RM; ++i) {
        coopMatLoad(x_factors[step % 2u * RM + i], units, at + i * TM * KS, KS, gl_CooperativeMatrixLayoutRowMajor);
    }
}

void load_right(uint j, uint from_half, uint step) {
    uint at = from_half * SLAB + X_SLAB + (gl_SubgroupID % SN * RN + j) * TN * KS + step * TK * BYTES / UNIT_BYTES;
    coopMatLoad(w_factors[j], units, at, KS, gl_CooperativeMatrixLayoutColumnMajor);
}

// Multiplies slab s. The one after it is on its way in a set of registers.
void multiply_slab(uint s, uint set, uint slabs) {
    if (s + 1u < slabs) stash(set, s + 1u);
    fetch(set, s + 1u + AHEAD);
    [[unroll]] for (uint step = 0u; step < STEPS; ++step) {
        if (step == STEPS - 1u) barrier();
        // After the last slab these are of no use, and nobody uses them.
        uint next = (step + 1u) % STEPS, half_way = (next == 0u ? s + 1u : s) & 1u;
        load_left(half_way, next);
        [[unroll]] for (uint j = 0u; j < RN; ++j) {
            [[unroll]] for (uint i = 0u; i < RM; ++i) {
                acc[i * RN + j] = coopMatMulAdd(x_factors[step % 2u * RM + i], w_factors[j], acc[i * RN + j]);
            }
            load_right(j, half_way, next);
        }
    }
}

void multiply() {
    uint slabs = (a.k + BK - 1u) / BK;
    [[unroll]] for (uint i = 0u; i < RM * RN; ++i) acc[i] = Sum(SUM(0));
    [[unroll]] for (uint i = 0u; i < AHEAD; ++i) fetch(i, i);
    stash(0u, 0u);
    fetch(0u, AHEAD);
    barrier();
    load_left(0u, 0u);
    [[unroll]] for (uint j = 0u; j < RN; ++j) load_right(j, 0u, 0u);
    for (uint s = 0u; s < slabs; s += AHEAD) {
        multiply_slab(s, 1u % AHEAD, slabs);
        if (AHEAD == 1u) continue;
        if (s + 1u == slabs) break;
        multiply_slab(s + 1u, 0u, slabs);
    }
    barrier();
}

void subgroup_barrier() {
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared,
                   gl_SemanticsAcquireRelease);
}

// Four sums of a row that lie in shared memory.
vec4 four_sums(uint r, uint quad) {
    uint at = (gl_SubgroupID * TM + r) * SUMS_STRIDE + quad * 16u / UNIT_BYTES;
#ifdef INT8
    return vec4(ivec4(units[at], units[at + 1u]));
#else
    return uintBitsToFloat(units[at]);
#endif
}

// Writes some of a row of a subgroup's matrices from quad `first` on, all of whose columns exist and are aligned: before +
// y · gate for every epilogue but SILU. What outputs need from memory is asked for before the first is written.
void finish_quads(uint first, uint row0, uint col0) {
    vec4 y[BATCH], before[BATCH], gate[BATCH];
    [[unroll]] for (uint e = 0u; e < BATCH; ++e) {
        uint i = first + e * LANES, row = min(row0 + i / QUADS, a.m - 1u), col = col0 + i % QUADS * 4u;
        uint from = table_row(row) + col, to = a.out_at + row * a.out_stride + col;
        before[e] = vec4(0.0);
        gate[e] = vec4(1.0);
        if (a.epilogue == ADD_PERIODIC) before[e] = table4[from / 4u];
        if (a.epilogue == RESIDUAL || a.epilogue == GATED_RESIDUAL) before[e] = result4[to / 4u];
        if (a.epilogue == GATED_RESIDUAL) gate[e] = table4[from / 4u];
        y[e] = four_sums(i / QUADS % TM, i % QUADS);
#ifdef INT8
        y[e] *= x_scale[a.x_scale_at + row] * w_scale4[(a.w_scale_at + col) / 4u];
#endif
        if (a.has_bias != 0u) y[e] += bias4[(a.bias_at + col) / 4u];
    }
    [[unroll]] for (uint e = 0u; e < BATCH; ++e) {
        uint i = first + e * LANES, row = row0 + i / QUADS, to = a.out_at + row * a.out_stride + col0;
        if (i < TM * QUADS && row < a.m) result4[to / 4u + i % QUADS] = before[e] + y[e] * gate[e];
    }
}

// The same one by one, wherever outputs lie.
void finish_each(uint row0, uint col0) {
    for (uint i = gl_SubgroupInvocationID; i < TM * RN * TN; i += LANES) {
        uint r = i / (RN * TN), c = i % (RN * TN), row = row0 + r, col = col0 + c;
        if (row >= a.m || col >= a.n) continue;
        float y = four_sums(r, c / 4u)[c % 4u];
#ifdef INT8
        y *= x_scale[a.x_scale_at + row] * w_scale[a.w_scale_at + col];
#endif
        finish(y, row, col, table_row(row));
    }
}

void main() {
    row0 = gl_WorkGroupID.x * BM;
    col0 = gl_WorkGroupID.y * BN;
    multiply();

    uint starts = a.out_at | a.out_stride | a.bias_at | a.table_at | a.table_stride | a.w_scale_at;
    bool in_quads = col0 + BN <= a.n && (starts & 3u) == 0u && a.epilogue != SILU;
    uint my_row = row0 + gl_SubgroupID / SN * RM * TM, my_col = col0 + gl_SubgroupID % SN * RN * TN;
    // One row of matrices after the other through one copy of the code.
    [[dont_unroll]] for (uint now = 0u; now < RM; ++now) {
        [[unroll]] for (uint i = 0u; i < RM; ++i) {
            if (i != now) continue;
            [[unroll]] for (uint j = 0u; j < RN; ++j) {
                uint to = gl_SubgroupID * TM * SUMS_STRIDE + j * TN * 4u / UNIT_BYTES;
                coopMatStore(acc[i * RN + j], units, to, SUMS_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            }
        }
        subgroup_barrier();
        if (in_quads) {
            [[dont_unroll]] for (uint e = 0u; e < EACH; e += BATCH) {
                finish_quads(gl_SubgroupInvocationID + e * LANES, my_row + now * TM, my_col);
            }
        } else finish_each(my_row + now * TM, my_col);
        subgroup_barrier();
    }
}
