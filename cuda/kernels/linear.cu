// out = epilogue(x · wᵀ + bias) on tensor cores: 16-bit products with f32 sums, int8 products with i32 sums. A block has a
// tile of `out` and walks along K in slabs of 128 bytes a row, which are 64 or 128 elements; while it multiplies one slab,
// the next ones are on their way to shared memory, and the factors of the next product to registers. Both operands have K
// along their rows, as mma.sync takes them, so int8 and 16-bit differ in the instruction alone.
//
// Blocks that run at once have the same columns: weights come from memory once, activations stay in the cache. Where not
// all of them fit, a group of row tiles takes its turn with all columns before the next one does.
//
// With SWIGLU a tile's columns are in turn eight of the gate and the eight of the other factor with the same outputs, of
// which a block has half as many: a thread finds both factors of an output in its registers.
#include "epilogue.cuh"

// Bytes of a row's part of a slab, in chunks of 16, and those of one product.
constexpr u32 SLAB = 128;
constexpr u32 CHUNKS = SLAB / 16;
constexpr u32 STEPS = SLAB / 32;

struct F16Product {
    typedef float Sum;
    static constexpr bool SCALED = false;
    static DEVICE void add(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { product_f16(c, a, b0, b1); }
};

struct Bf16Product {
    typedef float Sum;
    static constexpr bool SCALED = false;
    static DEVICE void add(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { product_bf16(c, a, b0, b1); }
};

struct Int8Product {
    typedef int Sum;
    static constexpr bool SCALED = true;
    static DEVICE void add(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { product_int8(c, a, b0, b1); }
};

// How chunks come to shared memory: asynchronously where rows are aligned to 16 bytes, else byte by byte. Of a row's 16
// bytes the first `live` exist, the rest become 0: the tail of K, and rows outside of the matrix.
struct Aligned {
    static DEVICE void copy(u8* to, const u8* from, u32 live) { copy_async_16(to, from, live); }
};

struct Unaligned {
    static DEVICE void copy(u8* to, const u8* from, u32 live) {
        for (u32 i = 0; i < 16; ++i) to[i] = i < live ? from[i] : (u8)0;
    }
};

// A tile of M × N outputs, and warps of WM × WN of them.
template <u32 M_, u32 N_, u32 WM_, u32 WN_>
struct Tile {
    static constexpr u32 M = M_, N = N_, WM = WM_, WN = WN_;
    static constexpr u32 WARPS_N = N / WN;
    static constexpr u32 THREADS = 32 * (M / WM) * WARPS_N;
    static constexpr u32 STAGE_BYTES = (M + N) * SLAB;
    // Rows of a slab that the block loads at once.
    static constexpr u32 ROWS = THREADS / CHUNKS;
    static_assert(M % ROWS == 0 && N % ROWS == 0, "threads share alike");
};

// Where a chunk of a row lies in a slab. Eight rows that ldmatrix reads at once lie in eight different groups of banks.
DEVICE u32 place(u32 row, u32 chunk) { return row * SLAB + (chunk ^ row % CHUNKS) * 16; }

// A thread's part of the rows of one operand: a chunk of COUNT rows, which are ROWS rows of the slab apart.
template <u32 COUNT, u32 ROWS>
struct Rows {
    const u8* from;
    u64 step;
    u32 live;

    // `first`: the thread's first row, of `rows`; `every`: how far it is to the next one.
    DEVICE Rows(const AnyMatrix& of, u32 first, u32 every, u32 rows, u32 chunk) {
        from = of.row(first) + 16 * chunk;
        step = (u64)of.stride * size_of(of.type) * every;
        live = first < rows ? (rows - first + every - 1) / every : 0;
    }

    // Starts loading a slab; of the chunks `bytes` exist.
    template <class Copy>
    DEVICE void load(u8* to, u32 bytes) {
#pragma unroll
        for (u32 i = 0; i < COUNT; ++i)
            Copy::copy(to + i * ROWS * SLAB, from + i * step, i < live ? bytes : 0u);
        from += SLAB;
    }
};

// Two neighbouring columns.
struct Pair {
    float x, y;
};

DEVICE Pair load_pair(const float* at) {
    Pair pair;
    load_f32x2(at, pair.x, pair.y);
    return pair;
}

DEVICE void store_pair(float* at, Pair x) { store_f32x2(at, x.x, x.y); }

// Turns a warp's sums into outputs: rows `row0` on, columns `col0` on, all of which exist, in pairs that are aligned. Every
// epilogue but SILU is before + y · gate; what outputs need from memory is asked for before the first is written.
template <class P, u32 TILES_M, u32 TILES_N>
DEVICE void finish_pairs(const LinearArgs& a, const typename P::Sum (&sums)[TILES_M][TILES_N][4], u32 row0, u32 col0) {
    u32 lane = threadIdx.x % 32, first = col0 + lane % 4 * 2;
    bool gated = a.epilogue == GATED_RESIDUAL, adds = gated || a.epilogue == RESIDUAL || a.epilogue == ADD_PERIODIC;
    Pair bias[TILES_N], scale[TILES_N];
#pragma unroll
    for (u32 j = 0; j < TILES_N; ++j) {
        bias[j] = a.bias ? load_pair(a.bias + first + 8 * j) : Pair{0.0f, 0.0f};
        scale[j] = P::SCALED ? load_pair(a.w_scale + first + 8 * j) : Pair{1.0f, 1.0f};
    }
#pragma unroll
    for (u32 i = 0; i < TILES_M; ++i) {
        Pair before[2][TILES_N], gate[2][TILES_N];
        float row_scale[2];
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 row = row0 + 16 * i + 8 * half + lane / 4;
            if (row >= a.rows) continue;
            row_scale[half] = P::SCALED ? a.x_scale[row] : 1.0f;
            const float* table = table_row(a, row) + first;
            const float* add = a.epilogue == ADD_PERIODIC ? table : a.out_row(row) + first;
#pragma unroll
            for (u32 j = 0; j < TILES_N; ++j) {
                before[half][j] = adds ? load_pair(add + 8 * j) : Pair{0.0f, 0.0f};
                gate[half][j] = gated ? load_pair(table + 8 * j) : Pair{1.0f, 1.0f};
            }
        }
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 row = row0 + 16 * i + 8 * half + lane / 4;
            if (row >= a.rows) continue;
            float* out = a.out_row(row) + first;
#pragma unroll
            for (u32 j = 0; j < TILES_N; ++j) {
                Pair y = {(float)sums[i][j][2 * half], (float)sums[i][j][2 * half + 1]};
                if (P::SCALED) y = {y.x * (row_scale[half] * scale[j].x), y.y * (row_scale[half] * scale[j].y)};
                y = {y.x + bias[j].x, y.y + bias[j].y};
                store_pair(out + 8 * j, {before[half][j].x + y.x * gate[half][j].x, before[half][j].y + y.y * gate[half][j].y});
            }
        }
    }
}

// Where a sum of the tile lies in shared memory, whose slabs are no longer needed: rows that are written at once lie in
// different banks.
template <class T>
DEVICE u32 sum_place(u32 row, u32 col) {
    static_assert(T::M * T::N * 4 <= 2 * T::STAGE_BYTES, "sums take the slabs' place");
    return row * T::N + (col ^ (row % 4 * 8));
}

// Turns all sums of the block into outputs one by one, wherever they lie: a short loop over what is in shared memory.
template <class T, class P>
DEVICE void finish_each(const LinearArgs& a, const typename P::Sum* sums, u32 row0, u32 col0) {
    u32 lane = threadIdx.x % 32, cols = a.epilogue == SWIGLU ? T::N / 2 : T::N;
    for (u32 r = threadIdx.x / 32; r < T::M && row0 + r < a.rows; r += T::THREADS / 32) {
        u32 row = row0 + r;
        const float* from = table_row(a, row);
        for (u32 c = lane; c < cols && col0 + c < a.n; c += 32) {
            u32 col = col0 + c;
            auto factor = [&](u32 at, const float* scale, const float* bias) {
                float y = (float)sums[sum_place<T>(r, at)];
                if (P::SCALED) y *= a.x_scale[row] * scale[col];
                return bias ? y + bias[col] : y;
            };
            if (a.epilogue == SWIGLU) {
                u32 at = c / 8 * 16 + c % 8;
                float gate = factor(at, a.gate_scale, a.gate_bias), y = factor(at + 8, a.w_scale, a.bias);
                store(a.out.row(row), a.out.type, col, silu(gate) * y);
            } else {
                float* out = a.out_row(row) + col;
                *out = finish(a.epilogue, factor(c, a.w_scale, a.bias), from ? from[col] : 0.0f, *out);
            }
        }
    }
}

// As finish_pairs, with SWIGLU: sums have gates in even, the other factors in odd places. `col0`: the first output.
template <class P, u32 TILES_M, u32 TILES_N>
DEVICE void finish_gated(const LinearArgs& a, const typename P::Sum (&sums)[TILES_M][TILES_N][4], u32 row0, u32 col0) {
    u32 lane = threadIdx.x % 32, first = col0 + lane % 4 * 2;
#pragma unroll
    for (u32 j = 0; j < TILES_N / 2; ++j) {
        u32 col = first + 8 * j;
        Pair bias[2], scale[2];
#pragma unroll
        for (u32 side = 0; side < 2; ++side) {
            const float *biases = side == 0 ? a.gate_bias : a.bias, *scales = side == 0 ? a.gate_scale : a.w_scale;
            bias[side] = biases ? load_pair(biases + col) : Pair{0.0f, 0.0f};
            scale[side] = P::SCALED ? load_pair(scales + col) : Pair{1.0f, 1.0f};
        }
#pragma unroll
        for (u32 i = 0; i < TILES_M; ++i) {
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                u32 row = row0 + 16 * i + 8 * half + lane / 4;
                if (row >= a.rows) continue;
                float row_scale = P::SCALED ? a.x_scale[row] : 1.0f;
                auto factor = [&](u32 side, u32 e) {
                    float y = (float)sums[i][2 * j + side][2 * half + e];
                    if (P::SCALED) y *= row_scale * (e == 0 ? scale[side].x : scale[side].y);
                    return y + (e == 0 ? bias[side].x : bias[side].y);
                };
                float x = silu(factor(0, 0)) * factor(1, 0), y = silu(factor(0, 1)) * factor(1, 1);
                store_pair(a.out.row(row), a.out.type, col, x, y);
            }
        }
    }
}

template <class T, class P, class Copy>
DEVICE void linear(const LinearArgs& a) {
    constexpr u32 TILES_M = T::WM / 16, TILES_N = T::WN / 8;
    typedef typename P::Sum Sum;
    DYNAMIC_SHARED(shared);
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 warp_row = warp / T::WARPS_N * T::WM, warp_col = warp % T::WARPS_N * T::WN;
    bool gated = a.epilogue == SWIGLU;
    u32 row0 = (blockIdx.z * gridDim.x + blockIdx.x) * T::M, col0 = blockIdx.y * (gated ? T::N / 2 : T::N);
    // The last group may have more blocks than row tiles.
    if (row0 >= a.rows) return;
    u32 row_bytes = a.k * size_of(a.x.type), slabs = (row_bytes + SLAB - 1) / SLAB;

    u32 my_row = threadIdx.x / CHUNKS, my_chunk = threadIdx.x % CHUNKS;
    Rows<T::M / T::ROWS, T::ROWS> xs(a.x, row0 + my_row, T::ROWS, a.rows, my_chunk);
    u32 my_col = gated ? my_row / 16 * 8 + my_row % 8 : my_row;
    const AnyMatrix& w_of = gated && my_row / 8 % 2 == 0 ? a.gate : a.w;
    Rows<T::N / T::ROWS, T::ROWS> ws(w_of, col0 + my_col, gated ? T::ROWS / 2 : T::ROWS, a.n, my_chunk);
    u8* to = shared + place(my_row, my_chunk);
    u32 at = 16 * my_chunk, filled = 0;
    auto load_slab = [&](u32 slab) {
        if (slab < slabs) {
            u32 bytes = at < row_bytes ? min(row_bytes - at, 16u) : 0u;
            xs.template load<Copy>(to + filled, bytes);
            ws.template load<Copy>(to + filled + T::M * SLAB, bytes);
            at += SLAB;
        }
        copy_commit();
        filled = filled + T::STAGE_BYTES == a.stages * T::STAGE_BYTES ? 0 : filled + T::STAGE_BYTES;
    };
    // Waits until all slabs but the last `stages` - 2 are there, and all threads know it.
    auto next_slab = [&] {
        if (a.stages == 2) copy_wait<0>();
        else if (a.stages == 3) copy_wait<1>();
        else copy_wait<2>();
        __syncthreads();
    };

    Sum sums[TILES_M][TILES_N][4];
#pragma unroll
    for (u32 i = 0; i < TILES_M; ++i)
#pragma unroll
        for (u32 j = 0; j < TILES_N; ++j)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) sums[i][j][e] = 0;

    // Factors of this step and of the next, which are on their way to registers while this one is multiplied.
    u32 xf[2][TILES_M][4], wf[2][TILES_N / 2][4];
    u32 x_at = place(warp_row + lane % 16, lane / 16);
    u32 w_at = T::M * SLAB + place(warp_col + lane % 8 + lane / 16 * 8, lane / 8 % 2);
    auto load_step = [&](u32 step, const u8* slab) {
        u32 flip = 2 * 16 * step;
#pragma unroll
        for (u32 i = 0; i < TILES_M; ++i) load_matrices(xf[step % 2][i], slab + (x_at ^ flip) + 16 * SLAB * i);
#pragma unroll
        for (u32 j = 0; j < TILES_N / 2; ++j) load_matrices(wf[step % 2][j], slab + (w_at ^ flip) + 16 * SLAB * j);
    };

    for (u32 s = 0; s < a.stages - 1; ++s) load_slab(s);
    next_slab();
    load_step(0, shared);
    u32 read = 0;
    for (u32 slab = 0; slab < slabs; ++slab) {
#pragma unroll
        for (u32 step = 0; step < STEPS; ++step) {
            if (step == STEPS - 1) {
                // Also: all have read this slab, whose place the one after those under way takes.
                next_slab();
                read = read + T::STAGE_BYTES == a.stages * T::STAGE_BYTES ? 0 : read + T::STAGE_BYTES;
            }
            load_step((step + 1) % STEPS, shared + read);
            if (step == 0) load_slab(slab + a.stages - 1);
#pragma unroll
            for (u32 i = 0; i < TILES_M; ++i)
#pragma unroll
                for (u32 j = 0; j < TILES_N; ++j) {
                    u32* w = wf[step % 2][j / 2] + j % 2 * 2;
                    P::add(sums[i][j], xf[step % 2][i], w[0], w[1]);
                }
        }
    }

    bool aligned = a.out.stride % 2 == 0 && a.table.stride % 2 == 0 && is_multiple(a.out.at, 8) &&
                   is_multiple(a.table.at, 8) && is_multiple(a.bias, 8) && is_multiple(a.w_scale, 8) &&
                   is_multiple(a.gate_bias, 8) && is_multiple(a.gate_scale, 8);
    if (aligned && gated && col0 + T::N / 2 <= a.n)
        return finish_gated<P>(a, sums, row0 + warp_row, col0 + warp_col / 2);
    if (aligned && !gated && col0 + T::N <= a.n && a.epilogue != SILU)
        return finish_pairs<P>(a, sums, row0 + warp_row, col0 + warp_col);
    copy_wait<0>();
    __syncthreads();
    Sum* tile = reinterpret_cast<Sum*>(shared);
#pragma unroll
    for (u32 i = 0; i < TILES_M; ++i)
#pragma unroll
        for (u32 j = 0; j < TILES_N; ++j)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                u32 row = warp_row + 16 * i + lane / 4 + e / 2 * 8, col = warp_col + 8 * j + lane % 4 * 2 + e % 2;
                tile[sum_place<T>(row, col)] = sums[i][j][e];
            }
    __syncthreads();
    finish_each<T, P>(a, tile, row0, col0);
}

typedef Tile<128, 128, 64, 64> Square;
typedef Tile<96, 192, 48, 48> Large;
typedef Tile<96, 128, 48, 64> Wide;
typedef Tile<96, 64, 48, 32> Middle;
typedef Tile<48, 64, 48, 16> Small;

// NAME: type, and rows × columns of a tile; `any` takes rows that start anywhere.
#define LINEAR(NAME, T, P, COPY) \
    KERNEL(T::THREADS) NAME(ARGUMENTS(LinearArgs) a) { \
        wait_for_previous();                           \
        linear<T, P, COPY>(a);                         \
    }

LINEAR(linear_f16_128x128, Square, F16Product, Aligned)
LINEAR(linear_f16_96x192, Large, F16Product, Aligned)
LINEAR(linear_f16_96x128, Wide, F16Product, Aligned)
LINEAR(linear_f16_96x64, Middle, F16Product, Aligned)
LINEAR(linear_f16_48x64, Small, F16Product, Aligned)
LINEAR(linear_f16_any, Middle, F16Product, Unaligned)
LINEAR(linear_bf16_128x128, Square, Bf16Product, Aligned)
LINEAR(linear_bf16_96x192, Large, Bf16Product, Aligned)
LINEAR(linear_bf16_96x128, Wide, Bf16Product, Aligned)
LINEAR(linear_bf16_96x64, Middle, Bf16Product, Aligned)
LINEAR(linear_bf16_48x64, Small, Bf16Product, Aligned)
LINEAR(linear_bf16_any, Middle, Bf16Product, Unaligned)
LINEAR(linear_int8_128x128, Square, Int8Product, Aligned)
LINEAR(linear_int8_96x192, Large, Int8Product, Aligned)
LINEAR(linear_int8_96x128, Wide, Int8Product, Aligned)
LINEAR(linear_int8_96x64, Middle, Int8Product, Aligned)
LINEAR(linear_int8_48x64, Small, Int8Product, Aligned)
LINEAR(linear_int8_any, Middle, Int8Product, Unaligned)

// f32 activations: products and sums in f32, weights of any float type widened. A block has a tile of 64 × 64 outputs, a
// thread 4 × 4 of them; while a slab is multiplied, the next one is on its way to registers. With SWIGLU a tile's columns
// are in turn one of the gate and one of the other factor.
constexpr u32 WIDE_TILE = 64;
constexpr u32 WIDE_SLAB = 16;
constexpr u32 WIDE_THREADS = 256;
// Rows of a slab that threads load at once, and how often.
constexpr u32 WIDE_ROWS = WIDE_THREADS / WIDE_SLAB;
constexpr u32 WIDE_EACH = WIDE_TILE / WIDE_ROWS;

KERNEL(WIDE_THREADS) linear_f32(ARGUMENTS(LinearArgs) a) {
    wait_for_previous();
    __shared__ float xs[WIDE_SLAB][WIDE_TILE + 4], ws[WIDE_SLAB][WIDE_TILE + 4];
    bool gated = a.epilogue == SWIGLU;
    u32 t = threadIdx.x, row0 = blockIdx.x * WIDE_TILE, col0 = blockIdx.y * (gated ? WIDE_TILE / 2 : WIDE_TILE);
    u32 my_row = t / 16 * 4, my_col = t % 16 * 4;
    float sums[4][4] = {}, x_next[WIDE_EACH], w_next[WIDE_EACH];
    u32 r = t / WIDE_SLAB, c = t % WIDE_SLAB;
    auto fetch = [&](u32 k0) {
#pragma unroll
        for (u32 i = 0; i < WIDE_EACH; ++i) {
            u32 x_row = row0 + r + i * WIDE_ROWS, w_row = col0 + (gated ? r / 2 + i * WIDE_ROWS / 2 : r + i * WIDE_ROWS);
            const AnyMatrix& w = gated && r % 2 == 0 ? a.gate : a.w;
            x_next[i] = k0 + c < a.k && x_row < a.rows ? load(a.x.row(x_row), F32, k0 + c) : 0.0f;
            w_next[i] = k0 + c < a.k && w_row < a.n ? load(w.row(w_row), w.type, k0 + c) : 0.0f;
        }
    };
    fetch(0);
    for (u32 k0 = 0; k0 < a.k; k0 += WIDE_SLAB) {
#pragma unroll
        for (u32 i = 0; i < WIDE_EACH; ++i) {
            xs[c][r + i * WIDE_ROWS] = x_next[i];
            ws[c][r + i * WIDE_ROWS] = w_next[i];
        }
        __syncthreads();
        if (k0 + WIDE_SLAB < a.k) fetch(k0 + WIDE_SLAB);
#pragma unroll
        for (u32 k = 0; k < WIDE_SLAB; ++k)
#pragma unroll
            for (u32 i = 0; i < 4; ++i)
#pragma unroll
                for (u32 j = 0; j < 4; ++j) sums[i][j] += xs[k][my_row + i] * ws[k][my_col + j];
        __syncthreads();
    }
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        u32 row = row0 + my_row + i;
        if (row >= a.rows) break;
        const float* from = table_row(a, row);
#pragma unroll
        for (u32 j = 0; j < 4; j += 2) {
            u32 col = col0 + (my_col + j) / 2;
            if (!gated || col >= a.n) break;
            float gate = a.gate_bias ? sums[i][j] + a.gate_bias[col] : sums[i][j];
            float y = a.bias ? sums[i][j + 1] + a.bias[col] : sums[i][j + 1];
            store(a.out.row(row), a.out.type, col, silu(gate) * y);
        }
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            u32 col = col0 + my_col + j;
            if (gated || col >= a.n) break;
            float* out = a.out_row(row) + col;
            float y = a.bias ? sums[i][j] + a.bias[col] : sums[i][j];
            *out = finish(a.epilogue, y, from ? from[col] : 0.0f, *out);
        }
    }
}
