/* The tiled GEMM under matrix products and convolutions: Y (m,n) = sum over k of A (m,k) B (n,k)^T. A block of four
 * warps computes a BM x BN tile. Loaders (tile_load.cuh, conv_load.cuh) define A and B: they fill tiles of TILE_K in
 * shared memory, either K_MAJOR, (rows, 4 chunks of 16 bytes along k), or (k, rows). tile_out defines where results go.
 * bfloat16: tensor cores with ldmatrix; float: FMA. Loads are pipelined over several stages by cp.async, with one
 * barrier per step. Chunks are XOR-swizzled by the row, so that ldmatrix and vector loads of eight rows have no bank
 * conflicts. */
#ifndef MCS_KERNELS_TILE_CUH
#define MCS_KERNELS_TILE_CUH

#include "kernels/common/device.cuh"

#include <stdint.h>

constexpr int TILE_THREADS = 128, TILE_WARPS = 4;
template <class T> constexpr int TILE_V = 16 / (int)sizeof(T); /* elements of a 16-byte chunk */
template <class T> constexpr int TILE_K = 64 / (int)sizeof(T); /* elements of k per stage */

/* XOR swizzle: index of chunk c of row r in a tile with CHUNKS chunks per row. Eight chunks, 128 bytes, span all banks:
 * that is one row of 8 chunks or more, but two rows of 4 chunks, whose pairs are therefore told apart by r >> 1. */
template <int CHUNKS> static DEV_INLINE int tile_chunk(int r, int c)
{
    return r * CHUNKS + (CHUNKS >= 8 ? c ^ (r & 7) : c ^ (r >> 1 & 3));
}

/* Size of one GEMM; blockIdx.z selects one of several (a batch). */
struct tile_shape {
    int64_t m, n;
    int64_t k_tiles, k_tiles_per_split; /* in units of TILE_K */
};

static inline int64_t tile_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Epilogue: y = beta y + result + bias, in float. Map gives offset(m, n), an element index of y, and channel(n), an
 * index of bias. With split k, each split writes a float partial result; they are split_stride elements apart. */
template <class Map> struct tile_out {
    void *y;
    const float *bias; /* or NULL */
    float beta;
    int bf16;     /* y is bfloat16, else float */
    int aligned4; /* y, bias and every row of y start at multiples of four elements: accesses by four */
    int64_t split_stride;
    Map map;
    static constexpr bool MOMENTS = false;

    /* Stores the results of row m, columns n to n + 3; only `count` of the four columns exist. */
    template <class T> DEV_INLINE void store_as(T *to, int64_t m, int64_t n, float4 v, int count) const
    {
        if (aligned4) {
            if (bias) {
                const float4 b = dev_load16(bias + map.channel(n));
                v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
            }
            dev_blend4(to + map.offset(m, n), beta, v);
            return;
        }
        const float f[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < count) dev_blend(to + map.offset(m, n + i), beta, f[i] + (bias ? bias[map.channel(n + i)] : 0.0f));
    }
    DEV_INLINE void store(int64_t m, int64_t n, float4 v, int count) const
    {
        if (bf16)
            store_as((__nv_bfloat16 *)y, m, n, v, count);
        else
            store_as((float *)y, m, n, v, count);
    }
};
/* Y is a row-major matrix with leading dimension ld. */
struct map_rows {
    int64_t ld;
    DEV_INLINE int64_t offset(int64_t m, int64_t n) const
    {
        return m * ld + n;
    }
    DEV_INLINE int64_t channel(int64_t n) const
    {
        return n;
    }
};

/* The same, and moments (z, tiles of m, n, 2): per tile, the mean of each column and its sum of squared deviations. */
struct tile_out_moments : tile_out<map_rows> {
    float *moments;
    static constexpr bool MOMENTS = true;
};

/* ---- products of one stage: rows from row0 on and columns from column0 on of the tile ---- */

/* bfloat16: a warp's WM x WN results by mma.sync; acc[i][j] is the accumulator whose first row is 16 i and first column
 * 8 j. ta: tile of A, (BM, 4 chunks) if AK, else (TILE_K, BM); tb: tile of B, (BN, 4 chunks) if BK, else (TILE_K, BN).
 * Lane 8 i + r passes the address of row r of ldmatrix's matrix i; low and high are the two bits of i. */
template <bool AK, bool BK, int BM, int BN, int WM, int WN>
static DEV_INLINE void warp_products(float (&acc)[WM / 16][WN / 8][4], const __nv_bfloat16 *ta, const __nv_bfloat16 *tb,
                                     int row0, int column0)
{
    const int lane = (int)threadIdx.x % DEV_WARP, r = lane % 8, low = lane / 8 % 2, high = lane / 16;
#pragma unroll
    for (int kk = 0; kk < 2; kk++) {
        unsigned a[WM / 16][4], b[WN / 8][2];
#pragma unroll
        for (int i = 0; i < WM / 16; i++) {
            if constexpr (AK)
                dev_ldmatrix_x4(a[i], ta + 8 * tile_chunk<4>(row0 + 16 * i + r + 8 * low, 2 * kk + high));
            else
                dev_ldmatrix_x4_trans(a[i],
                                      ta + 8 * tile_chunk<BM / 8>(16 * kk + r + 8 * high, row0 / 8 + 2 * i + low));
        }
#pragma unroll
        for (int j = 0; j < WN / 16; j++) {
            unsigned two[4];
            if constexpr (BK)
                dev_ldmatrix_x4(two, tb + 8 * tile_chunk<4>(column0 + 16 * j + r + 8 * high, 2 * kk + low));
            else
                dev_ldmatrix_x4_trans(two,
                                      tb + 8 * tile_chunk<BN / 8>(16 * kk + r + 8 * low, column0 / 8 + 2 * j + high));
            b[2 * j][0] = two[0], b[2 * j][1] = two[1], b[2 * j + 1][0] = two[2], b[2 * j + 1][1] = two[3];
        }
#pragma unroll
        for (int i = 0; i < WM / 16; i++)
#pragma unroll
            for (int j = 0; j < WN / 8; j++) dev_mma_bf16(acc[i][j], a[i], b[j]);
    }
}

/* float: in a 64 x 64 tile, thread (ty, tx) of 8 x 16 computes eight rows and four columns. In a k-major tile of A its
 * rows are 8 apart, so that loads have no bank conflicts. In a tile (k, rows) they are two groups of four consecutive
 * rows, which one 16-byte load reads. Columns in a tile of B are 16 apart, or four consecutive ones. */
template <bool K_MAJOR> static DEV_INLINE int thread_row(int ty, int i)
{
    return K_MAJOR ? ty + 8 * i : 4 * ty + i % 4 + 32 * (i / 4);
}
template <bool K_MAJOR> static DEV_INLINE int thread_column(int tx, int j)
{
    return K_MAJOR ? tx + 16 * j : 4 * tx + j;
}

/* acc[i][0][j] += the products of one stage for row thread_row(ty, i) and column thread_column(tx, j). */
template <bool AK, bool BK>
static DEV_INLINE void thread_products(float (&acc)[8][1][4], const float *ta, const float *tb, int ty, int tx)
{
#pragma unroll
    for (int q = 0; q < 4; q++) { /* four k at a time */
        float a[8][4], b[4][4];   /* (row, k), (column, k) */
        if constexpr (AK) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float4 f = dev_load16(ta + 4 * tile_chunk<4>(thread_row<true>(ty, i), q));
                a[i][0] = f.x, a[i][1] = f.y, a[i][2] = f.z, a[i][3] = f.w;
            }
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float4 f = dev_load16(ta + 4 * tile_chunk<16>(4 * q + k, ty + 8 * h));
                    a[4 * h][k] = f.x, a[4 * h + 1][k] = f.y, a[4 * h + 2][k] = f.z, a[4 * h + 3][k] = f.w;
                }
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if constexpr (BK) {
                const float4 f = dev_load16(tb + 4 * tile_chunk<4>(thread_column<true>(tx, j), q));
                b[j][0] = f.x, b[j][1] = f.y, b[j][2] = f.z, b[j][3] = f.w;
            } else {
                const float4 f = dev_load16(tb + 4 * tile_chunk<16>(4 * q + j, tx));
                b[0][j] = f.x, b[1][j] = f.y, b[2][j] = f.z, b[3][j] = f.w;
            }
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][0][j] = fmaf(a[i][k], b[j][k], acc[i][0][j]);
    }
}

/* ---- epilogue: 16 rows per warp at a time are staged in shared memory, so that stores to y fill whole sectors ---- */

template <int WN> constexpr int SLAB_STRIDE = WN + 8; /* row pitch of a slab (16, WN): padded to avoid bank conflicts */

/* Stores a slab (16, SLAB_STRIDE<WN>) to the columns from column0 on of the result; row_of(r): the result row of slab
 * row r. */
template <int WN, class Out, class Row>
static DEV_INLINE void slab_out(const float *slab, const Row &row_of, int64_t column0, const Out &out, int64_t m,
                                int64_t n)
{
    constexpr int LANES = WN / 4; /* per row */
    const int lane = (int)threadIdx.x % DEV_WARP, c = lane % LANES * 4;
#pragma unroll 2
    for (int r = lane / LANES; r < 16; r += DEV_WARP / LANES) {
        const int64_t row = row_of(r), column = column0 + c;
        if (row >= m || column >= n) continue;
        out.store(row, column, dev_load16(slab + r * SLAB_STRIDE<WN> + c), n - column < 4 ? (int)(n - column) : 4);
    }
}

/* Column moments of tile_out_moments, computed from the results as they will be stored: first adds the bias and rounds
 * to y's type, in place. A lane holds ROWS x COLUMNS results: value(r, c) is in row row_of(r), column column_of(c) of
 * the tile. Lanes that differ by a multiple of LANES hold the same columns, and so do the WARP_ROWS warps `warp_row`.
 * `count` rows of the tile exist. scratch: WARP_ROWS * BN floats of shared memory. moments (n, 2). */
template <int BM, int BN, int ROWS, int COLUMNS, int LANES, int WARP_ROWS, class Value, class Row, class Column>
static DEV_INLINE void column_moments_out(const Value &value, const Row &row_of, const Column &column_of, int warp_row,
                                          int64_t count, float *scratch, const tile_out_moments &out, int64_t column0,
                                          int64_t n, float *moments)
{
    const int lane = (int)threadIdx.x % DEV_WARP, rows = count < BM ? (int)count : BM;
    const float inv_rows = 1.0f / (float)rows;
    float mean[COLUMNS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const int64_t column = column0 + column_of(c);
        const float bias = out.bias && column < n ? out.bias[column] : 0.0f;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float &v = value(r, c);
            v = out.bf16 ? __bfloat162float(__float2bfloat16_rn(v + bias)) : v + bias;
        }
    }
#pragma unroll
    for (int pass = 0; pass < 2; pass++) { /* 0: mean; 1: squared deviations from it */
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            float s = 0;
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const float d = pass ? value(r, c) - mean[c] : value(r, c);
                if (row_of(r) < rows) s += pass ? d * d : d;
            }
#pragma unroll
            for (int i = LANES; i < DEV_WARP; i *= 2) s += __shfl_xor_sync(DEV_FULL, s, i);
            if (lane < LANES) scratch[warp_row * BN + column_of(c)] = s;
        }
        DEV_SYNC();
        if (!pass) {
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                float s = 0;
                for (int w = 0; w < WARP_ROWS; w++) s += scratch[w * BN + column_of(c)];
                mean[c] = s * inv_rows;
            }
        }
        for (int c = (int)threadIdx.x; c < BN && column0 + c < n; c += TILE_THREADS) {
            float s = 0;
            for (int w = 0; w < WARP_ROWS; w++) s += scratch[w * BN + c];
            moments[2 * (column0 + c) + pass] = pass ? s : s * inv_rows;
        }
        DEV_SYNC();
    }
}

/* Pipeline stages of (BM + BN) rows of 64 bytes: at most 48 KB, the limit without cudaFuncSetAttribute. */
template <class T, int BM, int BN> constexpr int TILE_STAGES = BM + BN >= 256 ? 3 : 4;
template <class T, int BM, int BN, int WN> constexpr size_t tile_shared_bytes()
{
    constexpr size_t tiles = (size_t)TILE_STAGES<T, BM, BN> * (BM + BN) * 64;
    constexpr size_t slabs = (size_t)TILE_WARPS * 16 * SLAB_STRIDE<WN> * 4;
    return tiles > slabs ? tiles : slabs;
}

/* Writes the accumulators of a block, whose tile begins at row m0 and column n0 of the result, and of a warp, whose
 * part begins at row0 and column0 of the tile: for tile_out_moments first the column moments, then the results. tiles:
 * the block's shared memory, which no thread reads any more. The arguments from warp on follow from threadIdx; they are
 * passed because computing them again makes the compiler order the instructions differently. */
template <class T, class A, class B, int BM, int BN, int WM, int WN, int I, int J, class Out>
static DEV_INLINE void epilogue(float (&acc)[I][J][4], T *tiles, Out &out, const tile_shape &s, int64_t m0, int64_t n0,
                                int warp, int lane, int row0, int column0)
{
    const int tid = (int)threadIdx.x;
    constexpr bool BF16 = sizeof(T) == 2;
    if constexpr (Out::MOMENTS) {
        const int64_t tiles_m = (s.m + BM - 1) / BM;
        float *moments = out.moments + ((int64_t)blockIdx.z * tiles_m + m0 / BM) * s.n * 2;
        if constexpr (BF16)
            column_moments_out<BM, BN, WM / 8, WN / 4, 4, BM / WM>(
                [&](int r, int c) -> float & { return acc[r / 2][c / 2][r % 2 * 2 + c % 2]; },
                [&](int r) { return row0 + 16 * (r / 2) + 8 * (r % 2) + lane / 4; },
                [&](int c) { return column0 + 8 * (c / 2) + 2 * (lane % 4) + c % 2; }, warp / (BN / WN), s.m - m0,
                (float *)tiles, out, n0, s.n, moments);
        else
            column_moments_out<BM, BN, 8, 4, 16, TILE_WARPS>(
                [&](int r, int c) -> float & { return acc[r][0][c]; },
                [&](int r) { return thread_row<A::K_MAJOR>(tid / 16, r); },
                [&](int c) { return thread_column<B::K_MAJOR>(tid % 16, c); }, warp, s.m - m0, (float *)tiles, out, n0,
                s.n, moments);
        out.bias = NULL; /* already added to the results */
    }
    out.y = out.bf16 ? (void *)((__nv_bfloat16 *)out.y + (int64_t)blockIdx.y * out.split_stride)
                     : (void *)((float *)out.y + (int64_t)blockIdx.y * out.split_stride);
    float *slab = (float *)tiles + warp * 16 * SLAB_STRIDE<WN>;
    if constexpr (BF16) {
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int i = 0; i < WM / 16; i++) {
#pragma unroll
            for (int j = 0; j < WN / 8; j++) {
                float *to = slab + g * SLAB_STRIDE<WN> + 8 * j + 2 * t;
                dev_store8(to, make_uint2(__float_as_uint(acc[i][j][0]), __float_as_uint(acc[i][j][1])));
                dev_store8(to + 8 * SLAB_STRIDE<WN>,
                           make_uint2(__float_as_uint(acc[i][j][2]), __float_as_uint(acc[i][j][3])));
            }
            __syncwarp();
            const int64_t first = m0 + row0 + 16 * i;
            slab_out<WN>(
                slab, [first](int r) { return first + r; }, n0 + column0, out, s.m, s.n);
            __syncwarp();
        }
    } else {
        const int ty = tid / 16, tx = tid % 16;
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                slab[(8 * (ty % 2) + i) * SLAB_STRIDE<WN> + thread_column<B::K_MAJOR>(tx, j)] = acc[i][0][j];
        __syncwarp();
        slab_out<WN>(
            slab, [m0, warp](int r) { return m0 + thread_row<A::K_MAJOR>(2 * warp + r / 8, r % 8); }, n0, out, s.m,
            s.n);
    }
}

/* grid: (tiles of m and n, splits of k, z). a.offset_by_batch(z, b, out, s) moves the arguments to problem z: samples
 * of a batch, or stride phases of a dgrad. It may change all of them. The blocks per multiprocessor in the launch
 * bounds limit a thread to 255, 168 or 128 registers, enough for each size's accumulators without spills. */
template <class T, class A, class B, class Out, int BM, int BN, int WM, int WN>
__global__ void __launch_bounds__(TILE_THREADS, (BM + BN >= 256 || sizeof(T) == 4 ? 2
                                                 : BM + BN >= 192                 ? 3
                                                                  : 4)) tile_product(A a, B b, Out out, tile_shape s)
{
    constexpr int STAGES = TILE_STAGES<T, BM, BN>, ELEMENTS = (BM + BN) * TILE_K<T>;
    constexpr bool BF16 = sizeof(T) == 2;
    static_assert(BM / WM * (BN / WN) == TILE_WARPS && (BF16 || (BM == 64 && BN == 64 && WM == 16)),
                  "four warps; float: 64 x 64");
    SHARED_DYN(T, tiles);
    const int tid = (int)threadIdx.x, warp = tid / DEV_WARP, lane = tid % DEV_WARP;
    a.offset_by_batch((int64_t)blockIdx.z, b, out, s);
    const int64_t tiles_n = (s.n + BN - 1) / BN;
    const int64_t m0 = (int64_t)blockIdx.x / tiles_n * BM, n0 = (int64_t)blockIdx.x % tiles_n * BN;
    if (m0 >= s.m) return; /* uniform over the block: problems of different z may differ in size */
    const int64_t k_first = (int64_t)blockIdx.y * s.k_tiles_per_split, k_rest = s.k_tiles - k_first;
    const int steps = (int)(k_rest < s.k_tiles_per_split ? (k_rest > 0 ? k_rest : 0) : s.k_tiles_per_split);
    typename A::template at<BM> load_a(a, m0, k_first * TILE_K<T>, tid);
    typename B::template at<BN> load_b(b, n0, k_first * TILE_K<T>, tid);

    /* bfloat16: m16n8 accumulators; float: eight rows of four columns */
    float acc[BF16 ? WM / 16 : 8][BF16 ? WN / 8 : 1][4];
#pragma unroll
    for (int i = 0; i < (BF16 ? WM / 16 : 8); i++)
#pragma unroll
        for (int j = 0; j < (BF16 ? WN / 8 : 1); j++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[i][j][e] = 0;

    const int row0 = warp / (BN / WN) * WM, column0 = warp % (BN / WN) * WN;
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < steps) {
            load_a.fill(tiles + i * ELEMENTS);
            load_b.fill(tiles + i * ELEMENTS + BM * TILE_K<T>);
        }
        dev_copy_commit();
    }
    int stage = 0, next = STAGES - 1;
#pragma unroll 1
    for (int i = 0; i < steps; i++) {
        dev_copy_wait<STAGES - 2>();
        DEV_SYNC(); /* stage i has arrived for all threads; stage i - 1 is free to be refilled */
        if (i + STAGES - 1 < steps) {
            load_a.fill(tiles + next * ELEMENTS);
            load_b.fill(tiles + next * ELEMENTS + BM * TILE_K<T>);
        }
        dev_copy_commit();
        const T *ta = tiles + stage * ELEMENTS, *tb = ta + BM * TILE_K<T>;
        if constexpr (BF16)
            warp_products<A::K_MAJOR, B::K_MAJOR, BM, BN, WM, WN>(acc, ta, tb, row0, column0);
        else
            thread_products<A::K_MAJOR, B::K_MAJOR>(acc, ta, tb, tid / 16, tid % 16);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }
    dev_copy_wait<0>();
    DEV_SYNC(); /* the slabs reuse the tiles' memory */
    epilogue<T, A, B, BM, BN, WM, WN>(acc, tiles, out, s, m0, n0, warp, lane, row0, column0);
}

/* Launches one tile size. In bfloat16, tiles of 64 x 64 (32 x 32 per warp) keep the tensor cores half idle: loading the
 * fragments from shared memory takes about twice as long as mma.sync. They are used in two cases (plan_of in matmul.cu,
 * conv_wide). First, if the result has at most 64 rows or columns: then there are at most 64 operations per byte of
 * input, and an H200 is bound by memory below about 128. Second, if larger tiles would leave half of the GPU without a
 * block even with split k. */
template <class T, int BM, int BN, int WM, int WN, class A, class B, class Out>
static cudaError_t tile_launch(const A &a, const B &b, const Out &out, const tile_shape &s, unsigned splits, unsigned z,
                               cudaStream_t stream)
{
    const dim3 grid((unsigned)(tile_ceil(s.m, BM) * tile_ceil(s.n, BN)), splits, z);
    return dev_launch((tile_product<T, A, B, Out, BM, BN, WM, WN>), grid, TILE_THREADS,
                      (tile_shared_bytes<T, BM, BN, WN>()), stream, a, b, out, s);
}
/* The tile of 64 x 64, compiled for every loader. */
template <class T, class A, class B, class Out>
static cudaError_t tile_launch_64(const A &a, const B &b, const Out &out, const tile_shape &s, unsigned splits,
                                  unsigned z, cudaStream_t stream)
{
    constexpr int WM = sizeof(T) == 2 ? 32 : 16, WN = sizeof(T) == 2 ? 32 : 64;
    return tile_launch<T, 64, 64, WM, WN>(a, b, out, s, splits, z, stream);
}

#endif
