#version 450
#extension GL_GOOGLE_include_directive : require
// out = SiLU(x[.., ..half]) · x[.., half..], rotated or not, one workgroup a row; int8 rows get a scale.
#include "types.glsl"
#include "math.glsl"
#include "rows.glsl"

layout(constant_id = 1) const uint OUT_TYPE = F32;
layout(constant_id = 2) const uint ROTATED = 0u;

const uint ROTATION = 16u;

layout(set = 0, binding = 0) coherent buffer X { float x[]; };
layout(set = 0, binding = 1) buffer Out { uint out_words[]; };
layout(set = 0, binding = 2) buffer Scales { float out_scale[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, out_at, out_stride, out_scale_at, cols;
} a;

DEFINE_STORE4(store, out_words, OUT_TYPE)

float product(uint from, uint c) {
    precise float y = silu(x[from + c]) * x[from + a.cols + c];
    return y;
}

// Columns that are rotated: a sixteenth of the row apart, so that neighbours are read and written together.
uint rotated() {
    return ROTATED != 0u ? a.cols / ROTATION * ROTATION : 0u;
}

// Puts the rotated products in the place of their first factors.
void rotate(uint from) {
    uint n = a.cols / ROTATION;
    for (uint i = gl_LocalInvocationID.x; i < n; i += ROW_THREADS) {
        float v[ROTATION];
        for (uint j = 0u; j < ROTATION; ++j) v[j] = product(from, j * n + i);
        for (uint bit = 1u; bit < ROTATION; bit <<= 1) {
            for (uint j = 0u; j < ROTATION; ++j) {
                if ((j & bit) != 0u) continue;
                float p = v[j], q = v[j | bit];
                v[j] = p + q;
                v[j | bit] = p - q;
            }
        }
        for (uint j = 0u; j < ROTATION; ++j) x[from + j * n + i] = v[j] * 0.25;
    }
    memoryBarrierBuffer();
    barrier();
}

float value(uint from, uint c) {
    return c < rotated() ? x[from + c] : product(from, c);
}

void main() {
    uint row = gl_WorkGroupID.x, t = gl_LocalInvocationID.x;
    uint from = a.x_at + row * a.x_stride;
    if (ROTATED != 0u) rotate(from);
    float inverse = 0.0;
    if (OUT_TYPE == I8) {
        uint most = 0u;
        for (uint c = t; c < a.cols; c += ROW_THREADS) most = max(most, magnitude(value(from, c)));
        vec2 factors = int8_factors(row_max_magnitude(most));
        inverse = factors.x;
        if (t == 0u) out_scale[a.out_scale_at + row] = factors.y;
    }
    for (uint c = t * 4u; c < a.cols; c += ROW_THREADS * 4u) {
        vec4 v = vec4(0.0);
        for (uint j = 0u; j < min(a.cols - c, 4u); ++j) {
            float y = value(from, c + j);
            v[j] = OUT_TYPE == I8 ? roundEven(y * inverse) : y;
        }
        store(a.out_at + row * a.out_stride + c, v, a.cols - c);
    }
}
