/* Attention in bfloat16, backward: the scores are made again, tile by tile. dq by blocks of queries over tiles of keys;
 * dk and dv by blocks of keys over tiles of queries, with keys as the rows of the products, so that a probability goes
 * from one product to the next in registers. Nothing is added by two blocks: the order of sums is that of the tiles. */
#include "kernels/attention/attention.cuh"

/* o (a warp's 16 queries, hd) += dterms times the table, 64 rows of the table at a time; by the whole block, whose
 * first query is i0. DIAGONAL: neighbouring queries lie in different columns of the grid, and what one row of the table
 * takes of them lies on a diagonal; so 64 columns at a time go through shared memory, behind rows. */
template <int D, bool DIAGONAL>
static DEV_INLINE void through_table(const att &x, __nv_bfloat16 *rows, const float *table, const float *dterms,
                                     int grid, const int own[2], int i0, float o[D / 8][4])
{
    constexpr int PITCH = 68; /* a read's bank is 5g - 8t and a constant: none twice, unless a row of odd width ends */
    float *const columns = (float *)(rows + 64 * att_pitch<D>);
    const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4, t = lane % 4,
              hd = x.a.head_dim;
    for (int k0 = 0; k0 < (DIAGONAL ? grid : 1); k0 += 64) {
        const int n_columns = DIAGONAL && grid - k0 > 64 ? 64 : grid - k0;
        for (int w0 = 0; w0 < 2 * grid - 1; w0 += 64) {
            DEV_SYNC();
            if (DIAGONAL && w0 == 0) att_load_terms<1, PITCH>(columns, dterms, k0, n_columns, grid, i0, x.q_pad);
            att_load_table<D>(rows, table, w0, 2 * grid - 1, hd);
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
            for (int kk = 0; kk < 4; kk++) {
                unsigned f[4];
#pragma unroll
                for (int j = 0; j < 4; j++) { /* queries g, g + 8, g, g + 8; table rows 2t, 2t + 1, and 8 further */
                    __syncwarp();             /* lanes that read nothing go on with the others */
                    const int h = j % 2, i = 16 * warp + g + 8 * h,
                              k = own[h] + grid - 1 - k0 - (w0 + 16 * kk + 2 * t + j / 2 * 8);
                    const auto weight = [&](int column) {
                        const bool in = column >= 0 && column < n_columns && (DIAGONAL || i0 + i < x.q_pad);
                        const int64_t at = DIAGONAL ? column * PITCH + i : (int64_t)column * x.q_pad + i0 + i;
                        return in ? (DIAGONAL ? columns : dterms)[at] : 0.0f;
                    };
                    f[j] = att_pack(weight(k), weight(k - 1));
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
}

template <int D, int MT, int SHIFT, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_dq(const att x)
{
    constexpr bool REL = SHIFT > 0;
    constexpr int BQ = 64 * MT, PITCH = att_pitch<D>, TP = BQ + 4, STAGE = 2 * ATT_KEYS * PITCH;
    constexpr int ROWS = REL ? ATT_KEYS >> SHIFT : 1, WIDE = REL ? (1 << SHIFT) / 8 : 1; /* of a tile */
    /* WIDE_HELD: n-tiles of the rel_w bias kept in registers across the key loop. OWN_SUMS: d(rel_w) is accumulated in
     * thread-private shared memory instead of registers. */
    constexpr bool OWN_SUMS = SHIFT == 6 && (D == 128 || DROP);
    constexpr int WIDE_HELD = SHIFT != 6 || D == 16 ? WIDE : OWN_SUMS ? 0 : D == 80 ? 3 : 4;
    static_assert(!REL || MT == 1, "the terms and their gradients take the registers of a second 16 rows");
    SHARED_DYN(__nv_bfloat16, shared);
    __nv_bfloat16 *const qs = shared, *const ds = qs + BQ * PITCH, *const kv = ds + BQ * PITCH;
    float *const th = (float *)(kv + 2 * STAGE), *const own = th + 2 * ROWS * TP + 4 * threadIdx.x,
                 *const sums = own + WIDE * ATT_OWN;
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
    const float *const terms_h = REL ? x.terms_h + bh * a.grid_h * x.q_pad : nullptr;
    const float *const terms_w = REL ? x.terms_w + bh * a.grid_w * x.q_pad : nullptr;
    float *const dterms_h = REL ? x.dterms_h + bh * a.grid_h * x.q_pad : nullptr;
    float *const dterms_w = REL ? x.dterms_w + bh * a.grid_w * x.q_pad : nullptr;
    const auto load = [&](att_grid at, int stage) {
        const auto row = [&](int r) { return att_key<SHIFT>(a, at, r, p.nk); };
        att_load<D, ATT_KEYS>(kv + stage * STAGE, k, a.k_ld, hd, x.fast, row);
        att_load<D, ATT_KEYS>(kv + stage * STAGE + ATT_KEYS * PITCH, v, a.v_ld, hd, x.fast, row);
        if (REL) att_load_terms<MT, TP>(th + stage * ROWS * TP, terms_h, at.y, ROWS, a.grid_h, p.i0, x.q_pad);
    };
    const auto row_q = [&](int r) { return p.i0 + r < p.nq ? p.i0 + r : -1; };
    att_load<D, BQ>(qs, q, a.q_ld, hd, x.fast, row_q);
    att_load<D, BQ>(ds, dy, y_ld, hd, x.fast_y, row_q);
    const int row0 = warp * 16 * MT;
    float lse2[MT][2], delta[MT][2];
    for (int m = 0; m < MT; m++)
        for (int h = 0; h < 2; h++) {
            const int i = p.i0 + row0 + 16 * m + g + 8 * h;
            const int64_t at = (int64_t)p.head * a.q_rows + p.q0 + i;
            lse2[m][h] = i < p.nq ? x.lse2[at] : 0.0f;
            delta[m][h] = i < p.nq ? x.delta[at] : 0.0f;
        }
    constexpr bool HELD = D <= 80; /* else the fragments of q and dy are read again for every tile: registers */
    [[maybe_unused]] constexpr int UNROLL = (SHIFT == 6 && !OWN_SUMS) || D <= 64 ? 4 : 1; /* more would spill */
    const float factor = fabsf(x.scale2);
    unsigned qf[MT][HELD ? D / 16 : 1][4], df[MT][HELD ? D / 16 : 1][4];
    const auto frags = [&](int m, int kk, unsigned *fq, unsigned *fd) {
        att_frag_a<D>(fq, qs, row0 + 16 * m, 16 * kk);
        for (int i = 0; i < 4; i++) fq[i] ^= att_sign(x);
        att_frag_a<D>(fd, ds, row0 + 16 * m, 16 * kk);
    };
    float o[MT][D / 8][4] = {};
    att_dropout drop = {};
    if (DROP) drop = att_dropout_of(x, p);

    for (int x0 = 0; x0 < (SHIFT == 6 ? a.grid_w : 1); x0 += ATT_KEYS) { /* 64 columns of the grid */
        float wide[WIDE_HELD + 1][4], dwide[OWN_SUMS ? 1 : WIDE][4] = {}, dhigh[4] = {};
        if constexpr (REL) {
            att_width_terms<WIDE>(x, terms_w, x0, p.i0 + row0 + g, own);
#pragma unroll
            for (int n = 0; n < WIDE_HELD; n++) att_load_own(wide[n], own, n);
            for (int n = 0; n < (OWN_SUMS ? WIDE : 0); n++) att_store_own(sums, n, dwide[0]);
        }
        if (x0) DEV_SYNC(); /* the last tile's readers are done */
        if (p.nk) load({0, x0}, 0);
        dev_copy_commit();
        dev_copy_wait<0>();
        DEV_SYNC();
        if constexpr (HELD) {
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int kk = 0; kk < D / 16; kk++) frags(m, kk, qf[m][kk], df[m][kk]);
        }
        const int end = REL ? a.grid_h : p.nk;
        constexpr int STEP = REL ? ROWS : ATT_KEYS;
        int stage = 0;
        for (int from = 0; from < end; from += STEP, stage ^= 1) {
            const __nv_bfloat16 *const ks = kv + stage * STAGE, *const vs = ks + ATT_KEYS * PITCH;
            const att_grid at = REL ? att_grid{from, x0} : att_grid{0, from};
            if (from) {
                dev_copy_wait<0>();
                DEV_SYNC();
            }
            if (from + STEP < end) load(REL ? att_grid{from + STEP, x0} : att_grid{0, from + STEP}, stage ^ 1);
            dev_copy_commit();
            const bool ragged = !REL && from + ATT_KEYS > p.nk;
            float less[MT][2];
#pragma unroll
            for (int m = 0; m < MT; m++)
                for (int h = 0; h < 2; h++) less[m][h] = -lse2[m][h];
#pragma unroll UNROLL
            for (int n = 0; n < 8; n += 2) { /* 16 keys */
                float s[MT][2][4] = {}, ds_[MT][2][4] = {};
                if constexpr (REL) {
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        if (WIDE_HELD == 0 || (n + e) % WIDE >= WIDE_HELD)
                            att_load_own(s[0][e], own, (n + e) % WIDE);
                        else
                            for (int i = 0; i < 4; i++) s[0][e][i] = wide[(n + e) % WIDE][i];
                    }
                }
#pragma unroll
                for (int kk = 0; kk < D / 16; kk++) {
                    unsigned b[4], c[4];
                    att_frag_b<D>(b, ks, 8 * n, 16 * kk);
                    att_frag_b<D>(c, vs, 8 * n, 16 * kk);
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        const int f = HELD ? kk : 0;
                        if constexpr (!HELD) frags(m, kk, qf[m][0], df[m][0]);
                        dev_mma_bf16(s[m][0], qf[m][f], b);
                        dev_mma_bf16(s[m][1], qf[m][f], b + 2);
                        dev_mma_bf16(ds_[m][0], df[m][f], c);
                        dev_mma_bf16(ds_[m][1], df[m][f], c + 2);
                    }
                }
                unsigned w[MT][4];
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    if (REL && n % WIDE == 0) { /* the next row of the grid */
#pragma unroll
                        for (int h = 0; h < 2; h++)
                            less[m][h] =
                                fmaf(th[(stage * ROWS + n / WIDE) * TP + row0 + g + 8 * h], factor, -lse2[m][h]);
                    }
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const int c = 8 * (n + e) + 2 * t;
                        if (DROP) {
#pragma unroll
                            for (int h = 0; h < 2; h++) {
                                const int i = p.i0 + row0 + 16 * m + g + 8 * h;
                                const float2 f = att_kept_at<SHIFT>(x, drop, i, at, c, p.nk);
                                ds_[m][e][2 * h] *= f.x;
                                ds_[m][e][2 * h + 1] *= f.y;
                            }
                        }
#pragma unroll
                        for (int i = 0; i < 4; i++)
                            ds_[m][e][i] =
                                dev_exp2(fmaf(s[m][e][i], factor, less[m][i / 2])) * (ds_[m][e][i] - delta[m][i / 2]);
                    }
                    if (ragged) {
#pragma unroll
                        for (int i = 0; i < 8; i++)
                            if (att_key<SHIFT>(a, at, 8 * (n + i / 4) + 2 * t + i % 2, p.nk) < 0)
                                ds_[m][i / 4][i % 4] = 0;
                    }
                    if constexpr (REL) {
#pragma unroll
                        for (int e = 0; e < 2; e++) {
                            float own_sum[4], *const sum = OWN_SUMS ? own_sum : dwide[(n + e) % WIDE];
                            if (OWN_SUMS) att_load_own(sum, sums, n + e);
                            for (int i = 0; i < 4; i++) sum[i] += ds_[m][e][i];
                            if (OWN_SUMS) att_store_own(sums, n + e, sum);
                        }
                    }
                    att_frag_of(w[m], ds_[m]);
                }
                if constexpr (REL) { /* sums over a row of the grid: times ones in that row's column of eight */
                    const unsigned one = g == ((from + n / WIDE) & 7) ? 0x3f803f80u : 0u, ones[2] = {one, one};
                    dev_mma_bf16(dhigh, w[0], ones);
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
            if (REL && (((from + ROWS) & 7) == 0 || from + ROWS >= end)) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int ky = (from & ~7) + 2 * t + i % 2, row = p.i0 + row0 + g + i / 2 * 8;
                    float *const to = dterms_h + (int64_t)ky * x.q_pad + row;
                    if (ky < a.grid_h && row < x.q_pad) *to = x0 ? *to + dhigh[i] : dhigh[i];
                    dhigh[i] = 0;
                }
            }
        }
        if constexpr (REL) {
#pragma unroll
            for (int n = 0; n < (OWN_SUMS ? 0 : WIDE); n++) att_store_own(sums, n, dwide[n]);
#pragma unroll 1
            for (int n = 0; n < WIDE; n++) {
                float v[4];
                att_load_own(v, sums, n);
                for (int i = 0; i < 4; i++) {
                    const int kx = x0 + 8 * n + 2 * t + i % 2, row = p.i0 + row0 + g + i / 2 * 8;
                    if (kx < a.grid_w && row < x.q_pad) dterms_w[(int64_t)kx * x.q_pad + row] = v[i];
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
        for (int c = 0; c < D / 8; c++)
            for (int i = 0; i < 4; i++) o[m][c][i] *= x.scale;
    if constexpr (REL) {
        int own_y[2], own_x[2];
        for (int h = 0; h < 2; h++) {
            const int i = p.i0 + row0 + g + 8 * h;
            own_y[h] = i / a.grid_w;
            own_x[h] = i - own_y[h] * a.grid_w;
        }
        through_table<D, false>(x, kv, a.rel_h, dterms_h, a.grid_h, own_y, p.i0, o[0]);
        through_table<D, SHIFT == 6>(x, kv, a.rel_w, dterms_w, a.grid_w, own_x, p.i0, o[0]);
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

/* How many times 16 keys a warp takes, and whether it holds its fragments of v through the loop, and of k where it
 * takes 16: registers. */
template <int D, bool DROP> constexpr int dkv_rows = (D == 32 || D == 64) && !DROP ? 2 : 1;
template <int D, bool DROP> constexpr bool dkv_held = D <= 80 && !DROP;
template <int D, bool DROP> constexpr int dkv_stages = dkv_held<D, DROP> &&dkv_rows<D, DROP> == 1 ? 2 : 3;

template <int D, int MT, int SHIFT, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_dkv(const att x)
{
    constexpr bool REL = SHIFT > 0, HELD = dkv_held<D, DROP>;
    constexpr int BQ = 64, BK = 64 * MT, PITCH = att_pitch<D>, TP = BQ + 8, STAGE = 2 * BQ * PITCH;
    constexpr int WIDTH = REL ? 1 << SHIFT : 0, ROWS = REL ? BK >> SHIFT : 0, TERMS = (WIDTH + ROWS) * TP;
    [[maybe_unused]] constexpr int UNROLL = D <= 80 && MT == 1 && !DROP ? 4 : 1; /* more would spill */
    SHARED_DYN(__nv_bfloat16, shared);
    /* Two stages of q and dy. The k and v tiles that become register fragments are loaded into the second stage first.
     * K_HELD: number of k fragments kept in registers, as many as compile without spills. */
    constexpr int K_HELD = MT == 2 ? (SHIFT == 4 ? 3 : 1) : HELD ? D / 16 : 0, STAGES = dkv_stages<D, DROP>;
    __nv_bfloat16 *const tiles_at = shared, *const ks = tiles_at + (STAGES - 1) * STAGE,
                         *const vs = HELD && MT == 2 ? tiles_at + STAGE : ks + BK * PITCH;
    float *const stats = (float *)(tiles_at + STAGES * STAGE), *const terms = stats + 4 * BQ;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4,
              t = lane % 4;
    att_piece p; /* i0: of the keys */
    att_grid at = {};
    if constexpr (REL) { /* chunks of columns, in each of them tiles of rows */
        const int tiles_y = (a.grid_h + ROWS - 1) / ROWS, n = SHIFT == 6 ? (a.grid_w + 63) / 64 * tiles_y : tiles_y;
        p.seq = (int)blockIdx.x / n;
        p.head = (int)blockIdx.y;
        const int tile = (int)blockIdx.x - p.seq * n, chunk = tile / tiles_y;
        at = {(tile - chunk * tiles_y) * ROWS, chunk * 64};
        p.q0 = p.k0 = p.seq * a.q_len;
        p.nq = p.nk = a.q_len;
    } else {
        if (!att_find<BK>(a, true, p)) return;
        at.x = p.i0;
    }
    const int64_t y_ld = (int64_t)a.heads * hd, bh = (int64_t)p.seq * a.heads + p.head;
    const __nv_bfloat16 *const q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * hd;
    const __nv_bfloat16 *const dy = (const __nv_bfloat16 *)a.dy + p.q0 * y_ld + p.head * hd;
    const __nv_bfloat16 *const k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * hd;
    const __nv_bfloat16 *const v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * hd;
    const float *const lse2 = x.lse2 + (int64_t)p.head * a.q_rows + p.q0;
    const float *const delta = x.delta + (int64_t)p.head * a.q_rows + p.q0;
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
            att_load_terms<1, TP>(terms + stage * TERMS, terms_w, at.x, WIDTH, a.grid_w, i0, x.q_pad);
            att_load_terms<1, TP>(terms + stage * TERMS + WIDTH * TP, terms_h, at.y, ROWS, a.grid_h, i0, x.q_pad);
        }
    };
    const auto row_k = [&](int r) { return att_key<SHIFT>(a, at, r, p.nk); };
    att_load<D, BK>(ks, k, a.k_ld, hd, x.fast, row_k);
    att_load<D, BK>(vs, v, a.v_ld, hd, x.fast, row_k);
    if (p.nq) load(0, 0);
    dev_copy_commit();
    dev_copy_wait<0>();
    DEV_SYNC();
    const int row0 = 16 * MT * warp;
    const float factor = fabsf(x.scale2);
    unsigned kf[MT][K_HELD + 1][4], vf[MT][HELD ? D / 16 : 1][4]; /* the last of kf: scratch */
    const auto k_frag = [&](int m, int kk, unsigned f[4]) {
        att_frag_a<D>(f, ks, row0 + 16 * m, 16 * kk);
        for (int i = 0; i < 4; i++) f[i] ^= att_sign(x);
    };
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int kk = 0; kk < K_HELD; kk++) k_frag(m, kk, kf[m][kk]);
#pragma unroll
        for (int kk = 0; kk < (HELD ? D / 16 : 0); kk++) att_frag_a<D>(vf[m][kk], vs, row0 + 16 * m, 16 * kk);
    }
    float dk[MT][D / 8][4] = {}, dv[MT][D / 8][4] = {};
    att_dropout drop = {};
    if (DROP) drop = att_dropout_of(x, p);
    int key[MT][2] = {};
    if (DROP)
        for (int i = 0; i < 2 * MT; i++) key[i / 2][i % 2] = row_k(row0 + g + 8 * i);

    for (int i0 = 0; i0 < p.nq; i0 += BQ) {
        const int stage = i0 / BQ & 1;
        const __nv_bfloat16 *const qs = tiles_at + stage * STAGE, *const ds = qs + BQ * PITCH;
        const float *const stat = stats + stage * 2 * BQ + 2 * t;
        [[maybe_unused]] const float *const side = terms + stage * TERMS + ((row0 & (WIDTH - 1)) + g) * TP + 2 * t;
        [[maybe_unused]] const float *const up = terms + stage * TERMS + (WIDTH + (row0 >> SHIFT)) * TP + 2 * t;
        dev_copy_wait<0>();
        DEV_SYNC();
        if (i0 + BQ < p.nq) load(i0 + BQ, stage ^ 1);
        dev_copy_commit();
#pragma unroll UNROLL
        for (int n = 0; n < 8; n += 2) { /* 16 queries */
            float s[MT][2][4] = {}, dp[MT][2][4] = {};
            if constexpr (REL) {
#pragma unroll
                for (int m = 0; m < MT; m++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int column = SHIFT == 6 ? 16 * m + i % 2 * 8 : i % 2 * 8;
                        const uint2 w = dev_load8(side + column * TP + 8 * (n + i / 2));
                        s[m][i / 2][i % 2 * 2] = __uint_as_float(w.x);
                        s[m][i / 2][i % 2 * 2 + 1] = __uint_as_float(w.y);
                    }
            }
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) {
                unsigned b[4], c[4];
                att_frag_b<D>(b, qs, 8 * n, 16 * kk);
                att_frag_b<D>(c, ds, 8 * n, 16 * kk);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    const int fk = kk < K_HELD ? kk : K_HELD, fv = HELD ? kk : 0;
                    if (kk >= K_HELD) k_frag(m, kk, kf[m][fk]);
                    if (!HELD) att_frag_a<D>(vf[m][fv], vs, row0 + 16 * m, 16 * kk);
                    dev_mma_bf16(s[m][0], kf[m][fk], b);
                    dev_mma_bf16(s[m][1], kf[m][fk], b + 2);
                    dev_mma_bf16(dp[m][0], vf[m][fv], c);
                    dev_mma_bf16(dp[m][1], vf[m][fv], c + 2);
                }
            }
            unsigned w[MT][4], dw[MT][4];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint2 l = dev_load8(stat + 8 * (n + e)), d = dev_load8(stat + BQ + 8 * (n + e));
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    float less[2] = {-__uint_as_float(l.x), -__uint_as_float(l.y)};
                    if constexpr (REL) {
                        const uint2 h = dev_load8(up + (SHIFT == 6 ? 0 : m) * TP + 8 * (n + e));
                        less[0] = fmaf(__uint_as_float(h.x), factor, less[0]);
                        less[1] = fmaf(__uint_as_float(h.y), factor, less[1]);
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float prob = dev_exp2(fmaf(s[m][e][i], factor, less[i % 2]));
                        float kept = 1, &dpi = dp[m][e][i];
                        if (DROP) kept = att_kept(x, drop, i0 + 8 * (n + e) + 2 * t + i % 2, key[m][i / 2]);
                        s[m][e][i] = DROP ? prob * kept : prob;
                        dpi = prob * ((DROP ? dpi * kept : dpi) - __uint_as_float(i % 2 ? d.y : d.x));
                    }
                }
            }
#pragma unroll
            for (int m = 0; m < MT; m++) {
                att_frag_of(w[m], s[m]);
                att_frag_of(dw[m], dp[m]);
            }
#pragma unroll
            for (int c = 0; c < D / 8; c += 2) {
                unsigned b[4];
                att_frag_b_trans<D>(b, ds, 8 * n, 8 * c);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    dev_mma_bf16(dv[m][c], w[m], b);
                    dev_mma_bf16(dv[m][c + 1], w[m], b + 2);
                }
                att_frag_b_trans<D>(b, qs, 8 * n, 8 * c);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    dev_mma_bf16(dk[m][c], dw[m], b);
                    dev_mma_bf16(dk[m][c + 1], dw[m], b + 2);
                }
            }
        }
    }
    DEV_SYNC();
#pragma unroll
    for (int m = 0; m < MT; m++) {
        const auto row = [&](int r) { return row_k(row0 + 16 * m + r); };
        __nv_bfloat16 *const out = tiles_at + (row0 + 16 * m) * PITCH;
        if (a.dk)
            att_store<D>(out, dk[m], x.scale, x.scale, (__nv_bfloat16 *)a.dk + p.k0 * a.k_ld + p.head * hd, a.k_ld, hd,
                         x.fast, a.beta_k, row);
        if (a.dv)
            att_store<D>(out, dv[m], 1.0f, 1.0f, (__nv_bfloat16 *)a.dv + p.k0 * a.v_ld + p.head * hd, a.v_ld, hd,
                         x.fast, a.beta_v, row);
    }
}

struct bwd_pass {
    template <int D, int SHIFT, bool DROP> static cudaError_t run(const att &x, cudaStream_t s)
    {
        const struct k_attention &a = x.a;
        if (a.q_rows && (a.dq || a.drel_h || a.drel_w)) {
            constexpr int MT = (D == 64 || D == 80) && !SHIFT && !DROP ? 2 : 1, BQ = 64 * MT;
            size_t bytes = (size_t)(2 * BQ + 4 * ATT_KEYS) * att_pitch<D> * 2;
            if (SHIFT) bytes += (size_t)2 * (ATT_KEYS >> SHIFT) * (BQ + 4) * 4 + 2 * BQ * (4 << SHIFT);
            cudaError_t e = att_allow(attention_dq<D, MT, SHIFT, DROP>, bytes);
            if (e == cudaSuccess)
                e = dev_launch((attention_dq<D, MT, SHIFT, DROP>),
                               dim3(att_blocks(a.q_off, a.n_seq, a.q_len, a.q_rows, BQ), (unsigned)a.heads),
                               ATT_THREADS, bytes, s, x);
            if (e != cudaSuccess) return e;
        }
        if (!a.k_rows || (!a.dk && !a.dv)) return cudaSuccess;
        constexpr int MT = dkv_rows<D, DROP>, BK = 64 * MT, ROWS = BK >> SHIFT;
        size_t bytes = (size_t)(dkv_stages<D, DROP> * 128) * att_pitch<D> * 2 + 4 * 64 * 4;
        if (SHIFT) bytes += (size_t)2 * ((1 << SHIFT) + ROWS) * (64 + 8) * 4;
        const cudaError_t e = att_allow(attention_dkv<D, MT, SHIFT, DROP>, bytes);
        if (e != cudaSuccess) return e;
        const unsigned blocks =
            SHIFT ? (unsigned)(a.n_seq * ((a.grid_h + ROWS - 1) / ROWS) * (SHIFT == 6 ? (a.grid_w + 63) / 64 : 1))
                  : att_blocks(a.k_off, a.n_seq, a.k_len, a.k_rows, BK);
        return dev_launch((attention_dkv<D, MT, SHIFT, DROP>), dim3(blocks, (unsigned)a.heads), ATT_THREADS, bytes, s,
                          x);
    }
};

cudaError_t att_bf16_bwd(const att &x, cudaStream_t s)
{
    return att_by_shape<bwd_pass>(x, s);
}
