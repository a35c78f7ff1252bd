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

KERNEL(ROW_THREADS) rms_norm(ARGUMENTS(RmsNormArgs) a) {
    u32 row = blockIdx.x;
    const float* x = a.x.row(row);
    const float* position = a.position.rows > 0 ? a.position.row(row % a.position.rows) : nullptr;
    float squares = 0.0f;
    for (u32 c = threadIdx.x; c < a.cols; c += ROW_THREADS) squares += x[c] * x[c];
    float root = sqrtf(row_sum(squares) / (float)a.cols + a.eps);
    store_row(a.out, a.out_scale, row, a.cols, [=](u32 c) {
        float y = x[c] / root * a.weight[c];
        return position ? y + position[c] : y;
    });
}
