/* Attention in bfloat16, forward: FlashAttention-2 (Dao, 2023). A block takes BLOCK_Q = 64 MT queries of a head, a warp
 * 16 MT of them, and walks over tiles of 64 keys with an online softmax. K and V tiles are double-buffered by
 * asynchronous copies, with one barrier per tile. */
#include "kernels/attention/attention_tile.cuh"

/* Sizes of one instantiation, and its choice of data held in registers, made so that no instantiation spills. */
template <int D_, int MT_, int SHIFT_, bool DROP_> struct fwd_config {
    static constexpr int D = D_, MT = MT_, SHIFT = SHIFT_;
    static constexpr bool DROP = DROP_, REL = SHIFT > 0;
    static constexpr int BLOCK_Q = 64 * MT, PITCH = att_pitch<D>, STAGE = 2 * ATT_KEYS * PITCH,
                         BIAS_PITCH = BLOCK_Q + 4;
    static constexpr int N = ATT_KEYS / 8;                        /* n-tiles of a key tile */
    static constexpr int ROWS = REL ? ATT_KEYS >> SHIFT : 1;      /* grid rows in a key tile */
    static constexpr int NW = N / ROWS;                           /* n-tiles of one grid row */
    static constexpr int STEP = REL ? ROWS : ATT_KEYS;            /* of the loop over key tiles: grid rows, or keys */
    static constexpr bool Q_IN_REGS = !REL && D <= 64;            /* else Q fragments are read again for every tile */
    static constexpr bool BIAS_W_IN_REGS = SHIFT == 4 && D <= 64; /* else read again from shared memory */
    static constexpr int UNROLL_K = REL && D == 80 ? 2 : D / 16;  /* unrolling of qk's loop */
};

/* A block's tensors, from the first row of its sequence and the first column of its head on; its shared memory; and
 * this thread's place: rows row0 + 16 m + g and g + 8 of the block's queries. */
template <class C> struct fwd_block {
    const att_params &x;
    att_coord p;
    const __nv_bfloat16 *q, *k, *v; /* (nq, q_ld), (nk, k_ld), (nk, v_ld): hd columns of each */
    const float *bias_h, *bias_w;   /* (grid_h, q_pad), (grid_w, q_pad) */
    __nv_bfloat16 *qs;              /* (BLOCK_Q, PITCH) */
    __nv_bfloat16 *kv;              /* (2 stages, {K, V}, ATT_KEYS, PITCH) */
    float *bias_hs;                 /* (2 stages, ROWS, BIAS_PITCH) */
    float *bias_ws;                 /* thread-private (MT, NW, 4) */
    int g, t, row0;
    float factor; /* |scale| log2(e) */
    att_dropout drop;

    DEV_INLINE fwd_block(const att_params &x_, const att_coord &p_, __nv_bfloat16 *shared) : x(x_), p(p_), drop{}
    {
        const struct k_attention &a = x.a;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        const int64_t bh = (int64_t)p.seq * a.heads + p.head;
        g = lane / 4, t = lane % 4, row0 = warp * 16 * C::MT;
        q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * a.head_dim;
        k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * a.head_dim;
        v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * a.head_dim;
        bias_h = C::REL ? x.bias_h + bh * a.grid_h * x.q_pad : nullptr;
        bias_w = C::REL ? x.bias_w + bh * a.grid_w * x.q_pad : nullptr;
        qs = shared, kv = qs + C::BLOCK_Q * C::PITCH;
        bias_hs = (float *)(kv + 2 * C::STAGE);
        bias_ws = bias_hs + 2 * C::ROWS * C::BIAS_PITCH + 4 * threadIdx.x;
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

/* Q tile -> shared memory. */
template <class C> static DEV_INLINE void load_q(const fwd_block<C> &b)
{
    att_load_rows<C::D, C::BLOCK_Q>(b.qs, b.q, b.x.a.q_ld, b.x.a.head_dim, b.x.aligned16,
                                    [&](int r) { return b.p.i0 + r < b.p.nq ? b.p.i0 + r : -1; });
}

/* K and V of the key tile `at`, and bias_h of its grid rows -> stage of shared memory. */
template <class C> static DEV_INLINE void load_kv(const fwd_block<C> &b, att_key_tile at, int stage)
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

/* Q fragments of the 16 columns from 16 kk on of the head; negated where the scale is negative. */
template <class C> static DEV_INLINE void load_q_frag(const fwd_block<C> &b, int kk, unsigned (&qf)[C::MT][4])
{
#pragma unroll
    for (int m = 0; m < C::MT; m++) {
        att_frag_a<C::D>(qf[m], b.qs, b.row0 + 16 * m, 16 * kk);
        for (int i = 0; i < 4; i++) qf[m][i] ^= att_sign(b.x);
    }
}

/* S = bias_w: the relative position bias of the grid's columns, the same in every grid row of the tile. */
template <class C>
static DEV_INLINE void init_scores(const fwd_block<C> &b, const float (&bias_wf)[C::MT][C::NW][4],
                                   float (&s)[C::MT][C::N][4])
{
#pragma unroll
    for (int m = 0; m < C::MT; m++)
#pragma unroll
        for (int n = 0; n < C::N; n++) {
            if (C::BIAS_W_IN_REGS)
                for (int i = 0; i < 4; i++) s[m][n][i] = bias_wf[m][n % C::NW][i];
            else
                att_load_private(s[m][n], b.bias_ws, m * C::NW + n % C::NW);
        }
}

/* S += Q K^T. */
template <class C, int HELD>
static DEV_INLINE void add_qk(const fwd_block<C> &b, unsigned (&qf)[HELD][C::MT][4], int stage,
                              float (&s)[C::MT][C::N][4])
{
    [[maybe_unused]] constexpr int UNROLL = C::UNROLL_K;
#pragma unroll UNROLL
    for (int kk = 0; kk < C::D / 16; kk++) {
        if constexpr (!C::Q_IN_REGS) load_q_frag(b, kk, qf[0]);
#pragma unroll
        for (int n = 0; n < C::N; n += 2) {
            unsigned f[4];
            att_frag_b<C::D>(f, b.k_tile(stage), 8 * n, 16 * kk);
            att_mma(s, n, qf[C::Q_IN_REGS ? kk : 0], f);
        }
    }
}

/* S = -inf at columns without a key, in the last tile of a sequence, and at keys that a causal mask hides. */
template <class C> static DEV_INLINE void mask_keys(const fwd_block<C> &b, att_key_tile at, float (&s)[C::MT][C::N][4])
{
#pragma unroll
    for (int m = 0; m < C::MT; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int end = att_key_end(b.x.a, b.query(m, h), b.p.nk) - at.x - 2 * b.t;
#pragma unroll
            for (int n = 0; n < C::N; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (8 * n + i >= end) s[m][n][2 * h + i] = -INFINITY;
        }
}

/* One row of a tile (elements 2h and 2h + 1 of every n-tile of s): P = exp2(factor S + bias_h - row_max), with row_max
 * updated first; row_sum = row_sum exp2(old - new row_max) + the sum of P over this thread's columns (finalize adds the
 * row's four threads). Returns exp2(old - new row_max), the factor of O. */
template <class C>
static DEV_INLINE float online_softmax(const fwd_block<C> &b, int stage, int m, int h, float (&s)[C::N][4],
                                       float &row_max, float &row_sum)
{
    float new_max = row_max, bias_h[C::ROWS]; /* of this query and each grid row of the tile; base-2 log like row_max */
#pragma unroll
    for (int r = 0; r < C::ROWS; r++) {
        const int at = (stage * C::ROWS + r) * C::BIAS_PITCH + b.row0 + 16 * m + b.g + 8 * h;
        bias_h[r] = C::REL ? b.bias_hs[at] * b.factor : 0.0f;
        float grid_row_max = -INFINITY;
#pragma unroll
        for (int n = r * C::NW; n < (r + 1) * C::NW; n++)
            grid_row_max = fmaxf(grid_row_max, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        new_max = fmaxf(new_max, C::REL ? fmaf(grid_row_max, b.factor, bias_h[r]) : grid_row_max * b.factor);
    }
    new_max = fmaxf(new_max, __shfl_xor_sync(DEV_FULL, new_max, 1));
    new_max = fmaxf(new_max, __shfl_xor_sync(DEV_FULL, new_max, 2));
    const float rescale = dev_exp2(row_max - new_max);
    row_max = new_max;
    float tile_sum = 0;
#pragma unroll
    for (int n = 0; n < C::N; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            s[n][2 * h + i] =
                dev_exp2(fmaf(s[n][2 * h + i], b.factor, C::REL ? bias_h[n / C::NW] - new_max : -new_max));
            tile_sum += s[n][2 * h + i];
        }
    row_sum = fmaf(row_sum, rescale, tile_sum);
    return rescale;
}

/* O *= rescale, row h of an m-tile. */
template <class C> static DEV_INLINE void rescale_o(float (&o)[C::D / 8][4], int h, float rescale)
{
#pragma unroll
    for (int n = 0; n < C::D / 8; n++) o[n][2 * h] *= rescale, o[n][2 * h + 1] *= rescale;
}

/* P *= 0 or 1 / (1 - p). row_sum is of P before dropout. */
template <class C> static DEV_INLINE void dropout(const fwd_block<C> &b, att_key_tile at, float (&s)[C::MT][C::N][4])
{
#pragma unroll
    for (int m = 0; m < C::MT; m++)
#pragma unroll
        for (int n = 0; n < C::N; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float2 f =
                    att_dropout_scale_at<C::SHIFT>(b.x, b.drop, b.query(m, h), at, 8 * n + 2 * b.t, b.p.nk);
                s[m][n][2 * h] *= f.x;
                s[m][n][2 * h + 1] *= f.y;
            }
}

/* O += P V, P rounded to bf16. */
template <class C>
static DEV_INLINE void pv(const fwd_block<C> &b, int stage, const float (&s)[C::MT][C::N][4],
                          float (&o)[C::MT][C::D / 8][4])
{
#pragma unroll
    for (int kk = 0; kk < ATT_KEYS / 16; kk++) {
        unsigned pf[C::MT][4];
#pragma unroll
        for (int m = 0; m < C::MT; m++) att_frag_from_acc(pf[m], &s[m][2 * kk]);
        att_mma_rows<C::D>(o, pf, b.v_tile(stage), 16 * kk);
    }
}

/* y = O / row_sum, lse = ln(row_sum) + row_max ln 2; both 0 without keys. */
template <class C>
static DEV_INLINE void finalize_and_store_o(const fwd_block<C> &b, __nv_bfloat16 *y, int64_t y_ld,
                                            const float (&o)[C::MT][C::D / 8][4], const float (&row_max)[C::MT][2],
                                            const float (&row_sum)[C::MT][2])
{
    const struct k_attention &a = b.x.a;
#pragma unroll
    for (int m = 0; m < C::MT; m++) {
        float inv_sum[2];
        const int first = b.p.i0 + b.row0 + 16 * m;
        for (int h = 0; h < 2; h++) {
            float sum = row_sum[m][h];
            sum += __shfl_xor_sync(DEV_FULL, sum, 1);
            sum += __shfl_xor_sync(DEV_FULL, sum, 2);
            inv_sum[h] = sum > 0 ? 1.0f / sum : 0.0f;
            const int i = first + b.g + 8 * h;
            if (b.t == 0 && i < b.p.nq)
                a.lse[(int64_t)(b.p.q0 + i) * a.heads + b.p.head] =
                    sum > 0 ? ATT_LN2 * (row_max[m][h] + log2f(sum)) : 0.0f;
        }
        att_store<C::D>(b.qs + (b.row0 + 16 * m) * C::PITCH, o[m], inv_sum[0], inv_sum[1],
                        y + b.p.q0 * y_ld + b.p.head * a.head_dim, y_ld, a.head_dim, b.x.aligned16_y, 0.0f,
                        [&](int r) { return first + r < b.p.nq ? first + r : -1; });
    }
}

/* y = lse = 0 for rows of q that belong to no sequence, by the blocks beyond the last tile. */
template <int BLOCK_Q>
static DEV_INLINE void zero_rows(const struct k_attention &a, const att_coord &p, __nv_bfloat16 *y, int64_t y_ld)
{
    const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, hd = a.head_dim;
    const int end = a.n_seq ? att_clip(a.q_off[a.n_seq], 0, a.q_rows) : 0, first = end + p.excess * BLOCK_Q;
    const int last = first + BLOCK_Q < a.q_rows ? first + BLOCK_Q : a.q_rows;
    for (int r = first + warp; r < last; r += ATT_WARPS) {
        for (int c = lane; c < hd; c += DEV_WARP) dev_store(y + r * y_ld + p.head * hd + c, 0.0f);
        if (lane == 0) a.lse[(int64_t)r * a.heads + p.head] = 0;
    }
}

template <int D, int MT, int SHIFT, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_fwd(const att_params x)
{
    using C = fwd_config<D, MT, SHIFT, DROP>;
    constexpr bool REL = C::REL;
    constexpr int STEP = C::STEP;
    SHARED_DYN(__nv_bfloat16, shared);
    const struct k_attention &a = x.a;
    const int64_t y_ld = (int64_t)a.heads * a.head_dim;
    __nv_bfloat16 *const y = (__nv_bfloat16 *)a.y;
    att_coord p;
    if (!att_find_tile<C::BLOCK_Q>(a, false, p)) {
        zero_rows<C::BLOCK_Q>(a, p, y, y_ld);
        return;
    }
    const fwd_block<C> b(x, p, shared);
    unsigned qf[C::Q_IN_REGS ? D / 16 : 1][MT][4];
    float bias_wf[MT][C::NW][4];
    float o[MT][D / 8][4] = {}, row_max[MT][2], row_sum[MT][2];
    for (int m = 0; m < MT; m++)
        for (int h = 0; h < 2; h++) row_max[m][h] = -INFINITY, row_sum[m][h] = 0;

    load_q(b);
    for (int x0 = 0; x0 < (SHIFT == 6 ? a.grid_w : 1); x0 += ATT_KEYS) { /* 64 columns of the grid */
        if (x0) DEV_SYNC();                                              /* the last tile's readers are done */
        if (p.nk) load_kv(b, {0, x0}, 0);
        dev_copy_commit();
        if constexpr (REL) {
            for (int m = 0; m < MT; m++) {
                att_stage_bias_w<C::NW>(x, b.bias_w, x0, b.query(m, 0), b.bias_ws + m * C::NW * ATT_PRIVATE);
                for (int n = 0; n < (C::BIAS_W_IN_REGS ? C::NW : 0); n++)
                    att_load_private(bias_wf[m][n], b.bias_ws, m * C::NW + n);
            }
        }
        dev_copy_wait<0>();
        DEV_SYNC();
        if constexpr (C::Q_IN_REGS) {
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) load_q_frag(b, kk, qf[kk]);
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
            [[maybe_unused]] const att_key_tile at = REL ? att_key_tile{from, x0} : att_key_tile{0, from};
            float s[MT][C::N][4] = {};
            if constexpr (REL) init_scores(b, bias_wf, s);
            add_qk(b, qf, stage, s);
            if (!REL && from + ATT_KEYS > att_key_end(a, p.i0, p.nk)) mask_keys(b, at, s);
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float rescale = online_softmax(b, stage, m, h, s[m], row_max[m][h], row_sum[m][h]);
                    rescale_o<C>(o[m], h, rescale);
                }
            if (DROP) dropout(b, at, s);
            pv(b, stage, s, o);
        }
    }
    finalize_and_store_o(b, y, y_ld, o, row_max, row_sum);
}

struct fwd_pass {
    template <int D, int SHIFT, bool DROP> static cudaError_t run(const att_params &x, cudaStream_t s)
    {
        constexpr int MT = (D == 64 || D == 80) && !DROP ? 2 : 1, BLOCK_Q = 64 * MT;
        size_t bytes = (size_t)(BLOCK_Q + 4 * ATT_KEYS) * att_pitch<D> * 2;      /* qs, kv */
        if (SHIFT) bytes += (size_t)2 * (ATT_KEYS >> SHIFT) * (BLOCK_Q + 4) * 4; /* bias_hs */
        if (SHIFT) bytes += (size_t)BLOCK_Q * (4 << SHIFT);                      /* bias_ws */
        const cudaError_t e = att_set_shared_bytes(attention_fwd<D, MT, SHIFT, DROP>, bytes);
        if (e != cudaSuccess) return e;
        const unsigned blocks = att_blocks(x.a.q_off, x.a.n_seq, x.a.q_len, x.a.q_rows, BLOCK_Q);
        return dev_launch((attention_fwd<D, MT, SHIFT, DROP>), dim3(blocks, (unsigned)x.a.heads), ATT_THREADS, bytes, s,
                          x);
    }
};

cudaError_t att_bf16_fwd(const att_params &x, cudaStream_t s)
{
    return att_by_shape<fwd_pass>(x, s);
}
