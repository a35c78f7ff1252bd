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

template <u32 COUNT>
DEVICE void norm_modulate(const NormModulateArgs& a) {
    u32 row = blockIdx.x;
    const float* x = a.x.row(row);
    const float* vectors = a.table.row(a.table_rows[a.layout.image_of(row)]);
    float y[COUNT][4], factor[COUNT][4], shift[COUNT][4], squares = 0.0f;
    each_four<COUNT>(a.cols, [&](u32 i, u32 c) {
        float weight[4], scale[4];
        load_four(x, c, a.cols, y[i]);
        load_four(a.weight, c, a.cols, weight);
        load_four(vectors + a.scale, c, a.cols, scale);
        load_four(vectors + a.shift, c, a.cols, shift[i]);
        for (u32 e = 0; e < 4; ++e) {
            factor[i][e] = weight[e] * (1.0f + scale[e]);
            squares += y[i][e] * y[i][e];
        }
    });
    float inverse = 1.0f / sqrtf(row_sum(squares) / (float)a.cols + a.eps);
    each_four<COUNT>(a.cols, [&](u32 i, u32) {
        for (u32 e = 0; e < 4; ++e) y[i][e] = y[i][e] * inverse * factor[i][e] + shift[i][e];
    });
    store_row<COUNT>(a.out, a.out_scale, row, a.cols, y);
}

KERNEL(ROW_THREADS) norm_modulate(ARGUMENTS(NormModulateArgs) a) {
    wait_for_previous();
    WITH_ROWS(norm_modulate, a.cols, NORMED);
}
