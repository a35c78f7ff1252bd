// out = softmax(q · kᵀ / √head_dim) · v on tensor cores, streaming over tiles of keys: the score matrix is never written
// (FlashAttention-2, arXiv 2307.08691). A block has 64 queries of a head and two groups of four warps; a warp has 16
// queries, and its group half of a tile's keys. While a tile is multiplied, the next one is on its way to shared memory.
//
// Tensor cores multiply 16 bits. Operands are bf16, or f32 where a kernel is exact: every operand x is then split into hi =
// f16(x) and lo = f16(x - hi), which together have 22 bits, once for all warps, and products are hi · hi + hi · lo + lo · hi.
// What lies beyond f16's ±65504 is clamped: queries and keys are normed, and a value is a linear layer's output. What is
// not finite becomes NaN.
#include "types.cuh"

// `scale`: log2(e) / √head_dim, so that weights are powers of two.
struct AttentionArgs {
    AnyMatrix q;
    AnyMatrix k;
    AnyMatrix v;
    AnyMatrix out;
    Tokens queries;
    Tokens keys;
    u32 head_dim;
    float scale;
};
static_assert(sizeof(AttentionArgs) == 96, "args.rs");

constexpr u32 QUERIES = 64;
constexpr u32 GROUP = 128;
constexpr u32 GROUPS = 2;
constexpr u32 THREADS = GROUP * GROUPS;
// The score of a key that is not there.
constexpr float LOWEST = -3.402823466e38f;

// The nearest value that f16 has. An infinity less itself is NaN, which fmaxf drops.
DEVICE float clamp(float x) { return fminf(fmaxf(x, -65504.0f), 65504.0f) + (x - x); }

// Factors in bf16. They are multiplied as they arrive, in one of two places in turn.
struct Rounded {
    typedef u16 Element;
    static constexpr u32 PARTS = 1;
    static constexpr bool IS_SPLIT = false;
    // Two values as a word, the first in the lower half.
    static DEVICE void split(float x, float y, u32 (&parts)[PARTS]) { parts[0] = bf16_pair(x, y); }
    static DEVICE void add(float (&sum)[4], const u32 (&a)[PARTS][4], const u32 (&b)[PARTS][4], u32 e) {
        product_bf16(sum, a[0], b[0][2 * e], b[0][2 * e + 1]);
    }
};

// Factors of 22 bits: the f16 nearest to them, then the one nearest to what is left.
struct Exact {
    typedef float Element;
    static constexpr u32 PARTS = 2;
    static constexpr bool IS_SPLIT = true;
    static DEVICE void split(float x, float y, u32 (&parts)[PARTS]) {
        x = clamp(x);
        y = clamp(y);
        parts[0] = f16_pair(x, y);
        parts[1] = f16_pair(x - f16_float((u16)parts[0]), y - f16_float((u16)(parts[0] >> 16)));
    }
    static DEVICE void add(float (&sum)[4], const u32 (&a)[PARTS][4], const u32 (&b)[PARTS][4], u32 e) {
        product_f16(sum, a[1], b[0][2 * e], b[0][2 * e + 1]);
        product_f16(sum, a[0], b[1][2 * e], b[1][2 * e + 1]);
        product_f16(sum, a[0], b[0][2 * e], b[0][2 * e + 1]);
    }
};

// ROWS tokens of a head with WIDTH channels, in shared memory: in the parts of their factors, of 16 bits. Rows are 16 bytes
// longer than a head, so that the eight that ldmatrix reads at once lie in different banks. Before f32 is split, it has
// arrived elsewhere.
template <u32 ROWS, u32 WIDTH, class F>
struct Tile {
    typedef typename F::Element Element;
    static constexpr u32 STRIDE = WIDTH + 8;
    static constexpr u32 PART = ROWS * STRIDE;
    static constexpr u32 BYTES = F::PARTS * PART * 2;
    static constexpr u32 ARRIVED_STRIDE = F::IS_SPLIT ? WIDTH : STRIDE;
    static constexpr u32 ARRIVED_BYTES = ROWS * ARRIVED_STRIDE * sizeof(Element);
    // A thread has 16 bytes of every AT_ONCE-th row, or nothing.
    static constexpr u32 EACH_TIME = 16 / sizeof(Element);
    static constexpr u32 CHUNKS = WIDTH / EACH_TIME;
    static constexpr u32 AT_ONCE = THREADS / CHUNKS < ROWS ? THREADS / CHUNKS : ROWS;
    static constexpr u32 EACH = (ROWS + AT_ONCE - 1) / AT_ONCE;
    static DEVICE u32 my_row() { return threadIdx.x < AT_ONCE * CHUNKS ? threadIdx.x / CHUNKS : ROWS; }
    static DEVICE u32 my_channel() { return threadIdx.x % CHUNKS * EACH_TIME; }

    // Whether 16 bytes of every row are aligned.
    static DEVICE bool is_whole(const AnyMatrix& of, u32 column) {
        return is_multiple(of.at + column * sizeof(Element), 16) && of.stride % EACH_TIME == 0;
    }

    // Asks for tokens `first` on of a head. Missing tokens and channels become 0.
    static DEVICE void fetch(u8* to, const AnyMatrix& from, const Tokens& layout, u32 image, u32 first, u32 column,
                             u32 head_dim, bool whole) {
        u32 c = my_channel(), channels = c < head_dim ? min(head_dim - c, EACH_TIME) : 0u;
        const Element* start = reinterpret_cast<const Element*>(from.at) + column + (channels > 0 ? c : 0);
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            u32 r = my_row() + i * AT_ONCE, token = first + r;
            if (r >= ROWS) break;
            bool there = token < layout.tokens();
            const Element* row = start + (there ? (u64)layout.row_of(image, token) * from.stride : 0);
            Element* place = reinterpret_cast<Element*>(to) + r * ARRIVED_STRIDE + c;
            u32 live = there ? channels : 0u;
            if (whole) {
                copy_async_16(place, row, (u32)sizeof(Element) * live);
            } else {
#pragma unroll
                for (u32 e = 0; e < EACH_TIME; ++e) place[e] = e < live ? row[e] : Element(0);
            }
        }
    }

    // Splits what this thread has asked for and has arrived.
    static DEVICE void split(const u8* arrived, u16* to) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            u32 r = my_row() + i * AT_ONCE, c = my_channel();
            if (r >= ROWS) break;
            float x[4];
            load_f32x4(reinterpret_cast<const float*>(arrived) + r * ARRIVED_STRIDE + c, x);
            u32 first[F::PARTS], second[F::PARTS];
            F::split(x[0], x[1], first);
            F::split(x[2], x[3], second);
#pragma unroll
            for (u32 part = 0; part < F::PARTS; ++part)
                store_u32x2(to + part * PART + r * STRIDE + c, first[part], second[part]);
        }
    }
};

// WIDTH: channels of a head, padded to a multiple of 16. KEYS: a group's keys of a tile.
template <u32 WIDTH, u32 KEYS, class F>
DEVICE void attention(const AttentionArgs& a) {
    DYNAMIC_SHARED(shared);
    constexpr u32 PARTS = F::PARTS;
    typedef Tile<QUERIES, WIDTH, F> Q;
    typedef Tile<GROUPS * KEYS, WIDTH, F> KV;
    // Keys and values arrive side by side: in the first half and, in turn, the second, or only to be split to there.
    constexpr u32 HALF = 2 * KV::ARRIVED_BYTES, TOTAL = HALF + 2 * KV::BYTES;
    static_assert(Q::BYTES + (F::IS_SPLIT ? Q::ARRIVED_BYTES : 0) <= TOTAL, "queries lie where keys and values do");
    static_assert(GROUP * (WIDTH / 2 + 4) * 4 <= TOTAL, "so do a group's results");
    u32 lane = threadIdx.x % 32, warp_row = threadIdx.x % GROUP / 32 * 16, group = threadIdx.x / GROUP;
    u32 first = blockIdx.x * QUERIES, head = blockIdx.y, image = blockIdx.z, keys = a.keys.tokens();
    u32 column = head * a.head_dim;
    bool q_is_whole = Q::is_whole(a.q, column), k_is_whole = KV::is_whole(a.k, column), v_is_whole = KV::is_whole(a.v, column);

    // The warp's queries stay in registers.
    u32 q[WIDTH / 16][PARTS][4];
    u16* queries = reinterpret_cast<u16*>(shared + (F::IS_SPLIT ? Q::ARRIVED_BYTES : 0));
    Q::fetch(shared, a.q, a.queries, image, first, column, a.head_dim, q_is_whole);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    if constexpr (F::IS_SPLIT) {
        Q::split(shared, queries);
        __syncthreads();
    }
#pragma unroll
    for (u32 c = 0; c < WIDTH / 16; ++c)
#pragma unroll
        for (u32 part = 0; part < PARTS; ++part)
            load_matrices(q[c][part],
                          queries + part * Q::PART + (warp_row + lane % 16) * Q::STRIDE + 16 * c + lane / 16 * 8);
    __syncthreads();

    // Rows lane / 4 and lane / 4 + 8 of the warp's queries.
    float most[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f}, out[WIDTH / 8][4];
#pragma unroll
    for (u32 i = 0; i < WIDTH / 8; ++i)
#pragma unroll
        for (u32 e = 0; e < 4; ++e) out[i][e] = 0.0f;

    auto fetch = [&](u8* to, u32 tile) {
        KV::fetch(to, a.k, a.keys, image, tile, column, a.head_dim, k_is_whole);
        KV::fetch(to + KV::ARRIVED_BYTES, a.v, a.keys, image, tile, column, a.head_dim, v_is_whole);
        copy_commit();
    };
    u8 *arriving = shared, *other = shared + HALF;
    fetch(arriving, 0);
    for (u32 tile = 0; tile < keys; tile += GROUPS * KEYS) {
        copy_wait<0>();
        // Also: all are done with the tile before.
        __syncthreads();
        u16* k = reinterpret_cast<u16*>(F::IS_SPLIT ? other : arriving);
        u16* v = k + KV::BYTES / 2;
        if constexpr (F::IS_SPLIT) {
            KV::split(arriving, k);
            KV::split(arriving + KV::ARRIVED_BYTES, v);
            __syncthreads();
        } else {
            u8* arrived = arriving;
            arriving = other;
            other = arrived;
        }
        if (tile + GROUPS * KEYS < keys) fetch(arriving, tile + GROUPS * KEYS);
        u32 key0 = tile + group * KEYS;
        // From here on every tile has a key, so that the largest score is finite.
        if (key0 >= keys) continue;

        float scores[KEYS / 8][4];
#pragma unroll
        for (u32 j = 0; j < KEYS / 8; ++j)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) scores[j][e] = 0.0f;
#pragma unroll
        for (u32 c = 0; c < WIDTH / 16; ++c) {
#pragma unroll
            for (u32 j = 0; j < KEYS / 16; ++j) {
                u32 kf[PARTS][4];
                u32 at = (group * KEYS + 16 * j + lane % 8 + lane / 16 * 8) * KV::STRIDE + 16 * c + lane / 8 % 2 * 8;
#pragma unroll
                for (u32 part = 0; part < PARTS; ++part) load_matrices(kf[part], k + part * KV::PART + at);
#pragma unroll
                for (u32 e = 0; e < 2; ++e) F::add(scores[2 * j + e], q[c], kf, e);
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
            u32 p[PARTS][4];
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                const float* pair = scores[2 * j + e / 2] + e % 2 * 2;
                u32 parts[PARTS];
                F::split(pair[0], pair[1], parts);
#pragma unroll
                for (u32 part = 0; part < PARTS; ++part) p[part][e] = parts[part];
            }
#pragma unroll
            for (u32 i = 0; i < WIDTH / 16; ++i) {
                u32 vf[PARTS][4];
                u32 at = (group * KEYS + 16 * j + lane % 16) * KV::STRIDE + 16 * i + lane / 16 * 8;
#pragma unroll
                for (u32 part = 0; part < PARTS; ++part) load_matrices_transposed(vf[part], v + part * KV::PART + at);
#pragma unroll
                for (u32 e = 0; e < 2; ++e) F::add(out[2 * i + e], p, vf, e);
            }
        }
    }

    // The second group hands its results to the first.
    __syncthreads();
    float* theirs = reinterpret_cast<float*>(shared) + threadIdx.x % GROUP;
    if (group > 0) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            theirs[half * GROUP] = most[half];
            theirs[(2 + half) * GROUP] = total[half];
        }
#pragma unroll
        for (u32 i = 0; i < WIDTH / 8; ++i)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) theirs[(4 + 4 * i + e) * GROUP] = out[i][e];
    }
    __syncthreads();
    if (group > 0) return;
    bool in_pairs = a.head_dim % 2 == 0 && a.out.stride % 2 == 0 && is_multiple(a.out.at, 8);
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        float now = fmaxf(most[half], theirs[half * GROUP]);
        float mine_fade = exp2f(most[half] - now), their_fade = exp2f(theirs[half * GROUP] - now);
        float sum = total[half] * mine_fade + theirs[(2 + half) * GROUP] * their_fade;
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        u32 query = first + warp_row + lane / 4 + 8 * half;
        if (query >= a.queries.tokens()) continue;
        u8* to = a.out.row(a.queries.row_of(image, query));
#pragma unroll
        for (u32 i = 0; i < WIDTH / 8; ++i) {
            u32 c = 8 * i + lane % 4 * 2;
            float y[2];
#pragma unroll
            for (u32 e = 0; e < 2; ++e)
                y[e] = (out[i][2 * half + e] * mine_fade + theirs[(4 + 4 * i + 2 * half + e) * GROUP] * their_fade) / sum;
            if (c >= a.head_dim) continue;
            if (in_pairs) {
                store_pair(to, a.out.type, column + c, y[0], y[1]);
            } else {
                store(to, a.out.type, column + c, y[0]);
                if (c + 1 < a.head_dim) store(to, a.out.type, column + c + 1, y[1]);
            }
        }
    }
}

// EXACT_KEYS: fewer where registers would not do.
#define ATTENTION(WIDTH, KEYS, EXACT_KEYS)                                                                   \
    KERNEL(THREADS) attention_##WIDTH(ARGUMENTS(AttentionArgs) a) {                                          \
        wait_for_previous();                                                                                \
        attention<WIDTH, KEYS, Rounded>(a);                                                                 \
    }                                                                                                       \
    KERNEL(THREADS) attention_exact_##WIDTH(ARGUMENTS(AttentionArgs) a) {                                    \
        wait_for_previous();                                                                                \
        attention<WIDTH, EXACT_KEYS, Exact>(a);                                                             \
    }

ATTENTION(16, 32, 16)
ATTENTION(64, 32, 32)
ATTENTION(80, 32, 32)
ATTENTION(112, 32, 16)
ATTENTION(128, 32, 16)
