/* Attention in bfloat16, forward: a block takes 64 MT queries of a head, a warp 16 MT of them, and walks over tiles of
 * 64 keys with a running maximum and sum (Dao, "FlashAttention-2", 2023, in its order of work). Two stages of K and V:
 * the next tile is on its way while this one is worked on; one barrier a tile. */
#include "kernels/attention/attention.cuh"

/* Keep the rel_w bias fragments in registers across the key loop? */
template <int D, int SHIFT> constexpr bool fwd_held = SHIFT == 4 && D <= 64;

template <int D, int MT, int SHIFT, bool DROP>
__global__ void __launch_bounds__(ATT_THREADS, 1) attention_fwd(const att x)
{
    constexpr bool REL = SHIFT > 0;
    constexpr int BQ = 64 * MT, PITCH = att_pitch<D>, N = ATT_KEYS / 8, TP = BQ + 4, STAGE = 2 * ATT_KEYS * PITCH;
    constexpr int ROWS = REL ? ATT_KEYS >> SHIFT : 1, WIDE = N / ROWS; /* of a tile: rows, n-tiles in one */
    SHARED_DYN(__nv_bfloat16, shared);
    __nv_bfloat16 *const qs = shared, *const kv = shared + BQ * PITCH;
    const struct k_attention &a = x.a;
    const int hd = a.head_dim, lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP, g = lane / 4,
              t = lane % 4;
    const int64_t y_ld = (int64_t)a.heads * hd;
    __nv_bfloat16 *const y = (__nv_bfloat16 *)a.y;
    att_piece p;
    if (!att_find<BQ>(a, false, p)) { /* rows of no sequence */
        const int end = a.n_seq ? att_clip(a.q_off[a.n_seq], 0, a.q_rows) : 0, first = end + p.left * BQ;
        const int last = first + BQ < a.q_rows ? first + BQ : a.q_rows;
        for (int r = first + warp; r < last; r += ATT_WARPS) {
            for (int c = lane; c < hd; c += DEV_WARP) dev_store(y + r * y_ld + p.head * hd + c, 0.0f);
            if (lane == 0) a.lse[(int64_t)r * a.heads + p.head] = 0;
        }
        return;
    }
    const __nv_bfloat16 *const q = (const __nv_bfloat16 *)a.q + p.q0 * a.q_ld + p.head * hd;
    const __nv_bfloat16 *const k = (const __nv_bfloat16 *)a.k + p.k0 * a.k_ld + p.head * hd;
    const __nv_bfloat16 *const v = (const __nv_bfloat16 *)a.v + p.k0 * a.v_ld + p.head * hd;
    /* rel_w bias in the accumulators' layout: in registers, or in thread-private shared memory. */
    constexpr bool WIDE_HELD = fwd_held<D, SHIFT>;
    float wide[MT][WIDE][4];
    float *const th = (float *)(kv + 2 * STAGE), *const own = th + 2 * ROWS * TP + 4 * threadIdx.x;
    const int64_t bh = (int64_t)p.seq * a.heads + p.head;
    const float *const terms_h = REL ? x.terms_h + bh * a.grid_h * x.q_pad : nullptr;
    const float *const terms_w = REL ? x.terms_w + bh * a.grid_w * x.q_pad : nullptr;
    const auto load = [&](att_grid at, int stage) {
        const auto row = [&](int r) { return att_key<SHIFT>(a, at, r, p.nk); };
        att_load<D, ATT_KEYS>(kv + stage * STAGE, k, a.k_ld, hd, x.fast, row);
        att_load<D, ATT_KEYS>(kv + stage * STAGE + ATT_KEYS * PITCH, v, a.v_ld, hd, x.fast, row);
        if (REL) att_load_terms<MT, TP>(th + stage * ROWS * TP, terms_h, at.y, ROWS, a.grid_h, p.i0, x.q_pad);
    };

    att_load<D, BQ>(qs, q, a.q_ld, hd, x.fast, [&](int r) { return p.i0 + r < p.nq ? p.i0 + r : -1; });
    const int row0 = warp * 16 * MT;       /* of this warp */
    constexpr bool HELD = !REL && D <= 64; /* else the fragments of q are read again for every tile: registers */
    [[maybe_unused]] constexpr int UNROLL = REL && D == 80 ? 2 : D / 16; /* more would spill */
    unsigned qf[MT][HELD ? D / 16 : 1][4];
    const auto q_frag = [&](int m, int kk, unsigned f[4]) {
        att_frag_a<D>(f, qs, row0 + 16 * m, 16 * kk);
        for (int i = 0; i < 4; i++) f[i] ^= att_sign(x);
    };
    const float factor = fabsf(x.scale2);
    float o[MT][D / 8][4] = {}, top[MT][2], sum[MT][2];
    for (int m = 0; m < MT; m++)
        for (int h = 0; h < 2; h++) top[m][h] = -INFINITY, sum[m][h] = 0;
    att_dropout drop = {};
    if (DROP) drop = att_dropout_of(x, p);

    for (int x0 = 0; x0 < (SHIFT == 6 ? a.grid_w : 1); x0 += ATT_KEYS) { /* 64 columns of the grid */
        if (x0) DEV_SYNC();                                              /* the last tile's readers are done */
        if (p.nk) load({0, x0}, 0);
        dev_copy_commit();
        if constexpr (REL) {
            for (int m = 0; m < MT; m++) {
                att_width_terms<WIDE>(x, terms_w, x0, p.i0 + row0 + 16 * m + g, own + m * WIDE * ATT_OWN);
                for (int n = 0; n < (WIDE_HELD ? WIDE : 0); n++) att_load_own(wide[m][n], own, m * WIDE + n);
            }
        }
        dev_copy_wait<0>();
        DEV_SYNC();
        if constexpr (HELD) {
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int kk = 0; kk < D / 16; kk++) q_frag(m, kk, qf[m][kk]);
        }
        const int end = REL ? a.grid_h : p.nk;
        constexpr int STEP = REL ? ROWS : ATT_KEYS;
        int stage = 0;
        for (int from = 0; from < end; from += STEP, stage ^= 1) {
            const __nv_bfloat16 *const ks = kv + stage * STAGE, *const vs = ks + ATT_KEYS * PITCH;
            [[maybe_unused]] const att_grid at = REL ? att_grid{from, x0} : att_grid{0, from};
            if (from) {
                dev_copy_wait<0>();
                DEV_SYNC();
            }
            if (from + STEP < end) load(REL ? att_grid{from + STEP, x0} : att_grid{0, from + STEP}, stage ^ 1);
            dev_copy_commit();
            float s[MT][N][4] = {};
            if constexpr (REL) {
#pragma unroll
                for (int m = 0; m < MT; m++)
#pragma unroll
                    for (int n = 0; n < N; n++) {
                        if (WIDE_HELD)
                            for (int i = 0; i < 4; i++) s[m][n][i] = wide[m][n % WIDE][i];
                        else
                            att_load_own(s[m][n], own, m * WIDE + n % WIDE);
                    }
            }
#pragma unroll UNROLL
            for (int kk = 0; kk < D / 16; kk++) {
                if constexpr (!HELD)
                    for (int m = 0; m < MT; m++) q_frag(m, kk, qf[m][0]);
#pragma unroll
                for (int n = 0; n < N; n += 2) {
                    unsigned b[4];
                    att_frag_b<D>(b, ks, 8 * n, 16 * kk);
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        dev_mma_bf16(s[m][n], qf[m][HELD ? kk : 0], b);
                        dev_mma_bf16(s[m][n + 1], qf[m][HELD ? kk : 0], b + 2);
                    }
                }
            }
            if (!REL && from + ATT_KEYS > p.nk) {
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        if (att_key<SHIFT>(a, at, 8 * n + 2 * t + i, p.nk) >= 0) continue;
#pragma unroll
                        for (int m = 0; m < MT; m++) s[m][n][i] = s[m][n][2 + i] = -INFINITY;
                    }
            }
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    float most = top[m][h], high[ROWS]; /* rel_h bias, base-2 logarithm as `most` */
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        high[r] = REL ? th[(stage * ROWS + r) * TP + row0 + 16 * m + g + 8 * h] * factor : 0.0f;
                        float large = -INFINITY;
#pragma unroll
                        for (int n = r * WIDE; n < (r + 1) * WIDE; n++)
                            large = fmaxf(large, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
                        most = fmaxf(most, REL ? fmaf(large, factor, high[r]) : large * factor);
                    }
                    most = fmaxf(most, __shfl_xor_sync(DEV_FULL, most, 1));
                    most = fmaxf(most, __shfl_xor_sync(DEV_FULL, most, 2));
                    const float decay = dev_exp2(top[m][h] - most);
                    top[m][h] = most;
                    float add = 0;
#pragma unroll
                    for (int n = 0; n < N; n++)
#pragma unroll
                        for (int i = 0; i < 2; i++) {
                            s[m][n][2 * h + i] =
                                dev_exp2(fmaf(s[m][n][2 * h + i], factor, REL ? high[n / WIDE] - most : -most));
                            add += s[m][n][2 * h + i];
                        }
                    sum[m][h] = fmaf(sum[m][h], decay, add);
#pragma unroll
                    for (int n = 0; n < D / 8; n++) o[m][n][2 * h] *= decay, o[m][n][2 * h + 1] *= decay;
                }
            if (DROP) {
#pragma unroll
                for (int m = 0; m < MT; m++)
#pragma unroll
                    for (int n = 0; n < N; n++)
#pragma unroll
                        for (int h = 0; h < 2; h++) {
                            const int i = p.i0 + row0 + 16 * m + g + 8 * h, c = 8 * n + 2 * t;
                            const float2 f = att_kept_at<SHIFT>(x, drop, i, at, c, p.nk);
                            s[m][n][2 * h] *= f.x;
                            s[m][n][2 * h + 1] *= f.y;
                        }
            }
#pragma unroll
            for (int kk = 0; kk < ATT_KEYS / 16; kk++) {
                unsigned w[MT][4];
#pragma unroll
                for (int m = 0; m < MT; m++) att_frag_of(w[m], &s[m][2 * kk]);
#pragma unroll
                for (int n = 0; n < D / 8; n += 2) {
                    unsigned b[4];
                    att_frag_b_trans<D>(b, vs, 16 * kk, 8 * n);
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        dev_mma_bf16(o[m][n], w[m], b);
                        dev_mma_bf16(o[m][n + 1], w[m], b + 2);
                    }
                }
            }
        }
    }

#pragma unroll
    for (int m = 0; m < MT; m++) {
        float by[2];
        const int first = p.i0 + row0 + 16 * m;
        for (int h = 0; h < 2; h++) {
            float all = sum[m][h];
            all += __shfl_xor_sync(DEV_FULL, all, 1);
            all += __shfl_xor_sync(DEV_FULL, all, 2);
            by[h] = all > 0 ? 1.0f / all : 0.0f;
            const int i = first + g + 8 * h;
            if (t == 0 && i < p.nq)
                a.lse[(int64_t)(p.q0 + i) * a.heads + p.head] = all > 0 ? ATT_LN2 * (top[m][h] + log2f(all)) : 0.0f;
        }
        att_store<D>(qs + (row0 + 16 * m) * PITCH, o[m], by[0], by[1], y + p.q0 * y_ld + p.head * hd, y_ld, hd,
                     x.fast_y, 0.0f, [&](int r) { return first + r < p.nq ? first + r : -1; });
    }
}

struct fwd_pass {
    template <int D, int SHIFT, bool DROP> static cudaError_t run(const att &x, cudaStream_t s)
    {
        constexpr int MT = (D == 64 || D == 80) && !DROP ? 2 : 1, BQ = 64 * MT;
        size_t bytes = (size_t)(BQ + 4 * ATT_KEYS) * att_pitch<D> * 2;
        if (SHIFT) bytes += (size_t)2 * (ATT_KEYS >> SHIFT) * (BQ + 4) * 4;
        if (SHIFT) bytes += (size_t)BQ * (4 << SHIFT);
        const cudaError_t e = att_allow(attention_fwd<D, MT, SHIFT, DROP>, bytes);
        if (e != cudaSuccess) return e;
        const unsigned blocks = att_blocks(x.a.q_off, x.a.n_seq, x.a.q_len, x.a.q_rows, BQ);
        return dev_launch((attention_fwd<D, MT, SHIFT, DROP>), dim3(blocks, (unsigned)x.a.heads), ATT_THREADS, bytes, s,
                          x);
    }
};

cudaError_t att_bf16_fwd(const att &x, cudaStream_t s)
{
    return att_by_shape<fwd_pass>(x, s);
}
