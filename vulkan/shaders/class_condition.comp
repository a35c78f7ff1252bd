#version 450
#extension GL_GOOGLE_include_directive : require
// out[t · labels + l] = SiLU(t_emb[t] + table[label[l]]), one value an invocation.
#include "types.glsl"
#include "math.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 1) const uint TABLE_TYPE = F32;

layout(set = 0, binding = 0) readonly buffer TEmb { float t_emb[]; };
layout(set = 0, binding = 1) readonly buffer Table { uint table_words[]; };
layout(set = 0, binding = 2) readonly buffer Labels { uint labels[]; };
layout(set = 0, binding = 3) buffer Out { float result[]; };

layout(push_constant) uniform Args {
    uint t_emb_at, t_emb_stride, table_at, table_stride, labels_at, label_count, out_at, out_stride, rows, cols;
} a;

DEFINE_LOAD(table, table_words, TABLE_TYPE)

void main() {
    uint i = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (i >= a.rows * a.cols) return;
    uint row = i / a.cols, c = i % a.cols;
    uint label = labels[a.labels_at + row % a.label_count];
    float y = t_emb[a.t_emb_at + row / a.label_count * a.t_emb_stride + c] + table(a.table_at + label * a.table_stride + c);
    result[a.out_at + row * a.out_stride + c] = silu(y);
}
