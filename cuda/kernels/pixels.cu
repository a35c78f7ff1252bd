// Finished images, about -1 to 1, to memory of the program that asked for them: core's Pixels::write. A thread has a pixel.
#include "types.cuh"

// Red, green, blue and an alpha of 255; or planes of f32 as they are.
constexpr u32 RGBA8 = 0;
// The formulas of core's Rounding.
constexpr u32 PIXELGEN = 0;

// `line`: bytes from one line to the next. `bad`: becomes 1 if a value is not finite.
struct PixelsArgs {
    Matrix<const float> x;
    u8* out;
    u32* bad;
    u32 line;
    u32 width;
    u32 height;
    u32 channels;
    u32 format;
    u32 rounding;
};
static_assert(sizeof(PixelsArgs) == 56, "args.rs");

DEVICE u32 to_u8(float x, u32 rounding) {
    // No sum takes in the product before it: the processor rounds both.
    float y = rounding == PIXELGEN ? multiply(x + 1.0f, 127.5f) + 0.5f : rintf(multiply((x + 1.0f) / 2.0f, 255.0f));
    // NaN becomes 0.
    return y >= 255.0f ? 255u : y > 0.0f ? (u32)y : 0u;
}

KERNEL(LINE_THREADS) pixels(ARGUMENTS(PixelsArgs) a) {
    wait_for_previous();
    u32 plane = a.width * a.height, image = line_index() / plane, pixel = line_index() % plane;
    if (image >= a.x.rows) return;
    u32 y = pixel / a.width, x = pixel % a.width;
    const float* from = a.x.row(image) + pixel;
    bool bad = false;
    if (a.format == RGBA8) {
        u32 rgba = 0xff000000u;
        for (u32 c = 0; c < (a.channels == 1 ? 3 : a.channels); ++c) {
            float value = from[a.channels == 1 ? 0 : (u64)c * plane];
            bad |= !is_finite(value);
            // A fourth channel is alpha.
            rgba = (rgba & ~(0xffu << 8 * c)) | to_u8(value, a.rounding) << 8 * c;
        }
        u8* line = a.out + ((u64)image * a.height + y) * a.line;
        reinterpret_cast<u32*>(line)[x] = rgba;
    } else {
        for (u32 c = 0; c < a.channels; ++c) {
            float value = from[(u64)c * plane];
            bad |= !is_finite(value);
            u8* line = a.out + (((u64)image * a.channels + c) * a.height + y) * a.line;
            reinterpret_cast<float*>(line)[x] = value;
        }
    }
    if (bad) *a.bad = 1;
}
