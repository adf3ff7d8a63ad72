/* Attention in float, plain multiply-adds; the bfloat16 kernels are compared with it. A block takes 32 queries (or 32
 * keys, for dk and dv) of a head and walks over tiles of 32 of the others; thread (tx of 8, ty of 16) holds rows ty and
 * ty + 16, columns tx + 8 b of the scores, columns 4 tx + 32 u of the sums. Rows of scores belong to one warp. */
#include "kernels/attention/attention.cuh"

constexpr int F = 32, PITCH_P = F + 4;

template <int D> constexpr int pitch_f = D + 4;

/* Rows first .. of n rows of hd floats; zeros outside. */
template <int D>
static DEV_INLINE void load_rows(float *to, const float *from, int64_t ld, int hd, int fast, int first, int n)
{
    if (fast) {
        for (int i = (int)threadIdx.x; i < F * D / 4; i += ATT_THREADS) {
            const int r = i / (D / 4), c = 4 * (i - r * (D / 4));
            const bool in = first + r < n && c < hd;
            dev_store16(to + r * pitch_f<D> + c,
                        in ? dev_load16(from + (first + r) * ld + c) : make_float4(0, 0, 0, 0));
        }
    } else {
        for (int i = (int)threadIdx.x; i < F * D; i += ATT_THREADS) {
            const int r = i / D, c = i - r * D;
            to[r * pitch_f<D> + c] = first + r < n && c < hd ? from[(first + r) * ld + c] : 0.0f;
        }
    }
}

static DEV_INLINE float dot4(float4 a, float4 b, float s)
{
    return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, s))));
}

/* s = rows of a times rows of b */
template <int D> static DEV_INLINE void multiply(float s[2][4], const float *a, const float *b, int tx, int ty)
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

/* o += rows of w (32 x 32) times b */
template <int D> static DEV_INLINE void mix(float o[2][D / 8], const float *w, const float *b, int tx, int ty)
{
#pragma unroll 4
    for (int k = 0; k < F; k++) {
        const float w0 = w[ty * PITCH_P + k], w1 = w[(ty + 16) * PITCH_P + k];
#pragma unroll
        for (int u = 0; u < D / 32; u++) {
            const float4 v = dev_load16(b + k * pitch_f<D> + 4 * tx + 32 * u);
            const float e[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                o[0][4 * u + j] = fmaf(w0, e[j], o[0][4 * u + j]);
                o[1][4 * u + j] = fmaf(w1, e[j], o[1][4 * u + j]);
            }
        }
    }
}

static DEV_INLINE void keep_scores(float *w, const float s[2][4], int tx, int ty)
{
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; i++) w[(ty + i / 4 * 16) * PITCH_P + tx + i % 4 * 8] = s[i / 4][i % 4];
    __syncwarp();
}

/* rel_h + rel_w bias of the score of (query i, key j), base-2 logarithm. */
static DEV_INLINE float rel_of(const att &x, int64_t bh, int i, int j)
{
    const int ky = j / x.a.grid_w, kx = j - ky * x.a.grid_w;
    return x.terms_h[(bh * x.a.grid_h + ky) * x.q_pad + i] + x.terms_w[(bh * x.a.grid_w + kx) * x.q_pad + i];
}

template <int D>
static DEV_INLINE void store_rows(float *to, int64_t ld, int hd, float beta, const float o[2][D / 8], const float f[2],
                                  int first, int n, int tx, int ty)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = first + ty + 16 * h;
        if (r >= n) continue;
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            const int c = 4 * tx + i / 4 * 32 + i % 4;
            if (c < hd) dev_blend(to + r * ld + c, beta, (h ? o[1][i] : o[0][i]) * f[h]);
        }
    }
}

template <int D> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_f32_fwd(const att x)
{
    SHARED_DYN(float, shared);
    float *const qs = shared, *const ks = qs + F * pitch_f<D>, *const vs = ks + F * pitch_f<D>,
                 *const ws = vs + F * pitch_f<D>;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    const int64_t y_ld = (int64_t)a.heads * hd;
    float *const y = (float *)a.y;
    att_piece p;
    if (!att_find<F>(a, false, p)) { /* rows of no sequence */
        const int end = a.n_seq ? att_clip(a.q_off[a.n_seq], 0, a.q_rows) : 0, first = end + p.left * F;
        for (int r = first + ty; r < first + F && r < a.q_rows; r += 16) {
            for (int c = tx; c < hd; c += 8) y[r * y_ld + p.head * hd + c] = 0;
            if (tx == 0) a.lse[(int64_t)r * a.heads + p.head] = 0;
        }
        return;
    }
    const float *const k = (const float *)a.k + p.k0 * a.k_ld + p.head * hd;
    const float *const v = (const float *)a.v + p.k0 * a.v_ld + p.head * hd;
    const int64_t bh = (int64_t)p.seq * a.heads + p.head;
    float o[2][D / 8] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    att_dropout drop = {};
    if (a.dropout_p > 0) drop = att_dropout_of(x, p);
    load_rows<D>(qs, (const float *)a.q + p.q0 * a.q_ld + p.head * hd, a.q_ld, hd, x.fast, p.i0, p.nq);
    for (int j0 = 0; j0 < p.nk; j0 += F) {
        DEV_SYNC();
        load_rows<D>(ks, k, a.k_ld, hd, x.fast, j0, p.nk);
        load_rows<D>(vs, v, a.v_ld, hd, x.fast, j0, p.nk);
        DEV_SYNC();
        float s[2][4];
        multiply<D>(s, qs, ks, tx, ty);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int i = p.i0 + ty + 16 * h;
            float most = top[h], add = 0;
#pragma unroll
            for (int b = 0; b < 4; b++) {
                const int j = j0 + tx + 8 * b;
                s[h][b] *= x.scale2;
                if (a.rel_h && i < p.nq && j < p.nk) s[h][b] += rel_of(x, bh, i, j);
                if (j >= p.nk) s[h][b] = -INFINITY;
                most = fmaxf(most, s[h][b]);
            }
#pragma unroll
            for (int d = 1; d < 8; d *= 2) most = fmaxf(most, __shfl_xor_sync(DEV_FULL, most, d));
            const float decay = exp2f(top[h] - most);
            top[h] = most;
#pragma unroll
            for (int b = 0; b < 4; b++) {
                s[h][b] = exp2f(s[h][b] - most);
                add += s[h][b];
                if (a.dropout_p > 0) s[h][b] *= att_kept(x, drop, i, j0 + tx + 8 * b);
            }
            sum[h] = fmaf(sum[h], decay, add);
#pragma unroll
            for (int c = 0; c < D / 8; c++) o[h][c] *= decay;
        }
        keep_scores(ws, s, tx, ty);
        mix<D>(o, ws, vs, tx, ty);
    }
    float by[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int d = 1; d < 8; d *= 2) sum[h] += __shfl_xor_sync(DEV_FULL, sum[h], d);
        by[h] = sum[h] > 0 ? 1.0f / sum[h] : 0.0f;
        const int i = p.i0 + ty + 16 * h;
        if (tx == 0 && i < p.nq)
            a.lse[(int64_t)(p.q0 + i) * a.heads + p.head] = sum[h] > 0 ? ATT_LN2 * (top[h] + log2f(sum[h])) : 0.0f;
    }
    store_rows<D>(y + p.q0 * y_ld + p.head * hd, y_ld, hd, 0.0f, o, by, p.i0, p.nq, tx, ty);
}

template <int D> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_f32_dq(const att x)
{
    SHARED_DYN(float, shared);
    float *const qs = shared, *const ds = qs + F * pitch_f<D>, *const ks = ds + F * pitch_f<D>,
                 *const vs = ks + F * pitch_f<D>, *const ws = vs + F * pitch_f<D>;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
    att_piece p;
    if (!att_find<F>(a, false, p)) return;
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const float *const k = (const float *)a.k + p.k0 * a.k_ld + p.head * hd;
    const float *const v = (const float *)a.v + p.k0 * a.v_ld + p.head * hd;
    att_dropout drop = {};
    if (a.dropout_p > 0) drop = att_dropout_of(x, p);
    load_rows<D>(qs, (const float *)a.q + p.q0 * a.q_ld + p.head * hd, a.q_ld, hd, x.fast, p.i0, p.nq);
    load_rows<D>(ds, (const float *)a.dy + p.q0 * y_ld + p.head * hd, y_ld, hd, x.fast_y, p.i0, p.nq);
    float o[2][D / 8] = {}, lse2[2] = {0, 0}, delta[2] = {0, 0}, run = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int i = p.i0 + ty + 16 * h;
        if (i >= p.nq) continue;
        lse2[h] = x.lse2[(int64_t)p.head * a.q_rows + p.q0 + i];
        delta[h] = x.delta[(int64_t)p.head * a.q_rows + p.q0 + i];
    }
    /* The terms' gradients: of a warp's 8 rows, lanes 0-7 sum along the grid's rows, lanes 8-15 down its columns. */
    const int mine = lane % 8, mine_row = warp * 4 + mine % 4 + mine / 4 * 16, mine_i = p.i0 + mine_row;
    float *const dh = x.dterms_h + bh * a.grid_h * x.q_pad, *const dw = x.dterms_w + bh * a.grid_w * x.q_pad;
    for (int j0 = 0; j0 < p.nk; j0 += F) {
        DEV_SYNC();
        load_rows<D>(ks, k, a.k_ld, hd, x.fast, j0, p.nk);
        load_rows<D>(vs, v, a.v_ld, hd, x.fast, j0, p.nk);
        DEV_SYNC();
        float s[2][4], g[2][4];
        multiply<D>(s, qs, ks, tx, ty);
        multiply<D>(g, ds, vs, tx, ty);
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int b = 0; b < 4; b++) {
                const int i = p.i0 + ty + 16 * h, j = j0 + tx + 8 * b;
                float e = s[h][b] * x.scale2 - lse2[h];
                if (a.rel_h && i < p.nq && j < p.nk) e += rel_of(x, bh, i, j);
                if (a.dropout_p > 0) g[h][b] *= att_kept(x, drop, i, j);
                s[h][b] = i < p.nq && j < p.nk ? exp2f(e) * (g[h][b] - delta[h]) : 0.0f;
            }
        keep_scores(ws, s, tx, ty);
        mix<D>(o, ws, ks, tx, ty);
        if (a.rel_h && lane < 16 && mine_i < p.nq)
            for (int c = 0; c < F && j0 + c < p.nk; c++) {
                const int ky = (j0 + c) / a.grid_w, kx = j0 + c - ky * a.grid_w;
                const float d = ws[mine_row * PITCH_P + c];
                if (lane < 8) {
                    run = kx ? run + d : d;
                    if (kx == a.grid_w - 1) dh[(int64_t)ky * x.q_pad + mine_i] = run;
                } else {
                    float *const to = dw + (int64_t)kx * x.q_pad + mine_i;
                    *to = ky ? *to + d : d;
                }
            }
    }
    const float by[2] = {1, 1};
#pragma unroll
    for (int i = 0; i < D / 4; i++) o[i / (D / 8)][i % (D / 8)] *= x.scale;
    __syncwarp();
    if (a.rel_h)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int i = p.i0 + ty + 16 * h, y = i / a.grid_w, col = i - y * a.grid_w;
            if (i >= p.nq) continue;
            for (int n = 0; n < a.grid_h + a.grid_w; n++) {
                const int which = n >= a.grid_h, r = n - (which ? a.grid_h : 0);
                const float d = (which ? dw : dh)[(int64_t)r * x.q_pad + i];
                const float *const table = which ? a.rel_w + (int64_t)(col - r + a.grid_w - 1) * hd
                                                 : a.rel_h + (int64_t)(y - r + a.grid_h - 1) * hd;
#pragma unroll
                for (int e = 0; e < D / 8; e++) {
                    const int c = 4 * tx + e / 4 * 32 + e % 4;
                    if (c < hd) o[h][e] = fmaf(d, table[c], o[h][e]);
                }
            }
        }
    if (a.dq)
        store_rows<D>((float *)a.dq + p.q0 * a.q_ld + p.head * hd, a.q_ld, hd, a.beta_q, o, by, p.i0, p.nq, tx, ty);
}

template <int D> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_f32_dkv(const att x)
{
    SHARED_DYN(float, shared);
    float *const ks = shared, *const vs = ks + F * pitch_f<D>, *const qs = vs + F * pitch_f<D>,
                 *const ds = qs + F * pitch_f<D>, *const ws = ds + F * pitch_f<D>;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    att_piece p; /* i0: of the keys */
    if (!att_find<F>(a, true, p)) return;
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const float *const q = (const float *)a.q + p.q0 * a.q_ld + p.head * hd;
    const float *const dy = (const float *)a.dy + p.q0 * y_ld + p.head * hd;
    att_dropout drop = {};
    if (a.dropout_p > 0) drop = att_dropout_of(x, p);
    load_rows<D>(ks, (const float *)a.k + p.k0 * a.k_ld + p.head * hd, a.k_ld, hd, x.fast, p.i0, p.nk);
    load_rows<D>(vs, (const float *)a.v + p.k0 * a.v_ld + p.head * hd, a.v_ld, hd, x.fast, p.i0, p.nk);
    float dk[2][D / 8] = {}, dv[2][D / 8] = {};
    for (int i0 = 0; i0 < p.nq; i0 += F) {
        DEV_SYNC();
        load_rows<D>(qs, q, a.q_ld, hd, x.fast, i0, p.nq);
        load_rows<D>(ds, dy, y_ld, hd, x.fast_y, i0, p.nq);
        DEV_SYNC();
        float s[2][4], g[2][4], w[2][4];
        multiply<D>(s, ks, qs, tx, ty);
        multiply<D>(g, vs, ds, tx, ty);
#pragma unroll
        for (int b = 0; b < 4; b++) {
            const int i = i0 + tx + 8 * b;
            const int64_t at = (int64_t)p.head * a.q_rows + p.q0 + i;
            const float lse2 = i < p.nq ? x.lse2[at] : 0.0f, delta = i < p.nq ? x.delta[at] : 0.0f;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int j = p.i0 + ty + 16 * h;
                const bool in = i < p.nq && j < p.nk;
                float e = s[h][b] * x.scale2 - lse2;
                if (a.rel_h && in) e += rel_of(x, bh, i, j);
                const float kept = a.dropout_p > 0 ? att_kept(x, drop, i, j) : 1.0f, prob = in ? exp2f(e) : 0.0f;
                w[h][b] = prob * kept;
                s[h][b] = prob * (g[h][b] * kept - delta);
            }
        }
        keep_scores(ws, w, tx, ty);
        mix<D>(dv, ws, ds, tx, ty);
        keep_scores(ws, s, tx, ty);
        mix<D>(dk, ws, qs, tx, ty);
    }
    const float by_k[2] = {x.scale, x.scale}, by_v[2] = {1, 1};
    if (a.dk)
        store_rows<D>((float *)a.dk + p.k0 * a.k_ld + p.head * hd, a.k_ld, hd, a.beta_k, dk, by_k, p.i0, p.nk, tx, ty);
    if (a.dv)
        store_rows<D>((float *)a.dv + p.k0 * a.v_ld + p.head * hd, a.v_ld, hd, a.beta_v, dv, by_v, p.i0, p.nk, tx, ty);
}

template <int D> static size_t tile_bytes(int tiles)
{
    return (size_t)(tiles * F * pitch_f<D> + F * PITCH_P) * sizeof(float);
}
template <int D> static cudaError_t run_fwd(const att &x, cudaStream_t s)
{
    const size_t bytes = tile_bytes<D>(3);
    const cudaError_t e = att_allow(attention_f32_fwd<D>, bytes);
    if (e != cudaSuccess) return e;
    const dim3 blocks(att_blocks(x.a.q_off, x.a.n_seq, x.a.q_len, x.a.q_rows, F), (unsigned)x.a.heads);
    return dev_launch((attention_f32_fwd<D>), blocks, ATT_THREADS, bytes, s, x);
}
template <int D> static cudaError_t run_bwd(const att &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    const size_t bytes = tile_bytes<D>(4);
    const dim3 blocks_q(att_blocks(a.q_off, a.n_seq, a.q_len, a.q_rows, F), (unsigned)a.heads);
    const dim3 blocks_k(att_blocks(a.k_off, a.n_seq, a.k_len, a.k_rows, F), (unsigned)a.heads);
    if (a.q_rows && (a.dq || a.drel_h || a.drel_w)) {
        cudaError_t e = att_allow(attention_f32_dq<D>, bytes);
        if (e == cudaSuccess) e = dev_launch((attention_f32_dq<D>), blocks_q, ATT_THREADS, bytes, s, x);
        if (e != cudaSuccess) return e;
    }
    if (!a.k_rows || (!a.dk && !a.dv)) return cudaSuccess;
    const cudaError_t e = att_allow(attention_f32_dkv<D>, bytes);
    if (e != cudaSuccess) return e;
    return dev_launch((attention_f32_dkv<D>), blocks_k, ATT_THREADS, bytes, s, x);
}

cudaError_t att_f32_fwd(const att &x, cudaStream_t s)
{
    return x.a.head_dim <= 32 ? run_fwd<32>(x, s) : x.a.head_dim <= 64 ? run_fwd<64>(x, s) : run_fwd<128>(x, s);
}
cudaError_t att_f32_bwd(const att &x, cudaStream_t s)
{
    return x.a.head_dim <= 32 ? run_bwd<32>(x, s) : x.a.head_dim <= 64 ? run_bwd<64>(x, s) : run_bwd<128>(x, s);
}
