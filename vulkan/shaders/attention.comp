#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// out = softmax(q · kᵀ / √head_dim) · v, streaming over tiles of keys: the score matrix is never written. A workgroup
// has BQ queries of one head, of which LANES invocations share RQ: each has KEYS keys of a tile, then QUADS times four
// channels of the result. Keys and values take the same shared memory in turn. Long loops stay loops: compilers take long
// over what they unroll.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 128u;
layout(constant_id = 1) const uint LANES = 8u;
layout(constant_id = 2) const uint RQ = 4u;
layout(constant_id = 3) const uint KEYS = 2u;
layout(constant_id = 4) const uint HEAD_DIM = 64u;
layout(constant_id = 5) const bool ALIGNED = false;

const uint BQ = THREADS / LANES * RQ;
const uint BK = LANES * KEYS;
// Four channels each, the last ones filled up with zeros.
const uint PARTS = (HEAD_DIM + 3u) / 4u;
const uint QUADS = (PARTS + LANES - 1u) / LANES;
// An odd number, so that a part of neighbouring rows lies in different banks.
const uint DS = PARTS | 1u;

layout(set = 0, binding = 3) buffer Out { uint out_words[]; };

#include "attention_args.glsl"
#include "attention_rows.glsl"

shared vec4 qs[BQ * PARTS];
shared vec4 kv[BK * DS];
shared float ps[BQ * BK];
shared float lane_most[BQ * LANES];

DEFINE_STORE4(store, out_words, a.out_type)

// Brings keys or values from token FIRST on to shared memory.
#define FILL(FROM, FIRST)                                                     \
    for (uint i = t; i < BK * PARTS; i += THREADS) {                          \
        kv[i / PARTS * DS + i % PARTS] = FROM(FIRST + i / PARTS, i % PARTS * 4u); \
    }

void main() {
    uint t = gl_LocalInvocationID.x, lane = t % LANES, first = t / LANES * RQ;
    uint q0 = gl_WorkGroupID.x * BQ, keys = a.k_image_tokens + a.k_context_tokens;

    for (uint i = t; i < BQ * PARTS; i += THREADS) {
        qs[i] = query(q0 + i / PARTS, i % PARTS * 4u) * a.scale;
    }
    vec4 acc[RQ * QUADS];
    float total[RQ], most[RQ];
    [[unroll]] for (uint i = 0u; i < RQ * QUADS; ++i) acc[i] = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < RQ; ++i) {
        total[i] = 0.0;
        most[i] = -1e38;
    }
    for (uint k0 = 0u; k0 < keys; k0 += BK) {
        // The values before these keys have been read.
        barrier();
        FILL(key, k0)
        barrier();
        float s[RQ * KEYS];
        [[unroll]] for (uint i = 0u; i < RQ * KEYS; ++i) s[i] = 0.0;
        [[dont_unroll]] for (uint c = 0u; c < PARTS; ++c) {
            vec4 kc[KEYS];
            [[unroll]] for (uint j = 0u; j < KEYS; ++j) kc[j] = kv[(lane + j * LANES) * DS + c];
            [[unroll]] for (uint i = 0u; i < RQ; ++i) {
                vec4 qc = qs[(first + i) * PARTS + c];
                [[unroll]] for (uint j = 0u; j < KEYS; ++j) s[i * KEYS + j] += dot(qc, kc[j]);
            }
        }
        [[unroll]] for (uint i = 0u; i < RQ; ++i) {
            float mine = -1e38;
            [[unroll]] for (uint j = 0u; j < KEYS; ++j) {
                if (k0 + lane + j * LANES >= keys) s[i * KEYS + j] = -1e38;
                mine = max(mine, s[i * KEYS + j]);
            }
            lane_most[(first + i) * LANES + lane] = mine;
        }
        // The keys have been read as well.
        barrier();
        FILL(value, k0)
        [[unroll]] for (uint i = 0u; i < RQ; ++i) {
            float now = most[i];
            [[dont_unroll]] for (uint j = 0u; j < LANES; ++j) now = max(now, lane_most[(first + i) * LANES + j]);
            float fade = exp_below(most[i] - now);
            most[i] = now;
            total[i] *= fade;
            [[unroll]] for (uint j = 0u; j < QUADS; ++j) acc[i * QUADS + j] *= fade;
            [[unroll]] for (uint j = 0u; j < KEYS; ++j) {
                ps[(first + i) * BK + lane + j * LANES] = exp_below(s[i * KEYS + j] - now);
            }
        }
        barrier();
        [[dont_unroll]] for (uint r = 0u; r < BK; ++r) {
            vec4 vr[QUADS];
            [[unroll]] for (uint j = 0u; j < QUADS; ++j) vr[j] = kv[r * DS + min(lane + j * LANES, PARTS - 1u)];
            [[unroll]] for (uint i = 0u; i < RQ; ++i) {
                float p = ps[(first + i) * BK + r];
                total[i] += p;
                [[unroll]] for (uint j = 0u; j < QUADS; ++j) acc[i * QUADS + j] += p * vr[j];
            }
        }
    }
    // All queries have been read: results take their place, and leave in order.
    [[unroll]] for (uint i = 0u; i < RQ; ++i) {
        [[unroll]] for (uint j = 0u; j < QUADS; ++j) {
            uint part = lane + j * LANES;
            if (part < PARTS) qs[(first + i) * PARTS + part] = acc[i * QUADS + j] / total[i];
        }
    }
    barrier();
    for (uint i = t; i < BQ * PARTS; i += THREADS) {
        uint token = q0 + i / PARTS, c = i % PARTS * 4u;
        if (token >= a.q_image_tokens + a.q_context_tokens) break;
        store(a.out_at + q_row(token) * a.out_stride + gl_WorkGroupID.y * HEAD_DIM + c, qs[i], HEAD_DIM - c);
    }
}
