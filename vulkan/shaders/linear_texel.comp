#version 450
#extension GL_EXT_samplerless_texture_functions : require
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// The linear kernel for processors that run shaders, in f32: eight invocations, a vector there, have TM rows and
// 8 · TN columns of `out`, and take eight elements along K at a time. An invocation's columns of w are its own; all load
// the same of x. Tiles are large because loads are dear, in shared memory too. Rows start at whole texels, and K is a
// multiple of eight.
// Bytes are multiplied in f32 too, which processors do faster than in i32: eight products and their sum are exact.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"
#include "texels.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 8u;
layout(constant_id = 1) const uint TM = 16u;
layout(constant_id = 2) const uint TN = 8u;
layout(constant_id = 3) const uint X_TYPE = F32;
layout(constant_id = 4) const uint W_TYPE = F32;

layout(set = 0, binding = 0) uniform utextureBuffer x;
layout(set = 0, binding = 1) uniform utextureBuffer w;
layout(set = 0, binding = 6) readonly buffer XScale { float x_scale[]; };
layout(set = 0, binding = 7) readonly buffer WScale { float w_scale[]; };

#include "linear_args.glsl"
#include "epilogue.glsl"

void main() {
    uint lane = gl_LocalInvocationID.x, row0 = gl_WorkGroupID.y * TM, col0 = gl_WorkGroupID.x * LANES * TN;
    float acc[TM * TN];
    int sums[TM * TN];
    [[unroll]] for (uint i = 0u; i < TM * TN; ++i) {
        acc[i] = 0.0;
        sums[i] = 0;
    }
    for (uint k = 0u; k < a.k; k += 8u) {
        vec4 ws[TN][2];
        [[unroll]] for (uint j = 0u; j < TN; ++j) {
            uint col = min(col0 + lane + j * LANES, a.n - 1u);
            ws[j] = fetch8(w, W_TYPE, a.w_at + col * a.w_stride + k);
        }
        [[unroll]] for (uint i = 0u; i < TM; ++i) {
            uint row = min(row0 + i, a.m - 1u);
            vec4[2] xs = fetch8(x, X_TYPE, a.x_at + row * a.x_stride + k);
            [[unroll]] for (uint j = 0u; j < TN; ++j) {
                float y = dot(xs[0], ws[j][0]) + dot(xs[1], ws[j][1]);
                if (X_TYPE == I8) sums[i * TN + j] += int(y);
                else acc[i * TN + j] += y;
            }
        }
    }
    [[unroll]] for (uint i = 0u; i < TM; ++i) {
        uint row = row0 + i;
        if (row >= a.m) break;
        uint from = table_row(row);
        [[unroll]] for (uint j = 0u; j < TN; ++j) {
            uint col = col0 + lane + j * LANES;
            if (col >= a.n) continue;
            float y = acc[i * TN + j];
            if (X_TYPE == I8) y = float(sums[i * TN + j]) * (x_scale[a.x_scale_at + row] * w_scale[a.w_scale_at + col]);
            finish(y, row, col, from);
        }
    }
}
