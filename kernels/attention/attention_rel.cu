/* SAM's decomposed relative positions. The biases of query (y, x): bias_h[k] = q . rel_h[y - k + grid_h - 1] for grid
 * row k, bias_w[k] = q . rel_w[x - k + grid_w - 1] for grid column k, q unscaled. And the gradients of the tables rel_h
 * and rel_w. In bfloat16 a tile of queries is multiplied by the whole table on the tensor cores; each query then picks
 * its entries. In this file `axis` is 0 for grid rows (rel_h) and 1 for grid columns (rel_w). */
#include "kernels/attention/attention_tile.cuh"

/* Grid row (axis 0) or grid column (axis 1) of query i. */
static DEV_INLINE int query_coord(const struct k_attention &a, int axis, int i)
{
    const int y = i / a.grid_w;
    return axis ? i - y * a.grid_w : y < a.grid_h ? y : a.grid_h - 1;
}

/* ---- biases ---- */

constexpr int QR_PITCH = 72; /* row pitch of a warp's products in shared memory */

/* s (a warp's 16 queries, 64 table rows) = Q R^T. qs (64, att_pitch<D>), rows (64, att_pitch<D>). */
template <int D>
static DEV_INLINE void q_times_table(const __nv_bfloat16 *qs, const __nv_bfloat16 *rows, int row0, float (&s)[1][8][4])
{
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) {
        unsigned q[1][4], b[4];
        att_frag_a<D>(q[0], qs, row0, 16 * kk);
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
            att_frag_b<D>(b, rows, 8 * n, 16 * kk);
            att_mma(s, n, q, b);
        }
    }
}

/* bias_h: bias[k][i] of the table rows w0..w0 + 63, straight from the accumulators of query `first` + g and + 8. */
static DEV_INLINE void store_bias_h(const att_params &x, const float (&s)[8][4], int first, int w0, float scale,
                                    float *bias, int grid)
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int i = first + g + 8 * h, from = query_coord(x.a, 0, i) + grid - 1 - w0;
        if (i >= x.q_pad) continue;
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int k = from - (8 * n + 2 * t + e);
                if (k >= 0 && k < grid) bias[(int64_t)k * x.q_pad + i] = s[n][2 * h + e] * scale;
            }
    }
}

/* bias_w of the table rows w0..w0 + 63. Adjacent queries lie in adjacent grid columns, so bias[k] of a fixed k reads
 * the products diagonally: they go through the warp's shared memory qr (16, QR_PITCH). */
static DEV_INLINE void store_bias_w(const att_params &x, const float (&s)[8][4], int first, int w0, float scale,
                                    float *qr, float *bias, int grid)
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            dev_store8(qr + (g + 8 * h) * QR_PITCH + 8 * n + 2 * t,
                       make_uint2(__float_as_uint(s[n][2 * h]), __float_as_uint(s[n][2 * h + 1])));
    const int r = lane % 16, i = first + r, from = query_coord(x.a, 1, i) + grid - 1 - w0;
    for (int j = 0; j < (grid + 31) / 32 * 16; j++) { /* half-warps take grid columns 16 apart: no bank conflicts */
        const int k = j / 16 * 32 + lane / 16 * 16 + j % 16, w = from - k;
        __syncwarp(); /* the products are stored; lanes that skipped the body reconverge */
        if (i < x.q_pad && k < grid && w >= 0 && w < 64) bias[(int64_t)k * x.q_pad + i] = qr[r * QR_PITCH + w] * scale;
    }
}

/* bias_h and bias_w over |scale|. Block (64 queries, sequence and head). */
template <int D> __global__ void __launch_bounds__(ATT_THREADS) attention_rel_bias(const att_params x)
{
    constexpr int SCRATCH = 64 * (att_pitch<D> / 2 > QR_PITCH ? att_pitch<D> / 2 : QR_PITCH);
    SHARED_ARRAY(__nv_bfloat16, qs, [64 * att_pitch<D>]);
    SHARED_ARRAY(float, scratch, [SCRATCH]); /* 64 table rows (64, att_pitch<D>), then the products (64, QR_PITCH) */
    __nv_bfloat16 *const rows = (__nv_bfloat16 *)scratch;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, warp = (int)threadIdx.x / DEV_WARP, i0 = (int)blockIdx.x * 64, first = i0 + 16 * warp;
    const float inv_scale = 1.0f / fabsf(x.scale);
    const int64_t bh = blockIdx.y, seq = bh / a.heads, head = bh - seq * a.heads;
    att_load_rows<D, 64>(qs, (const __nv_bfloat16 *)a.q + seq * a.q_len * a.q_ld + head * hd, a.q_ld, hd, x.aligned16,
                         [&](int r) { return i0 + r < a.q_len ? i0 + r : -1; });
    dev_copy_commit();
    dev_copy_wait<0>();
    for (int axis = 0; axis < 2; axis++) {
        const int grid = axis ? a.grid_w : a.grid_h, table_rows = 2 * grid - 1;
        const float *const table = axis ? a.rel_w : a.rel_h;
        float *const bias = (axis ? x.bias_w : x.bias_h) + bh * grid * x.q_pad;
        for (int w0 = 0; w0 < table_rows; w0 += 64) {
            DEV_SYNC();
            att_load_table<D>(rows, table, w0, table_rows, hd);
            DEV_SYNC();
            float s[1][8][4] = {};
            q_times_table<D>(qs, rows, 16 * warp, s);
            if (axis) {
                DEV_SYNC();
                store_bias_w(x, s[0], first, w0, inv_scale, scratch + 16 * warp * QR_PITCH, bias, grid);
            } else {
                store_bias_h(x, s[0], first, w0, inv_scale, bias, grid);
            }
        }
    }
}

/* In float: times log2(e). One thread per query and grid row or column. */
static __global__ void __launch_bounds__(ATT_THREADS) attention_rel_bias_f32(const att_params x)
{
    const struct k_attention &a = x.a;
    const int i = (int)(blockIdx.x * ATT_THREADS + threadIdx.x), hd = a.head_dim;
    const int axis = (int)blockIdx.z >= a.grid_h, grid = axis ? a.grid_w : a.grid_h;
    const int k = (int)blockIdx.z - (axis ? a.grid_h : 0);
    const int64_t bh = blockIdx.y, seq = bh / a.heads, head = bh - seq * a.heads;
    if (i >= x.q_pad) return;
    float s = 0;
    if (i < a.q_len) {
        const float *const q = (const float *)a.q + (seq * a.q_len + i) * a.q_ld + head * hd;
        const float *const r = (axis ? a.rel_w : a.rel_h) + (int64_t)(query_coord(a, axis, i) - k + grid - 1) * hd;
        for (int c = 0; c < hd; c++) s = fmaf(q[c], r[c], s);
    }
    ((axis ? x.bias_w : x.bias_h) + bh * grid * x.q_pad)[(int64_t)k * x.q_pad + i] = s * ATT_LOG2E;
}

template <int D> static cudaError_t run_rel_bias(const att_params &x, cudaStream_t s)
{
    return dev_launch((attention_rel_bias<D>), dim3((unsigned)(x.a.q_len + 63) / 64, (unsigned)(x.a.n_seq * x.a.heads)),
                      ATT_THREADS, 0, s, x);
}

cudaError_t att_rel_bias(const att_params &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    if (a.dtype == K_F32)
        return dev_launch(attention_rel_bias_f32,
                          dim3((unsigned)(x.q_pad + ATT_THREADS - 1) / ATT_THREADS, (unsigned)(a.n_seq * a.heads),
                               (unsigned)(a.grid_h + a.grid_w)),
                          ATT_THREADS, 0, s, x);
    return a.head_dim <= 16   ? run_rel_bias<16>(x, s)
           : a.head_dim <= 64 ? run_rel_bias<64>(x, s)
           : a.head_dim <= 80 ? run_rel_bias<80>(x, s)
                              : run_rel_bias<128>(x, s);
}

/* ---- gradients of the tables: drel[w] = sum over queries i of dbias[coord(i) - w + grid - 1][i] q[i] ---- */

constexpr int COLUMN_PITCH = 67; /* 3 mod 16: a warp's diagonal reads have no bank conflicts */

/* dbias of table row w and queries i0 + i and i0 + i + 1, a pair of bf16: coord0 and coord1 are the grid coordinates of
 * the two. Along grid columns from `columns` (n_columns, COLUMN_PITCH), which starts at grid column k0; along grid rows
 * from dbias (grid, q_pad), k0 = 0. */
static DEV_INLINE unsigned dbias_pair(const att_params &x, int axis, const float *columns, const float *dbias, int k0,
                                      int n_columns, int grid, int w, int i0, int i, int coord0, int coord1)
{
    const int k = coord0 + grid - 1 - w - k0, l = coord1 + grid - 1 - w - k0, q_len = x.a.q_len;
    if (axis)
        return att_pack(k >= 0 && k < n_columns ? columns[k * COLUMN_PITCH + i] : 0.0f,
                        l >= 0 && l < n_columns ? columns[l * COLUMN_PITCH + i + 1] : 0.0f);
    const float *const from = dbias + i0 + i;
    if (k == l && i0 + i + 1 < q_len) {
        const uint2 v = k >= 0 && k < grid ? dev_load8(from + (int64_t)k * x.q_pad) : make_uint2(0, 0);
        return att_pack(__uint_as_float(v.x), __uint_as_float(v.y));
    }
    return att_pack(i0 + i < q_len && k >= 0 && k < grid ? from[(int64_t)k * x.q_pad] : 0.0f,
                    i0 + i + 1 < q_len && l >= 0 && l < grid ? from[(int64_t)l * x.q_pad + 1] : 0.0f);
}

/* drel (a warp's 32 table rows from w0 on, D) += dbias^T (32, 64 queries from i0 on) Q (64, D). */
template <int D>
static DEV_INLINE void accumulate_rel_grad(const att_params &x, int axis, const __nv_bfloat16 *qs, const float *columns,
                                           const float *dbias, int k0, int n_columns, int grid, int w0, int i0,
                                           float (&drel)[2][D / 8][4])
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4;
    for (int kk = 0; kk < 4; kk++) {
        unsigned f[2][4];
        int coord[4]; /* of queries 2t, 2t + 1, and 8 further */
        for (int j = 0; j < 4; j++) coord[j] = query_coord(x.a, axis, i0 + 16 * kk + 2 * t + j % 2 + j / 2 * 8);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int j = 0; j < 4; j++) /* table rows g, g + 8, g, g + 8; queries 2t, 2t + 1, and 8 further */
                f[m][j] = dbias_pair(x, axis, columns, dbias, k0, n_columns, grid, w0 + 16 * m + g + j % 2 * 8, i0,
                                     16 * kk + 2 * t + j / 2 * 8, coord[j / 2 * 2], coord[j / 2 * 2 + 1]);
        att_mma_rows<D>(drel, f, qs, 16 * kk);
    }
}

/* Stores a warp's 32 table rows from w0 on to part (2 grid - 1, hd). */
template <int D>
static DEV_INLINE void store_rel_grad(const float (&drel)[2][D / 8][4], float *part, int w0, int grid, int hd)
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4;
    const bool even = hd % 2 == 0;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int w = w0 + 16 * m + g + 8 * h, c = 8 * n + 2 * t;
                float *const to = part + (int64_t)w * hd + c;
                if (w >= 2 * grid - 1 || c >= hd) continue;
                if (even) {
                    dev_store8(to,
                               make_uint2(__float_as_uint(drel[m][n][2 * h]), __float_as_uint(drel[m][n][2 * h + 1])));
                } else {
                    to[0] = drel[m][n][2 * h];
                    if (c + 1 < hd) to[1] = drel[m][n][2 * h + 1];
                }
            }
}

/* Block (part, 128 rows of a table): sums over the tiles of 64 queries part, part + n_parts, ...; a warp
 * takes 32 rows. */
template <int D> __global__ void __launch_bounds__(ATT_THREADS) attention_rel_grad(const att_params x)
{
    SHARED_ARRAY(__nv_bfloat16, qs, [64 * att_pitch<D>]);
    SHARED_ARRAY(float, columns, [64 * COLUMN_PITCH]); /* dbias_w: 64 columns of the grid, 64 queries */
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, warp = (int)threadIdx.x / DEV_WARP;
    const int blocks_h = (2 * a.grid_h - 1 + 127) / 128, axis = (int)blockIdx.y >= blocks_h;
    const int grid = axis ? a.grid_w : a.grid_h, w0 = ((int)blockIdx.y - (axis ? blocks_h : 0)) * 128 + 32 * warp;
    const int tiles = (a.q_len + 63) / 64;
    const int64_t all = (int64_t)a.n_seq * a.heads * tiles;
    float drel[2][D / 8][4] = {};
    for (int64_t tile = blockIdx.x; tile < all; tile += x.n_parts) {
        const int64_t bh = tile / tiles, seq = bh / a.heads, head = bh - seq * a.heads;
        const int i0 = (int)(tile - bh * tiles) * 64;
        const float *const dbias = (axis ? x.dbias_w : x.dbias_h) + bh * grid * x.q_pad;
        for (int k0 = 0; k0 < (axis ? grid : 1); k0 += 64) {
            const int n_columns = grid - k0 < 64 ? grid - k0 : 64;
            DEV_SYNC();
            if (k0 == 0)
                att_load_rows<D, 64>(qs, (const __nv_bfloat16 *)a.q + seq * a.q_len * a.q_ld + head * hd, a.q_ld, hd,
                                     x.aligned16, [&](int r) { return i0 + r < a.q_len ? i0 + r : -1; });
            for (int j = (int)threadIdx.x; axis && j < 64 * n_columns; j += ATT_THREADS) {
                const int k = j / 64, i = j % 64;
                const bool in = i0 + i < a.q_len;
                dev_copy_async4(columns + k * COLUMN_PITCH + i,
                                in ? dbias + (int64_t)(k0 + k) * x.q_pad + i0 + i : dbias, in ? 4 : 0);
            }
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
            accumulate_rel_grad<D>(x, axis, qs, columns, dbias, k0, n_columns, grid, w0, i0, drel);
        }
    }
    const int64_t stride = (int64_t)(2 * a.grid_h + 2 * a.grid_w - 2) * hd;
    float *const part = x.parts + blockIdx.x * stride + (axis ? (int64_t)(2 * a.grid_h - 1) * hd : 0);
    store_rel_grad<D>(drel, part, w0, grid, hd);
}

/* In float. Block (part, row of a table), one thread per column. */
static __global__ void __launch_bounds__(ATT_THREADS) attention_rel_grad_f32(const att_params x)
{
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, c = (int)threadIdx.x, row = (int)blockIdx.y, axis = row >= 2 * a.grid_h - 1;
    const int grid = axis ? a.grid_w : a.grid_h, w = row - (axis ? 2 * a.grid_h - 1 : 0);
    const int tiles = (a.q_len + 63) / 64;
    const int64_t all = (int64_t)a.n_seq * a.heads * tiles;
    if (c >= hd) return;
    float s = 0;
    for (int64_t tile = blockIdx.x; tile < all; tile += x.n_parts) {
        const int64_t bh = tile / tiles, seq = bh / a.heads, head = bh - seq * a.heads;
        const int i0 = (int)(tile - bh * tiles) * 64, i1 = i0 + 64 < a.q_len ? i0 + 64 : a.q_len;
        const float *const dbias = (axis ? x.dbias_w : x.dbias_h) + bh * grid * x.q_pad;
        const float *const q = (const float *)a.q + seq * a.q_len * a.q_ld + head * hd + c;
        for (int i = i0; i < i1; i++) {
            const int k = query_coord(a, axis, i) + grid - 1 - w;
            if (k >= 0 && k < grid) s = fmaf(dbias[(int64_t)k * x.q_pad + i], q[i * a.q_ld], s);
        }
    }
    x.parts[(blockIdx.x * (int64_t)(2 * a.grid_h + 2 * a.grid_w - 2) + row) * hd + c] = s;
}

template <int D> static cudaError_t run_rel_grad(const att_params &x, cudaStream_t s)
{
    const unsigned chunks = (unsigned)((2 * x.a.grid_h - 1 + 127) / 128 + (2 * x.a.grid_w - 1 + 127) / 128);
    return dev_launch((attention_rel_grad<D>), dim3((unsigned)x.n_parts, chunks), ATT_THREADS, 0, s, x);
}

cudaError_t att_rel_grad(const att_params &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    if (a.dtype == K_F32)
        return dev_launch(attention_rel_grad_f32,
                          dim3((unsigned)x.n_parts, (unsigned)(2 * a.grid_h + 2 * a.grid_w - 2)), ATT_THREADS, 0, s, x);
    return a.head_dim <= 16   ? run_rel_grad<16>(x, s)
           : a.head_dim <= 64 ? run_rel_grad<64>(x, s)
           : a.head_dim <= 80 ? run_rel_grad<80>(x, s)
                              : run_rel_grad<128>(x, s);
}
