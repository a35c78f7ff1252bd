// out = (x - mean(x)) / √(mean((x - mean(x))²) + eps), a block a row; int8 rows get a scale.
#include "rows.cuh"

struct LayerNormArgs {
    Matrix<const float> x;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    float eps;
};
static_assert(sizeof(LayerNormArgs) == 48, "args.rs");

KERNEL(ROW_THREADS) layer_norm(ARGUMENTS(LayerNormArgs) a) {
    u32 row = blockIdx.x;
    const float* x = a.x.row(row);
    float sum = 0.0f;
    for (u32 c = threadIdx.x; c < a.cols; c += ROW_THREADS) sum += x[c];
    float mean = row_sum(sum) / (float)a.cols;
    float squares = 0.0f;
    for (u32 c = threadIdx.x; c < a.cols; c += ROW_THREADS) squares += (x[c] - mean) * (x[c] - mean);
    float root = sqrtf(row_sum(squares) / (float)a.cols + a.eps);
    store_row(a.out, a.out_scale, row, a.cols, [=](u32 c) { return (x[c] - mean) / root; });
}
