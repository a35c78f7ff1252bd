// out = x / √(mean(x²) + eps) · weight · (1 + scale) + shift, a block a row; int8 rows get a scale.
#include "rows.cuh"

struct NormModulateArgs {
    Matrix<const float> x;
    const float* weight;
    Matrix<const float> table;
    const u32* table_rows;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    u32 shift;
    u32 scale;
    Tokens layout;
    float eps;
    u32 unused;
};
static_assert(sizeof(NormModulateArgs) == 104, "args.rs");

KERNEL(ROW_THREADS) norm_modulate(ARGUMENTS(NormModulateArgs) a) {
    u32 row = blockIdx.x;
    const float* x = a.x.row(row);
    const float* vectors = a.table.row(a.table_rows[a.layout.image_of(row)]);
    const float* shift = vectors + a.shift;
    const float* scale = vectors + a.scale;
    float squares = 0.0f;
    for (u32 c = threadIdx.x; c < a.cols; c += ROW_THREADS) squares += x[c] * x[c];
    float root = sqrtf(row_sum(squares) / (float)a.cols + a.eps);
    store_row(a.out, a.out_scale, row, a.cols,
              [=](u32 c) { return x[c] / root * a.weight[c] * (1.0f + scale[c]) + shift[c]; });
}
