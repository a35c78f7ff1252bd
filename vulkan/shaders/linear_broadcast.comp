#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_ballot : require
// The linear kernel for processors that run shaders, in f32: a subgroup of eight invocations has TM rows and
// 8 · TN columns of `out`, and takes eight elements along K at a time. An invocation loads four elements of x and hands
// them to the others; its columns of w are its own. Loads cost such devices far more than broadcasts: each invocation's
// is made by itself, in shared memory too. So tiles are large and nothing is shared. Rows are aligned and K is a multiple of eight.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 8u;
layout(constant_id = 1) const uint TM = 32u;
layout(constant_id = 2) const uint TN = 8u;
layout(constant_id = 5) const uint X_TYPE = F32;
layout(constant_id = 6) const uint W_TYPE = F32;
layout(constant_id = 7) const bool ALIGNED = false;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 0) readonly buffer X2 { uvec2 x_vec2[]; };
layout(set = 0, binding = 0) readonly buffer X4 { uvec4 x_vec4[]; };
layout(set = 0, binding = 1) readonly buffer W { uint w_words[]; };
layout(set = 0, binding = 1) readonly buffer W2 { uvec2 w_vec2[]; };
layout(set = 0, binding = 1) readonly buffer W4 { uvec4 w_vec4[]; };

#include "linear_args.glsl"
#include "epilogue.glsl"

DEFINE_LOAD(load_x, x_words, X_TYPE)
DEFINE_LOAD(load_w, w_words, W_TYPE)
DEFINE_LOAD4(load_x4, load_x, x_vec4, x_vec2, X_TYPE, ALIGNED)
DEFINE_LOAD4(load_w4, load_w, w_vec4, w_vec2, W_TYPE, ALIGNED)

// Row i + R times the columns of this invocation: two invocations have eight elements of the row.
#define BROADCAST(R)                                                          \
    {                                                                         \
        vec4 x0 = subgroupBroadcast(mine, 2u * R), x1 = subgroupBroadcast(mine, 2u * R + 1u); \
        [[unroll]] for (uint j = 0u; j < TN; ++j)                             \
            acc[(i + R) * TN + j] += dot(x0, w[2u * j]) + dot(x1, w[2u * j + 1u]); \
    }

void main() {
    uint lane = gl_SubgroupInvocationID, row0 = gl_WorkGroupID.y * TM, col0 = gl_WorkGroupID.x * LANES * TN;
    float acc[TM * TN];
    [[unroll]] for (uint i = 0u; i < TM * TN; ++i) acc[i] = 0.0;

    for (uint k0 = 0u; k0 < a.k; k0 += 8u) {
        vec4 w[TN * 2u];
        [[unroll]] for (uint j = 0u; j < TN; ++j) {
            uint col = min(col0 + lane + j * LANES, a.n - 1u), from = a.w_at + col * a.w_stride + k0;
            w[2u * j] = load_w4(from, 4u);
            w[2u * j + 1u] = load_w4(from + 4u, 4u);
        }
        [[unroll]] for (uint i = 0u; i < TM; i += 4u) {
            uint row = min(row0 + i + lane / 2u, a.m - 1u), c = k0 + lane % 2u * 4u;
            vec4 mine = load_x4(a.x_at + row * a.x_stride + c, 4u);
            BROADCAST(0u)
            BROADCAST(1u)
            BROADCAST(2u)
            BROADCAST(3u)
        }
    }
    [[unroll]] for (uint i = 0u; i < TM; ++i) {
        uint row = row0 + i;
        if (row >= a.m) break;
        uint from = table_row(row);
        [[unroll]] for (uint j = 0u; j < TN; ++j) {
            uint col = col0 + lane + j * LANES;
            if (col < a.n) finish(acc[i * TN + j], row, col, from);
        }
    }
}
