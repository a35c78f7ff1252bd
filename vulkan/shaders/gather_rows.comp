#version 450
#extension GL_GOOGLE_include_directive : require
// out[i · count + j] = x[index[i] · count + j], four values an invocation.
#include "types.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 1) const uint X_TYPE = F32;

const uint OUT_TYPE = X_TYPE == I8 ? I8 : F32;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 1) readonly buffer Index { uint index[]; };
layout(set = 0, binding = 2) buffer Out { uint out_words[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, index_at, count, out_at, out_stride, rows, cols;
} a;

DEFINE_LOAD(load, x_words, X_TYPE)
DEFINE_STORE4(store, out_words, OUT_TYPE)

void main() {
    uint groups = (a.cols + 3u) / 4u;
    uint i = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (i >= a.rows * groups) return;
    uint row = i / groups, c = i % groups * 4u;
    uint from = a.x_at + (index[a.index_at + row / a.count] * a.count + row % a.count) * a.x_stride + c;
    vec4 v = vec4(0.0);
    for (uint j = 0u; j < min(a.cols - c, 4u); ++j) v[j] = load(from + j);
    store(a.out_at + row * a.out_stride + c, v, a.cols - c);
}
