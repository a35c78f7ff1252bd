#version 450
#extension GL_GOOGLE_include_directive : require
// out = softmax(q · kᵀ / √head_dim) · v, streaming over tiles of keys: the score matrix is never written. A workgroup
// has BQ queries of one head; sixteen lanes share RQ of its rows.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 128u;
layout(constant_id = 1) const uint RQ = 4u;
layout(constant_id = 2) const uint BK = 32u;
layout(constant_id = 3) const uint HEAD_DIM = 64u;

const uint LANES = 16u;
const uint BQ = THREADS / LANES * RQ;
const uint KEYS = BK / LANES;
const uint PAIRS = (HEAD_DIM + 2u * LANES - 1u) / (2u * LANES);
const uint DS = HEAD_DIM | 1u;
const uint PS = BK + 1u;

layout(set = 0, binding = 0) readonly buffer Q { float q[]; };
layout(set = 0, binding = 1) readonly buffer K { float k[]; };
layout(set = 0, binding = 2) readonly buffer V { float v[]; };
layout(set = 0, binding = 3) buffer Out { uint out_words[]; };

#include "attention_args.glsl"

shared float qs[BQ * DS];
shared float kv[BK * DS];
shared float ps[BQ * PS];
shared float most[BQ];

DEFINE_STORE4(store, out_words, a.out_type)
DEFINE_STORE2(store, out_words, a.out_type)

void main() {
    uint t = gl_LocalInvocationID.x, lane = t % LANES, first = t / LANES * RQ;
    uint head = gl_WorkGroupID.y * HEAD_DIM, image = gl_WorkGroupID.z;
    uint queries = a.q_image_tokens + a.q_context_tokens, keys = a.k_image_tokens + a.k_context_tokens;
    uint q0 = gl_WorkGroupID.x * BQ;

    for (uint i = t; i < BQ * HEAD_DIM; i += THREADS) {
        uint r = i / HEAD_DIM, c = i % HEAD_DIM;
        uint row = row_of(image, min(q0 + r, queries - 1u), a.images, a.q_image_tokens, a.q_context_tokens);
        qs[r * DS + c] = q[a.q_at + row * a.q_stride + head + c] * a.scale;
    }
    float acc[RQ * PAIRS * 2u], total[RQ], before[RQ];
    for (uint i = 0u; i < RQ * PAIRS * 2u; ++i) acc[i] = 0.0;
    for (uint i = 0u; i < RQ; ++i) {
        total[i] = 0.0;
        before[i] = -1e38;
    }
    if (t < BQ) most[t] = -1e38;

    for (uint k0 = 0u; k0 < keys; k0 += BK) {
        for (uint i = t; i < BK * HEAD_DIM; i += THREADS) {
            uint r = i / HEAD_DIM, c = i % HEAD_DIM;
            uint row = row_of(image, min(k0 + r, keys - 1u), a.images, a.k_image_tokens, a.k_context_tokens);
            kv[r * DS + c] = k[a.k_at + row * a.k_stride + head + c];
        }
        barrier();
        float s[RQ * KEYS];
        for (uint i = 0u; i < RQ * KEYS; ++i) s[i] = 0.0;
        for (uint c = 0u; c < HEAD_DIM; ++c) {
            float kc[KEYS];
            for (uint j = 0u; j < KEYS; ++j) kc[j] = kv[(lane + j * LANES) * DS + c];
            for (uint i = 0u; i < RQ; ++i) {
                float qc = qs[(first + i) * DS + c];
                for (uint j = 0u; j < KEYS; ++j) s[i * KEYS + j] += qc * kc[j];
            }
        }
        for (uint i = 0u; i < RQ; ++i) {
            for (uint j = 0u; j < KEYS; ++j) {
                if (k0 + lane + j * LANES >= keys) s[i * KEYS + j] = -1e38;
                ps[(first + i) * PS + lane + j * LANES] = s[i * KEYS + j];
            }
        }
        barrier();
        if (t < BQ) {
            float m = most[t];
            for (uint j = 0u; j < BK; ++j) m = max(m, ps[t * PS + j]);
            most[t] = m;
        }
        for (uint i = t; i < BK * HEAD_DIM; i += THREADS) {
            uint r = i / HEAD_DIM, c = i % HEAD_DIM;
            uint row = row_of(image, min(k0 + r, keys - 1u), a.images, a.k_image_tokens, a.k_context_tokens);
            kv[r * DS + c] = v[a.v_at + row * a.v_stride + head + c];
        }
        barrier();
        for (uint i = 0u; i < RQ; ++i) {
            float now = most[first + i], fade = exp_exact(before[i] - now);
            before[i] = now;
            total[i] *= fade;
            for (uint j = 0u; j < PAIRS * 2u; ++j) acc[i * PAIRS * 2u + j] *= fade;
            for (uint j = 0u; j < KEYS; ++j) ps[(first + i) * PS + lane + j * LANES] = exp_exact(s[i * KEYS + j] - now);
        }
        barrier();
        for (uint r = 0u; r < BK; ++r) {
            float p[RQ];
            for (uint i = 0u; i < RQ; ++i) {
                p[i] = ps[(first + i) * PS + r];
                total[i] += p[i];
            }
            for (uint j = 0u; j < PAIRS; ++j) {
                uint c = min((lane + j * LANES) * 2u, HEAD_DIM - 1u);
                float v0 = kv[r * DS + c], v1 = kv[r * DS + min(c + 1u, HEAD_DIM - 1u)];
                for (uint i = 0u; i < RQ; ++i) {
                    acc[(i * PAIRS + j) * 2u] += p[i] * v0;
                    acc[(i * PAIRS + j) * 2u + 1u] += p[i] * v1;
                }
            }
        }
        barrier();
    }
    for (uint i = 0u; i < RQ; ++i) {
        if (q0 + first + i >= queries) continue;
        uint row = row_of(image, q0 + first + i, a.images, a.q_image_tokens, a.q_context_tokens);
        for (uint j = 0u; j < PAIRS; ++j) {
            uint c = (lane + j * LANES) * 2u, at = (i * PAIRS + j) * 2u;
            if (c >= HEAD_DIM) continue;
            vec2 y = vec2(acc[at], acc[at + 1u]) / total[i];
            store_pair(a.out_at + row * a.out_stride + head + c, y, HEAD_DIM - c);
        }
    }
}
