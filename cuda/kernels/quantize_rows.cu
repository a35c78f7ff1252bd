// Symmetric int8: scale = max|x| / 127, q = round_ties_even(x · (127 / max|x|)), a block a row; rows are rotated before, or
// not.
#include "rows.cuh"

struct QuantizeRowsArgs {
    AnyMatrix x;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    u32 rotated;
};
static_assert(sizeof(QuantizeRowsArgs) == 48, "args.rs");

template <u32 COUNT>
DEVICE void quantize_rows(const QuantizeRowsArgs& a) {
    const u8* x = a.x.row(blockIdx.x);
    float y[COUNT][4];
    each_four<COUNT>(a.cols, [&](u32 i, u32 c) { load_four(x, a.x.type, c, a.cols, y[i]); });
    store_row<COUNT>(a.out, a.out_scale, blockIdx.x, a.cols, y);
}

KERNEL(ROW_THREADS) quantize_rows(ARGUMENTS(QuantizeRowsArgs) a) {
    wait_for_previous();
    const u8* x = a.x.row(blockIdx.x);
    if (a.rotated)
        return store_rotated(a.out, a.out_scale, blockIdx.x, a.cols, [=](u32 c) { return load(x, a.x.type, c); });
    WITH_ROWS(quantize_rows, a.cols, MOST);
}
