/* Attention in float by plain multiply-adds: FlashAttention-2's loops as in attention_fwd.cu, attention_dq.cu and
 * attention_dkv.cu, without tensor cores; the bfloat16 kernels are compared with it. A block takes 32 queries (32 keys
 * for dk and dv) of a head and walks over tiles of 32 keys (queries). Thread (tx of 8, ty of 16) holds rows ty and ty +
 * 16: columns tx + 8 b of the scores (32, 32), columns 4 tx + 32 u of the outputs (32, D). A row of scores belongs to
 * one warp. */
#include "kernels/attention/attention.cuh"

constexpr int F = 32, PITCH_P = F + 4; /* rows of a tile; pitch of a tile of scores (32, PITCH_P) */

template <int D> constexpr int pitch_f = D + 4; /* of a tile of rows (32, pitch_f<D>) */

/* Loads rows first..first + 31 of src (n, ld), hd floats each, into a tile (32, pitch_f<D>); zero-filled outside. */
template <int D>
static DEV_INLINE void load_rows(float *tile, const float *src, int64_t ld, int hd, int aligned16, int first, int n)
{
    if (aligned16) {
        for (int i = (int)threadIdx.x; i < F * D / 4; i += ATT_THREADS) {
            const int r = i / (D / 4), c = 4 * (i - r * (D / 4));
            const bool in = first + r < n && c < hd;
            dev_store16(tile + r * pitch_f<D> + c,
                        in ? dev_load16(src + (first + r) * ld + c) : make_float4(0, 0, 0, 0));
        }
    } else {
        for (int i = (int)threadIdx.x; i < F * D; i += ATT_THREADS) {
            const int r = i / D, c = i - r * D;
            tile[r * pitch_f<D> + c] = first + r < n && c < hd ? src[(first + r) * ld + c] : 0.0f;
        }
    }
}

static DEV_INLINE float dot4(float4 a, float4 b, float s)
{
    return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, s))));
}

/* s (32, 32) = A B^T, tiles a and b (32, pitch_f<D>) */
template <int D> static DEV_INLINE void a_bt(float s[2][4], const float *a, const float *b, int tx, int ty)
{
#pragma unroll
    for (int i = 0; i < 8; i++) s[i / 4][i % 4] = 0;
#pragma unroll 4
    for (int c = 0; c < D; c += 4) {
        const float4 a0 = dev_load16(a + ty * pitch_f<D> + c), a1 = dev_load16(a + (ty + 16) * pitch_f<D> + c);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float4 v = dev_load16(b + (tx + 8 * j) * pitch_f<D> + c);
            s[0][j] = dot4(a0, v, s[0][j]);
            s[1][j] = dot4(a1, v, s[1][j]);
        }
    }
}

/* o (32, D) += P B, tiles p (32, PITCH_P) and b (32, pitch_f<D>) */
template <int D> static DEV_INLINE void p_b(float o[2][D / 8], const float *p, const float *b, int tx, int ty)
{
#pragma unroll 4
    for (int k = 0; k < F; k++) {
        const float p0 = p[ty * PITCH_P + k], p1 = p[(ty + 16) * PITCH_P + k];
#pragma unroll
        for (int u = 0; u < D / 32; u++) {
            const float4 v = dev_load16(b + k * pitch_f<D> + 4 * tx + 32 * u);
            const float e[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                o[0][4 * u + j] = fmaf(p0, e[j], o[0][4 * u + j]);
                o[1][4 * u + j] = fmaf(p1, e[j], o[1][4 * u + j]);
            }
        }
    }
}

/* Stores scores to the tile w (32, PITCH_P), for the other threads of the row's warp. */
static DEV_INLINE void store_scores(float *w, const float s[2][4], int tx, int ty)
{
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; i++) w[(ty + i / 4 * 16) * PITCH_P + tx + i % 4 * 8] = s[i / 4][i % 4];
    __syncwarp();
}

/* Relative position bias of (query i, key j), base-2 log. */
static DEV_INLINE float rel_bias(const att_params &x, int64_t bh, int i, int j)
{
    const int ky = j / x.a.grid_w, kx = j - ky * x.a.grid_w;
    return x.bias_h[(bh * x.a.grid_h + ky) * x.q_pad + i] + x.bias_w[(bh * x.a.grid_w + kx) * x.q_pad + i];
}

/* dst = beta dst + o f: rows of dst (n, ld) from `first` on, hd floats each. */
template <int D>
static DEV_INLINE void store_rows(float *dst, int64_t ld, int hd, float beta, const float o[2][D / 8], const float f[2],
                                  int first, int n, int tx, int ty)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = first + ty + 16 * h;
        if (r >= n) continue;
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            const int c = 4 * tx + i / 4 * 32 + i % 4;
            if (c < hd) dev_blend(dst + r * ld + c, beta, (h ? o[1][i] : o[0][i]) * f[h]);
        }
    }
}

/* P = exp2(scale2 S + bias - row_max), with dropout; row_max and row_sum updated by the tile of keys j0..j0 + 31. Row h
 * of the thread, query i. Returns the factor of O: exp2(old - new row_max). */
static DEV_INLINE float online_softmax(const att_params &x, const att_coord &p, const att_dropout &drop, int64_t bh,
                                       int i, int j0, float (&s)[4], float &row_max, float &row_sum)
{
    const int tx = (int)threadIdx.x % 8;
    float new_max = row_max, tile_sum = 0;
#pragma unroll
    for (int b = 0; b < 4; b++) {
        const int j = j0 + tx + 8 * b;
        s[b] *= x.scale2;
        if (x.a.rel_h && i < p.nq && j < p.nk) s[b] += rel_bias(x, bh, i, j);
        if (j >= att_key_end(x.a, i, p.nk)) s[b] = -INFINITY;
        new_max = fmaxf(new_max, s[b]);
    }
#pragma unroll
    for (int d = 1; d < 8; d *= 2) new_max = fmaxf(new_max, __shfl_xor_sync(DEV_FULL, new_max, d));
    const float rescale = exp2f(row_max - new_max);
    row_max = new_max;
#pragma unroll
    for (int b = 0; b < 4; b++) {
        s[b] = exp2f(s[b] - new_max);
        tile_sum += s[b];
        if (x.a.dropout_p > 0) s[b] *= att_dropout_scale(x, drop, i, j0 + tx + 8 * b);
    }
    row_sum = fmaf(row_sum, rescale, tile_sum);
    return rescale;
}

/* y = lse = 0 for rows of q that belong to no sequence, by the blocks beyond the last tile. */
static DEV_INLINE void zero_rows(const struct k_attention &a, const att_coord &p)
{
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, hd = a.head_dim;
    const int64_t y_ld = (int64_t)a.heads * hd;
    float *const y = (float *)a.y;
    const int end = a.n_seq ? att_clip(a.q_off[a.n_seq], 0, a.q_rows) : 0, first = end + p.excess * F;
    for (int r = first + ty; r < first + F && r < a.q_rows; r += 16) {
        for (int c = tx; c < hd; c += 8) y[r * y_ld + p.head * hd + c] = 0;
        if (tx == 0) a.lse[(int64_t)r * a.heads + p.head] = 0;
    }
}

template <int D> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_f32_fwd(const att_params x)
{
    SHARED_DYN(float, shared);
    float *const qs = shared, *const ks = qs + F * pitch_f<D>, *const vs = ks + F * pitch_f<D>,
                 *const ps = vs + F * pitch_f<D>; /* Q, K, V (32, pitch_f<D>); P (32, PITCH_P) */
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    const int64_t y_ld = (int64_t)a.heads * hd;
    att_coord p;
    if (!att_find_tile<F>(a, false, p)) {
        zero_rows(a, p);
        return;
    }
    const float *const k = (const float *)a.k + p.k0 * a.k_ld + p.head * hd; /* (nk, k_ld) */
    const float *const v = (const float *)a.v + p.k0 * a.v_ld + p.head * hd; /* (nk, v_ld) */
    const int64_t bh = (int64_t)p.seq * a.heads + p.head;
    float o[2][D / 8] = {}, row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {0, 0};
    att_dropout drop = {};
    if (a.dropout_p > 0) drop = att_dropout_of(x, p);
    load_rows<D>(qs, (const float *)a.q + p.q0 * a.q_ld + p.head * hd, a.q_ld, hd, x.aligned16, p.i0, p.nq);
    const int key_end = att_key_end(a, p.i0 + F - 1, p.nk);
    for (int j0 = 0; j0 < key_end; j0 += F) {
        DEV_SYNC();
        load_rows<D>(ks, k, a.k_ld, hd, x.aligned16, j0, p.nk);
        load_rows<D>(vs, v, a.v_ld, hd, x.aligned16, j0, p.nk);
        DEV_SYNC();
        float s[2][4];
        a_bt<D>(s, qs, ks, tx, ty); /* S = Q K^T */
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float rescale = online_softmax(x, p, drop, bh, p.i0 + ty + 16 * h, j0, s[h], row_max[h], row_sum[h]);
#pragma unroll
            for (int c = 0; c < D / 8; c++) o[h][c] *= rescale;
        }
        store_scores(ps, s, tx, ty);
        p_b<D>(o, ps, vs, tx, ty); /* O += P V */
    }
    float inv_sum[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int d = 1; d < 8; d *= 2) row_sum[h] += __shfl_xor_sync(DEV_FULL, row_sum[h], d);
        inv_sum[h] = row_sum[h] > 0 ? 1.0f / row_sum[h] : 0.0f;
        const int i = p.i0 + ty + 16 * h;
        if (tx == 0 && i < p.nq)
            a.lse[(int64_t)(p.q0 + i) * a.heads + p.head] =
                row_sum[h] > 0 ? ATT_LN2 * (row_max[h] + log2f(row_sum[h])) : 0.0f;
    }
    store_rows<D>((float *)a.y + p.q0 * y_ld + p.head * hd, y_ld, hd, 0.0f, o, inv_sum, p.i0, p.nq, tx, ty);
}

/* Adds the tile of dS (32, PITCH_P), keys j0..j0 + 31, to dbias_h (grid_h, q_pad) and dbias_w (grid_w, q_pad) of a
 * warp's 8 queries: lanes 0-7 sum along grid rows (row_sum carries a sum from one tile to the next), lanes 8-15 along
 * columns. */
static DEV_INLINE void accumulate_dbias(const att_params &x, const att_coord &p, const float *ds, int j0,
                                        float *dbias_h, float *dbias_w, float &row_sum)
{
    const struct k_attention &a = x.a;
    const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
    const int q = lane % 8, row = warp * 4 + q % 4 + q / 4 * 16, i = p.i0 + row;
    if (lane >= 16 || i >= p.nq) return;
    for (int c = 0; c < F && j0 + c < p.nk; c++) {
        const int ky = (j0 + c) / a.grid_w, kx = j0 + c - ky * a.grid_w;
        const float d = ds[row * PITCH_P + c];
        if (lane < 8) {
            row_sum = kx ? row_sum + d : d;
            if (kx == a.grid_w - 1) dbias_h[(int64_t)ky * x.q_pad + i] = row_sum;
        } else {
            float *const to = dbias_w + (int64_t)kx * x.q_pad + i;
            *to = ky ? *to + d : d;
        }
    }
}

/* dq += sum over k of dbias_h[k] rel_h[y - k + grid_h - 1] + dbias_w[k] rel_w[x - k + grid_w - 1]. */
template <int D>
static DEV_INLINE void add_rel_to_dq(const att_params &x, const att_coord &p, const float *dbias_h,
                                     const float *dbias_w, float (&dq)[2][D / 8])
{
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int i = p.i0 + ty + 16 * h, y = i / a.grid_w, col = i - y * a.grid_w;
        if (i >= p.nq) continue;
        for (int n = 0; n < a.grid_h + a.grid_w; n++) {
            const int axis = n >= a.grid_h, r = n - (axis ? a.grid_h : 0);
            const float d = (axis ? dbias_w : dbias_h)[(int64_t)r * x.q_pad + i];
            const float *const table = axis ? a.rel_w + (int64_t)(col - r + a.grid_w - 1) * hd
                                            : a.rel_h + (int64_t)(y - r + a.grid_h - 1) * hd;
#pragma unroll
            for (int e = 0; e < D / 8; e++) {
                const int c = 4 * tx + e / 4 * 32 + e % 4;
                if (c < hd) dq[h][e] = fmaf(d, table[c], dq[h][e]);
            }
        }
    }
}

template <int D> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_f32_dq(const att_params x)
{
    SHARED_DYN(float, shared);
    float *const qs = shared, *const dos = qs + F * pitch_f<D>, *const ks = dos + F * pitch_f<D>,
                 *const vs = ks + F * pitch_f<D>,
                 *const ds = vs + F * pitch_f<D>; /* Q, dO, K, V (32, pitch_f<D>); dS (32, PITCH_P) */
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    att_coord p;
    if (!att_find_tile<F>(a, false, p)) return;
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const float *const k = (const float *)a.k + p.k0 * a.k_ld + p.head * hd; /* (nk, k_ld) */
    const float *const v = (const float *)a.v + p.k0 * a.v_ld + p.head * hd; /* (nk, v_ld) */
    att_dropout drop = {};
    if (a.dropout_p > 0) drop = att_dropout_of(x, p);
    load_rows<D>(qs, (const float *)a.q + p.q0 * a.q_ld + p.head * hd, a.q_ld, hd, x.aligned16, p.i0, p.nq);
    load_rows<D>(dos, (const float *)a.dy + p.q0 * y_ld + p.head * hd, y_ld, hd, x.aligned16_y, p.i0, p.nq);
    float dq[2][D / 8] = {}, lse2[2] = {0, 0}, delta[2] = {0, 0}, dbias_row_sum = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int i = p.i0 + ty + 16 * h;
        if (i >= p.nq) continue;
        lse2[h] = x.lse2[(int64_t)p.head * a.q_rows + p.q0 + i];
        delta[h] = x.delta[(int64_t)p.head * a.q_rows + p.q0 + i];
    }
    float *const dbias_h = x.dbias_h + bh * a.grid_h * x.q_pad, *const dbias_w = x.dbias_w + bh * a.grid_w * x.q_pad;
    const int key_end = att_key_end(a, p.i0 + F - 1, p.nk);
    for (int j0 = 0; j0 < key_end; j0 += F) {
        DEV_SYNC();
        load_rows<D>(ks, k, a.k_ld, hd, x.aligned16, j0, p.nk);
        load_rows<D>(vs, v, a.v_ld, hd, x.aligned16, j0, p.nk);
        DEV_SYNC();
        float s[2][4], dp[2][4];
        a_bt<D>(s, qs, ks, tx, ty);   /* S = Q K^T */
        a_bt<D>(dp, dos, vs, tx, ty); /* dP = dO V^T */
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int b = 0; b < 4; b++) { /* dS = P (dP - delta), in place of S */
                const int i = p.i0 + ty + 16 * h, j = j0 + tx + 8 * b;
                float e = s[h][b] * x.scale2 - lse2[h];
                if (a.rel_h && i < p.nq && j < p.nk) e += rel_bias(x, bh, i, j);
                if (a.dropout_p > 0) dp[h][b] *= att_dropout_scale(x, drop, i, j);
                s[h][b] = i < p.nq && j < att_key_end(a, i, p.nk) ? exp2f(e) * (dp[h][b] - delta[h]) : 0.0f;
            }
        store_scores(ds, s, tx, ty);
        p_b<D>(dq, ds, ks, tx, ty); /* dq += dS K */
        if (a.rel_h) accumulate_dbias(x, p, ds, j0, dbias_h, dbias_w, dbias_row_sum);
    }
#pragma unroll
    for (int i = 0; i < D / 4; i++) dq[i / (D / 8)][i % (D / 8)] *= x.scale;
    __syncwarp();
    if (a.rel_h) add_rel_to_dq<D>(x, p, dbias_h, dbias_w, dq);
    const float ones[2] = {1, 1};
    if (a.dq)
        store_rows<D>((float *)a.dq + p.q0 * a.q_ld + p.head * hd, a.q_ld, hd, a.beta_q, dq, ones, p.i0, p.nq, tx, ty);
}

template <int D> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_f32_dkv(const att_params x)
{
    SHARED_DYN(float, shared);
    float *const ks = shared, *const vs = ks + F * pitch_f<D>, *const qs = vs + F * pitch_f<D>,
                 *const dos = qs + F * pitch_f<D>,
                 *const ps = dos + F * pitch_f<D>; /* K, V, Q, dO (32, pitch_f<D>); P^T, then dS^T (32, PITCH_P) */
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    att_coord p; /* i0: of the keys */
    if (!att_find_tile<F>(a, true, p)) return;
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const float *const q = (const float *)a.q + p.q0 * a.q_ld + p.head * hd;
    const float *const dy = (const float *)a.dy + p.q0 * y_ld + p.head * hd;
    att_dropout drop = {};
    if (a.dropout_p > 0) drop = att_dropout_of(x, p);
    load_rows<D>(ks, (const float *)a.k + p.k0 * a.k_ld + p.head * hd, a.k_ld, hd, x.aligned16, p.i0, p.nk);
    load_rows<D>(vs, (const float *)a.v + p.k0 * a.v_ld + p.head * hd, a.v_ld, hd, x.aligned16, p.i0, p.nk);
    float dk[2][D / 8] = {}, dv[2][D / 8] = {};
    for (int i0 = a.causal ? p.i0 : 0; i0 < p.nq; i0 += F) {
        DEV_SYNC();
        load_rows<D>(qs, q, a.q_ld, hd, x.aligned16, i0, p.nq);
        load_rows<D>(dos, dy, y_ld, hd, x.aligned16_y, i0, p.nq);
        DEV_SYNC();
        float s[2][4], dp[2][4], prob[2][4];
        a_bt<D>(s, ks, qs, tx, ty);   /* S^T = K Q^T */
        a_bt<D>(dp, vs, dos, tx, ty); /* dP^T = V dO^T */
#pragma unroll
        for (int b = 0; b < 4; b++) {
            const int i = i0 + tx + 8 * b;
            const int64_t at = (int64_t)p.head * a.q_rows + p.q0 + i;
            const float lse2 = i < p.nq ? x.lse2[at] : 0.0f, delta = i < p.nq ? x.delta[at] : 0.0f;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int j = p.i0 + ty + 16 * h;
                const bool in = i < p.nq && j < att_key_end(a, i, p.nk);
                float e = s[h][b] * x.scale2 - lse2;
                if (a.rel_h && in) e += rel_bias(x, bh, i, j);
                const float keep = a.dropout_p > 0 ? att_dropout_scale(x, drop, i, j) : 1.0f,
                            pij = in ? exp2f(e) : 0.0f;
                prob[h][b] = pij * keep;
                s[h][b] = pij * (dp[h][b] * keep - delta); /* dS^T, in place of S^T */
            }
        }
        store_scores(ps, prob, tx, ty);
        p_b<D>(dv, ps, dos, tx, ty); /* dv += P^T dO */
        store_scores(ps, s, tx, ty);
        p_b<D>(dk, ps, qs, tx, ty); /* dk += dS^T Q */
    }
    const float scale[2] = {x.scale, x.scale}, ones[2] = {1, 1};
    if (a.dk)
        store_rows<D>((float *)a.dk + p.k0 * a.k_ld + p.head * hd, a.k_ld, hd, a.beta_k, dk, scale, p.i0, p.nk, tx, ty);
    if (a.dv)
        store_rows<D>((float *)a.dv + p.k0 * a.v_ld + p.head * hd, a.v_ld, hd, a.beta_v, dv, ones, p.i0, p.nk, tx, ty);
}

/* Shared memory of `tiles` tiles of rows and one of scores. */
template <int D> static size_t shared_bytes(int tiles)
{
    return (size_t)(tiles * F * pitch_f<D> + F * PITCH_P) * sizeof(float);
}
template <int D> static cudaError_t run_fwd(const att_params &x, cudaStream_t s)
{
    const size_t bytes = shared_bytes<D>(3);
    const cudaError_t e = att_set_shared_bytes(attention_f32_fwd<D>, bytes);
    if (e != cudaSuccess) return e;
    const dim3 blocks(att_blocks(x.a.q_off, x.a.n_seq, x.a.q_len, x.a.q_rows, F), (unsigned)x.a.heads);
    return dev_launch((attention_f32_fwd<D>), blocks, ATT_THREADS, bytes, s, x);
}
template <int D> static cudaError_t run_bwd(const att_params &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    const size_t bytes = shared_bytes<D>(4);
    const dim3 blocks_q(att_blocks(a.q_off, a.n_seq, a.q_len, a.q_rows, F), (unsigned)a.heads);
    const dim3 blocks_k(att_blocks(a.k_off, a.n_seq, a.k_len, a.k_rows, F), (unsigned)a.heads);
    if (a.q_rows && (a.dq || a.drel_h || a.drel_w)) {
        cudaError_t e = att_set_shared_bytes(attention_f32_dq<D>, bytes);
        if (e == cudaSuccess) e = dev_launch((attention_f32_dq<D>), blocks_q, ATT_THREADS, bytes, s, x);
        if (e != cudaSuccess) return e;
    }
    if (!a.k_rows || (!a.dk && !a.dv)) return cudaSuccess;
    const cudaError_t e = att_set_shared_bytes(attention_f32_dkv<D>, bytes);
    if (e != cudaSuccess) return e;
    return dev_launch((attention_f32_dkv<D>), blocks_k, ATT_THREADS, bytes, s, x);
}

cudaError_t att_f32_fwd(const att_params &x, cudaStream_t s)
{
    return x.a.head_dim <= 32 ? run_fwd<32>(x, s) : x.a.head_dim <= 64 ? run_fwd<64>(x, s) : run_fwd<128>(x, s);
}
cudaError_t att_f32_bwd(const att_params &x, cudaStream_t s)
{
    return x.a.head_dim <= 32 ? run_bwd<32>(x, s) : x.a.head_dim <= 64 ? run_bwd<64>(x, s) : run_bwd<128>(x, s);
}
