#version 450
#extension GL_GOOGLE_include_directive : require
// out = (x − mean(x)) / √(mean((x − mean(x))²) + eps), one workgroup a row; int8 rows get a scale.
#include "types.glsl"
#include "math.glsl"
#include "rows.glsl"

layout(constant_id = 1) const uint OUT_TYPE = F32;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) buffer Out { uint out_words[]; };
layout(set = 0, binding = 2) buffer Scales { float out_scale[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, out_at, out_stride, out_scale_at, cols;
    float eps;
} a;

DEFINE_STORE4(store, out_words, OUT_TYPE)

void main() {
    uint row = gl_WorkGroupID.x, t = gl_LocalInvocationID.x;
    uint from = a.x_at + row * a.x_stride;
    float sum = 0.0;
    for (uint c = t; c < a.cols; c += ROW_THREADS) sum += x[from + c];
    float mean = row_sum(sum) / float(a.cols);
    float squares = 0.0;
    for (uint c = t; c < a.cols; c += ROW_THREADS) squares += (x[from + c] - mean) * (x[from + c] - mean);
    float root = sqrt(row_sum(squares) / float(a.cols) + a.eps);

    float inverse = 0.0;
    if (OUT_TYPE == I8) {
        uint most = 0u;
        for (uint c = t; c < a.cols; c += ROW_THREADS) most = max(most, magnitude((x[from + c] - mean) / root));
        vec2 factors = int8_factors(row_max_magnitude(most));
        inverse = factors.x;
        if (t == 0u) out_scale[a.out_scale_at + row] = factors.y;
    }
    for (uint c = t * 4u; c < a.cols; c += ROW_THREADS * 4u) {
        vec4 v = vec4(0.0);
        for (uint j = 0u; j < min(a.cols - c, 4u); ++j) {
            float y = (x[from + c + j] - mean) / root;
            v[j] = OUT_TYPE == I8 ? roundEven(y * inverse) : y;
        }
        store(a.out_at + row * a.out_stride + c, v, a.cols - c);
    }
}
