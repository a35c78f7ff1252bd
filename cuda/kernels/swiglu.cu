// out = SiLU(x[.., ..half]) · x[.., half..], rotated or not, a block a row; int8 rows get a scale.
#include "rows.cuh"

struct SwigluArgs {
    Matrix<float> x;
    AnyMatrix out;
    float* out_scale;
    u32 cols;
    u32 rotated;
};
static_assert(sizeof(SwigluArgs) == 48, "args.rs");

constexpr u32 ROTATION = 16;

// Puts the products of a row, rotated, in the place of their first factors. Those that are mixed lie n apart, so that
// neighbours are read and written together.
DEVICE void rotate(float* x, u32 cols, u32 n) {
    for (u32 i = threadIdx.x; i < n; i += ROW_THREADS) {
        float v[ROTATION];
#pragma unroll
        for (u32 j = 0; j < ROTATION; ++j) v[j] = silu(x[j * n + i]) * x[cols + j * n + i];
#pragma unroll
        for (u32 bit = 1; bit < ROTATION; bit <<= 1) {
#pragma unroll
            for (u32 j = 0; j < ROTATION; ++j) {
                if (j & bit) continue;
                float p = v[j], q = v[j | bit];
                v[j] = p + q;
                v[j | bit] = p - q;
            }
        }
#pragma unroll
        for (u32 j = 0; j < ROTATION; ++j) x[j * n + i] = v[j] * 0.25f;
    }
    __syncthreads();
}

KERNEL(ROW_THREADS) swiglu(ARGUMENTS(SwigluArgs) a) {
    float* x = a.x.row(blockIdx.x);
    u32 n = a.rotated ? a.cols / ROTATION : 0, rotated = n * ROTATION;
    if (n > 0) rotate(x, a.cols, n);
    store_row(a.out, a.out_scale, blockIdx.x, a.cols, [=](u32 c) {
        return c < rotated ? x[c] : silu(x[c]) * x[a.cols + c];
    });
}
