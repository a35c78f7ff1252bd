// Rows of patches back to (C, H, W) images, a value a thread.
#include "types.cuh"

// `channel_first`: a token's values are (channel, row, column), else (row, column, channel).
struct UnpatchifyArgs {
    Matrix<const float> x;
    Matrix<float> out;
    u32 cols;
    u32 grid;
    u32 patch;
    u32 channels;
    u32 channel_first;
    u32 unused;
};
static_assert(sizeof(UnpatchifyArgs) == 56, "args.rs");

KERNEL(LINE_THREADS) unpatchify(ARGUMENTS(UnpatchifyArgs) a) {
    wait_for_previous();
    u32 image = line_index() / a.cols, c = line_index() % a.cols;
    if (image >= a.out.rows) return;
    u32 side = a.grid * a.patch, channel = c / (side * side), y = c / side % side, x = c % side;
    u32 row = y % a.patch, column = x % a.patch;
    u32 within = a.channel_first ? (channel * a.patch + row) * a.patch + column
                                 : (row * a.patch + column) * a.channels + channel;
    u32 token = image * a.grid * a.grid + y / a.patch * a.grid + x / a.patch;
    a.out.row(image)[c] = a.x.row(token)[within];
}
