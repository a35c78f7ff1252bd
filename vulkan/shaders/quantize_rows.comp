#version 450
#extension GL_GOOGLE_include_directive : require
// Symmetric int8: scale = max|x| / 127, q = round_ties_even(x · (127 / max|x|)), one workgroup a row.
#include "types.glsl"
#include "math.glsl"
#include "rows.glsl"

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) buffer Out { uint out_words[]; };
layout(set = 0, binding = 2) buffer Scales { float out_scale[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, out_at, out_stride, out_scale_at, cols;
} a;

DEFINE_STORE4(store, out_words, I8)

void main() {
    uint row = gl_WorkGroupID.x, t = gl_LocalInvocationID.x;
    uint from = a.x_at + row * a.x_stride;
    uint most = 0u;
    for (uint c = t; c < a.cols; c += ROW_THREADS) most = max(most, magnitude(x[from + c]));
    vec2 factors = int8_factors(row_max_magnitude(most));
    float inverse = factors.x;
    if (t == 0u) out_scale[a.out_scale_at + row] = factors.y;
    for (uint c = t * 4u; c < a.cols; c += ROW_THREADS * 4u) {
        vec4 v = vec4(0.0);
        for (uint j = 0u; j < min(a.cols - c, 4u); ++j) v[j] = roundEven(x[from + c + j] * inverse);
        store(a.out_at + row * a.out_stride + c, v, a.cols - c);
    }
}
