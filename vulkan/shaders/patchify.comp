#version 450
#extension GL_GOOGLE_include_directive : require
// (C, H, W) images to rows of patches; four values of a row an invocation.
#include "types.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 1) const uint OUT_TYPE = F32;

layout(set = 0, binding = 0) readonly buffer Image { float image[]; };
layout(set = 0, binding = 1) buffer Out { uint out_words[]; };

layout(push_constant) uniform Args {
    uint image_at, image_stride, sources, out_at, out_stride, rows, cols, grid, patch_side;
} a;

DEFINE_STORE4(store, out_words, OUT_TYPE)

void main() {
    uint groups = (a.cols + 3u) / 4u;
    uint i = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (i >= a.rows * groups) return;
    uint row = i / groups, first = i % groups * 4u;
    uint tokens = a.grid * a.grid, token = row % tokens, side = a.grid * a.patch_side;
    uint from = a.image_at + (row / tokens % a.sources) * a.image_stride;
    vec4 v = vec4(0.0);
    for (uint j = 0u; j < min(a.cols - first, 4u); ++j) {
        uint c = first + j, channel = c / (a.patch_side * a.patch_side);
        uint y = token / a.grid * a.patch_side + c / a.patch_side % a.patch_side;
        uint x = token % a.grid * a.patch_side + c % a.patch_side;
        v[j] = image[from + (channel * side + y) * side + x];
    }
    store(a.out_at + row * a.out_stride + first, v, a.cols - first);
}
