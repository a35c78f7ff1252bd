// out = softmax(q · kᵀ / √head_dim) · v, where a token sees those before it and no padding. A warp has a query of a head:
// only the text encoder has this kernel, and it runs on the processor unless tests ask for it here.
#include "types.cuh"

// `scale`: log2(e) / √head_dim. `lengths`: of each sequence of `tokens` rows.
struct CausalAttentionArgs {
    Matrix<const float> q;
    Matrix<const float> k;
    Matrix<const float> v;
    AnyMatrix out;
    const u32* lengths;
    u32 tokens;
    u32 heads;
    u32 group;
    u32 head_dim;
    float scale;
    u32 unused;
};
static_assert(sizeof(CausalAttentionArgs) == 96, "args.rs");

constexpr u32 HEADS = 4;
// Channels of a lane: heads have 128 at most.
constexpr u32 CHANNELS = 4;
constexpr float LOWEST = -3.402823466e38f;

KERNEL(32 * HEADS) causal_attention(ARGUMENTS(CausalAttentionArgs) a) {
    wait_for_previous();
    u32 row = blockIdx.x, lane = threadIdx.x % 32, head = blockIdx.y * HEADS + threadIdx.x / 32;
    if (head >= a.heads) return;
    u32 token = row % a.tokens, first = row - token;
    u32 visible = min(token + 1, a.lengths[row / a.tokens]);
    u32 from = head / a.group * a.head_dim;
    float q[CHANNELS], out[CHANNELS], most = LOWEST, total = 0.0f;
#pragma unroll
    for (u32 i = 0; i < CHANNELS; ++i) {
        u32 c = lane + 32 * i;
        q[i] = c < a.head_dim ? a.q.row(row)[head * a.head_dim + c] : 0.0f;
        out[i] = 0.0f;
    }
    for (u32 j = 0; j < visible; ++j) {
        const float* k = a.k.row(first + j) + from;
        const float* v = a.v.row(first + j) + from;
        float score = 0.0f;
#pragma unroll
        for (u32 i = 0; i < CHANNELS; ++i)
            if (lane + 32 * i < a.head_dim) score += q[i] * k[lane + 32 * i];
        for (u32 bits = 16; bits > 0; bits >>= 1) score += shuffle_xor(score, bits);
        score *= a.scale;
        float now = fmaxf(most, score), fade = exp2f(most - now), weight = exp2f(score - now);
        most = now;
        total = total * fade + weight;
#pragma unroll
        for (u32 i = 0; i < CHANNELS; ++i)
            if (lane + 32 * i < a.head_dim) out[i] = out[i] * fade + weight * v[lane + 32 * i];
    }
#pragma unroll
    for (u32 i = 0; i < CHANNELS; ++i) {
        u32 c = lane + 32 * i;
        if (c < a.head_dim)
            store(a.out.row(row), a.out.type, head * a.head_dim + c, visible > 0 ? out[i] / total : 0.0f);
    }
}
