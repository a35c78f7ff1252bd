// Symmetric int8: scale = max|x| / 127, q = round_ties_even(x · (127 / max|x|)), a block a row.
#include "rows.cuh"

struct QuantizeRowsArgs {
    Matrix<const float> x;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    u32 unused;
};
static_assert(sizeof(QuantizeRowsArgs) == 48, "args.rs");

KERNEL(ROW_THREADS) quantize_rows(ARGUMENTS(QuantizeRowsArgs) a) {
    const float* x = a.x.row(blockIdx.x);
    store_row(a.out, a.out_scale, blockIdx.x, a.cols, [=](u32 c) { return x[c]; });
}
