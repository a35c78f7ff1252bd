// On the queries and keys of qkv, in place or to `out`: RMSNorm of each head, then a rotation of its channel pairs. A warp has
// a head. Values go to `out` as they are.
#include "types.cuh"

// `halves`: channels k and k + head_dim / 2 make a pair (Qwen3), not 2k and 2k + 1. `rope.rows` is 0 where nothing is
// rotated.
struct QkNormRopeArgs {
    Matrix<float> qkv;
    AnyMatrix out;
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
static_assert(sizeof(QkNormRopeArgs) == 88, "args.rs");

constexpr u32 HEADS = 4;
// Pairs of a lane: heads have up to 128 channels, which stay in registers.
constexpr u32 PAIRS = 2;

KERNEL(32 * HEADS) qk_norm_rope(ARGUMENTS(QkNormRopeArgs) a) {
    wait_for_previous();
    u32 row = blockIdx.x, lane = threadIdx.x % 32, head = blockIdx.y * HEADS + threadIdx.x / 32;
    bool in_place = a.out.at == nullptr, normed = head < a.heads + a.kv_heads;
    if (!normed && (in_place || head >= a.heads + 2 * a.kv_heads)) return;
    const float* x = a.qkv.row(row) + head * a.head_dim;
    u8* out = in_place ? reinterpret_cast<u8*>(a.qkv.row(row)) : a.out.row(row);
    u32 type = in_place ? F32 : a.out.type, column = head * a.head_dim;
    bool in_pairs = !a.halves && is_multiple(out, 2 * size_of(type));
    if (!normed) {
        for (u32 c = lane; c < a.head_dim; c += 32) store(out, type, column + c, x[c]);
        return;
    }
    const float* weight = head < a.heads ? a.q_weight : a.k_weight;
    const float* wave = row < a.rotated_rows ? a.rope.row(row % a.rope.rows) : nullptr;
    float p[PAIRS], q[PAIRS], p_weight[PAIRS], q_weight[PAIRS], turn_cos[PAIRS], turn_sin[PAIRS], squares = 0.0f;
#pragma unroll
    for (u32 i = 0; i < PAIRS; ++i) {
        u32 pair = lane + 32 * i;
        if (pair >= a.head_dim / 2) break;
        u32 first = a.halves ? pair : 2 * pair, second = a.halves ? pair + a.head_dim / 2 : first + 1;
        p[i] = x[first];
        q[i] = x[second];
        p_weight[i] = weight[first];
        q_weight[i] = weight[second];
        turn_cos[i] = wave ? wave[2 * pair] : 1.0f;
        turn_sin[i] = wave ? wave[2 * pair + 1] : 0.0f;
        squares += p[i] * p[i] + q[i] * q[i];
    }
    for (u32 bits = 16; bits > 0; bits >>= 1) squares += shuffle_xor(squares, bits);
    float root = sqrtf(squares / (float)a.head_dim + a.eps);
#pragma unroll
    for (u32 i = 0; i < PAIRS; ++i) {
        u32 pair = lane + 32 * i;
        if (pair >= a.head_dim / 2) break;
        u32 first = a.halves ? pair : 2 * pair, second = a.halves ? pair + a.head_dim / 2 : first + 1;
        float u = p[i] / root * p_weight[i], v = q[i] / root * q_weight[i];
        float y = u * turn_cos[i] - v * turn_sin[i], z = v * turn_cos[i] + u * turn_sin[i];
        if (in_pairs) {
            store_pair(out, type, column + first, y, z);
        } else {
            store(out, type, column + first, y);
            store(out, type, column + second, z);
        }
    }
}
