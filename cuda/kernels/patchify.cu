// (C, H, W) images to rows of patches: tokens row-major over the grid, values (channel, row, column). A value a thread.
#include "types.cuh"

// Output image i is source i mod `image.rows`.
struct PatchifyArgs {
    Matrix<const float> image;
    AnyMatrix out;
    u32 rows;
    u32 cols;
    u32 grid;
    u32 patch;
};
static_assert(sizeof(PatchifyArgs) == 48, "args.rs");

KERNEL(LINE_THREADS) patchify(ARGUMENTS(PatchifyArgs) a) {
    wait_for_previous();
    u32 row = line_index() / a.cols, c = line_index() % a.cols;
    if (row >= a.rows) return;
    u32 tokens = a.grid * a.grid, side = a.grid * a.patch, token = row % tokens;
    u32 channel = c / (a.patch * a.patch);
    u32 y = token / a.grid * a.patch + c / a.patch % a.patch, x = token % a.grid * a.patch + c % a.patch;
    float value = a.image.row(row / tokens % a.image.rows)[(channel * side + y) * side + x];
    store(a.out.row(row), a.out.type, c, value);
}
