/* Attention in bfloat16, backward pass for k and v (FlashAttention-2, Dao 2023, algorithm 2): recomputes the scores
 * tile by tile. A block takes BLOCK_K = 64 MT keys of a head, a warp 16 MT of them, and walks over tiles of 64 queries,
 * 16 at a time. All products are transposed (keys are rows), so that P^T and dS^T pass from one product to the next in
 * registers. No atomics: sums are in the order of the tiles. */
#include "kernels/attention/attention_tile.cuh"

/* m-tiles of a warp; whether it keeps its V fragments (and with one m-tile its K fragments) in registers; and stages of
 * shared memory. The K and V tiles lie in the last stage, or the last two. Chosen so that no instantiation spills. */
template <int D, bool DROP> constexpr int dkv_m_tiles = (D == 32 || D == 64) && !DROP ? 2 : 1;
template <int D, bool DROP> constexpr bool dkv_in_regs = D <= 80 && !DROP;
template <int D, bool DROP> constexpr int dkv_stages = dkv_in_regs<D, DROP> &&dkv_m_tiles<D, DROP> == 1 ? 2 : 3;

/* Sizes of one instantiation. */
template <int D_, int MT_, int SHIFT_, bool DROP_> struct dkv_config {
    static constexpr int D = D_, MT = MT_, SHIFT = SHIFT_;
    static constexpr bool DROP = DROP_, REL = SHIFT > 0;
    static constexpr int BLOCK_Q = 64, BLOCK_K = 64 * MT, PITCH = att_pitch<D>, STAGE = 2 * BLOCK_Q * PITCH;
    static constexpr int BIAS_PITCH = BLOCK_Q + 8;
    static constexpr int WIDTH = REL ? 1 << SHIFT : 0,
                         ROWS = REL ? BLOCK_K >> SHIFT : 0;  /* grid columns, rows of a tile */
    static constexpr int BIAS = (WIDTH + ROWS) * BIAS_PITCH; /* floats of one stage */
    static constexpr bool V_IN_REGS = dkv_in_regs<D, DROP>;
    static constexpr int K_IN_REGS = MT == 2 ? (SHIFT == 4 ? 3 : 1) : V_IN_REGS ? D / 16 : 0; /* of D / 16 k-steps */
    static constexpr int STAGES = dkv_stages<D, DROP>;
    static constexpr int UNROLL =
        D <= 80 && MT == 1 && !DROP ? 4 : 1; /* of the loop over 16 queries; more would spill */
};

/* A block's tensors, from the first row of its sequence and the first column of its head on; its shared memory; and
 * this thread's place: rows row0 + 16 m + g and g + 8 of the block's keys. */
template <class C> struct dkv_block {
    const att_params &x;
    att_coord p;                         /* i0: of the keys */
    att_key_tile at;                     /* the keys */
    const __nv_bfloat16 *q, *dy, *k, *v; /* (nq, q_ld), (nq, y_ld), (nk, k_ld), (nk, v_ld): hd columns of each */
    const float *lse2, *delta;           /* (nq) */
    const float *bias_h, *bias_w;        /* (grid_h, q_pad), (grid_w, q_pad) */
    int64_t y_ld;
    __nv_bfloat16 *stages;  /* (2 stages, {Q, dO}, BLOCK_Q, PITCH) */
    __nv_bfloat16 *ks, *vs; /* (BLOCK_K, PITCH); where fragments are in registers, in the second stage of Q and dO */
    float *stats;           /* (2 stages, {lse2, delta}, BLOCK_Q) */
    float *biases;          /* (2 stages, WIDTH + ROWS, BIAS_PITCH): bias_w, then bias_h */
    int g, t, row0;
    float factor; /* |scale| log2(e) */
    att_dropout drop;

    DEV_INLINE dkv_block(const att_params &x_, const att_coord &p_, att_key_tile at_, __nv_bfloat16 *shared)
        : x(x_), p(p_), at(at_), drop{}
    {
        const struct k_attention &a = x.a;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, hd = a.head_dim;
        const int64_t bh = (int64_t)p.seq * a.heads + p.head;
        g = lane / 4, t = lane % 4, row0 = 16 * C::MT * warp;
        y_ld = (int64_t)a.heads * hd;
        q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * hd;
        dy = (const __nv_bfloat16 *)a.dy + p.q0 * y_ld + p.head * hd;
        k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * hd;
        v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * hd;
        lse2 = x.lse2 + (int64_t)p.head * a.q_rows + p.q0;
        delta = x.delta + (int64_t)p.head * a.q_rows + p.q0;
        bias_h = C::REL ? x.bias_h + bh * a.grid_h * x.q_pad : nullptr;
        bias_w = C::REL ? x.bias_w + bh * a.grid_w * x.q_pad : nullptr;
        stages = shared, ks = stages + (C::STAGES - 1) * C::STAGE;
        vs = C::V_IN_REGS && C::MT == 2 ? stages + C::STAGE : ks + C::BLOCK_K * C::PITCH;
        stats = (float *)(stages + C::STAGES * C::STAGE), biases = stats + 4 * C::BLOCK_Q;
        factor = fabsf(x.scale2);
        if (C::DROP) drop = att_dropout_of(x, p);
    }
    /* Key at row r of the block's tile, -1 where there is none. */
    DEV_INLINE int key(int r) const
    {
        return att_key<C::SHIFT>(x.a, at, r, p.nk);
    }
    DEV_INLINE const __nv_bfloat16 *q_tile(int stage) const
    {
        return stages + stage * C::STAGE;
    }
    DEV_INLINE const __nv_bfloat16 *do_tile(int stage) const
    {
        return stages + stage * C::STAGE + C::BLOCK_Q * C::PITCH;
    }
};

/* The keys of this block: chunks of 64 grid columns, in each of them tiles of ROWS grid rows; without relative
 * positions, a tile of the sequences' rows. Returns false where there is none. */
template <class C> static DEV_INLINE bool find_keys(const struct k_attention &a, att_coord &p, att_key_tile &at)
{
    if constexpr (C::REL) {
        const int tiles_y = (a.grid_h + C::ROWS - 1) / C::ROWS;
        const int n = C::SHIFT == 6 ? (a.grid_w + 63) / 64 * tiles_y : tiles_y;
        p.seq = (int)blockIdx.x / n;
        p.head = (int)blockIdx.y;
        const int tile = (int)blockIdx.x - p.seq * n, chunk = tile / tiles_y;
        at = {(tile - chunk * tiles_y) * C::ROWS, chunk * 64};
        p.q0 = p.k0 = p.seq * a.q_len;
        p.nq = p.nk = a.q_len;
    } else {
        if (!att_find_tile<C::BLOCK_K>(a, true, p)) return false;
        at.x = p.i0;
    }
    return true;
}

/* K and V tiles -> shared memory. */
template <class C> static DEV_INLINE void load_kv(const dkv_block<C> &b)
{
    const struct k_attention &a = b.x.a;
    const auto row = [&](int r) { return b.key(r); };
    att_load_rows<C::D, C::BLOCK_K>(b.ks, b.k, a.k_ld, a.head_dim, b.x.aligned16, row);
    att_load_rows<C::D, C::BLOCK_K>(b.vs, b.v, a.v_ld, a.head_dim, b.x.aligned16, row);
}

/* Q, dO, lse2, delta and biases of queries i0..i0 + 63 -> stage of shared memory. */
template <class C> static DEV_INLINE void load_q_do(const dkv_block<C> &b, int i0, int stage)
{
    const struct k_attention &a = b.x.a;
    const auto row = [&](int r) { return i0 + r < b.p.nq ? i0 + r : -1; };
    __nv_bfloat16 *const qs = b.stages + stage * C::STAGE;
    att_load_rows<C::D, C::BLOCK_Q>(qs, b.q, a.q_ld, a.head_dim, b.x.aligned16, row);
    att_load_rows<C::D, C::BLOCK_Q>(qs + C::BLOCK_Q * C::PITCH, b.dy, b.y_ld, a.head_dim, b.x.aligned16_y, row);
    const int r = (int)threadIdx.x % C::BLOCK_Q;
    const float *const from = (int)threadIdx.x / C::BLOCK_Q ? b.delta : b.lse2;
    const bool in = i0 + r < b.p.nq;
    dev_copy_async4(b.stats + stage * 2 * C::BLOCK_Q + threadIdx.x, in ? from + i0 + r : from, in ? 4 : 0);
    if (C::REL) {
        float *const bias = b.biases + stage * C::BIAS;
        att_load_bias<1, C::BIAS_PITCH>(bias, b.bias_w, b.at.x, C::WIDTH, a.grid_w, i0, b.x.q_pad);
        att_load_bias<1, C::BIAS_PITCH>(bias + C::WIDTH * C::BIAS_PITCH, b.bias_h, b.at.y, C::ROWS, a.grid_h, i0,
                                        b.x.q_pad);
    }
}

/* K fragment of m-tile m, the 16 columns from 16 kk on of the head; negated where the scale is negative. */
template <class C> static DEV_INLINE void load_k_frag(const dkv_block<C> &b, int m, int kk, unsigned (&f)[4])
{
    att_frag_a<C::D>(f, b.ks, b.row0 + 16 * m, 16 * kk);
    for (int i = 0; i < 4; i++) f[i] ^= att_sign(b.x);
}

/* S^T = bias_w^T of the keys' grid columns: keys are rows here, so an accumulator's row g or g + 8 is a grid column. */
template <class C> static DEV_INLINE void init_scores(const dkv_block<C> &b, int stage, int n, float (&s)[C::MT][2][4])
{
    const float *const bias = b.biases + stage * C::BIAS + ((b.row0 & (C::WIDTH - 1)) + b.g) * C::BIAS_PITCH + 2 * b.t;
#pragma unroll
    for (int m = 0; m < C::MT; m++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int column = C::SHIFT == 6 ? 16 * m + i % 2 * 8 : i % 2 * 8;
            const uint2 w = dev_load8(bias + column * C::BIAS_PITCH + 8 * (n + i / 2));
            s[m][i / 2][i % 2 * 2] = __uint_as_float(w.x);
            s[m][i / 2][i % 2 * 2 + 1] = __uint_as_float(w.y);
        }
}

/* S^T += K Q^T and dP^T += V dO^T, n-tiles n and n + 1 of the query tile. Fragments beyond those in registers are read
 * into the last place of kf and the only one of vf. */
template <class C, int NK, int NV>
static DEV_INLINE void add_kq_and_vdo(const dkv_block<C> &b, unsigned (&kf)[C::MT][NK][4], unsigned (&vf)[C::MT][NV][4],
                                      int stage, int n, float (&s)[C::MT][2][4], float (&dp)[C::MT][2][4])
{
#pragma unroll
    for (int kk = 0; kk < C::D / 16; kk++) {
        unsigned qf[4], dof[4];
        att_frag_b<C::D>(qf, b.q_tile(stage), 8 * n, 16 * kk);
        att_frag_b<C::D>(dof, b.do_tile(stage), 8 * n, 16 * kk);
#pragma unroll
        for (int m = 0; m < C::MT; m++) {
            const int fk = kk < C::K_IN_REGS ? kk : C::K_IN_REGS, fv = C::V_IN_REGS ? kk : 0;
            if (kk >= C::K_IN_REGS) load_k_frag(b, m, kk, kf[m][fk]);
            if (!C::V_IN_REGS) att_frag_a<C::D>(vf[m][fv], b.vs, b.row0 + 16 * m, 16 * kk);
            dev_mma_bf16(s[m][0], kf[m][fk], qf);
            dev_mma_bf16(s[m][1], kf[m][fk], qf + 2);
            dev_mma_bf16(dp[m][0], vf[m][fv], dof);
            dev_mma_bf16(dp[m][1], vf[m][fv], dof + 2);
        }
    }
}

/* P^T (with dropout) in place of S^T, dS^T = P (dP - delta) in place of dP^T; P = exp2(factor S + bias_h - lse2).
 * Queries i0 + 8 n + 0..15; key[m][h]: the key of each row, for dropout alone. */
template <class C>
static DEV_INLINE void softmax_bwd(const dkv_block<C> &b, const int (&key)[C::MT][2], int i0, int stage, int n,
                                   float (&s)[C::MT][2][4], float (&dp)[C::MT][2][4])
{
    const float *const stat = b.stats + stage * 2 * C::BLOCK_Q + 2 * b.t;
    [[maybe_unused]] const float *const bias_h =
        b.biases + stage * C::BIAS + (C::WIDTH + (b.row0 >> C::SHIFT)) * C::BIAS_PITCH + 2 * b.t;
#pragma unroll
    for (int e = 0; e < 2; e++) {
        const uint2 lse2 = dev_load8(stat + 8 * (n + e)), delta = dev_load8(stat + C::BLOCK_Q + 8 * (n + e));
#pragma unroll
        for (int m = 0; m < C::MT; m++) {
            float shift[2] = {-__uint_as_float(lse2.x), -__uint_as_float(lse2.y)};
            if constexpr (C::REL) {
                const uint2 h = dev_load8(bias_h + (C::SHIFT == 6 ? 0 : m) * C::BIAS_PITCH + 8 * (n + e));
                shift[0] = fmaf(__uint_as_float(h.x), b.factor, shift[0]);
                shift[1] = fmaf(__uint_as_float(h.y), b.factor, shift[1]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float prob = dev_exp2(fmaf(s[m][e][i], b.factor, shift[i % 2]));
                float keep = 1, &dpi = dp[m][e][i];
                if (C::DROP) keep = att_dropout_scale(b.x, b.drop, i0 + 8 * (n + e) + 2 * b.t + i % 2, key[m][i / 2]);
                s[m][e][i] = C::DROP ? prob * keep : prob;
                dpi = prob * ((C::DROP ? dpi * keep : dpi) - __uint_as_float(i % 2 ? delta.y : delta.x));
            }
        }
    }
}

/* P^T = dS^T = 0 where a causal mask hides the key from the query. Queries i0 + 8 n + 0..15. */
template <class C>
static DEV_INLINE void mask_queries(const dkv_block<C> &b, int i0, int n, float (&prob)[C::MT][2][4],
                                    float (&ds)[C::MT][2][4])
{
    const int behind = b.p.i0 + b.row0 + b.g - (i0 + 8 * n + 2 * b.t); /* of the first key to the first query */
#pragma unroll
    for (int m = 0; m < C::MT; m++)
#pragma unroll
        for (int e = 0; e < 2; e++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (behind + 16 * m + i / 2 * 8 > 8 * e + i % 2) prob[m][e][i] = ds[m][e][i] = 0;
}

/* dv += P^T dO and dk += dS^T Q, rows 8 n..8 n + 15 of the query tile. */
template <class C>
static DEV_INLINE void accumulate_dk_dv(const dkv_block<C> &b, int stage, int n, const float (&prob)[C::MT][2][4],
                                        const float (&ds)[C::MT][2][4], float (&dk)[C::MT][C::D / 8][4],
                                        float (&dv)[C::MT][C::D / 8][4])
{
    unsigned pf[C::MT][4], dsf[C::MT][4];
#pragma unroll
    for (int m = 0; m < C::MT; m++) {
        att_frag_from_acc(pf[m], prob[m]);
        att_frag_from_acc(dsf[m], ds[m]);
    }
#pragma unroll
    for (int c = 0; c < C::D / 8; c += 2) {
        unsigned f[4];
        att_frag_b_trans<C::D>(f, b.do_tile(stage), 8 * n, 8 * c);
        att_mma(dv, c, pf, f);
        att_frag_b_trans<C::D>(f, b.q_tile(stage), 8 * n, 8 * c);
        att_mma(dk, c, dsf, f);
    }
}

/* dk (times the scale) and dv, each where it is asked for. */
template <class C>
static DEV_INLINE void store_dk_dv(const dkv_block<C> &b, const float (&dk)[C::MT][C::D / 8][4],
                                   const float (&dv)[C::MT][C::D / 8][4])
{
    const struct k_attention &a = b.x.a;
    const int hd = a.head_dim;
#pragma unroll
    for (int m = 0; m < C::MT; m++) {
        const auto row = [&](int r) { return b.key(b.row0 + 16 * m + r); };
        __nv_bfloat16 *const staging = b.stages + (b.row0 + 16 * m) * C::PITCH;
        if (a.dk)
            att_store<C::D>(staging, dk[m], b.x.scale, b.x.scale,
                            (__nv_bfloat16 *)a.dk + b.p.k0 * a.k_ld + b.p.head * hd, a.k_ld, hd, b.x.aligned16,
                            a.beta_k, row);
        if (a.dv)
            att_store<C::D>(staging, dv[m], 1.0f, 1.0f, (__nv_bfloat16 *)a.dv + b.p.k0 * a.v_ld + b.p.head * hd, a.v_ld,
                            hd, b.x.aligned16, a.beta_v, row);
    }
}

template <int D, int MT, int SHIFT, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_dkv(const att_params x)
{
    using C = dkv_config<D, MT, SHIFT, DROP>;
    constexpr int BLOCK_Q = C::BLOCK_Q;
    [[maybe_unused]] constexpr int UNROLL = C::UNROLL;
    SHARED_DYN(__nv_bfloat16, shared);
    att_coord p;
    att_key_tile at = {};
    if (!find_keys<C>(x.a, p, at)) return;
    const dkv_block<C> b(x, p, at, shared);
    unsigned kf[MT][C::K_IN_REGS + 1][4], vf[MT][C::V_IN_REGS ? D / 16 : 1][4];
    float dk[MT][D / 8][4] = {}, dv[MT][D / 8][4] = {};
    int key[MT][2] = {};

    load_kv(b);
    const int start =
        !C::REL && x.a.causal ? p.i0 : 0; /* a multiple of BLOCK_Q: earlier queries see none of the keys */
    if (start < p.nq) load_q_do(b, start, 0);
    dev_copy_commit();
    dev_copy_wait<0>();
    DEV_SYNC();
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int kk = 0; kk < C::K_IN_REGS; kk++) load_k_frag(b, m, kk, kf[m][kk]);
#pragma unroll
        for (int kk = 0; kk < (C::V_IN_REGS ? D / 16 : 0); kk++)
            att_frag_a<D>(vf[m][kk], b.vs, b.row0 + 16 * m, 16 * kk);
    }
    if (DROP)
        for (int i = 0; i < 2 * MT; i++) key[i / 2][i % 2] = b.key(b.row0 + b.g + 8 * i);

    for (int i0 = start; i0 < p.nq; i0 += BLOCK_Q) {
        const int stage = (i0 - start) / BLOCK_Q & 1;
        dev_copy_wait<0>();
        DEV_SYNC();
        if (i0 + BLOCK_Q < p.nq) load_q_do(b, i0 + BLOCK_Q, stage ^ 1);
        dev_copy_commit();
#pragma unroll UNROLL
        for (int n = 0; n < 8; n += 2) { /* 16 queries */
            float s[MT][2][4] = {}, dp[MT][2][4] = {};
            if constexpr (C::REL) init_scores(b, stage, n, s);
            add_kq_and_vdo(b, kf, vf, stage, n, s, dp);
            softmax_bwd(b, key, i0, stage, n, s, dp);
            if (!C::REL && x.a.causal && i0 < p.i0 + C::BLOCK_K) mask_queries(b, i0, n, s, dp);
            accumulate_dk_dv(b, stage, n, s, dp, dk, dv);
        }
    }
    DEV_SYNC();
    store_dk_dv(b, dk, dv);
}

struct dkv_pass {
    template <int D, int SHIFT, bool DROP> static cudaError_t run(const att_params &x, cudaStream_t s)
    {
        const struct k_attention &a = x.a;
        constexpr int MT = dkv_m_tiles<D, DROP>, BLOCK_K = 64 * MT, ROWS = BLOCK_K >> SHIFT;
        size_t bytes = (size_t)(dkv_stages<D, DROP> * 128) * att_pitch<D> * 2 + 4 * 64 * 4; /* stages, stats */
        if (SHIFT) bytes += (size_t)2 * ((1 << SHIFT) + ROWS) * (64 + 8) * 4;               /* biases */
        const cudaError_t e = att_set_shared_bytes(attention_dkv<D, MT, SHIFT, DROP>, bytes);
        if (e != cudaSuccess) return e;
        const unsigned blocks =
            SHIFT ? (unsigned)(a.n_seq * ((a.grid_h + ROWS - 1) / ROWS) * (SHIFT == 6 ? (a.grid_w + 63) / 64 : 1))
                  : att_blocks(a.k_off, a.n_seq, a.k_len, a.k_rows, BLOCK_K);
        return dev_launch((attention_dkv<D, MT, SHIFT, DROP>), dim3(blocks, (unsigned)a.heads), ATT_THREADS, bytes, s,
                          x);
    }
};

cudaError_t att_bf16_dkv(const att_params &x, cudaStream_t s)
{
    return att_by_shape<dkv_pass>(x, s);
}
