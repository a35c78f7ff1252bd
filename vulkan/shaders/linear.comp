#version 450
#extension GL_GOOGLE_include_directive : require
#if defined(FP16) || defined(PACKED)
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
// out = epilogue(x · wᵀ + bias), products and sums in f32. A workgroup has BM rows and BN columns of `out` and walks K
// in tiles of both operands in shared memory; an invocation keeps TM × TN sums. Compiled three times: the floor keeps
// tiles in f32; with -DFP16 16-bit operands stay 16-bit in shared memory; with -DPACKED bf16 operands are f16 there, and
// are multiplied two at a time. BK / 2 products are added up in f16, which costs a quarter of what rounding x to bf16 does,
// and all of these in f32.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 128u;
layout(constant_id = 1) const uint LANES = 16u;
layout(constant_id = 2) const uint TM = 8u;
layout(constant_id = 3) const uint TN = 4u;
layout(constant_id = 4) const uint BK = 16u;
layout(constant_id = 5) const uint X_TYPE = F32;
layout(constant_id = 6) const uint W_TYPE = F32;
layout(constant_id = 7) const bool ALIGNED = false;

const uint BM = THREADS / LANES * TM;
const uint BN = LANES * TN;
const uint KQ = BK / 4u;
// One group of padding a row, so that the lanes of a vector load meet different banks.
const uint KS = KQ + 1u;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 0) readonly buffer X2 { uvec2 x_vec2[]; };
layout(set = 0, binding = 0) readonly buffer X4 { uvec4 x_vec4[]; };
layout(set = 0, binding = 1) readonly buffer W { uint w_words[]; };
layout(set = 0, binding = 1) readonly buffer W2 { uvec2 w_vec2[]; };
layout(set = 0, binding = 1) readonly buffer W4 { uvec4 w_vec4[]; };

#include "linear_args.glsl"
#include "epilogue.glsl"

#if defined(PACKED)
#define ELEMENTS f16vec4
#define TILE(v) f16vec4(within_f16((v).x), within_f16((v).y), within_f16((v).z), within_f16((v).w))
#elif defined(FP16)
#define ELEMENTS f16vec4
#define TILE(v) f16vec4(v)
#else
#define ELEMENTS vec4
#define TILE(v) (v)
#endif
shared ELEMENTS xs[BM * KS];
shared ELEMENTS ws[BN * KS];

DEFINE_LOAD(load_x, x_words, X_TYPE)
DEFINE_LOAD(load_w, w_words, W_TYPE)
DEFINE_LOAD4(load_x4, load_x, x_vec4, x_vec2, X_TYPE, ALIGNED)
DEFINE_LOAD4(load_w4, load_w, w_vec4, w_vec2, W_TYPE, ALIGNED)

#ifdef PACKED
// A sum in f32, for those that overflow in f16.
float wide(uint row, uint col) {
    float sum = 0.0;
    for (uint k = 0u; k < a.k; ++k) sum += load_x(a.x_at + row * a.x_stride + k) * load_w(a.w_at + col * a.w_stride + k);
    return sum;
}
#endif

void main() {
    uint t = gl_LocalInvocationID.x, lane = t % LANES, first = t / LANES * TM;
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * BN;
    float acc[TM * TN];
    for (uint i = 0u; i < TM * TN; ++i) acc[i] = 0.0;

    for (uint k0 = 0u; k0 < a.k; k0 += BK) {
        for (uint i = t; i < BM * KQ; i += THREADS) {
            uint r = i / KQ, c = k0 + i % KQ * 4u;
            uint live = row0 + r < a.m && c < a.k ? a.k - c : 0u;
            vec4 v = load_x4(a.x_at + (row0 + r) * a.x_stride + c, live);
            xs[r * KS + i % KQ] = TILE(v);
        }
        for (uint i = t; i < BN * KQ; i += THREADS) {
            uint r = i / KQ, c = k0 + i % KQ * 4u;
            uint live = col0 + r < a.n && c < a.k ? a.k - c : 0u;
            vec4 v = load_w4(a.w_at + (col0 + r) * a.w_stride + c, live);
            ws[r * KS + i % KQ] = TILE(v);
        }
        barrier();
#ifdef PACKED
        f16vec2 part[TM * TN];
        for (uint i = 0u; i < TM * TN; ++i) part[i] = f16vec2(0.0);
        for (uint q = 0u; q < KQ; ++q) {
            f16vec4 w[TN];
            for (uint j = 0u; j < TN; ++j) w[j] = ws[(lane + j * LANES) * KS + q];
            for (uint i = 0u; i < TM; ++i) {
                f16vec4 x = xs[(first + i) * KS + q];
                for (uint j = 0u; j < TN; ++j) {
                    part[i * TN + j] = x.zw * w[j].zw + (x.xy * w[j].xy + part[i * TN + j]);
                }
            }
        }
        for (uint i = 0u; i < TM * TN; ++i) acc[i] += float(part[i].x) + float(part[i].y);
#else
        for (uint q = 0u; q < KQ; ++q) {
            vec4 w[TN];
            for (uint j = 0u; j < TN; ++j) w[j] = vec4(ws[(lane + j * LANES) * KS + q]);
            for (uint i = 0u; i < TM; ++i) {
                vec4 x = vec4(xs[(first + i) * KS + q]);
                for (uint j = 0u; j < TN; ++j) acc[i * TN + j] += dot(x, w[j]);
            }
        }
#endif
        barrier();
    }
    for (uint i = 0u; i < TM; ++i) {
        uint row = row0 + first + i;
        if (row >= a.m) break;
        uint from = table_row(row);
        for (uint j = 0u; j < TN; ++j) {
            uint col = col0 + lane + j * LANES;
            if (col >= a.n) continue;
#ifdef PACKED
            if ((floatBitsToUint(acc[i * TN + j]) & 0x7fffffffu) >= 0x7f800000u) acc[i * TN + j] = wide(row, col);
#endif
            finish(acc[i * TN + j], row, col, from);
        }
    }
}
