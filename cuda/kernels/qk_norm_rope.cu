// In place on the queries and keys of qkv: RMSNorm of each head, then a rotation of its channel pairs. A warp has a head.
#include "types.cuh"

// `halves`: channels k and k + head_dim / 2 make a pair (Qwen3), not 2k and 2k + 1. `rope.rows` is 0 where nothing is
// rotated.
struct QkNormRopeArgs {
    Matrix<float> qkv;
    const float* q_weight;
    const float* k_weight;
    Matrix<const float> rope;
    u32 rotated_rows;
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    u32 halves;
    float eps;
};
static_assert(sizeof(QkNormRopeArgs) == 72, "args.rs");

constexpr u32 HEADS = 4;

KERNEL(32 * HEADS) qk_norm_rope(ARGUMENTS(QkNormRopeArgs) a) {
    u32 row = blockIdx.x, lane = threadIdx.x % 32, head = blockIdx.y * HEADS + threadIdx.x / 32;
    if (head >= a.heads + a.kv_heads) return;
    float* x = a.qkv.row(row) + head * a.head_dim;
    const float* weight = head < a.heads ? a.q_weight : a.k_weight;
    float squares = 0.0f;
    for (u32 c = lane; c < a.head_dim; c += 32) squares += x[c] * x[c];
    for (u32 bits = 16; bits > 0; bits >>= 1) squares += shuffle_xor(squares, bits);
    float root = sqrtf(squares / (float)a.head_dim + a.eps);
    const float* wave = row < a.rotated_rows ? a.rope.row(row % a.rope.rows) : nullptr;
    for (u32 pair = lane; pair < a.head_dim / 2; pair += 32) {
        u32 first = a.halves ? pair : 2 * pair, second = a.halves ? pair + a.head_dim / 2 : first + 1;
        float p = x[first] / root * weight[first], q = x[second] / root * weight[second];
        float turn_cos = wave ? wave[2 * pair] : 1.0f, turn_sin = wave ? wave[2 * pair + 1] : 0.0f;
        x[first] = p * turn_cos - q * turn_sin;
        x[second] = q * turn_cos + p * turn_sin;
    }
}
