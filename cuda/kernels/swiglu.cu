// out = SiLU(x[.., ..half]) · x[.., half..], rotated or not, a block a row; int8 rows get a scale.
#include "rows.cuh"

struct SwigluArgs {
    Matrix<const float> x;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    u32 rotated;
};
static_assert(sizeof(SwigluArgs) == 48, "args.rs");

template <u32 COUNT>
DEVICE void swiglu(const SwigluArgs& a) {
    const float* x = a.x.row(blockIdx.x);
    float y[COUNT][4];
    each_four<COUNT>(a.cols, [&](u32 i, u32 c) {
        float gate[4];
        load_four(x, c, a.cols, gate);
        load_four(x + a.cols, c, a.cols, y[i]);
        for (u32 e = 0; e < 4; ++e) y[i][e] *= silu(gate[e]);
    });
    store_row<COUNT>(a.out, a.out_scale, blockIdx.x, a.cols, y);
}

KERNEL(ROW_THREADS) swiglu(ARGUMENTS(SwigluArgs) a) {
    wait_for_previous();
    const float* x = a.x.row(blockIdx.x);
    if (a.rotated)
        return store_rotated(a.out, a.out_scale, blockIdx.x, a.cols,
                             [=](u32 c) { return silu(x[c]) * x[a.cols + c]; });
    WITH_ROWS(swiglu, a.cols, MOST);
}
