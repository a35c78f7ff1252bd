#version 450
#extension GL_GOOGLE_include_directive : require
// out = x / √(mean(x²) + eps) · weight + position, one workgroup a row; int8 rows get a scale.
#include "types.glsl"
#include "math.glsl"
#include "rows.glsl"

layout(constant_id = 1) const uint OUT_TYPE = F32;
layout(constant_id = 2) const bool HAS_POSITION = false;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Weight { float weight[]; };
layout(set = 0, binding = 2) readonly buffer Position { float position[]; };
layout(set = 0, binding = 3) buffer Out { uint out_words[]; };
layout(set = 0, binding = 4) buffer Scales { float out_scale[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, weight_at, position_at, position_stride, period, out_at, out_stride, out_scale_at, cols;
    float eps;
} a;

DEFINE_STORE4(store, out_words, OUT_TYPE)

float value(uint row, uint c, float root) {
    precise float y = x[a.x_at + row * a.x_stride + c] / root * weight[a.weight_at + c];
    if (HAS_POSITION) y += position[a.position_at + row % a.period * a.position_stride + c];
    return y;
}

void main() {
    uint row = gl_WorkGroupID.x, t = gl_LocalInvocationID.x;
    uint from = a.x_at + row * a.x_stride;
    float squares = 0.0;
    for (uint c = t; c < a.cols; c += ROW_THREADS) squares += x[from + c] * x[from + c];
    float root = sqrt(row_sum(squares) / float(a.cols) + a.eps);

    float inverse = 0.0;
    if (OUT_TYPE == I8) {
        uint most = 0u;
        for (uint c = t; c < a.cols; c += ROW_THREADS) most = max(most, magnitude(value(row, c, root)));
        vec2 factors = int8_factors(row_max_magnitude(most));
        inverse = factors.x;
        if (t == 0u) out_scale[a.out_scale_at + row] = factors.y;
    }
    for (uint c = t * 4u; c < a.cols; c += ROW_THREADS * 4u) {
        vec4 v = vec4(0.0);
        for (uint j = 0u; j < min(a.cols - c, 4u); ++j) {
            float y = value(row, c + j, root);
            v[j] = OUT_TYPE == I8 ? roundEven(y * inverse) : y;
        }
        store(a.out_at + row * a.out_stride + c, v, a.cols - c);
    }
}
