// ggml's Q8_0 blocks to f32: 34 bytes, an f16 scale and 32 int8, none of them aligned. An element a thread.
#include "types.cuh"

struct DequantizeBlocksArgs {
    Matrix<const u8> x;
    Matrix<float> out;
    u32 cols;
    u32 unused;
};
static_assert(sizeof(DequantizeBlocksArgs) == 40, "args.rs");

KERNEL(LINE_THREADS) dequantize_blocks(ARGUMENTS(DequantizeBlocksArgs) a) {
    wait_for_previous();
    u32 row = line_index() / a.cols, c = line_index() % a.cols;
    if (row >= a.out.rows) return;
    const u8* block = a.x.row(row) + c / 32 * 34;
    float scale = f16_float((u16)(block[0] | block[1] << 8));
    a.out.row(row)[c] = scale * (float)(i8)block[2 + c % 32];
}
