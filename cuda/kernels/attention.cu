// out = softmax(q · kᵀ / √head_dim) · v on tensor cores, streaming over tiles of keys: the score matrix is never written
// (FlashAttention-2, arXiv 2307.08691). A block has 64 queries of a head, a warp 16 of them.
//
// Operands are f32, tensor cores multiply 16 bits: every operand x is split into hi = f16(x) and lo = f16(x - hi), which
// together have 22 bits, and products are hi · hi + hi · lo + lo · hi. What lies beyond f16's ±65504 is clamped: queries
// and keys are normed, and a value is a linear layer's output. What is not finite becomes NaN.
#include "types.cuh"

// `scale`: log2(e) / √head_dim, so that weights are powers of two.
struct AttentionArgs {
    Matrix<const float> q;
    Matrix<const float> k;
    Matrix<const float> v;
    AnyMatrix out;
    Tokens queries;
    Tokens keys;
    u32 head_dim;
    float scale;
};
static_assert(sizeof(AttentionArgs) == 96, "args.rs");

constexpr u32 QUERIES = 64;
constexpr u32 THREADS = 128;
// The score of a key that is not there.
constexpr float LOWEST = -3.402823466e38f;

// The nearest value that f16 has. An infinity less itself is NaN, which fmaxf drops.
DEVICE float clamp(float x) { return fminf(fmaxf(x, -65504.0f), 65504.0f) + (x - x); }

// Two values as a word of f16, the first in the lower half, and what is left of them.
DEVICE void split(float x, float y, u32& hi, u32& lo) {
    x = clamp(x);
    y = clamp(y);
    u16 x_hi = f16_bits(x), y_hi = f16_bits(y);
    hi = x_hi | (u32)y_hi << 16;
    lo = f16_bits(x - f16_float(x_hi)) | (u32)f16_bits(y - f16_float(y_hi)) << 16;
}

// Rows of WIDTH channels in shared memory. Rows are 16 bytes longer, so that the eight that ldmatrix reads at once lie in
// different banks.
template <u32 ROWS, u32 WIDTH>
struct Split {
    static constexpr u32 STRIDE = WIDTH + 8;
    static constexpr u32 BYTES = 2 * ROWS * STRIDE * 2;
    u16* hi;
    u16* lo;

    DEVICE Split(u8* at) : hi(reinterpret_cast<u16*>(at)), lo(hi + ROWS * STRIDE) {}

    // Tokens `first` on of a head. Missing tokens and channels become 0.
    DEVICE void fill(const Matrix<const float>& from, const Tokens& layout, u32 image, u32 first, u32 head, u32 head_dim) {
        for (u32 i = threadIdx.x; i < ROWS * (WIDTH / 2); i += THREADS) {
            u32 r = i / (WIDTH / 2), c = i % (WIDTH / 2) * 2;
            float x = 0.0f, y = 0.0f;
            if (first + r < layout.tokens()) {
                const float* row = from.row(layout.row_of(image, first + r)) + head * head_dim;
                if (c < head_dim) x = row[c];
                if (c + 1 < head_dim) y = row[c + 1];
            }
            u32 at = (r * STRIDE + c) / 2;
            split(x, y, reinterpret_cast<u32*>(hi)[at], reinterpret_cast<u32*>(lo)[at]);
        }
    }
};

// WIDTH: channels of a head, padded to a multiple of 16. KEYS: keys of a tile.
template <u32 WIDTH, u32 KEYS>
DEVICE void attention(const AttentionArgs& a) {
    DYNAMIC_SHARED(shared);
    typedef Split<QUERIES, WIDTH> Q;
    typedef Split<KEYS, WIDTH> KV;
    Q q(shared);
    KV k(shared + Q::BYTES), v(shared + Q::BYTES + KV::BYTES);
    u32 lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    u32 first = blockIdx.x * QUERIES, head = blockIdx.y, image = blockIdx.z, keys = a.keys.tokens();
    q.fill(a.q, a.queries, image, first, head, a.head_dim);

    // Rows lane / 4 and lane / 4 + 8 of the warp's queries.
    float most[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f}, out[WIDTH / 8][4];
#pragma unroll
    for (u32 i = 0; i < WIDTH / 8; ++i)
#pragma unroll
        for (u32 e = 0; e < 4; ++e) out[i][e] = 0.0f;

    for (u32 key0 = 0; key0 < keys; key0 += KEYS) {
        // All are done with the tile before.
        __syncthreads();
        k.fill(a.k, a.keys, image, key0, head, a.head_dim);
        v.fill(a.v, a.keys, image, key0, head, a.head_dim);
        __syncthreads();

        float scores[KEYS / 8][4];
#pragma unroll
        for (u32 j = 0; j < KEYS / 8; ++j)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) scores[j][e] = 0.0f;
#pragma unroll
        for (u32 c = 0; c < WIDTH; c += 16) {
            u32 q_hi[4], q_lo[4];
            u32 at = (warp_row + lane % 16) * Q::STRIDE + c + lane / 16 * 8;
            load_matrices(q_hi, q.hi + at);
            load_matrices(q_lo, q.lo + at);
#pragma unroll
            for (u32 j = 0; j < KEYS / 16; ++j) {
                u32 k_hi[4], k_lo[4];
                at = (16 * j + lane % 8 + lane / 16 * 8) * KV::STRIDE + c + lane / 8 % 2 * 8;
                load_matrices(k_hi, k.hi + at);
                load_matrices(k_lo, k.lo + at);
#pragma unroll
                for (u32 e = 0; e < 2; ++e) {
                    product_f16(scores[2 * j + e], q_lo, k_hi[2 * e], k_hi[2 * e + 1]);
                    product_f16(scores[2 * j + e], q_hi, k_lo[2 * e], k_lo[2 * e + 1]);
                    product_f16(scores[2 * j + e], q_hi, k_hi[2 * e], k_hi[2 * e + 1]);
                }
            }
        }

#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float now = most[half];
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; ++j) {
#pragma unroll
                for (u32 e = 2 * half; e < 2 * half + 2; ++e) {
                    u32 key = key0 + 8 * j + lane % 4 * 2 + e % 2;
                    scores[j][e] = key < keys ? scores[j][e] * a.scale : LOWEST;
                    now = fmaxf(now, scores[j][e]);
                }
            }
            // Finite from the first tile on, which has a key.
            now = fmaxf(now, shuffle_xor(now, 1));
            now = fmaxf(now, shuffle_xor(now, 2));
            float fade = exp2f(most[half] - now);
            most[half] = now;
            total[half] *= fade;
#pragma unroll
            for (u32 i = 0; i < WIDTH / 8; ++i) {
                out[i][2 * half] *= fade;
                out[i][2 * half + 1] *= fade;
            }
#pragma unroll
            for (u32 j = 0; j < KEYS / 8; ++j) {
#pragma unroll
                for (u32 e = 2 * half; e < 2 * half + 2; ++e) {
                    scores[j][e] = exp2f(scores[j][e] - now);
                    total[half] += scores[j][e];
                }
            }
        }

#pragma unroll
        for (u32 j = 0; j < KEYS / 16; ++j) {
            u32 p_hi[4], p_lo[4];
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                const float* pair = scores[2 * j + e / 2] + e % 2 * 2;
                split(pair[0], pair[1], p_hi[e], p_lo[e]);
            }
#pragma unroll
            for (u32 i = 0; i < WIDTH / 16; ++i) {
                u32 v_hi[4], v_lo[4];
                u32 at = (16 * j + lane % 16) * KV::STRIDE + 16 * i + lane / 16 * 8;
                load_matrices_transposed(v_hi, v.hi + at);
                load_matrices_transposed(v_lo, v.lo + at);
#pragma unroll
                for (u32 e = 0; e < 2; ++e) {
                    product_f16(out[2 * i + e], p_lo, v_hi[2 * e], v_hi[2 * e + 1]);
                    product_f16(out[2 * i + e], p_hi, v_lo[2 * e], v_lo[2 * e + 1]);
                    product_f16(out[2 * i + e], p_hi, v_hi[2 * e], v_hi[2 * e + 1]);
                }
            }
        }
    }

#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        float sum = total[half];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        u32 query = first + warp_row + lane / 4 + 8 * half;
        if (query >= a.queries.tokens()) continue;
        u8* to = a.out.row(a.queries.row_of(image, query));
#pragma unroll
        for (u32 i = 0; i < WIDTH / 8; ++i) {
#pragma unroll
            for (u32 e = 0; e < 2; ++e) {
                u32 c = 8 * i + lane % 4 * 2 + e;
                if (c < a.head_dim) store(to, a.out.type, head * a.head_dim + c, out[i][2 * half + e] / sum);
            }
        }
    }
}

#define ATTENTION(WIDTH, KEYS) \
    KERNEL(THREADS) attention_##WIDTH(ARGUMENTS(AttentionArgs) a) { attention<WIDTH, KEYS>(a); }

ATTENTION(16, 64)
ATTENTION(64, 64)
ATTENTION(80, 64)
ATTENTION(112, 32)
ATTENTION(128, 32)
