#version 450
// In place on the queries and keys of qkv: RMSNorm of each head, then a rotation of its channel pairs. Sixteen
// invocations share a head, so a workgroup has four heads of one row.

const uint LANES = 16u;
layout(local_size_x = 64) in;

layout(set = 0, binding = 0) buffer Qkv { float qkv[]; };
layout(set = 0, binding = 1) readonly buffer QWeight { float q_weight[]; };
layout(set = 0, binding = 2) readonly buffer KWeight { float k_weight[]; };
layout(set = 0, binding = 3) readonly buffer Rope { float rope[]; };

layout(push_constant) uniform Args {
    uint qkv_at, qkv_stride, q_weight_at, k_weight_at, rope_at, rope_stride, rope_rows;
    uint heads, kv_heads, head_dim, rotated_rows;
    float eps;
} a;

// Whether channels k and k + head_dim / 2 make a pair (Qwen3), not 2k and 2k + 1.
layout(constant_id = 1) const bool HALVES = false;

shared float squares[64];

void main() {
    uint row = gl_WorkGroupID.y, t = gl_LocalInvocationID.x, lane = t % LANES;
    uint head = gl_WorkGroupID.x * 4u + t / LANES;
    bool live = head < a.heads + a.kv_heads;
    uint from = a.qkv_at + row * a.qkv_stride + head * a.head_dim;
    float sum = 0.0;
    if (live) {
        for (uint c = lane; c < a.head_dim; c += LANES) sum += qkv[from + c] * qkv[from + c];
    }
    squares[t] = sum;
    barrier();
    if (!live) return;
    sum = 0.0;
    for (uint i = 0u; i < LANES; ++i) sum += squares[t - lane + i];
    float root = sqrt(sum / float(a.head_dim) + a.eps);

    for (uint pair = lane; pair < a.head_dim / 2u; pair += LANES) {
        uint c0 = HALVES ? pair : pair * 2u, c1 = HALVES ? pair + a.head_dim / 2u : c0 + 1u;
        vec2 w = head < a.heads ? vec2(q_weight[a.q_weight_at + c0], q_weight[a.q_weight_at + c1])
                                : vec2(k_weight[a.k_weight_at + c0], k_weight[a.k_weight_at + c1]);
        vec2 p = vec2(qkv[from + c0], qkv[from + c1]) / root * w;
        if (row < a.rotated_rows) {
            uint wave = a.rope_at + (row % a.rope_rows) * a.rope_stride + pair * 2u;
            float turn_cos = rope[wave], turn_sin = rope[wave + 1u];
            p = vec2(p.x * turn_cos - p.y * turn_sin, p.y * turn_cos + p.x * turn_sin);
        }
        qkv[from + c0] = p.x;
        qkv[from + c1] = p.y;
    }
}
