// out = epilogue(x · wᵀ + bias) on tensor cores: 16-bit products with f32 sums, int8 products with i32 sums. A block has a
// tile of `out` and walks along K in slabs of 64 bytes a row, which are 32 or 64 elements; while it multiplies one slab,
// the next ones are on their way to shared memory. Both operands have K along their rows, as mma.sync takes them, so
// int8 and 16-bit differ in the instruction alone.
#include "epilogue.cuh"

// Bytes of a row's part of a slab, in chunks of 16.
constexpr u32 SLAB = 64;
constexpr u32 CHUNKS = SLAB / 16;

struct F16Product {
    typedef float Sum;
    static DEVICE void add(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { product_f16(c, a, b0, b1); }
    static DEVICE float value(Sum c, const LinearArgs&, u32, u32) { return c; }
};

struct Bf16Product {
    typedef float Sum;
    static DEVICE void add(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { product_bf16(c, a, b0, b1); }
    static DEVICE float value(Sum c, const LinearArgs&, u32, u32) { return c; }
};

struct Int8Product {
    typedef int Sum;
    static DEVICE void add(Sum (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { product_int8(c, a, b0, b1); }
    static DEVICE float value(Sum c, const LinearArgs& a, u32 row, u32 col) {
        return (float)c * (a.x_scale[row] * a.w_scale[col]);
    }
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

// A tile of M × N outputs, warps of WM × WN of them, and slabs under way.
template <u32 M_, u32 N_, u32 WM_, u32 WN_, u32 STAGES_>
struct Tile {
    static constexpr u32 M = M_, N = N_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr u32 WARPS_N = N / WN;
    static constexpr u32 THREADS = 32 * (M / WM) * WARPS_N;
    static constexpr u32 STAGE_BYTES = (M + N) * SLAB;
};

// Where a chunk of a row lies in a slab. Eight rows that ldmatrix reads at once lie in eight different groups of banks.
DEVICE u32 place(u32 row, u32 chunk) { return row * SLAB + ((chunk ^ ((row >> 1) & 3)) * 16); }

// Where a sum of the tile lies in shared memory, whose slabs are no longer needed: rows that are written at once lie in
// different banks.
template <class T>
DEVICE u32 sum_place(u32 row, u32 col) {
    static_assert(T::M * T::N * 4 <= T::STAGES * T::STAGE_BYTES, "sums take the slabs' place");
    return row * T::N + (col ^ (row % 4 * 8));
}

// Starts loading slab `slab` of the tile's rows of x, then those of w, into a stage.
template <class T, class Copy>
DEVICE void load_slab(const LinearArgs& a, u8* stage, u32 row0, u32 col0, u32 row_bytes, u32 slab) {
    static_assert((T::M + T::N) * CHUNKS % T::THREADS == 0 && T::M * CHUNKS % T::THREADS == 0, "threads share alike");
    constexpr u32 COPIES = (T::M + T::N) * CHUNKS / T::THREADS;
#pragma unroll
    for (u32 i = 0; i < COPIES; ++i) {
        u32 mine = threadIdx.x + i * T::THREADS;
        u32 row = mine / CHUNKS, chunk = mine % CHUNKS, at = slab * SLAB + chunk * 16;
        bool is_x = row < T::M;
        u32 global = is_x ? row0 + row : col0 + row - T::M;
        bool inside = global < (is_x ? a.out.rows : a.n) && at < row_bytes;
        u32 live = inside ? min(row_bytes - at, 16u) : 0u;
        const AnyMatrix& from = is_x ? a.x : a.w;
        Copy::copy(stage + place(row, chunk), inside ? from.row(global) + at : from.at, live);
    }
}

template <class T, class P, class Copy>
DEVICE void linear(const LinearArgs& a) {
    constexpr u32 TILES_M = T::WM / 16, TILES_N = T::WN / 8;
    DYNAMIC_SHARED(shared);
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 warp_row = warp / T::WARPS_N * T::WM, warp_col = warp % T::WARPS_N * T::WN;
    u32 row0 = blockIdx.y * T::M, col0 = blockIdx.x * T::N;
    u32 row_bytes = a.k * size_of(a.x.type), slabs = (row_bytes + SLAB - 1) / SLAB;

    typename P::Sum sums[TILES_M][TILES_N][4];
#pragma unroll
    for (u32 i = 0; i < TILES_M; ++i)
#pragma unroll
        for (u32 j = 0; j < TILES_N; ++j)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) sums[i][j][e] = 0;

#pragma unroll
    for (u32 s = 0; s < T::STAGES - 1; ++s) {
        if (s < slabs) load_slab<T, Copy>(a, shared + s * T::STAGE_BYTES, row0, col0, row_bytes, s);
        copy_commit();
    }
    for (u32 slab = 0; slab < slabs; ++slab) {
        copy_wait<T::STAGES - 2>();
        // Also: all have multiplied the slab whose place the next one takes.
        __syncthreads();
        u32 next = slab + T::STAGES - 1;
        if (next < slabs)
            load_slab<T, Copy>(a, shared + next % T::STAGES * T::STAGE_BYTES, row0, col0, row_bytes, next);
        copy_commit();
        const u8* x = shared + slab % T::STAGES * T::STAGE_BYTES;
        const u8* w = x + T::M * SLAB;
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            u32 xs[TILES_M][4], ws[TILES_N / 2][4];
#pragma unroll
            for (u32 i = 0; i < TILES_M; ++i)
                load_matrices(xs[i], x + place(warp_row + 16 * i + lane % 16, 2 * half + lane / 16));
#pragma unroll
            for (u32 j = 0; j < TILES_N / 2; ++j)
                load_matrices(ws[j], w + place(warp_col + 16 * j + lane % 8 + lane / 16 * 8, 2 * half + lane / 8 % 2));
#pragma unroll
            for (u32 i = 0; i < TILES_M; ++i)
#pragma unroll
                for (u32 j = 0; j < TILES_N; ++j) P::add(sums[i][j], xs[i], ws[j / 2][j % 2 * 2], ws[j / 2][j % 2 * 2 + 1]);
        }
    }

    // The sums go through shared memory, so that a warp writes rows, and the epilogue is code of a loop.
    copy_wait<0>();
    __syncthreads();
    typename P::Sum* tile = reinterpret_cast<typename P::Sum*>(shared);
#pragma unroll
    for (u32 i = 0; i < TILES_M; ++i) {
#pragma unroll
        for (u32 j = 0; j < TILES_N; ++j) {
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                u32 row = warp_row + 16 * i + lane / 4 + e / 2 * 8, col = warp_col + 8 * j + lane % 4 * 2 + e % 2;
                tile[sum_place<T>(row, col)] = sums[i][j][e];
            }
        }
    }
    __syncthreads();
    for (u32 r = warp; r < T::M && row0 + r < a.out.rows; r += T::THREADS / 32) {
        u32 row = row0 + r;
        const float* from = table_row(a, row);
        float* out = a.out.row(row);
#pragma unroll
        for (u32 i = 0; i < T::N / 32; ++i) {
            u32 c = lane + 32 * i, col = col0 + c;
            if (col < a.n) out[col] = finish(a, P::value(tile[sum_place<T>(r, c)], a, row, col), col, from, out + col);
        }
    }
}

typedef Tile<128, 128, 64, 32, 4> Large;
typedef Tile<64, 128, 32, 64, 4> Wide;
typedef Tile<64, 64, 32, 32, 4> Small;

// NAME: type, and rows × columns of a tile; `any` takes rows that start anywhere.
#define LINEAR(NAME, T, P, COPY) \
    KERNEL(T::THREADS) NAME(ARGUMENTS(LinearArgs) a) { linear<T, P, COPY>(a); }

LINEAR(linear_f16_128x128, Large, F16Product, Aligned)
LINEAR(linear_f16_64x128, Wide, F16Product, Aligned)
LINEAR(linear_f16_64x64, Small, F16Product, Aligned)
LINEAR(linear_f16_any, Small, F16Product, Unaligned)
LINEAR(linear_bf16_128x128, Large, Bf16Product, Aligned)
LINEAR(linear_bf16_64x128, Wide, Bf16Product, Aligned)
LINEAR(linear_bf16_64x64, Small, Bf16Product, Aligned)
LINEAR(linear_bf16_any, Small, Bf16Product, Unaligned)
LINEAR(linear_int8_128x128, Large, Int8Product, Aligned)
LINEAR(linear_int8_64x128, Wide, Int8Product, Aligned)
LINEAR(linear_int8_64x64, Small, Int8Product, Aligned)
LINEAR(linear_int8_any, Small, Int8Product, Unaligned)

// f32 activations: products and sums in f32, weights of any float type widened. A block has a tile of 64 × 64 outputs, a
// thread 4 × 4 of them.
constexpr u32 WIDE_TILE = 64;
constexpr u32 WIDE_SLAB = 16;
constexpr u32 WIDE_THREADS = 256;

KERNEL(WIDE_THREADS) linear_f32(ARGUMENTS(LinearArgs) a) {
    __shared__ float xs[WIDE_SLAB][WIDE_TILE + 4], ws[WIDE_SLAB][WIDE_TILE + 4];
    u32 t = threadIdx.x, row0 = blockIdx.y * WIDE_TILE, col0 = blockIdx.x * WIDE_TILE;
    u32 my_row = t / 16 * 4, my_col = t % 16 * 4;
    float sums[4][4] = {};
    for (u32 k0 = 0; k0 < a.k; k0 += WIDE_SLAB) {
#pragma unroll
        for (u32 i = 0; i < WIDE_TILE * WIDE_SLAB / WIDE_THREADS; ++i) {
            u32 r = t / WIDE_SLAB + i * (WIDE_THREADS / WIDE_SLAB), c = t % WIDE_SLAB;
            bool inside = k0 + c < a.k;
            xs[c][r] = inside && row0 + r < a.out.rows ? load(a.x.row(row0 + r), F32, k0 + c) : 0.0f;
            ws[c][r] = inside && col0 + r < a.n ? load(a.w.row(col0 + r), a.w.type, k0 + c) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (u32 c = 0; c < WIDE_SLAB; ++c)
#pragma unroll
            for (u32 i = 0; i < 4; ++i)
#pragma unroll
                for (u32 j = 0; j < 4; ++j) sums[i][j] += xs[c][my_row + i] * ws[c][my_col + j];
        __syncthreads();
    }
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        u32 row = row0 + my_row + i;
        if (row >= a.out.rows) break;
        const float* from = table_row(a, row);
        float* out = a.out.row(row);
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            u32 col = col0 + my_col + j;
            if (col < a.n) out[col] = finish(a, sums[i][j], col, from, out + col);
        }
    }
}
