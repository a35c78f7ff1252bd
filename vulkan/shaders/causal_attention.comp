#version 450
#extension GL_GOOGLE_include_directive : require
// Attention of one token and head to the tokens before it that are no padding, one workgroup for each: prompts are
// short. Streams over tiles of as many keys as there are invocations. A token that sees none gets zeros.
#include "types.glsl"
#include "math.glsl"
#include "rows.glsl"

layout(constant_id = 1) const uint OUT_TYPE = F32;
layout(constant_id = 2) const uint HEAD_DIM = 64u;

layout(set = 0, binding = 0) readonly buffer Q { float q[]; };
layout(set = 0, binding = 1) readonly buffer K { float k[]; };
layout(set = 0, binding = 2) readonly buffer V { float v[]; };
layout(set = 0, binding = 3) readonly buffer Lengths { uint lengths[]; };
layout(set = 0, binding = 4) buffer Out { uint out_words[]; };

layout(push_constant) uniform Args {
    uint q_at, q_stride, k_at, k_stride, v_at, v_stride, lengths_at, out_at, out_stride, tokens, group;
    float scale;
} a;

DEFINE_STORE4(store, out_words, OUT_TYPE)

shared float probability[ROW_THREADS];
shared float result[HEAD_DIM];

void main() {
    uint head = gl_WorkGroupID.x, row = gl_WorkGroupID.y, t = gl_LocalInvocationID.x;
    uint first = row / a.tokens * a.tokens, kv = head / a.group * HEAD_DIM;
    uint visible = min(row % a.tokens + 1u, lengths[a.lengths_at + row / a.tokens]);
    uint q_from = a.q_at + row * a.q_stride + head * HEAD_DIM;

    float most = -1e38, total = 0.0, sums[2] = float[2](0.0, 0.0);
    for (uint j0 = 0u; j0 < visible; j0 += ROW_THREADS) {
        float score = -1e38;
        if (j0 + t < visible) {
            uint k_from = a.k_at + (first + j0 + t) * a.k_stride + kv;
            score = 0.0;
            for (uint c = 0u; c < HEAD_DIM; ++c) score += q[q_from + c] * k[k_from + c];
            score *= a.scale;
        }
        float now = max(most, row_max(score)), fade = exp_exact(most - now);
        float p = j0 + t < visible ? exp_exact(score - now) : 0.0;
        probability[t] = p;
        total = total * fade + row_sum(p);
        most = now;
        for (uint i = 0u; i < 2u; ++i) {
            uint c = t + i * ROW_THREADS;
            if (c >= HEAD_DIM) break;
            sums[i] *= fade;
            for (uint j = 0u; j < min(visible - j0, ROW_THREADS); ++j) {
                sums[i] += probability[j] * v[a.v_at + (first + j0 + j) * a.v_stride + kv + c];
            }
        }
        barrier();
    }
    for (uint i = 0u; i < 2u; ++i) {
        uint c = t + i * ROW_THREADS;
        if (c < HEAD_DIM) result[c] = visible == 0u ? 0.0 : sums[i] / total;
    }
    barrier();
    uint c = t * 4u;
    if (c >= HEAD_DIM) return;
    vec4 y = vec4(0.0);
    for (uint j = 0u; j < min(HEAD_DIM - c, 4u); ++j) y[j] = result[c + j];
    store(a.out_at + row * a.out_stride + head * HEAD_DIM + c, y, HEAD_DIM - c);
}
