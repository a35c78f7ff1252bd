#version 450
#extension GL_EXT_samplerless_texture_functions : require
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// The attention kernel for processors that run shaders: eight invocations have 8 · RQ queries of a head, and each
// invocation all channels of its own, so that softmax is its own affair. All load the same keys and values. Rows start at
// whole texels and head_dim is a multiple of four.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"
#include "texels.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 8u;
layout(constant_id = 1) const uint RQ = 2u;
layout(constant_id = 2) const uint BK = 8u;
layout(constant_id = 3) const uint HEAD_DIM = 64u;

// Loads of four channels: of a row.
const uint PARTS = HEAD_DIM / 4u;

layout(set = 0, binding = 0) uniform utextureBuffer q;
layout(set = 0, binding = 1) uniform utextureBuffer k;
layout(set = 0, binding = 2) uniform utextureBuffer v;
layout(set = 0, binding = 3) buffer Out { uint out_words[]; };

#include "attention_args.glsl"

DEFINE_STORE4(store, out_words, a.out_type)

// The row of a token.
uint k_row(uint image, uint token) {
    uint keys = a.k_image_tokens + a.k_context_tokens;
    return row_of(image, min(token, keys - 1u), a.images, a.k_image_tokens, a.k_context_tokens);
}

uint q_row(uint image, uint token) {
    uint queries = a.q_image_tokens + a.q_context_tokens;
    return row_of(image, min(token, queries - 1u), a.images, a.q_image_tokens, a.q_context_tokens);
}

void main() {
    uint lane = gl_LocalInvocationID.x, head = gl_WorkGroupID.y * HEAD_DIM, image = gl_WorkGroupID.z;
    uint first = gl_WorkGroupID.x * LANES * RQ + lane, keys = a.k_image_tokens + a.k_context_tokens;
    vec4 queries[RQ * PARTS], acc[RQ * PARTS];
    float most[RQ], total[RQ];
    [[unroll]] for (uint r = 0u; r < RQ; ++r) {
        uint from = a.q_at + q_row(image, first + r * LANES) * a.q_stride + head;
        [[unroll]] for (uint c = 0u; c < PARTS; ++c) {
            queries[r * PARTS + c] = fetch4(q, from + c * 4u) * a.scale;
            acc[r * PARTS + c] = vec4(0.0);
        }
        most[r] = -1e38;
        total[r] = 0.0;
    }
    for (uint k0 = 0u; k0 < keys; k0 += BK) {
        float s[RQ * BK];
        [[unroll]] for (uint j = 0u; j < RQ * BK; ++j) s[j] = 0.0;
        [[unroll]] for (uint j = 0u; j < BK; ++j) {
            uint from = a.k_at + k_row(image, k0 + j) * a.k_stride + head;
            [[unroll]] for (uint c = 0u; c < PARTS; ++c) {
                vec4 key = fetch4(k, from + c * 4u);
                [[unroll]] for (uint r = 0u; r < RQ; ++r) s[r * BK + j] += dot(queries[r * PARTS + c], key);
            }
        }
        [[unroll]] for (uint r = 0u; r < RQ; ++r) {
            float now = most[r];
            [[unroll]] for (uint j = 0u; j < BK; ++j) {
                if (k0 + j >= keys) s[r * BK + j] = -1e38;
                now = max(now, s[r * BK + j]);
            }
            float fade = exp_below(most[r] - now);
            most[r] = now;
            total[r] *= fade;
            [[unroll]] for (uint c = 0u; c < PARTS; ++c) acc[r * PARTS + c] *= fade;
            [[unroll]] for (uint j = 0u; j < BK; ++j) {
                s[r * BK + j] = exp_below(s[r * BK + j] - now);
                total[r] += s[r * BK + j];
            }
        }
        [[unroll]] for (uint j = 0u; j < BK; ++j) {
            uint from = a.v_at + k_row(image, k0 + j) * a.v_stride + head;
            [[unroll]] for (uint c = 0u; c < PARTS; ++c) {
                vec4 value = fetch4(v, from + c * 4u);
                [[unroll]] for (uint r = 0u; r < RQ; ++r) acc[r * PARTS + c] += s[r * BK + j] * value;
            }
        }
    }
    [[unroll]] for (uint r = 0u; r < RQ; ++r) {
        uint query = first + r * LANES;
        if (query >= a.q_image_tokens + a.q_context_tokens) break;
        uint to = a.out_at + q_row(image, query) * a.out_stride + head;
        [[unroll]] for (uint c = 0u; c < PARTS; ++c) store(to + c * 4u, acc[r * PARTS + c] / total[r], 4u);
    }
}
