#version 450
// out = scale · q of ggml's Q8_0 blocks: a 16-bit scale, then 32 bytes. One value an invocation.

layout(local_size_x = 64) in;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 1) buffer Out { float result[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, out_at, out_stride, rows, cols;
} a;

// Eight bits from byte i on.
uint byte_at(uint i) { return x_words[i >> 2] >> ((i & 3u) * 8u) & 0xffu; }

void main() {
    uint i = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (i >= a.rows * a.cols) return;
    uint row = i / a.cols, c = i % a.cols;
    uint block = a.x_at + row * a.x_stride + c / 32u * 34u;
    float scale = unpackHalf2x16(byte_at(block) | byte_at(block + 1u) << 8).x;
    int q = int(byte_at(block + 2u + c % 32u) << 24) >> 24;
    result[a.out_at + row * a.out_stride + c] = scale * float(q);
}
