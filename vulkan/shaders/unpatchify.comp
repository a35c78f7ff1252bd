#version 450
// Rows of patches back to (C, H, W) images, one value an invocation.

layout(local_size_x = 64) in;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) buffer Out { float image[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, out_at, out_stride, images, pixels, grid, patch_side, channels, channel_first;
} a;

void main() {
    uint i = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (i >= a.images * a.pixels) return;
    uint side = a.grid * a.patch_side, picture = i / a.pixels, c = i % a.pixels;
    uint channel = c / (side * side), y = c / side % side, x_pixel = c % side;
    uint row = y % a.patch_side, column = x_pixel % a.patch_side;
    uint within = a.channel_first != 0u ? (channel * a.patch_side + row) * a.patch_side + column
                                        : (row * a.patch_side + column) * a.channels + channel;
    uint token = picture * a.grid * a.grid + y / a.patch_side * a.grid + x_pixel / a.patch_side;
    image[a.out_at + picture * a.out_stride + c] = x[a.x_at + token * a.x_stride + within];
}
