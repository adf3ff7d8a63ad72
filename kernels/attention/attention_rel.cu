/* SAM's decomposed relative positions: what query (y,x) adds to the scores of the grid's row k is q . rel_h[y - k +
 * grid_h - 1], of column k q . rel_w[x - k + grid_w - 1], with q unscaled; and the way back to the tables. In bfloat16
 * a tile of queries is multiplied by the whole table on the tensor cores, and the results go where they belong. */
#include "kernels/attention/attention.cuh"

/* Row or column of the grid at which query i lies. */
static DEV_INLINE int own_place(const struct k_attention &a, int which, int i)
{
    const int y = i / a.grid_w;
    return which ? i - y * a.grid_w : y < a.grid_h ? y : a.grid_h - 1;
}

/* ---- terms ---- */

template <int D> __global__ void __launch_bounds__(ATT_THREADS) attention_terms(const att x)
{
    constexpr int PITCH = 72, ROOM = 64 * (att_pitch<D> / 2 > PITCH ? att_pitch<D> / 2 : PITCH);
    SHARED_ARRAY(__nv_bfloat16, qs, [64 * att_pitch<D>]);
    SHARED_ARRAY(float, room, [ROOM]); /* 64 rows of the table, then 64 queries' products with them */
    __nv_bfloat16 *const rows = (__nv_bfloat16 *)room;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4,
              t = lane % 4, i0 = (int)blockIdx.x * 64, first = i0 + 16 * warp;
    float *const own_room = room + 16 * warp * PITCH;
    const float each = 1.0f / fabsf(x.scale);
    const int64_t bh = blockIdx.y, seq = bh / a.heads, head = bh - seq * a.heads;
    att_load<D, 64>(qs, (const __nv_bfloat16 *)a.q + seq * a.q_len * a.q_ld + head * hd, a.q_ld, hd, x.fast,
                    [&](int r) { return i0 + r < a.q_len ? i0 + r : -1; });
    dev_copy_commit();
    dev_copy_wait<0>();
    for (int which = 0; which < 2; which++) {
        const int grid = which ? a.grid_w : a.grid_h, table_rows = 2 * grid - 1;
        const float *const table = which ? a.rel_w : a.rel_h;
        float *const terms = (which ? x.terms_w : x.terms_h) + bh * grid * x.q_pad;
        for (int w0 = 0; w0 < table_rows; w0 += 64) {
            DEV_SYNC();
            att_load_table<D>(rows, table, w0, table_rows, hd);
            DEV_SYNC();
            float s[8][4] = {};
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) {
                unsigned q[4], b[4];
                att_frag_a<D>(q, qs, 16 * warp, 16 * kk);
#pragma unroll
                for (int n = 0; n < 8; n += 2) {
                    att_frag_b<D>(b, rows, 8 * n, 16 * kk);
                    dev_mma_bf16(s[n], q, b);
                    dev_mma_bf16(s[n + 1], q, b + 2);
                }
            }
            if (which) { /* neighbours are in different columns of the grid: what one row takes lies on a diagonal */
                DEV_SYNC();
#pragma unroll
                for (int n = 0; n < 8; n++)
#pragma unroll
                    for (int h = 0; h < 2; h++)
                        dev_store8(own_room + (g + 8 * h) * PITCH + 8 * n + 2 * t,
                                   make_uint2(__float_as_uint(s[n][2 * h]), __float_as_uint(s[n][2 * h + 1])));
                const int r = lane % 16, i = first + r, from = own_place(a, 1, i) + grid - 1 - w0;
                for (int j = 0; j < (grid + 31) / 32 * 16; j++) { /* half a warp a row, 16 rows apart: no conflicts */
                    const int k = j / 16 * 32 + lane / 16 * 16 + j % 16, w = from - k;
                    __syncwarp(); /* the products are there; lanes that stored nothing go on with the others */
                    if (i < x.q_pad && k < grid && w >= 0 && w < 64)
                        terms[(int64_t)k * x.q_pad + i] = own_room[r * PITCH + w] * each;
                }
            } else {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int i = first + g + 8 * h, from = own_place(a, 0, i) + grid - 1 - w0;
                    if (i >= x.q_pad) continue;
#pragma unroll
                    for (int n = 0; n < 8; n++)
#pragma unroll
                        for (int e = 0; e < 2; e++) {
                            const int k = from - (8 * n + 2 * t + e);
                            if (k >= 0 && k < grid) terms[(int64_t)k * x.q_pad + i] = s[n][2 * h + e] * each;
                        }
                }
            }
        }
    }
}

/* One thread a query and grid row or column. */
static __global__ void __launch_bounds__(ATT_THREADS) attention_terms_f32(const att x)
{
    const struct k_attention &a = x.a;
    const int i = (int)(blockIdx.x * ATT_THREADS + threadIdx.x), hd = a.head_dim;
    const int which = (int)blockIdx.z >= a.grid_h, grid = which ? a.grid_w : a.grid_h;
    const int k = (int)blockIdx.z - (which ? a.grid_h : 0);
    const int64_t bh = blockIdx.y, seq = bh / a.heads, head = bh - seq * a.heads;
    if (i >= x.q_pad) return;
    float s = 0;
    if (i < a.q_len) {
        const float *const q = (const float *)a.q + (seq * a.q_len + i) * a.q_ld + head * hd;
        const float *const r = (which ? a.rel_w : a.rel_h) + (int64_t)(own_place(a, which, i) - k + grid - 1) * hd;
        for (int c = 0; c < hd; c++) s = fmaf(q[c], r[c], s);
    }
    ((which ? x.terms_w : x.terms_h) + bh * grid * x.q_pad)[(int64_t)k * x.q_pad + i] = s * ATT_LOG2E;
}

template <int D> static cudaError_t run_terms(const att &x, cudaStream_t s)
{
    return dev_launch((attention_terms<D>), dim3((unsigned)(x.a.q_len + 63) / 64, (unsigned)(x.a.n_seq * x.a.heads)),
                      ATT_THREADS, 0, s, x);
}

cudaError_t att_terms(const att &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    if (a.dtype == K_F32)
        return dev_launch(attention_terms_f32,
                          dim3((unsigned)(x.q_pad + ATT_THREADS - 1) / ATT_THREADS, (unsigned)(a.n_seq * a.heads),
                               (unsigned)(a.grid_h + a.grid_w)),
                          ATT_THREADS, 0, s, x);
    return a.head_dim <= 16   ? run_terms<16>(x, s)
           : a.head_dim <= 64 ? run_terms<64>(x, s)
           : a.head_dim <= 80 ? run_terms<80>(x, s)
                              : run_terms<128>(x, s);
}

/* ---- gradients of the tables: drel[w] = sum over queries of dterms[own - w + grid - 1] q. Block (part, 128 rows of a
 * table): tiles of 64 queries part, part + parts, ...; a warp 32 rows. ---- */

template <int D> __global__ void __launch_bounds__(ATT_THREADS) attention_tables(const att x)
{
    constexpr int PITCH = 67; /* 3 and a multiple of 16: a warp's reads along diagonals meet no bank twice */
    SHARED_ARRAY(__nv_bfloat16, qs, [64 * att_pitch<D>]);
    SHARED_ARRAY(float, columns, [64 * PITCH]); /* of the width's dterms: 64 columns of the grid, 64 queries */
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4,
              t = lane % 4;
    const int n_h = (2 * a.grid_h - 1 + 127) / 128, which = (int)blockIdx.y >= n_h;
    const int grid = which ? a.grid_w : a.grid_h, w0 = ((int)blockIdx.y - (which ? n_h : 0)) * 128 + 32 * warp;
    const int tiles = (a.q_len + 63) / 64;
    const int64_t all = (int64_t)a.n_seq * a.heads * tiles;
    float s[2][D / 8][4] = {};
    for (int64_t tile = blockIdx.x; tile < all; tile += x.n_parts) {
        const int64_t bh = tile / tiles, seq = bh / a.heads, head = bh - seq * a.heads;
        const int i0 = (int)(tile - bh * tiles) * 64;
        const float *const dterms = (which ? x.dterms_w : x.dterms_h) + bh * grid * x.q_pad;
        for (int k0 = 0; k0 < (which ? grid : 1); k0 += 64) {
            const int n_columns = grid - k0 < 64 ? grid - k0 : 64;
            DEV_SYNC();
            if (k0 == 0)
                att_load<D, 64>(qs, (const __nv_bfloat16 *)a.q + seq * a.q_len * a.q_ld + head * hd, a.q_ld, hd, x.fast,
                                [&](int r) { return i0 + r < a.q_len ? i0 + r : -1; });
            for (int j = (int)threadIdx.x; which && j < 64 * n_columns; j += ATT_THREADS) {
                const int k = j / 64, i = j % 64;
                const bool in = i0 + i < a.q_len;
                dev_copy_async4(columns + k * PITCH + i, in ? dterms + (int64_t)(k0 + k) * x.q_pad + i0 + i : dterms,
                                in ? 4 : 0);
            }
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
            /* What row w of the table gets of queries i and i + 1 of the tile. */
            const auto weights = [&](int w, int i, int own, int next) {
                const int k = own + grid - 1 - w - k0, l = next + grid - 1 - w - k0;
                if (which)
                    return att_pack(k >= 0 && k < n_columns ? columns[k * PITCH + i] : 0.0f,
                                    l >= 0 && l < n_columns ? columns[l * PITCH + i + 1] : 0.0f);
                const float *const from = dterms + i0 + i;
                if (k == l && i0 + i + 1 < a.q_len) {
                    const uint2 v = k >= 0 && k < grid ? dev_load8(from + (int64_t)k * x.q_pad) : make_uint2(0, 0);
                    return att_pack(__uint_as_float(v.x), __uint_as_float(v.y));
                }
                return att_pack(i0 + i < a.q_len && k >= 0 && k < grid ? from[(int64_t)k * x.q_pad] : 0.0f,
                                i0 + i + 1 < a.q_len && l >= 0 && l < grid ? from[(int64_t)l * x.q_pad + 1] : 0.0f);
            };
            for (int kk = 0; kk < 4; kk++) {
                unsigned f[2][4];
                int own[4];
                for (int j = 0; j < 4; j++) own[j] = own_place(a, which, i0 + 16 * kk + 2 * t + j % 2 + j / 2 * 8);
#pragma unroll
                for (int m = 0; m < 2; m++)
#pragma unroll
                    for (int j = 0; j < 4; j++) { /* rows g, g + 8, g, g + 8; queries 2t, 2t + 1, and 8 further */
                        const int o = j / 2 * 2;
                        f[m][j] = weights(w0 + 16 * m + g + j % 2 * 8, 16 * kk + 2 * t + j / 2 * 8, own[o], own[o + 1]);
                    }
#pragma unroll
                for (int n = 0; n < D / 8; n += 2) {
                    unsigned b[4];
                    att_frag_b_trans<D>(b, qs, 16 * kk, 8 * n);
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        dev_mma_bf16(s[m][n], f[m], b);
                        dev_mma_bf16(s[m][n + 1], f[m], b + 2);
                    }
                }
            }
        }
    }
    const int64_t stride = (int64_t)(2 * a.grid_h + 2 * a.grid_w - 2) * hd;
    float *const part = x.parts + blockIdx.x * stride + (which ? (int64_t)(2 * a.grid_h - 1) * hd : 0);
    const bool twos = hd % 2 == 0;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int w = w0 + 16 * m + g + 8 * h, c = 8 * n + 2 * t;
                float *const to = part + (int64_t)w * hd + c;
                if (w >= 2 * grid - 1 || c >= hd) continue;
                if (twos) {
                    dev_store8(to, make_uint2(__float_as_uint(s[m][n][2 * h]), __float_as_uint(s[m][n][2 * h + 1])));
                } else {
                    to[0] = s[m][n][2 * h];
                    if (c + 1 < hd) to[1] = s[m][n][2 * h + 1];
                }
            }
}

/* Block (part, row of a table), a thread a column. */
static __global__ void __launch_bounds__(ATT_THREADS) attention_tables_f32(const att x)
{
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, c = (int)threadIdx.x, row = (int)blockIdx.y, which = row >= 2 * a.grid_h - 1;
    const int grid = which ? a.grid_w : a.grid_h, w = row - (which ? 2 * a.grid_h - 1 : 0);
    const int tiles = (a.q_len + 63) / 64;
    const int64_t all = (int64_t)a.n_seq * a.heads * tiles;
    if (c >= hd) return;
    float s = 0;
    for (int64_t tile = blockIdx.x; tile < all; tile += x.n_parts) {
        const int64_t bh = tile / tiles, seq = bh / a.heads, head = bh - seq * a.heads;
        const int i0 = (int)(tile - bh * tiles) * 64, i1 = i0 + 64 < a.q_len ? i0 + 64 : a.q_len;
        const float *const dterms = (which ? x.dterms_w : x.dterms_h) + bh * grid * x.q_pad;
        const float *const q = (const float *)a.q + seq * a.q_len * a.q_ld + head * hd + c;
        for (int i = i0; i < i1; i++) {
            const int k = own_place(a, which, i) + grid - 1 - w;
            if (k >= 0 && k < grid) s = fmaf(dterms[(int64_t)k * x.q_pad + i], q[i * a.q_ld], s);
        }
    }
    x.parts[(blockIdx.x * (int64_t)(2 * a.grid_h + 2 * a.grid_w - 2) + row) * hd + c] = s;
}

template <int D> static cudaError_t run_tables(const att &x, cudaStream_t s)
{
    const unsigned chunks = (unsigned)((2 * x.a.grid_h - 1 + 127) / 128 + (2 * x.a.grid_w - 1 + 127) / 128);
    return dev_launch((attention_tables<D>), dim3((unsigned)x.n_parts, chunks), ATT_THREADS, 0, s, x);
}

cudaError_t att_tables(const att &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    if (a.dtype == K_F32)
        return dev_launch(attention_tables_f32, dim3((unsigned)x.n_parts, (unsigned)(2 * a.grid_h + 2 * a.grid_w - 2)),
                          ATT_THREADS, 0, s, x);
    return a.head_dim <= 16   ? run_tables<16>(x, s)
           : a.head_dim <= 64 ? run_tables<64>(x, s)
           : a.head_dim <= 80 ? run_tables<80>(x, s)
                              : run_tables<128>(x, s);
}
