/* The bfloat16 attention kernels' tiles in shared memory, and fragments of tensor-core products (mma.sync.m16n8k16).
 *
 * A tile of rows has att_pitch<D> = D + 8 elements per row: an odd multiple of 16 bytes, so that the 8 rows of an
 * ldmatrix lie in different banks. A lane (g = lane / 4, t = lane % 4) holds rows g and g + 8, columns 2t and 2t + 1 of
 * each 16 x 8 n-tile of an accumulator: [0], [1] are row g, [2], [3] are row g + 8. */
#ifndef MCS_KERNELS_ATTENTION_TILE_CUH
#define MCS_KERNELS_ATTENTION_TILE_CUH

#include "kernels/attention/attention.cuh"

template <int D> constexpr int att_pitch = D + 8;

/* Two floats rounded to a pair of bf16, by one instruction (cvt.rn.bf16x2). */
static DEV_INLINE unsigned att_pack(float low, float high)
{
    const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
    unsigned u;
    memcpy(&u, &h, sizeof u);
    return u;
}

/* Row r and 16-byte chunk c of the i-th copy of a ROWS x D tile, ordered so that 8 consecutive copies fill all 32 banks
 * exactly once. */
template <int D, int ROWS> static DEV_INLINE void att_copy_coord(int i, int *r, int *c)
{
    constexpr int C = D / 8;
    if constexpr (C % 8 == 0) {
        *r = i / C, *c = i % C;
    } else if constexpr (C == 4) {
        const int u = i / 4;
        *r = u / 8 * 8 + u % 2 * 4 + u / 2 % 4, *c = i % 4;
    } else {
        constexpr int WHOLE = C / 8 * 8; /* D 80: chunks 0-7, then 8-9 */
        static_assert(C - WHOLE == 2, "16, 32, 64, 80 or 128 columns");
        const int j = i - ROWS * WHOLE, u = j / 2;
        if (WHOLE && j < 0)
            *r = i / 8, *c = i % 8;
        else
            *r = u / 8 * 8 + u % 4 * 2 + u / 4 % 2, *c = WHOLE + j % 2;
    }
}

/* Loads rows into a tile by asynchronous copies: tile row r (att_pitch<D>) <- row row(r) of src (rows, ld), hd
 * elements. row(r) = -1 and columns hd..D are zero-filled. Rows that are not 16-byte aligned are copied element by
 * element. The caller commits the copy group. */
template <int D, int ROWS, class ROW>
static DEV_INLINE void att_load_rows(__nv_bfloat16 *tile, const __nv_bfloat16 *src, int64_t ld, int hd, int aligned16,
                                     ROW row)
{
    static_assert(ROWS * D / 8 % ATT_THREADS == 0, "every thread makes the same number of copies");
#pragma unroll 1 /* unrolled, or as a loop over i, each copy would keep an address in registers */
    for (int i0 = 0; i0 < ROWS * D / 8; i0 += ATT_THREADS) {
        const int i = i0 + (int)threadIdx.x;
        int r, c;
        att_copy_coord<D, ROWS>(i, &r, &c);
        const int at = row(r);
        const bool in = at >= 0 && 8 * c < hd;
        __nv_bfloat16 *to = tile + r * att_pitch<D> + 8 * c;
        const __nv_bfloat16 *from = in ? src + at * ld + 8 * c : src;
        if (aligned16) {
            dev_copy_async16(to, from, in ? 16 : 0);
        } else {
#pragma unroll 1
            for (int j = 0; j < 8; j += 2)
                *(unsigned *)(to + j) = att_pack(in && 8 * c + j < hd ? dev_load(from + j) : 0.0f,
                                                 in && 8 * c + j + 1 < hd ? dev_load(from + j + 1) : 0.0f);
        }
    }
}

/* Loads rows first..first + 63 of a float table (n, hd) into a tile (64, att_pitch<D>), rounded to bf16, zero-filled
 * outside the table. Called by the whole block. */
template <int D> static DEV_INLINE void att_load_table(__nv_bfloat16 *to, const float *table, int first, int n, int hd)
{
    const bool fours = hd % 4 == 0 && ((size_t)table & 15) == 0;
    for (int i = (int)threadIdx.x; i < 64 * D / 4; i += ATT_THREADS) {
        int r, c;
        att_copy_coord<D, 64>(i / 2, &r, &c);
        c = 8 * c + i % 2 * 4;
        const float *const from = table + (int64_t)(first + r) * hd + c;
        float4 v = make_float4(0, 0, 0, 0);
        if (first + r < n && c < hd) {
            if (fours)
                v = dev_load16(from);
            else
                v = make_float4(from[0], c + 1 < hd ? from[1] : 0.0f, c + 2 < hd ? from[2] : 0.0f,
                                c + 3 < hd ? from[3] : 0.0f);
        }
        dev_store8(to + r * att_pitch<D> + c, make_uint2(att_pack(v.x, v.y), att_pack(v.z, v.w)));
    }
}

/* Fragments of a tile at (row, col), multiples of 16. att_frag_a: the 16 x 16 A operand (rows m, columns k).
 * att_frag_b: the B operand of a product with the tile's transpose (rows n, columns k), as in Q K^T; att_frag_b_trans:
 * of a product with the tile (rows k, columns n), as in P V. Both B forms give two n-tiles: b[0..1] and b[2..3]. */
template <int D> static DEV_INLINE void att_frag_a(unsigned a[4], const __nv_bfloat16 *tile, int row, int col)
{
    const int l = (int)threadIdx.x % DEV_WARP;
    dev_ldmatrix_x4(a, tile + (l % 16 * att_pitch<D> + l / 16 * 8) + (row * att_pitch<D> + col));
}
template <int D> static DEV_INLINE void att_frag_b(unsigned b[4], const __nv_bfloat16 *tile, int row, int col)
{
    const int l = (int)threadIdx.x % DEV_WARP;
    dev_ldmatrix_x4(b, tile + ((l % 8 + l / 16 * 8) * att_pitch<D> + l / 8 % 2 * 8) + (row * att_pitch<D> + col));
}
template <int D> static DEV_INLINE void att_frag_b_trans(unsigned b[4], const __nv_bfloat16 *tile, int row, int col)
{
    const int l = (int)threadIdx.x % DEV_WARP;
    dev_ldmatrix_x4_trans(b, tile + (l % 16 * att_pitch<D> + l / 16 * 8) + (row * att_pitch<D> + col));
}
/* Two adjacent n-tiles of an accumulator, rounded, as the A operand of the next product: their 16 columns become k. */
static DEV_INLINE void att_frag_from_acc(unsigned a[4], const float s[2][4])
{
    a[0] = att_pack(s[0][0], s[0][1]);
    a[1] = att_pack(s[0][2], s[0][3]);
    a[2] = att_pack(s[1][0], s[1][1]);
    a[3] = att_pack(s[1][2], s[1][3]);
}

/* acc (16 MT, n-tiles n and n + 1) += a (16 MT, 16) b. */
template <int MT, int N>
static DEV_INLINE void att_mma(float (&acc)[MT][N][4], int n, const unsigned (&a)[MT][4], const unsigned b[4])
{
#pragma unroll
    for (int m = 0; m < MT; m++) {
        dev_mma_bf16(acc[m][n], a[m], b);
        dev_mma_bf16(acc[m][n + 1], a[m], b + 2);
    }
}
/* acc (16 MT, D) += a (16 MT, 16) times rows row..row + 15 of the tile (rows, att_pitch<D>). */
template <int D, int MT>
static DEV_INLINE void att_mma_rows(float (&acc)[MT][D / 8][4], const unsigned (&a)[MT][4], const __nv_bfloat16 *tile,
                                    int row)
{
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
        unsigned b[4];
        att_frag_b_trans<D>(b, tile, row, 8 * n);
        att_mma(acc, n, a, b);
    }
}

/* Stores a warp's accumulators acc (16, D), rows g times f0 and rows g + 8 times f1, to rows row(0..15) of dst (rows,
 * ld); row(r) < 0 is skipped. dst = beta dst + acc. With beta 0 and aligned rows, in 16-byte stores through `staging`
 * (16, att_pitch<D>), shared memory that only this warp uses. */
template <int D, class ROW>
static DEV_INLINE void att_store(__nv_bfloat16 *staging, const float acc[D / 8][4], float f0, float f1,
                                 __nv_bfloat16 *dst, int64_t ld, int hd, int aligned16, float beta, ROW row)
{
    const int l = (int)threadIdx.x % DEV_WARP, g = l / 4, t = l % 4;
    if (aligned16 && beta == 0) {
        __syncwarp();
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            *(unsigned *)(staging + g * att_pitch<D> + 8 * n + 2 * t) = att_pack(acc[n][0] * f0, acc[n][1] * f0);
            *(unsigned *)(staging + (g + 8) * att_pitch<D> + 8 * n + 2 * t) = att_pack(acc[n][2] * f1, acc[n][3] * f1);
        }
        __syncwarp();
#pragma unroll 2
        for (int i = l; i < 2 * D; i += DEV_WARP) {
            int r, c;
            att_copy_coord<D, 16>(i, &r, &c);
            const int at = row(r);
            if (at >= 0 && 8 * c < hd)
                dev_store16((float *)(dst + at * ld + 8 * c),
                            dev_load16((const float *)(staging + r * att_pitch<D> + 8 * c)));
        }
        return;
    }
    for (int h = 0; h < 2; h++) {
        const int at = row(g + 8 * h);
        if (at < 0) continue;
        const float f = h ? f1 : f0;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const int c = 8 * n + 2 * t;
            if (c < hd) dev_blend(dst + at * ld + c, beta, (h ? acc[n][2] : acc[n][0]) * f);
            if (c + 1 < hd) dev_blend(dst + at * ld + c + 1, beta, (h ? acc[n][3] : acc[n][1]) * f);
        }
    }
}

/* Loads rows g0..g0 + n of bias (grid, q_pad), queries i0..i0 + 64 MT, into tile (n, PITCH). Rows past the grid are
 * -inf, so that their keys get no weight; queries past q_pad are 0. The caller commits the copy group. */
template <int MT, int PITCH>
static DEV_INLINE void att_load_bias(float *tile, const float *bias, int g0, int n, int grid, int i0, int q_pad)
{
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n * 16 * MT; i += ATT_THREADS) {
        const int r = i / (16 * MT), c = 4 * (i % (16 * MT));
        const bool in = i0 + c < q_pad;
        if (g0 + r < grid)
            dev_copy_async16(tile + r * PITCH + c, in ? bias + (int64_t)(g0 + r) * q_pad + i0 + c : bias, in ? 16 : 0);
        else
            dev_store16(tile + r * PITCH + c, make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY));
    }
}

/* Thread-private shared memory (n-tile, thread, 4): each thread keeps its four accumulators of an n-tile there, and no
 * other thread accesses them, so no barrier is needed. priv points at the thread's floats of n-tile 0; n-tiles are
 * ATT_PRIVATE floats apart. */
constexpr int ATT_PRIVATE = 4 * ATT_THREADS;
static DEV_INLINE void att_load_private(float v[4], const float *priv, int n)
{
    const float4 w = dev_load16(priv + n * ATT_PRIVATE);
    v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
}
static DEV_INLINE void att_store_private(float *priv, int n, const float v[4])
{
    dev_store16(priv + n * ATT_PRIVATE, make_float4(v[0], v[1], v[2], v[3]));
}

/* Copies bias_w (grid_w, q_pad) of this thread's queries i and i + 8, grid columns x0..x0 + 8 NW, to thread-private
 * shared memory as the initial values of NW n-tiles; -inf beyond the grid. Not unrolled: addresses would take
 * registers. */
template <int NW>
static DEV_INLINE void att_stage_bias_w(const att_params &x, const float *bias_w, int x0, int i, float *priv)
{
    const int t = (int)threadIdx.x % 4;
#pragma unroll 1
    for (int n = 0; n < NW; n++) {
        float w[4];
        for (int e = 0; e < 4; e++) {
            const int row = i + e / 2 * 8, kx = x0 + 8 * n + 2 * t + e % 2;
            w[e] = kx < x.a.grid_w ? bias_w[(int64_t)kx * x.q_pad + (row < x.q_pad ? row : x.q_pad - 1)] : -INFINITY;
        }
        att_store_private(priv, n, w);
    }
}

#endif
