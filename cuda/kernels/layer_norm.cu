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

template <u32 COUNT>
DEVICE void layer_norm(const LayerNormArgs& a) {
    u32 row = blockIdx.x;
    const float* x = a.x.row(row);
    float y[COUNT][4], sum = 0.0f, squares = 0.0f;
    each_four<COUNT>(a.cols, [&](u32 i, u32 c) {
        load_four(x, c, a.cols, y[i]);
        for (u32 e = 0; e < 4; ++e) sum += y[i][e];
    });
    float mean = row_sum(sum) / (float)a.cols;
    each_four<COUNT>(a.cols, [&](u32 i, u32 c) {
        for (u32 e = 0; e < 4; ++e) {
            // What is past the row's end stays 0.
            y[i][e] = c + e < a.cols ? y[i][e] - mean : 0.0f;
            squares += y[i][e] * y[i][e];
        }
    });
    float inverse = 1.0f / sqrtf(row_sum(squares) / (float)a.cols + a.eps);
    each_four<COUNT>(a.cols, [&](u32 i, u32) {
        for (u32 e = 0; e < 4; ++e) y[i][e] *= inverse;
    });
    store_row<COUNT>(a.out, a.out_scale, row, a.cols, y);
}

KERNEL(ROW_THREADS) layer_norm(ARGUMENTS(LayerNormArgs) a) {
    wait_for_previous();
    WITH_ROWS(layer_norm, a.cols, NORMED);
}
