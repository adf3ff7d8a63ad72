/* Shared by the attention kernels: a launch's parameters, the tile that a block works on, the mapping of tile columns
 * to keys, dropout, launch helpers. The bfloat16 kernels' tiles and fragments are in attention_tile.cuh.
 *
 * Scores are kept in base-2 log units (scaled by log2 e), because the hardware computes exp2.
 *
 * Relative positions (SAM's decomposed form) add bias_h[y_k] + bias_w[x_k] to the score of a query and the key at
 * (y_k, x_k) of the grid. attention_rel.cu computes bias_h = q . rel_h and bias_w = q . rel_w for every query before
 * the forward and backward passes. SHIFT lays out a key tile: column (y - y0) << SHIFT | x - x0, so a tile holds 4 grid
 * rows padded to 16 keys each (SHIFT 4) or one row of 64 (SHIFT 6; wider grids go in chunks of 64 columns). SHIFT 0: no
 * relative positions, column c is key x0 + c. bias_w then depends on the column of the tile alone, and is the initial
 * value of the score accumulators; bias_h is one number per query and grid row, and is added to the exponent. */
#ifndef MCS_KERNELS_ATTENTION_CUH
#define MCS_KERNELS_ATTENTION_CUH

#include "kernels/attention/attention.h"
#include "kernels/common/device.cuh"
#include "kernels/common/philox.cuh"

constexpr int ATT_THREADS = 128, ATT_WARPS = 4, ATT_KEYS = 64; /* keys in a tile */
constexpr float ATT_LOG2E = 1.44269504088896f, ATT_LN2 = 0.693147180559945f;

/* A launch's parameters: the caller's arguments and values derived from them. */
struct att_params {
    struct k_attention a;
    float scale, scale2;      /* scale2 = scale log2(e) */
    float keep_scale;         /* dropout: 1 / (1 - p) */
    unsigned drop_below;      /* dropout: draws below this are dropped */
    int aligned16;            /* rows of q, k, v and of their gradients start at multiples of 16 bytes */
    int aligned16_y;          /* so do rows of y and dy */
    int q_pad;                /* row stride of the biases: q_len rounded up to 8 */
    float *bias_h, *bias_w;   /* (n_seq heads, grid_h | grid_w, q_pad): float: bias log2(e); bf16: bias / |scale| */
    float *dbias_h, *dbias_w; /* same shapes: gradients with respect to the biases themselves (natural log) */
    float *lse2, *delta;      /* (heads, q_rows): lse log2(e); dy . y - dlse */
    float *parts;             /* (n_parts, 2 grid_h + 2 grid_w - 2, head_dim): partial sums of drel_h and drel_w */
    int n_parts;
};

/* Sign mask for a pair of bf16: flips q (or k) where the scale is negative, since scores are multiplied by |scale|. */
static DEV_INLINE unsigned att_sign(const att_params &x)
{
    return x.scale2 < 0 ? 0x80008000u : 0u;
}

/* The tile of a block. */
struct att_coord {
    int seq, head, i0;  /* i0: first row of the tile within its sequence */
    int q0, nq, k0, nk; /* first row and number of rows of the sequence in q and in k */
    int excess;         /* for blocks beyond the last tile: how far beyond */
};

static DEV_INLINE int att_clip(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}
/* First row and number of rows of sequence `seq`, clipped to the tensor. */
static DEV_INLINE void att_seq_span(const int32_t *off, int seq, int len, int rows, int *first, int *n)
{
    if (!off) {
        *first = seq * len, *n = len;
        return;
    }
    *first = att_clip(off[seq], 0, rows);
    *n = att_clip(off[seq + 1], *first, rows) - *first;
}

/* The tile of this block: number blockIdx.x of head blockIdx.y, where tiles of TILE rows of q (or of k: keys) are
 * counted through all sequences. With offsets, a warp scans 32 sequences at a time. Returns false in blocks beyond the
 * last tile; the result is uniform over a warp. */
template <int TILE> static DEV_INLINE bool att_find_tile(const struct k_attention &a, bool keys, att_coord &p)
{
    const int32_t *off = keys ? a.k_off : a.q_off;
    const int len = keys ? a.k_len : a.q_len, rows = keys ? a.k_rows : a.q_rows, target = (int)blockIdx.x;
    p.head = (int)blockIdx.y;
    bool found = true;
    if (!off) {
        const int tiles = (len + TILE - 1) / TILE;
        p.seq = target / tiles;
        p.i0 = (target - p.seq * tiles) * TILE;
    } else {
        const int lane = (int)threadIdx.x % DEV_WARP;
        int tiles_before = 0;
        found = false;
        for (int s0 = 0; s0 < a.n_seq && !found; s0 += DEV_WARP) {
            int first, n = 0;
            if (s0 + lane < a.n_seq) att_seq_span(off, s0 + lane, 0, rows, &first, &n);
            const int tiles = (n + TILE - 1) / TILE;
            int scan = tiles; /* inclusive prefix sum over the lanes */
            for (int d = 1; d < DEV_WARP; d *= 2) {
                const int v = __shfl_up_sync(DEV_FULL, scan, (unsigned)d);
                if (lane >= d) scan += v;
            }
            const unsigned hit = __ballot_sync(DEV_FULL, tiles_before + scan > target);
            if (hit) {
                const int first_lane = __ffs((int)hit) - 1;
                p.seq = s0 + first_lane;
                p.i0 = (target - tiles_before - __shfl_sync(DEV_FULL, scan - tiles, first_lane)) * TILE;
                found = true;
            } else {
                tiles_before += __shfl_sync(DEV_FULL, scan, DEV_WARP - 1);
            }
        }
        if (!found) {
            p.excess = target - tiles_before;
            return false;
        }
    }
    att_seq_span(a.q_off, p.seq, a.q_len, a.q_rows, &p.q0, &p.nq);
    att_seq_span(a.k_off, p.seq, a.k_len, a.k_rows, &p.k0, &p.nk);
    return found;
}

/* Position of a key tile: first grid row and first grid column; without relative positions, y = 0 and x = first key. */
struct att_key_tile {
    int y, x;
};
/* Key index at column c of the tile, -1 where there is no key. */
template <int SHIFT> static DEV_INLINE int att_key(const struct k_attention &a, att_key_tile at, int c, int nk)
{
    const int kx = at.x + (SHIFT ? c & ((1 << SHIFT) - 1) : c);
    if constexpr (SHIFT) {
        const int ky = at.y + (c >> SHIFT);
        return ky < a.grid_h && kx < a.grid_w ? ky * a.grid_w + kx : -1;
    } else {
        return kx < nk ? kx : -1;
    }
}

/* The first key of a sequence of nk keys that query i of it does not see. */
static DEV_INLINE int att_key_end(const struct k_attention &a, int i, int nk)
{
    return a.causal && i + 1 < nk ? i + 1 : nk;
}

/* Philox counters of one (sequence, head). */
struct att_dropout {
    philox_key key;
    unsigned sample, step;
};
static DEV_INLINE att_dropout att_dropout_of(const att_params &x, const att_coord &p)
{
    return {philox_key_of(x.a.run->seed, x.a.site), (unsigned)((x.a.first_seq + p.seq) * x.a.heads + p.head),
            x.a.run->step};
}
/* Dropout factor of the probability of (query i, key j): 0 or 1 / (1 - p). One draw of 64 bits serves keys 2 n and
 * 2 n + 1; its counter i 2^15 + n is unique for fewer than 2^16 keys. */
static DEV_INLINE float att_dropout_scale(const att_params &x, const att_dropout &d, int i, int j)
{
    const uint64_t bits = philox_bits(d.key, (uint32_t)i * 32768u + (uint32_t)j / 2, d.sample, d.step);
    return (j & 1 ? (uint32_t)bits : (uint32_t)(bits >> 32)) < x.drop_below ? 0.0f : x.keep_scale;
}
/* The factors of keys j and j + 1 from one draw; j is even. */
static DEV_INLINE float2 att_dropout_scale2(const att_params &x, const att_dropout &d, int i, int j)
{
    const uint64_t bits = philox_bits(d.key, (uint32_t)i * 32768u + (uint32_t)j / 2, d.sample, d.step);
    return make_float2((uint32_t)(bits >> 32) < x.drop_below ? 0.0f : x.keep_scale,
                       (uint32_t)bits < x.drop_below ? 0.0f : x.keep_scale);
}

/* The factors of columns c and c + 1 of a key tile; c is even. */
template <int SHIFT>
static DEV_INLINE float2 att_dropout_scale_at(const att_params &x, const att_dropout &d, int i, att_key_tile at, int c,
                                              int nk)
{
    if constexpr (SHIFT)
        return make_float2(att_dropout_scale(x, d, i, att_key<SHIFT>(x.a, at, c, nk)),
                           att_dropout_scale(x, d, i, att_key<SHIFT>(x.a, at, c + 1, nk)));
    else
        return att_dropout_scale2(x, d, i, at.x + c);
}

/* ---- launchers, each in the file of its kernel ---- */
cudaError_t att_bf16_fwd(const att_params &x, cudaStream_t s);
cudaError_t att_bf16_dq(const att_params &x, cudaStream_t s);
cudaError_t att_bf16_dkv(const att_params &x, cudaStream_t s);
cudaError_t att_f32_fwd(const att_params &x, cudaStream_t s);
cudaError_t att_f32_bwd(const att_params &x, cudaStream_t s);
cudaError_t att_rel_bias(const att_params &x, cudaStream_t s); /* q, rel_h, rel_w -> bias_h, bias_w */
cudaError_t att_rel_grad(const att_params &x, cudaStream_t s); /* q, dbias_h, dbias_w -> parts */

/* Grid size for att_find_tile. With offsets (device memory) it is an upper bound of the number of tiles. */
static inline unsigned att_blocks(const int32_t *off, int n_seq, int len, int rows, int tile)
{
    return off ? (unsigned)((rows + tile - 1) / tile + n_seq) : (unsigned)(n_seq * ((len + tile - 1) / tile));
}

/* Selects the instantiation Pass::run<D, SHIFT, DROP>: D is the head dimension rounded up to a compiled size. Dropout
 * has fewer sizes, and none above 80 together with relative positions. */
template <class Pass, int SHIFT> static inline cudaError_t att_by_dimension(const att_params &x, cudaStream_t s)
{
    const int hd = x.a.head_dim;
    if (x.a.dropout_p > 0) {
        if (hd <= 16) return Pass::template run<16, SHIFT, true>(x, s);
        if constexpr (SHIFT) {
            return hd <= 80 ? Pass::template run<80, SHIFT, true>(x, s) : cudaErrorNotSupported;
        } else {
            return hd <= 64 ? Pass::template run<64, 0, true>(x, s) : Pass::template run<128, 0, true>(x, s);
        }
    }
    if (hd <= 16) return Pass::template run<16, SHIFT, false>(x, s);
    if constexpr (!SHIFT) {
        if (hd <= 32) return Pass::template run<32, 0, false>(x, s);
    }
    if (hd <= 64) return Pass::template run<64, SHIFT, false>(x, s);
    if (hd <= 80) return Pass::template run<80, SHIFT, false>(x, s);
    return Pass::template run<128, SHIFT, false>(x, s);
}
template <class Pass> static inline cudaError_t att_by_shape(const att_params &x, cudaStream_t s)
{
    return !x.a.rel_h         ? att_by_dimension<Pass, 0>(x, s)
           : x.a.grid_w <= 16 ? att_by_dimension<Pass, 4>(x, s)
                              : att_by_dimension<Pass, 6>(x, s);
}

/* Lifts the default 48 KB limit of dynamic shared memory for a kernel that needs more. */
template <class... P> static inline cudaError_t att_set_shared_bytes(void (*kernel)(P...), size_t bytes)
{
    if (bytes <= 48 * 1024) return cudaSuccess;
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

#endif
