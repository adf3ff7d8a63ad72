/* Attention in bfloat16, backward: the scores are made again, tile by tile. dq by blocks of queries over tiles of keys;
 * dk and dv by blocks of keys over tiles of queries, with keys as the rows of the products, so that a probability goes
 * from one product to the next in registers. Nothing is added by two blocks: the order of sums is that of the tiles. */
#include "kernels/attention.cuh"

/* The gradients of what a warp's 16 queries were given for the grid: dterms += over a tile. ds: the natural scores'. */
static DEV_INLINE void sum_height(const att &x, float *dh, att_grid at, const float rows[8][2], int i0, int nq)
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4, each = (1 << x.shift) / 8;
    float r[8][2];
    for (int n = 0; n < 8; n++) r[n][0] = rows[n][0], r[n][1] = rows[n][1];
#pragma unroll
    for (int d = 1; d < 8; d *= 2) /* n-tiles of one row of the grid */
        if (d < each) {
#pragma unroll
            for (int n = 0; n < 8; n += 2 * d)
                for (int h = 0; h < 2; h++) r[n][h] += r[n + d][h];
        }
#pragma unroll
    for (int n = 0; n < 8; n++) {
        if (n % each) continue;
        for (int h = 0; h < 2; h++) {
            float v = r[n][h];
            v += __shfl_xor_sync(DEV_FULL, v, 1);
            v += __shfl_xor_sync(DEV_FULL, v, 2);
            const int ky = at.y + n / each, i = i0 + g + 8 * h;
            if (t || ky >= x.a.grid_h || i >= nq) continue;
            float *const to = dh + (int64_t)ky * x.q_pad + i;
            *to = at.x ? *to + v : v;
        }
    }
}
static DEV_INLINE void keep_width(const att &x, float *dw, int at_x, float s[8][4], int i0, int nq)
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4, each = (1 << x.shift) / 8;
#pragma unroll
    for (int d = 4; d > 0; d /= 2) /* rows of the grid that share a tile */
        if (d >= each) {
#pragma unroll
            for (int n = 0; n < d; n++)
                for (int i = 0; i < 4; i++) s[n][i] += s[n + d][i];
        }
#pragma unroll
    for (int n = 0; n < 8; n++) {
        if (n >= each) continue;
        for (int i = 0; i < 4; i++) {
            const int kx = at_x + 8 * n + 2 * t + i % 2, q = i0 + g + i / 2 * 8;
            if (kx < x.a.grid_w && q < nq) dw[(int64_t)kx * x.q_pad + q] = s[n][i];
            s[n][i] = 0;
        }
    }
#pragma unroll
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++) s[n][i] = 0;
}

/* o (16 queries, hd) += dterms times the table, 64 rows of the table at a time; by the whole block. */
template <int D>
static DEV_INLINE void through_table(const att &x, __nv_bfloat16 *rows, const float *table, const float *dterms,
                                     int grid, const int own[2], int i0, int nq, float o[D / 8][4])
{
    const int lane = (int)threadIdx.x % DEV_WARP, g = lane / 4, t = lane % 4, hd = x.a.head_dim;
    for (int w0 = 0; w0 < 2 * grid - 1; w0 += 64) {
        DEV_SYNC();
        att_load_table<D>(rows, table, w0, 2 * grid - 1, hd);
        DEV_SYNC();
        for (int kk = 0; kk < 4; kk++) {
            unsigned f[4];
#pragma unroll
            for (int j = 0; j < 4; j++) { /* queries g, g + 8, g, g + 8; table rows 2t, 2t + 1, and 8 further */
                const int h = j % 2, k = own[h] + grid - 1 - (w0 + 16 * kk + 2 * t + j / 2 * 8), i = i0 + g + 8 * h;
                const float *const from = dterms + (int64_t)k * x.q_pad + i;
                const bool in = i < nq;
                f[j] = att_pack(in && k >= 0 && k < grid ? from[0] : 0.0f,
                                in && k - 1 >= 0 && k - 1 < grid ? from[-x.q_pad] : 0.0f);
            }
#pragma unroll
            for (int n = 0; n < D / 8; n += 2) {
                unsigned b[4];
                att_frag_b_trans<D>(b, rows, 16 * kk, 8 * n);
                dev_mma_bf16(o[n], f, b);
                dev_mma_bf16(o[n + 1], f, b + 2);
            }
        }
    }
}

template <int D, int MT, bool REL, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_dq(const att x)
{
    constexpr int BQ = 64 * MT, PITCH = att_pitch<D>, TP = BQ + 4, STAGE = 2 * ATT_KEYS * PITCH;
    static_assert(!REL || MT == 1, "the terms' gradients take the registers of a second 16 rows");
    SHARED_DYN(__nv_bfloat16, shared);
    __nv_bfloat16 *const qs = shared, *const ds = qs + BQ * PITCH, *const kv = ds + BQ * PITCH;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4,
              t = lane % 4;
    att_piece p;
    if (!att_find<BQ>(a, false, p)) return;
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const __nv_bfloat16 *const q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * hd;
    const __nv_bfloat16 *const dy = (const __nv_bfloat16 *)a.dy + p.q0 * y_ld + p.head * hd;
    const __nv_bfloat16 *const k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * hd;
    const __nv_bfloat16 *const v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * hd;
    const int tiles = att_key_tiles<REL>(x, p.nk);
    const int width = 1 << x.shift, per = ATT_KEYS >> x.shift;
    float *const tw = (float *)(kv + 2 * STAGE), *const th = tw + (REL ? width * TP : 0);
    const float *const terms_h = REL ? x.terms_h + bh * a.grid_h * x.q_pad : nullptr;
    const float *const terms_w = REL ? x.terms_w + bh * a.grid_w * x.q_pad : nullptr;
    float *const dterms_h = REL ? x.dterms_h + bh * a.grid_h * x.q_pad : nullptr;
    float *const dterms_w = REL ? x.dterms_w + bh * a.grid_w * x.q_pad : nullptr;
    const auto load = [&](int tile, int stage) {
        const att_grid at = REL ? att_grid_at(x, tile) : att_grid{0, 0};
        const auto row = [&](int r) { return att_key<REL>(x, tile, at, r, p.nk); };
        att_load<D, ATT_KEYS>(kv + stage * STAGE, k, a.k_ld, hd, x.fast, row);
        att_load<D, ATT_KEYS>(kv + stage * STAGE + ATT_KEYS * PITCH, v, a.v_ld, hd, x.fast, row);
        if (REL) att_load_terms(th + stage * per * TP, TP, terms_h, at.y, per, a.grid_h, p.i0, BQ, x.q_pad);
    };
    const auto row_q = [&](int r) { return p.i0 + r < p.nq ? p.i0 + r : -1; };
    att_load<D, BQ>(qs, q, a.q_ld, hd, x.fast, row_q);
    att_load<D, BQ>(ds, dy, y_ld, hd, x.fast_y, row_q);
    if (REL) att_load_terms(tw, TP, terms_w, 0, width, a.grid_w, p.i0, BQ, x.q_pad);
    if (tiles) load(0, 0);
    dev_copy_commit();
    const int row0 = warp * 16 * MT;
    float lse2[MT][2], delta[MT][2];
    for (int m = 0; m < MT; m++)
        for (int h = 0; h < 2; h++) {
            const int i = p.i0 + row0 + 16 * m + g + 8 * h;
            const int64_t at = (int64_t)p.head * a.q_rows + p.q0 + i;
            lse2[m][h] = i < p.nq ? x.lse2[at] : 0.0f;
            delta[m][h] = i < p.nq ? x.delta[at] : 0.0f;
        }
    dev_copy_wait<0>();
    DEV_SYNC();
    [[maybe_unused]] constexpr int UNROLL =
        REL || D <= 64 ? 4 : 1;    /* with REL sums are registers by n; more would spill */
    constexpr bool HELD = D <= 80; /* else the fragments of q and dy are read again for every tile: registers */
    unsigned qf[MT][HELD ? D / 16 : 1][4], df[MT][HELD ? D / 16 : 1][4];
    if constexpr (HELD) {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) {
                att_frag_a<D>(qf[m][kk], qs, row0 + 16 * m, 16 * kk);
                att_frag_a<D>(df[m][kk], ds, row0 + 16 * m, 16 * kk);
            }
    }
    float o[MT][D / 8][4] = {}, dw[REL ? 8 : 1][4] = {};
    att_dropout drop = {};
    if (DROP) drop = att_dropout_of(x, p);

    for (int tile = 0; tile < tiles; tile++) {
        const int stage = tile & 1;
        const __nv_bfloat16 *const ks = kv + stage * STAGE, *const vs = ks + ATT_KEYS * PITCH;
        const att_grid at = REL ? att_grid_at(x, tile) : att_grid{0, 0};
        if (tile) {
            dev_copy_wait<0>();
            DEV_SYNC();
        }
        if (tile + 1 < tiles) load(tile + 1, stage ^ 1);
        dev_copy_commit();
        if (REL && x.chunks > 1 && tile && tile % x.tiles_y == 0) { /* the next 64 columns of the grid */
            if constexpr (REL) keep_width(x, dterms_w, at.x - ATT_KEYS, dw, p.i0 + row0, p.nq);
            att_load_terms(tw, TP, terms_w, at.x, width, a.grid_w, p.i0, BQ, x.q_pad);
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
        }
        const bool ragged = REL ? at.x + width > a.grid_w || at.y + per > a.grid_h : (tile + 1) * ATT_KEYS > p.nk;
        float heights[REL ? 8 : 1][2];
#pragma unroll UNROLL
        for (int n = 0; n < 8; n += 2) { /* 16 keys */
            float s[MT][2][4] = {}, ds_[MT][2][4] = {};
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) {
                unsigned b[4], c[4];
                att_frag_b<D>(b, ks, 8 * n, 16 * kk);
                att_frag_b<D>(c, vs, 8 * n, 16 * kk);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    const int f = HELD ? kk : 0;
                    if constexpr (!HELD) {
                        att_frag_a<D>(qf[m][0], qs, row0 + 16 * m, 16 * kk);
                        att_frag_a<D>(df[m][0], ds, row0 + 16 * m, 16 * kk);
                    }
                    dev_mma_bf16(s[m][0], qf[m][f], b);
                    dev_mma_bf16(s[m][1], qf[m][f], b + 2);
                    dev_mma_bf16(ds_[m][0], df[m][f], c);
                    dev_mma_bf16(ds_[m][1], df[m][f], c + 2);
                }
            }
            unsigned w[MT][4];
#pragma unroll
            for (int m = 0; m < MT; m++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int c = 8 * (n + e) + 2 * t;
                    float plus[4] = {};
                    if (REL) {
                        const float *const up = th + (stage * per + (8 * (n + e) >> x.shift)) * TP + row0 + g;
                        const float *const side = tw + ((8 * (n + e) & (width - 1)) + 2 * t) * TP + row0 + g;
#pragma unroll
                        for (int i = 0; i < 4; i++) plus[i] = up[i / 2 * 8] + side[i % 2 * TP + i / 2 * 8];
                    }
                    if (DROP) {
#pragma unroll
                        for (int h = 0; h < 2; h++) {
                            const int i = p.i0 + row0 + 16 * m + g + 8 * h;
                            float2 f;
                            if (REL)
                                f = make_float2(att_kept(x, drop, i, att_key<REL>(x, tile, at, c, p.nk)),
                                                att_kept(x, drop, i, att_key<REL>(x, tile, at, c + 1, p.nk)));
                            else
                                f = att_kept2(x, drop, i, tile * ATT_KEYS + c);
                            ds_[m][e][2 * h] *= f.x;
                            ds_[m][e][2 * h + 1] *= f.y;
                        }
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float less = REL ? plus[i] - lse2[m][i / 2] : -lse2[m][i / 2];
                        ds_[m][e][i] = dev_exp2(fmaf(s[m][e][i], x.scale2, less)) * (ds_[m][e][i] - delta[m][i / 2]);
                    }
                }
                if (ragged) {
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        if (att_key<REL>(x, tile, at, 8 * (n + i / 4) + 2 * t + i % 2, p.nk) < 0)
                            ds_[m][i / 4][i % 4] = 0;
                }
                if constexpr (REL) {
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        for (int i = 0; i < 4; i++) dw[n + e][i] += ds_[m][e][i];
                        heights[n + e][0] = ds_[m][e][0] + ds_[m][e][1];
                        heights[n + e][1] = ds_[m][e][2] + ds_[m][e][3];
                    }
                }
                att_frag_of(w[m], ds_[m]);
            }
#pragma unroll
            for (int c = 0; c < D / 8; c += 2) {
                unsigned b[4];
                att_frag_b_trans<D>(b, ks, 8 * n, 8 * c);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    dev_mma_bf16(o[m][c], w[m], b);
                    dev_mma_bf16(o[m][c + 1], w[m], b + 2);
                }
            }
        }
        if constexpr (REL) sum_height(x, dterms_h, at, heights, p.i0 + row0, p.nq);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
        for (int c = 0; c < D / 8; c++)
            for (int i = 0; i < 4; i++) o[m][c][i] *= x.scale;
    if constexpr (REL) {
        keep_width(x, dterms_w, (x.chunks - 1) * ATT_KEYS, dw, p.i0 + row0, p.nq);
        int own_y[2], own_x[2];
        for (int h = 0; h < 2; h++) {
            const int i = p.i0 + row0 + g + 8 * h;
            own_y[h] = i / a.grid_w;
            own_x[h] = i - own_y[h] * a.grid_w;
        }
        through_table<D>(x, kv, a.rel_h, dterms_h, a.grid_h, own_y, p.i0 + row0, p.nq, o[0]);
        through_table<D>(x, kv, a.rel_w, dterms_w, a.grid_w, own_x, p.i0 + row0, p.nq, o[0]);
    }
    if (!a.dq) return;
    __nv_bfloat16 *const dq = (__nv_bfloat16 *)a.dq + p.q0 * a.q_ld + p.head * hd;
#pragma unroll
    for (int m = 0; m < MT; m++) {
        const int first = p.i0 + row0 + 16 * m;
        att_store<D>(qs + (row0 + 16 * m) * PITCH, o[m], 1.0f, 1.0f, dq, a.q_ld, hd, x.fast, a.beta_q,
                     [&](int r) { return first + r < p.nq ? first + r : -1; });
    }
}

/* Whether a warp holds its fragments of k and v through the loop, or reads them again: registers. */
template <int D, bool DROP> constexpr bool dkv_held = D <= 80 && !DROP;

template <int D, bool REL, bool DROP> __global__ void __launch_bounds__(ATT_THREADS, 1) attention_dkv(const att x)
{
    constexpr int BQ = 64, PITCH = att_pitch<D>, TP = BQ + 8, STAGE = 2 * BQ * PITCH;
    SHARED_DYN(__nv_bfloat16, shared);
    constexpr bool HELD = dkv_held<D, DROP>;
    [[maybe_unused]] constexpr int UNROLL = D <= 80 && !DROP ? 4 : 1; /* more would spill */
    /* Two stages of q and dy. k and v lie in the second until it is needed, where their fragments are held. */
    __nv_bfloat16 *const tiles_at = shared, *const ks = tiles_at + (HELD ? 1 : 2) * STAGE,
                         *const vs = ks + ATT_KEYS * PITCH;
    float *const stats = (float *)(tiles_at + (HELD ? 2 : 3) * STAGE), *const terms = stats + 4 * BQ;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4,
              t = lane % 4;
    att_piece p; /* i0: of the keys */
    int tile = 0;
    if constexpr (REL) { /* tiles as dq has them */
        const int n = x.chunks * x.tiles_y;
        p.seq = (int)blockIdx.x / n;
        p.head = (int)blockIdx.y;
        tile = (int)blockIdx.x - p.seq * n;
        p.q0 = p.k0 = p.seq * a.q_len;
        p.nq = p.nk = a.q_len;
    } else {
        if (!att_find<ATT_KEYS>(a, true, p)) return;
        tile = p.i0 / ATT_KEYS;
    }
    const att_grid at = REL ? att_grid_at(x, tile) : att_grid{0, 0};
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const __nv_bfloat16 *const q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * hd;
    const __nv_bfloat16 *const dy = (const __nv_bfloat16 *)a.dy + p.q0 * y_ld + p.head * hd;
    const __nv_bfloat16 *const k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * hd;
    const __nv_bfloat16 *const v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * hd;
    const float *const lse2 = x.lse2 + (int64_t)p.head * a.q_rows + p.q0;
    const float *const delta = x.delta + (int64_t)p.head * a.q_rows + p.q0;
    const int width = 1 << x.shift, per = ATT_KEYS >> x.shift, terms_stage = (width + per) * TP;
    const float *const terms_h = REL ? x.terms_h + bh * a.grid_h * x.q_pad : nullptr;
    const float *const terms_w = REL ? x.terms_w + bh * a.grid_w * x.q_pad : nullptr;
    const auto load = [&](int i0, int stage) {
        const auto row = [&](int r) { return i0 + r < p.nq ? i0 + r : -1; };
        att_load<D, BQ>(tiles_at + stage * STAGE, q, a.q_ld, hd, x.fast, row);
        att_load<D, BQ>(tiles_at + stage * STAGE + BQ * PITCH, dy, y_ld, hd, x.fast_y, row);
        const int r = (int)threadIdx.x % BQ;
        const float *const from = (int)threadIdx.x / BQ ? delta : lse2;
        const bool in = i0 + r < p.nq;
        dev_copy_async4(stats + stage * 2 * BQ + threadIdx.x, in ? from + i0 + r : from, in ? 4 : 0);
        if (REL) {
            att_load_terms(terms + stage * terms_stage, TP, terms_w, at.x, width, a.grid_w, i0, BQ, x.q_pad);
            att_load_terms(terms + stage * terms_stage + width * TP, TP, terms_h, at.y, per, a.grid_h, i0, BQ, x.q_pad);
        }
    };
    const auto row_k = [&](int r) { return att_key<REL>(x, tile, at, r, p.nk); };
    att_load<D, ATT_KEYS>(ks, k, a.k_ld, hd, x.fast, row_k);
    att_load<D, ATT_KEYS>(vs, v, a.v_ld, hd, x.fast, row_k);
    if (p.nq) load(0, 0);
    dev_copy_commit();
    dev_copy_wait<0>();
    DEV_SYNC();
    const int row0 = 16 * warp;
    unsigned kf[HELD ? D / 16 : 1][4], vf[HELD ? D / 16 : 1][4];
    if constexpr (HELD) {
#pragma unroll
        for (int kk = 0; kk < D / 16; kk++) {
            att_frag_a<D>(kf[kk], ks, row0, 16 * kk);
            att_frag_a<D>(vf[kk], vs, row0, 16 * kk);
        }
    }
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    att_dropout drop = {};
    if (DROP) drop = att_dropout_of(x, p);
    int key[2] = {};
    if (DROP)
        for (int h = 0; h < 2; h++) key[h] = row_k(row0 + g + 8 * h);

    for (int i0 = 0; i0 < p.nq; i0 += BQ) {
        const int stage = i0 / BQ & 1;
        const __nv_bfloat16 *const qs = tiles_at + stage * STAGE, *const ds = qs + BQ * PITCH;
        const float *const stat = stats + stage * 2 * BQ;
        dev_copy_wait<0>();
        DEV_SYNC();
        if (i0 + BQ < p.nq) load(i0 + BQ, stage ^ 1);
        dev_copy_commit();
#pragma unroll UNROLL
        for (int n = 0; n < 8; n += 2) { /* 16 queries */
            float s[2][4] = {}, dp[2][4] = {};
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) {
                unsigned b[4], c[4];
                const int f = HELD ? kk : 0;
                if constexpr (!HELD) {
                    att_frag_a<D>(kf[0], ks, row0, 16 * kk);
                    att_frag_a<D>(vf[0], vs, row0, 16 * kk);
                }
                att_frag_b<D>(b, qs, 8 * n, 16 * kk);
                att_frag_b<D>(c, ds, 8 * n, 16 * kk);
                dev_mma_bf16(s[0], kf[f], b);
                dev_mma_bf16(s[1], kf[f], b + 2);
                dev_mma_bf16(dp[0], vf[f], c);
                dev_mma_bf16(dp[1], vf[f], c + 2);
            }
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int c = 8 * (n + e) + 2 * t;
                const uint2 l = dev_load8(stat + c), d = dev_load8(stat + BQ + c);
                float plus[4] = {};
                if (REL) {
                    const float *const side = terms + stage * terms_stage + c;
                    const float *const up = side + width * TP;
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        const int r = row0 + g + 8 * h;
                        const uint2 pw = dev_load8(side + (r & (width - 1)) * TP),
                                    ph = dev_load8(up + (r >> x.shift) * TP);
                        plus[2 * h] = __uint_as_float(pw.x) + __uint_as_float(ph.x);
                        plus[2 * h + 1] = __uint_as_float(pw.y) + __uint_as_float(ph.y);
                    }
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float less = plus[i] - __uint_as_float(i % 2 ? l.y : l.x);
                    const float prob = dev_exp2(fmaf(s[e][i], x.scale2, less));
                    float kept = 1;
                    if (DROP) kept = att_kept(x, drop, i0 + c + i % 2, key[i / 2]);
                    s[e][i] = DROP ? prob * kept : prob;
                    dp[e][i] = prob * ((DROP ? dp[e][i] * kept : dp[e][i]) - __uint_as_float(i % 2 ? d.y : d.x));
                }
            }
            unsigned w[4], dw[4];
            att_frag_of(w, s);
            att_frag_of(dw, dp);
#pragma unroll
            for (int c = 0; c < D / 8; c += 2) {
                unsigned b[4];
                att_frag_b_trans<D>(b, ds, 8 * n, 8 * c);
                dev_mma_bf16(dv[c], w, b);
                dev_mma_bf16(dv[c + 1], w, b + 2);
                att_frag_b_trans<D>(b, qs, 8 * n, 8 * c);
                dev_mma_bf16(dk[c], dw, b);
                dev_mma_bf16(dk[c + 1], dw, b + 2);
            }
        }
    }
    DEV_SYNC();
    const auto row = [&](int r) { return row_k(row0 + r); };
    __nv_bfloat16 *const out = tiles_at + row0 * PITCH;
    if (a.dk)
        att_store<D>(out, dk, x.scale, x.scale, (__nv_bfloat16 *)a.dk + p.k0 * a.k_ld + p.head * hd, a.k_ld, hd, x.fast,
                     a.beta_k, row);
    if (a.dv)
        att_store<D>(out, dv, 1.0f, 1.0f, (__nv_bfloat16 *)a.dv + p.k0 * a.v_ld + p.head * hd, a.v_ld, hd, x.fast,
                     a.beta_v, row);
}

struct bwd_pass {
    template <int D, int MT, bool REL, bool DROP> static cudaError_t run(const att &x, cudaStream_t s)
    {
        const struct k_attention &a = x.a;
        const int width = 1 << x.shift, per = ATT_KEYS >> x.shift;
        if (a.q_rows && (a.dq || a.drel_h || a.drel_w)) {
            constexpr int BQ = 64 * MT;
            size_t bytes = (size_t)(2 * BQ + 4 * ATT_KEYS) * att_pitch<D> * 2;
            if (REL) bytes += (size_t)(width + 2 * per) * (BQ + 4) * 4;
            cudaError_t e = att_allow(attention_dq<D, MT, REL, DROP>, bytes);
            if (e == cudaSuccess)
                e = dev_launch((attention_dq<D, MT, REL, DROP>),
                               dim3(att_blocks(a.q_off, a.n_seq, a.q_len, a.q_rows, BQ), (unsigned)a.heads),
                               ATT_THREADS, bytes, s, x);
            if (e != cudaSuccess) return e;
        }
        if (!a.k_rows || (!a.dk && !a.dv)) return cudaSuccess;
        size_t bytes = (size_t)((dkv_held<D, DROP> ? 4 : 6) * 64) * att_pitch<D> * 2 + 4 * 64 * 4;
        if (REL) bytes += (size_t)2 * (width + per) * (64 + 8) * 4;
        const cudaError_t e = att_allow(attention_dkv<D, REL, DROP>, bytes);
        if (e != cudaSuccess) return e;
        const unsigned blocks = REL ? (unsigned)(a.n_seq * x.chunks * x.tiles_y)
                                    : att_blocks(a.k_off, a.n_seq, a.k_len, a.k_rows, ATT_KEYS);
        return dev_launch((attention_dkv<D, REL, DROP>), dim3(blocks, (unsigned)a.heads), ATT_THREADS, bytes, s, x);
    }
};

cudaError_t att_bf16_bwd(const att &x, cudaStream_t s)
{
    return att_by_shape<bwd_pass, 1>(x, s);
}
