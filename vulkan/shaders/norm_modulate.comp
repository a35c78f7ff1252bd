#version 450
#extension GL_GOOGLE_include_directive : require
// out = x / √(mean(x²) + eps) · weight · (1 + scale) + shift, one workgroup a row; int8 rows get a scale.
#include "types.glsl"
#include "math.glsl"
#include "rows.glsl"
#include "layout.glsl"

layout(constant_id = 1) const uint OUT_TYPE = F32;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Weight { float weight[]; };
layout(set = 0, binding = 2) readonly buffer Table { float table[]; };
layout(set = 0, binding = 3) readonly buffer Rows { uint rows[]; };
layout(set = 0, binding = 4) buffer Out { uint out_words[]; };
layout(set = 0, binding = 5) buffer Scales { float out_scale[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, weight_at, table_at, table_stride, rows_at, out_at, out_stride, out_scale_at;
    uint cols, shift, scale, images, image_tokens, context_tokens;
    float eps;
} a;

DEFINE_STORE4(store, out_words, OUT_TYPE)

void main() {
    uint row = gl_WorkGroupID.x, t = gl_LocalInvocationID.x;
    uint from = a.x_at + row * a.x_stride;
    uint image = image_of(row, a.images, a.image_tokens, a.context_tokens);
    uint vectors = a.table_at + rows[a.rows_at + image] * a.table_stride;

    float squares = 0.0;
    for (uint c = t; c < a.cols; c += ROW_THREADS) squares += x[from + c] * x[from + c];
    float root = sqrt(row_sum(squares) / float(a.cols) + a.eps);

    float inverse = 0.0;
    if (OUT_TYPE == I8) {
        uint most = 0u;
        for (uint c = t; c < a.cols; c += ROW_THREADS) {
            float y = x[from + c] / root * weight[a.weight_at + c];
            precise float z = y * (1.0 + table[vectors + a.scale + c]) + table[vectors + a.shift + c];
            most = max(most, magnitude(z));
        }
        vec2 factors = int8_factors(row_max_magnitude(most));
        inverse = factors.x;
        if (t == 0u) out_scale[a.out_scale_at + row] = factors.y;
    }
    for (uint c = t * 4u; c < a.cols; c += ROW_THREADS * 4u) {
        vec4 v = vec4(0.0);
        for (uint j = 0u; j < min(a.cols - c, 4u); ++j) {
            float y = x[from + c + j] / root * weight[a.weight_at + c + j];
            precise float z = y * (1.0 + table[vectors + a.scale + c + j]) + table[vectors + a.shift + c + j];
            v[j] = OUT_TYPE == I8 ? roundEven(z * inverse) : z;
        }
        store(a.out_at + row * a.out_stride + c, v, a.cols - c);
    }
}
