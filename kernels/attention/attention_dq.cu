/* Attention in bfloat16, backward pass for q (FlashAttention-2, Dao 2023, algorithm 2): recomputes the scores tile by
 * tile. A block takes BLOCK_Q = 64 MT queries of a head, a warp 16 MT of them, and walks over tiles of 64 keys, 16 keys
 * at a time. It also computes the gradients of the relative position biases. No atomics: sums are in the order of the
 * tiles. */
#include "kernels/attention/attention_tile.cuh"

/* Sizes of one instantiation, and its choice of data held in registers, made so that no instantiation spills. */
template <int D_, int MT_, int SHIFT_, bool DROP_> struct dq_config {
    static constexpr int D = D_, MT = MT_, SHIFT = SHIFT_;
    static constexpr bool DROP = DROP_, REL = SHIFT > 0;
    static constexpr int BLOCK_Q = 64 * MT, PITCH = att_pitch<D>, STAGE = 2 * ATT_KEYS * PITCH,
                         BIAS_PITCH = BLOCK_Q + 4;
    static constexpr int ROWS = REL ? ATT_KEYS >> SHIFT : 1; /* grid rows in a key tile */
    static constexpr int NW = REL ? (1 << SHIFT) / 8 : 1;    /* n-tiles of one grid row */
    static constexpr int STEP = REL ? ROWS : ATT_KEYS;       /* of the loop over key tiles: grid rows, or keys */
    static constexpr bool FRAGS_IN_REGS = D <= 80;           /* Q and dO; else read again for every tile */
    static constexpr bool DBIAS_W_IN_SHARED =
        SHIFT == 6 && (D == 128 || DROP); /* accumulated there, not in registers */
    /* n-tiles of bias_w kept in registers through the loop over keys; the others are read again from shared memory. */
    static constexpr int BIAS_W_IN_REGS = SHIFT != 6 || D == 16 ? NW : DBIAS_W_IN_SHARED ? 0 : D == 80 ? 3 : 4;
    static constexpr int UNROLL = (SHIFT == 6 && !DBIAS_W_IN_SHARED) || D <= 64 ? 4 : 1; /* of the loop over 16 keys */
    static_assert(!REL || MT == 1, "the biases and their gradients take the registers of a second m-tile");
};

/* The tensors of a block, the pointers at the first row of its sequence and the first column of its head; its shared
 * memory; and the position of this thread: rows row0 + 16 m + g and row0 + 16 m + g + 8 of the block's queries. */
template <class C> struct dq_block {
    const att_params &x;
    att_coord p;
    const __nv_bfloat16 *q, *dy, *k, *v; /* (nq, q_ld), (nq, y_ld), (nk, k_ld), (nk, v_ld): hd columns of each */
    const float *bias_h, *bias_w;        /* (grid_h, q_pad), (grid_w, q_pad) */
    float *dbias_h, *dbias_w;            /* their gradients */
    int64_t y_ld;
    /* Shared memory in this order; dq_pass::run computes its size. */
    __nv_bfloat16 *qs, *dos; /* (BLOCK_Q, PITCH): Q, dO */
    __nv_bfloat16 *kv;       /* (2 stages, {K, V}, ATT_KEYS, PITCH) */
    float *bias_hs;          /* (2 stages, ROWS, BIAS_PITCH) */
    float *bias_ws;          /* thread-private (NW, 4) */
    float *dbias_ws;         /* thread-private (NW, 4) */
    int g, t, row0;          /* lane / 4, lane % 4, first row of the warp */
    float factor;            /* |scale| log2(e) */
    att_dropout drop;

    DEV_INLINE dq_block(const att_params &x_, const att_coord &p_, __nv_bfloat16 *shared) : x(x_), p(p_), drop{}
    {
        const struct k_attention &a = x.a;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, hd = a.head_dim;
        const int64_t bh = (int64_t)p.seq * a.heads + p.head;
        g = lane / 4, t = lane % 4, row0 = warp * 16 * C::MT;
        y_ld = (int64_t)a.heads * hd;
        q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * hd;
        dy = (const __nv_bfloat16 *)a.dy + p.q0 * y_ld + p.head * hd;
        k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * hd;
        v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * hd;
        bias_h = C::REL ? x.bias_h + bh * a.grid_h * x.q_pad : nullptr;
        bias_w = C::REL ? x.bias_w + bh * a.grid_w * x.q_pad : nullptr;
        dbias_h = C::REL ? x.dbias_h + bh * a.grid_h * x.q_pad : nullptr;
        dbias_w = C::REL ? x.dbias_w + bh * a.grid_w * x.q_pad : nullptr;
        qs = shared, dos = qs + C::BLOCK_Q * C::PITCH, kv = dos + C::BLOCK_Q * C::PITCH;
        bias_hs = (float *)(kv + 2 * C::STAGE);
        bias_ws = bias_hs + 2 * C::ROWS * C::BIAS_PITCH + 4 * threadIdx.x;
        dbias_ws = bias_ws + C::NW * ATT_PRIVATE;
        factor = fabsf(x.scale2);
        if (C::DROP) drop = att_dropout_of(x, p);
    }
    DEV_INLINE const __nv_bfloat16 *k_tile(int stage) const
    {
        return kv + stage * C::STAGE;
    }
    DEV_INLINE const __nv_bfloat16 *v_tile(int stage) const
    {
        return kv + stage * C::STAGE + ATT_KEYS * C::PITCH;
    }
    /* Index within the sequence of row h (0: g, 1: g + 8) of m-tile m. */
    DEV_INLINE int query(int m, int h) const
    {
        return p.i0 + row0 + 16 * m + g + 8 * h;
    }
};

/* Q and dO tiles -> shared memory. */
template <class C> static DEV_INLINE void load_q_do(const dq_block<C> &b)
{
    const struct k_attention &a = b.x.a;
    const auto row = [&](int r) { return b.p.i0 + r < b.p.nq ? b.p.i0 + r : -1; };
    att_load_rows<C::D, C::BLOCK_Q>(b.qs, b.q, a.q_ld, a.head_dim, b.x.aligned16, row);
    att_load_rows<C::D, C::BLOCK_Q>(b.dos, b.dy, b.y_ld, a.head_dim, b.x.aligned16_y, row);
}

/* K and V of the key tile `at`, and bias_h of its grid rows -> stage of shared memory. */
template <class C> static DEV_INLINE void load_kv(const dq_block<C> &b, att_key_tile at, int stage)
{
    const struct k_attention &a = b.x.a;
    const auto row = [&](int r) { return att_key<C::SHIFT>(a, at, r, b.p.nk); };
    __nv_bfloat16 *const ks = b.kv + stage * C::STAGE;
    att_load_rows<C::D, ATT_KEYS>(ks, b.k, a.k_ld, a.head_dim, b.x.aligned16, row);
    att_load_rows<C::D, ATT_KEYS>(ks + ATT_KEYS * C::PITCH, b.v, a.v_ld, a.head_dim, b.x.aligned16, row);
    if (C::REL)
        att_load_bias<C::MT, C::BIAS_PITCH>(b.bias_hs + stage * C::ROWS * C::BIAS_PITCH, b.bias_h, at.y, C::ROWS,
                                            a.grid_h, b.p.i0, b.x.q_pad);
}

/* lse2 and delta of this thread's rows; 0 past the sequence. */
template <class C>
static DEV_INLINE void load_stats(const dq_block<C> &b, float (&lse2)[C::MT][2], float (&delta)[C::MT][2])
{
    for (int m = 0; m < C::MT; m++)
        for (int h = 0; h < 2; h++) {
            const int i = b.query(m, h);
            const int64_t at = (int64_t)b.p.head * b.x.a.q_rows + b.p.q0 + i;
            lse2[m][h] = i < b.p.nq ? b.x.lse2[at] : 0.0f;
            delta[m][h] = i < b.p.nq ? b.x.delta[at] : 0.0f;
        }
}

/* Q (negated where the scale is negative) and dO fragments of the 16 columns from 16 kk on of the head. */
template <class C>
static DEV_INLINE void load_frags(const dq_block<C> &b, int kk, unsigned (&qf)[C::MT][4], unsigned (&dof)[C::MT][4])
{
#pragma unroll
    for (int m = 0; m < C::MT; m++) {
        att_frag_a<C::D>(qf[m], b.qs, b.row0 + 16 * m, 16 * kk);
        for (int i = 0; i < 4; i++) qf[m][i] ^= att_sign(b.x);
        att_frag_a<C::D>(dof[m], b.dos, b.row0 + 16 * m, 16 * kk);
    }
}

/* S = bias_w, n-tiles n and n + 1: the initial values of the accumulators of S. */
template <class C>
static DEV_INLINE void init_scores(const dq_block<C> &b, const float (&bias_wf)[C::BIAS_W_IN_REGS + 1][4], int n,
                                   float (&s)[2][4])
{
#pragma unroll
    for (int e = 0; e < 2; e++) {
        if (C::BIAS_W_IN_REGS == 0 || (n + e) % C::NW >= C::BIAS_W_IN_REGS)
            att_load_private(s[e], b.bias_ws, (n + e) % C::NW);
        else
            for (int i = 0; i < 4; i++) s[e][i] = bias_wf[(n + e) % C::NW][i];
    }
}

/* S += Q K^T and dP += dO V^T, n-tiles n and n + 1 of the key tile. HELD: fragments of Q and dO in registers, D / 16 or
 * 1 (then each is loaded when it is needed). */
template <class C, int HELD>
static DEV_INLINE void add_qk_and_dov(const dq_block<C> &b, unsigned (&qf)[HELD][C::MT][4],
                                      unsigned (&dof)[HELD][C::MT][4], int stage, int n, float (&s)[C::MT][2][4],
                                      float (&dp)[C::MT][2][4])
{
#pragma unroll
    for (int kk = 0; kk < C::D / 16; kk++) {
        const int f = C::FRAGS_IN_REGS ? kk : 0;
        unsigned kf[4], vf[4];
        att_frag_b<C::D>(kf, b.k_tile(stage), 8 * n, 16 * kk);
        att_frag_b<C::D>(vf, b.v_tile(stage), 8 * n, 16 * kk);
        if constexpr (!C::FRAGS_IN_REGS) load_frags(b, kk, qf[0], dof[0]);
        att_mma(s, 0, qf[f], kf);
        att_mma(dp, 0, dof[f], vf);
    }
}

/* dS = P (dP - delta), in place of dP; P = exp2(factor S + shift), shift = bias_h - lse2. One m-tile,
 * n-tiles n and n + 1. */
template <class C>
static DEV_INLINE void softmax_bwd(const dq_block<C> &b, att_key_tile at, int m, int n, const float (&s)[2][4],
                                   const float (&shift)[2], const float (&delta)[2], float (&dp)[2][4])
{
#pragma unroll
    for (int e = 0; e < 2; e++) {
        if (C::DROP) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int c = 8 * (n + e) + 2 * b.t;
                const float2 f = att_dropout_scale_at<C::SHIFT>(b.x, b.drop, b.query(m, h), at, c, b.p.nk);
                dp[e][2 * h] *= f.x;
                dp[e][2 * h + 1] *= f.y;
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            dp[e][i] = dev_exp2(fmaf(s[e][i], b.factor, shift[i / 2])) * (dp[e][i] - delta[i / 2]);
    }
}

/* dS = 0 at columns without a key, in the last tile of a sequence, and at keys that a causal mask hides. */
template <class C>
static DEV_INLINE void mask_keys(const dq_block<C> &b, att_key_tile at, int m, int n, float (&ds)[2][4])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (at.x + 8 * (n + i / 4) + 2 * b.t + i % 2 >= att_key_end(b.x.a, b.query(m, i % 4 / 2), b.p.nk))
            ds[i / 4][i % 4] = 0;
}

/* dbias_w += dS of n-tiles n and n + 1. */
template <class C>
static DEV_INLINE void accumulate_dbias_w(const dq_block<C> &b, int n, const float (&ds)[2][4], float (*dbias_wf)[4])
{
#pragma unroll
    for (int e = 0; e < 2; e++) {
        float loaded[4], *const sum = C::DBIAS_W_IN_SHARED ? loaded : dbias_wf[(n + e) % C::NW];
        if (C::DBIAS_W_IN_SHARED) att_load_private(sum, b.dbias_ws, n + e);
        for (int i = 0; i < 4; i++) sum[i] += ds[e][i];
        if (C::DBIAS_W_IN_SHARED) att_store_private(b.dbias_ws, n + e, sum);
    }
}

/* dbias_h += the sum of dS (16 queries, 16 keys of one grid row y) over its keys, as a product with a matrix of ones in
 * column y mod 8 and zeros elsewhere: an accumulator holds eight grid rows. */
template <class C>
static DEV_INLINE void accumulate_dbias_h(const dq_block<C> &b, int y, const unsigned (&dsf)[C::MT][4],
                                          float (&dbias_hf)[4])
{
    const unsigned one = b.g == (y & 7) ? 0x3f803f80u : 0u, ones[2] = {one, one}; /* pairs of bf16 1.0 */
    dev_mma_bf16(dbias_hf, dsf[0], ones);
}

/* Stores dbias_h of the (up to) eight grid rows that end with the tile at grid row `from`, and clears the accumulator.
 * Chunks of grid columns after the first (x0 > 0) add. */
template <class C> static DEV_INLINE void store_dbias_h(const dq_block<C> &b, int from, int x0, float (&dbias_hf)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int ky = (from & ~7) + 2 * b.t + i % 2, row = b.query(0, i / 2);
        float *const to = b.dbias_h + (int64_t)ky * b.x.q_pad + row;
        if (ky < b.x.a.grid_h && row < b.x.q_pad) *to = x0 ? *to + dbias_hf[i] : dbias_hf[i];
        dbias_hf[i] = 0;
    }
}

/* Stores dbias_w of grid columns x0..x0 + 8 NW, through thread-private memory: a loop that is not unrolled. */
template <class C> static DEV_INLINE void store_dbias_w(const dq_block<C> &b, int x0, const float (*dbias_wf)[4])
{
#pragma unroll
    for (int n = 0; n < (C::DBIAS_W_IN_SHARED ? 0 : C::NW); n++) att_store_private(b.dbias_ws, n, dbias_wf[n]);
#pragma unroll 1
    for (int n = 0; n < C::NW; n++) {
        float v[4];
        att_load_private(v, b.dbias_ws, n);
        for (int i = 0; i < 4; i++) {
            const int kx = x0 + 8 * n + 2 * b.t + i % 2, row = b.query(0, i / 2);
            if (kx < b.x.a.grid_w && row < b.x.q_pad) b.dbias_w[(int64_t)kx * b.x.q_pad + row] = v[i];
        }
    }
}

/* The gradient through one bias, bias[k] = q . table[coord - k + grid - 1], coord the query's grid row (or column):
 * dq (a warp's 16 queries, hd) += sum over k of dbias[k] table[coord - k + grid - 1].
 *
 * It is a product on the tensor cores: 64 rows of the table at a time are B, and A (16 queries, 64 table rows) is
 * gathered from dbias. Called by the whole block, whose first query is i0. coord[h]: of queries g and g + 8. dbias
 * (grid, q_pad), table (2 grid - 1, hd). Shared memory: rows (64, PITCH) and, after it, columns (64, COLUMN_PITCH).
 *
 * DIAGONAL: adjacent queries lie in adjacent grid columns, so they read dbias diagonally; therefore 64 grid columns at
 * a time are staged in `columns`. */
template <int D, bool DIAGONAL>
static DEV_INLINE void add_rel_to_dq(const att_params &x, __nv_bfloat16 *rows, const float *table, const float *dbias,
                                     int grid, const int coord[2], int i0, float (&dq)[1][D / 8][4])
{
    constexpr int COLUMN_PITCH = 68; /* bank 5g - 8t + constant: no conflicts, except where an odd grid row ends */
    float *const columns = (float *)(rows + 64 * att_pitch<D>);
    const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4, t = lane % 4;
    for (int k0 = 0; k0 < (DIAGONAL ? grid : 1); k0 += 64) {
        const int n_columns = DIAGONAL && grid - k0 > 64 ? 64 : grid - k0;
        for (int w0 = 0; w0 < 2 * grid - 1; w0 += 64) {
            DEV_SYNC();
            if (DIAGONAL && w0 == 0) att_load_bias<1, COLUMN_PITCH>(columns, dbias, k0, n_columns, grid, i0, x.q_pad);
            att_load_table<D>(rows, table, w0, 2 * grid - 1, x.a.head_dim);
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
            for (int kk = 0; kk < 4; kk++) {
                unsigned f[1][4];
#pragma unroll
                for (int j = 0; j < 4; j++) { /* queries g, g + 8, g, g + 8; table rows 2t, 2t + 1, and 8 further */
                    __syncwarp();             /* reconverge: some lanes skipped the read before */
                    const int h = j % 2, i = 16 * warp + g + 8 * h,
                              k = coord[h] + grid - 1 - k0 - (w0 + 16 * kk + 2 * t + j / 2 * 8);
                    const auto weight = [&](int column) {
                        const bool in = column >= 0 && column < n_columns && (DIAGONAL || i0 + i < x.q_pad);
                        const int64_t at = DIAGONAL ? column * COLUMN_PITCH + i : (int64_t)column * x.q_pad + i0 + i;
                        return in ? (DIAGONAL ? columns : dbias)[at] : 0.0f;
                    };
                    f[0][j] = att_pack(weight(k), weight(k - 1));
                }
                att_mma_rows<D>(dq, f, rows, 16 * kk);
            }
        }
    }
}

/* dq += the gradients through bias_h and bias_w. */
template <class C> static DEV_INLINE void add_rel_to_dq(const dq_block<C> &b, float (&dq)[C::MT][C::D / 8][4])
{
    const struct k_attention &a = b.x.a;
    int y[2], x[2];
    for (int h = 0; h < 2; h++) {
        const int i = b.query(0, h);
        y[h] = i / a.grid_w;
        x[h] = i - y[h] * a.grid_w;
    }
    add_rel_to_dq<C::D, false>(b.x, b.kv, a.rel_h, b.dbias_h, a.grid_h, y, b.p.i0, dq);
    add_rel_to_dq<C::D, C::SHIFT == 6>(b.x, b.kv, a.rel_w, b.dbias_w, a.grid_w, x, b.p.i0, dq);
}

template <class C> static DEV_INLINE void store_dq(const dq_block<C> &b, const float (&dq)[C::MT][C::D / 8][4])
{
    const struct k_attention &a = b.x.a;
    __nv_bfloat16 *const to = (__nv_bfloat16 *)a.dq + b.p.q0 * a.q_ld + b.p.head * a.head_dim;
#pragma unroll
    for (int m = 0; m < C::MT; m++) {
        const int first = b.p.i0 + b.row0 + 16 * m;
        att_store<C::D>(b.qs + (b.row0 + 16 * m) * C::PITCH, dq[m], 1.0f, 1.0f, to, a.q_ld, a.head_dim, b.x.aligned16,
                        a.beta_q, [&](int r) { return first + r < b.p.nq ? first + r : -1; });
    }
}

template <int D, int MT, int SHIFT, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_dq(const att_params x)
{
    using C = dq_config<D, MT, SHIFT, DROP>;
    constexpr bool REL = C::REL;
    constexpr int STEP = C::STEP, NW = C::NW, FRAGS = C::FRAGS_IN_REGS ? D / 16 : 1;
    [[maybe_unused]] constexpr int UNROLL = C::UNROLL; /* more would spill */
    SHARED_DYN(__nv_bfloat16, shared);
    const struct k_attention &a = x.a;
    att_coord p;
    if (!att_find_tile<C::BLOCK_Q>(a, false, p)) return;
    const dq_block<C> b(x, p, shared);
    unsigned qf[FRAGS][MT][4], dof[FRAGS][MT][4];
    float lse2[MT][2], delta[MT][2], dq[MT][D / 8][4] = {};
    load_q_do(b);
    load_stats(b, lse2, delta);

    for (int x0 = 0; x0 < (SHIFT == 6 ? a.grid_w : 1); x0 += ATT_KEYS) { /* 64 columns of the grid */
        float bias_wf[C::BIAS_W_IN_REGS + 1][4], dbias_wf[C::DBIAS_W_IN_SHARED ? 1 : NW][4] = {}, dbias_hf[4] = {};
        if constexpr (REL) {
            att_stage_bias_w<NW>(x, b.bias_w, x0, b.query(0, 0), b.bias_ws);
#pragma unroll
            for (int n = 0; n < C::BIAS_W_IN_REGS; n++) att_load_private(bias_wf[n], b.bias_ws, n);
            for (int n = 0; n < (C::DBIAS_W_IN_SHARED ? NW : 0); n++) att_store_private(b.dbias_ws, n, dbias_wf[0]);
        }
        if (x0) DEV_SYNC(); /* the last tile's readers are done */
        if (p.nk) load_kv(b, {0, x0}, 0);
        dev_copy_commit();
        dev_copy_wait<0>();
        DEV_SYNC();
        if constexpr (C::FRAGS_IN_REGS) {
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) load_frags(b, kk, qf[kk], dof[kk]);
        }
        const int end = REL ? a.grid_h : att_key_end(a, p.i0 + C::BLOCK_Q - 1, p.nk);
        int stage = 0;
        for (int from = 0; from < end; from += STEP, stage ^= 1) {
            if (from) {
                dev_copy_wait<0>();
                DEV_SYNC();
            }
            if (from + STEP < end)
                load_kv(b, REL ? att_key_tile{from + STEP, x0} : att_key_tile{0, from + STEP}, stage ^ 1);
            dev_copy_commit();
            const att_key_tile at = REL ? att_key_tile{from, x0} : att_key_tile{0, from};
            const bool ragged = !REL && from + ATT_KEYS > att_key_end(a, p.i0, p.nk);
            float shift[MT][2]; /* bias_h - lse2 */
#pragma unroll
            for (int i = 0; i < 2 * MT; i++) shift[i / 2][i % 2] = -lse2[i / 2][i % 2];
#pragma unroll UNROLL
            for (int n = 0; n < 8; n += 2) { /* 16 keys */
                float s[MT][2][4] = {}, dp[MT][2][4] = {};
                unsigned dsf[MT][4];
                if constexpr (REL) init_scores(b, bias_wf, n, s[0]);
                add_qk_and_dov(b, qf, dof, stage, n, s, dp);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    if (REL && n % NW == 0) { /* the next row of the grid */
                        const float *const bias = b.bias_hs + (stage * C::ROWS + n / NW) * C::BIAS_PITCH + b.row0 + b.g;
#pragma unroll
                        for (int h = 0; h < 2; h++) shift[m][h] = fmaf(bias[8 * h], b.factor, -lse2[m][h]);
                    }
                    softmax_bwd(b, at, m, n, s[m], shift[m], delta[m], dp[m]);
                    if (ragged) mask_keys(b, at, m, n, dp[m]);
                    if constexpr (REL) accumulate_dbias_w(b, n, dp[m], dbias_wf);
                    att_frag_from_acc(dsf[m], dp[m]);
                }
                if constexpr (REL) accumulate_dbias_h(b, from + n / NW, dsf, dbias_hf);
                att_mma_rows<D>(dq, dsf, b.k_tile(stage), 8 * n); /* dq += dS K */
            }
            if (REL && (((from + STEP) & 7) == 0 || from + STEP >= end)) store_dbias_h(b, from, x0, dbias_hf);
        }
        if constexpr (REL) store_dbias_w(b, x0, dbias_wf);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
        for (int n = 0; n < D / 8; n++)
            for (int i = 0; i < 4; i++) dq[m][n][i] *= x.scale;
    if constexpr (REL) add_rel_to_dq(b, dq);
    if (a.dq) store_dq(b, dq);
}

struct dq_pass {
    template <int D, int SHIFT, bool DROP> static cudaError_t run(const att_params &x, cudaStream_t s)
    {
        /* Two m-tiles per warp read each fragment of K and V half as often; elsewhere registers are too few. */
        constexpr int MT = (D == 64 || D == 80) && !SHIFT && !DROP ? 2 : 1, BLOCK_Q = 64 * MT;
        size_t bytes = (size_t)(2 * BLOCK_Q + 4 * ATT_KEYS) * att_pitch<D> * 2; /* qs, dos, kv */
        if (SHIFT)
            bytes += (size_t)2 * (ATT_KEYS >> SHIFT) * (BLOCK_Q + 4) * 4 + /* bias_hs */
                     2 * BLOCK_Q * (4 << SHIFT);                           /* bias_ws, dbias_ws */
        const cudaError_t e = att_set_shared_bytes(attention_dq<D, MT, SHIFT, DROP>, bytes);
        if (e != cudaSuccess) return e;
        const unsigned blocks = att_blocks(x.a.q_off, x.a.n_seq, x.a.q_len, x.a.q_rows, BLOCK_Q);
        return dev_launch((attention_dq<D, MT, SHIFT, DROP>), dim3(blocks, (unsigned)x.a.heads), ATT_THREADS, bytes, s,
                          x);
    }
};

cudaError_t att_bf16_dq(const att_params &x, cudaStream_t s)
{
    return att_by_shape<dq_pass>(x, s);
}
