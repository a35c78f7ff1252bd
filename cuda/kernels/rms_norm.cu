// out = x / √(mean(x²) + eps) · weight + position, a block a row; int8 rows get a scale.
#include "rows.cuh"

// `position.rows` is 0 where nothing is added.
struct RmsNormArgs {
    Matrix<const float> x;
    const float* weight;
    Matrix<const float> position;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    float eps;
};
static_assert(sizeof(RmsNormArgs) == 72, "args.rs");

template <u32 COUNT>
DEVICE void rms_norm(const RmsNormArgs& a) {
    u32 row = blockIdx.x;
    const float* x = a.x.row(row);
    const float* position = a.position.rows > 0 ? a.position.row(row % a.position.rows) : nullptr;
    float y[COUNT][4], weight[COUNT][4], added[COUNT][4], squares = 0.0f;
    each_four<COUNT>(a.cols, [&](u32 i, u32 c) {
        load_four(x, c, a.cols, y[i]);
        load_four(a.weight, c, a.cols, weight[i]);
        for (u32 e = 0; e < 4; ++e) added[i][e] = 0.0f;
        if (position) load_four(position, c, a.cols, added[i]);
        for (u32 e = 0; e < 4; ++e) squares += y[i][e] * y[i][e];
    });
    float inverse = 1.0f / sqrtf(row_sum(squares) / (float)a.cols + a.eps);
    each_four<COUNT>(a.cols, [&](u32 i, u32) {
        for (u32 e = 0; e < 4; ++e) y[i][e] = y[i][e] * inverse * weight[i][e] + added[i][e];
    });
    store_row<COUNT>(a.out, a.out_scale, row, a.cols, y);
}

KERNEL(ROW_THREADS) rms_norm(ARGUMENTS(RmsNormArgs) a) {
    wait_for_previous();
    WITH_ROWS(rms_norm, a.cols, NORMED);
}
