// out = SiLU(x[.., ..half]) · x[.., half..], a block a row; int8 rows get a scale.
#include "rows.cuh"

struct SwigluArgs {
    Matrix<const float> x;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    u32 unused;
};
static_assert(sizeof(SwigluArgs) == 48, "args.rs");

KERNEL(ROW_THREADS) swiglu(ARGUMENTS(SwigluArgs) a) {
    const float* x = a.x.row(blockIdx.x);
    store_row(a.out, a.out_scale, blockIdx.x, a.cols, [=](u32 c) { return silu(x[c]) * x[a.cols + c]; });
}
