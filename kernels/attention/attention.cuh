/* Shared by the attention kernels: partition of the work, tiles in shared memory, fragments of tensor-core products.
 *
 * Tiles of rows are stored with 8 elements of padding: a row is then an odd multiple of 16 bytes, and the 8 rows that
 * an ldmatrix reads lie in different banks. Scores are base-2 logarithms, since the hardware computes exp2.
 *
 * With relative positions, key (y,x) of a grid takes column (y - y0) << SHIFT | x of a tile: rows of the grid are
 * padded to 16 keys (SHIFT 4) or 64 (6); wider grids go by chunks of 64 columns; SHIFT 0: no relative positions. The
 * rel_w bias then depends on the column of the tile alone: the accumulators of QK^T start from it instead of from zero.
 * The rel_h bias is one number for a row of the grid: it goes into the shift of the exponents. Both tables of biases by
 * query and row or column of the grid ("terms", queries contiguous) are computed once by attention_rel.cu. */
#ifndef MCS_KERNELS_ATTENTION_CUH
#define MCS_KERNELS_ATTENTION_CUH

#include "kernels/attention/attention.h"
#include "kernels/common/device.cuh"
#include "kernels/common/philox.cuh"

constexpr int ATT_THREADS = 128, ATT_WARPS = 4, ATT_KEYS = 64; /* keys of a tile */
constexpr float ATT_LOG2E = 1.44269504088896f, ATT_LN2 = 0.693147180559945f;

/* A launch's arguments: the caller's, and values derived from them. */
struct att {
    struct k_attention a;
    float scale, scale2;        /* scale2 = scale log2(e) */
    float keep;                 /* 1 / (1 - p) */
    unsigned below;             /* a draw below it is dropped */
    int fast;                   /* rows of q, k, v and their gradients lie on 16 bytes */
    int fast_y;                 /* so do those of y, dy */
    int q_pad;                  /* a row of terms: q_len rounded up to 8 */
    float *terms_h, *terms_w;   /* (n_seq heads, grid, q_pad), times log2(e); in bf16 over |scale| instead */
    float *dterms_h, *dterms_w; /* gradients, of the natural scores */
    float *lse2, *delta;        /* (heads, q_rows): lse log2(e); dy . y - dlse */
    float *parts;               /* (n_parts, 2 grid_h + 2 grid_w - 2, head_dim) */
    int n_parts;
};

/* Turns pairs of bf16 where the scale is negative: the products' factor is |scale|. */
static DEV_INLINE unsigned att_sign(const att &x)
{
    return x.scale2 < 0 ? 0x80008000u : 0u;
}

struct att_piece {
    int seq, head, i0;  /* the first row of the tile within its sequence */
    int q0, nq, k0, nk; /* first rows and lengths */
    int left;           /* blocks without a tile: their number */
};

static DEV_INLINE int att_clip(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}
static DEV_INLINE void att_span(const int32_t *off, int seq, int len, int rows, int *first, int *n)
{
    if (!off) {
        *first = seq * len, *n = len;
        return;
    }
    *first = att_clip(off[seq], 0, rows);
    *n = att_clip(off[seq + 1], *first, rows) - *first;
}

/* Tile blockIdx.x of head blockIdx.y, counting tiles of TILE rows of q or of k through all sequences. False for blocks
 * beyond the last tile. Whole warps agree. */
template <int TILE> static DEV_INLINE bool att_find(const struct k_attention &a, bool keys, att_piece &p)
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
        int before = 0;
        found = false;
        for (int s0 = 0; s0 < a.n_seq && !found; s0 += DEV_WARP) {
            int first, n = 0;
            if (s0 + lane < a.n_seq) att_span(off, s0 + lane, 0, rows, &first, &n);
            const int mine = (n + TILE - 1) / TILE;
            int sum = mine;
            for (int d = 1; d < DEV_WARP; d *= 2) {
                const int v = __shfl_up_sync(DEV_FULL, sum, (unsigned)d);
                if (lane >= d) sum += v;
            }
            const unsigned hit = __ballot_sync(DEV_FULL, before + sum > target);
            if (hit) {
                const int at = __ffs((int)hit) - 1;
                p.seq = s0 + at;
                p.i0 = (target - before - __shfl_sync(DEV_FULL, sum - mine, at)) * TILE;
                found = true;
            } else {
                before += __shfl_sync(DEV_FULL, sum, DEV_WARP - 1);
            }
        }
        if (!found) {
            p.left = target - before;
            return false;
        }
    }
    att_span(a.q_off, p.seq, a.q_len, a.q_rows, &p.q0, &p.nq);
    att_span(a.k_off, p.seq, a.k_len, a.k_rows, &p.k0, &p.nk);
    return found;
}

/* A tile of keys: grid row of column 0, first grid column; without relative positions y 0, x the first key. */
struct att_grid {
    int y, x;
};
/* The key at column c of a tile: -1 where there is none. */
template <int SHIFT> static DEV_INLINE int att_key(const struct k_attention &a, att_grid at, int c, int nk)
{
    const int kx = at.x + (SHIFT ? c & ((1 << SHIFT) - 1) : c);
    if constexpr (SHIFT) {
        const int ky = at.y + (c >> SHIFT);
        return ky < a.grid_h && kx < a.grid_w ? ky * a.grid_w + kx : -1;
    } else {
        return kx < nk ? kx : -1;
    }
}

/* What dropout makes of the probability of (query i, key j): 0 or 1 / (1 - p). */
struct att_dropout {
    philox_key key;
    unsigned sample, step;
};
static DEV_INLINE att_dropout att_dropout_of(const att &x, const att_piece &p)
{
    return {philox_key_of(x.a.run->seed, x.a.site), (unsigned)((x.a.first_seq + p.seq) * x.a.heads + p.head),
            x.a.run->step};
}
static DEV_INLINE float att_kept(const att &x, const att_dropout &d, int i, int j)
{
    const uint64_t bits = philox_bits(d.key, (uint32_t)i * 32768u + (uint32_t)j / 2, d.sample, d.step);
    return (j & 1 ? (uint32_t)bits : (uint32_t)(bits >> 32)) < x.below ? 0.0f : x.keep;
}
/* Of keys j and j + 1, j even. */
static DEV_INLINE float2 att_kept2(const att &x, const att_dropout &d, int i, int j)
{
    const uint64_t bits = philox_bits(d.key, (uint32_t)i * 32768u + (uint32_t)j / 2, d.sample, d.step);
    return make_float2((uint32_t)(bits >> 32) < x.below ? 0.0f : x.keep, (uint32_t)bits < x.below ? 0.0f : x.keep);
}

/* Of columns c and c + 1 of a tile of keys, c even. */
template <int SHIFT>
static DEV_INLINE float2 att_kept_at(const att &x, const att_dropout &d, int i, att_grid at, int c, int nk)
{
    if constexpr (SHIFT)
        return make_float2(att_kept(x, d, i, att_key<SHIFT>(x.a, at, c, nk)),
                           att_kept(x, d, i, att_key<SHIFT>(x.a, at, c + 1, nk)));
    else
        return att_kept2(x, d, i, at.x + c);
}

/* ---- bfloat16 tiles ---- */

template <int D> constexpr int att_pitch = D + 8;

static DEV_INLINE unsigned att_pack(float low, float high)
{
    const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
    unsigned u;
    memcpy(&u, &h, sizeof u);
    return u;
}

/* Which row and which 16 bytes of it the i-th copy moves: 8 copies next to each other fill all banks once. */
template <int D, int ROWS> static DEV_INLINE void att_place(int i, int *r, int *c)
{
    constexpr int C = D / 8;
    if constexpr (C % 8 == 0) {
        *r = i / C, *c = i % C;
    } else if constexpr (C == 4) {
        const int u = i / 4;
        *r = u / 8 * 8 + u % 2 * 4 + u / 2 % 4, *c = i % 4;
    } else {
        constexpr int WHOLE = C / 8 * 8; /* 8 and 2 of 10 */
        static_assert(C - WHOLE == 2, "16, 32, 64, 80 or 128 columns");
        const int j = i - ROWS * WHOLE, u = j / 2;
        if (WHOLE && j < 0)
            *r = i / 8, *c = i % 8;
        else
            *r = u / 8 * 8 + u % 4 * 2 + u / 4 % 2, *c = WHOLE + j % 2;
    }
}

/* ROWS rows of hd elements, row(r) of `from` (-1: zeros), zeros behind hd, by asynchronous copies. Where rows do not
 * lie on 16 bytes, element by element. The caller commits. */
template <int D, int ROWS, class ROW>
static DEV_INLINE void att_load(__nv_bfloat16 *to, const __nv_bfloat16 *from, int64_t ld, int hd, int fast, ROW row)
{
    static_assert(ROWS * D / 8 % ATT_THREADS == 0, "each thread as many copies");
#pragma unroll 1 /* more would keep an address each in registers, and so would a loop over i */
    for (int i0 = 0; i0 < ROWS * D / 8; i0 += ATT_THREADS) {
        const int i = i0 + (int)threadIdx.x;
        int r, c;
        att_place<D, ROWS>(i, &r, &c);
        const int at = row(r);
        const bool in = at >= 0 && 8 * c < hd;
        __nv_bfloat16 *dst = to + r * att_pitch<D> + 8 * c;
        const __nv_bfloat16 *src = in ? from + at * ld + 8 * c : from;
        if (fast) {
            dev_copy_async16(dst, src, in ? 16 : 0);
        } else {
#pragma unroll 1
            for (int j = 0; j < 8; j += 2)
                *(unsigned *)(dst + j) = att_pack(in && 8 * c + j < hd ? dev_load(src + j) : 0.0f,
                                                  in && 8 * c + j + 1 < hd ? dev_load(src + j + 1) : 0.0f);
        }
    }
}

/* Rows first .. first + 63 of a float table (n, hd), rounded; zeros outside. By the whole block. */
template <int D> static DEV_INLINE void att_load_table(__nv_bfloat16 *to, const float *table, int first, int n, int hd)
{
    const bool fours = hd % 4 == 0 && ((size_t)table & 15) == 0;
    for (int i = (int)threadIdx.x; i < 64 * D / 4; i += ATT_THREADS) {
        int r, c;
        att_place<D, 64>(i / 2, &r, &c);
        c = 8 * c + i % 2 * 4;
        const float *const from = table + (int64_t)(first + r) * hd + c;
        float4 v = make_float4(0, 0, 0, 0);
        if (first + r < n && c < hd) {
            if (fours)
                v = dev_load16(from);
            else
                v = make_float4(from[0], c + 1 < hd ? from[1] : 0.0f, c + 2 < hd ? from[2] : 0.0f,
                                c + 3 < hd ? from[3] : 0.0f);
        }
        dev_store8(to + r * att_pitch<D> + c, make_uint2(att_pack(v.x, v.y), att_pack(v.z, v.w)));
    }
}

/* Fragments of a tile at (row, column), multiples of 16. A: 16 x 16 of rows m and columns k. B of a tile that has the
 * product's columns as rows, and its k as columns; and of one that has k as rows: both give two n-tiles, b and b+2. */
template <int D> static DEV_INLINE void att_frag_a(unsigned a[4], const __nv_bfloat16 *tile, int row, int col)
{
    const int l = (int)threadIdx.x % DEV_WARP;
    dev_ldmatrix_x4(a, tile + (l % 16 * att_pitch<D> + l / 16 * 8) + (row * att_pitch<D> + col));
}
template <int D> static DEV_INLINE void att_frag_b(unsigned b[4], const __nv_bfloat16 *tile, int row, int col)
{
    const int l = (int)threadIdx.x % DEV_WARP;
    dev_ldmatrix_x4(b, tile + ((l % 8 + l / 16 * 8) * att_pitch<D> + l / 8 % 2 * 8) + (row * att_pitch<D> + col));
}
template <int D> static DEV_INLINE void att_frag_b_trans(unsigned b[4], const __nv_bfloat16 *tile, int row, int col)
{
    const int l = (int)threadIdx.x % DEV_WARP;
    dev_ldmatrix_x4_trans(b, tile + (l % 16 * att_pitch<D> + l / 16 * 8) + (row * att_pitch<D> + col));
}
/* Two neighbouring n-tiles of a product as the A of the next: 16 columns become k. */
static DEV_INLINE void att_frag_of(unsigned a[4], const float s[2][4])
{
    a[0] = att_pack(s[0][0], s[0][1]);
    a[1] = att_pack(s[0][2], s[0][3]);
    a[2] = att_pack(s[1][0], s[1][1]);
    a[3] = att_pack(s[1][2], s[1][3]);
}

/* Writes a warp's 16 x hd sums times f to rows row(0..15) of `to` (negative: none). beta 0 and rows on 16 bytes:
 * through the warp's own 16 rows of `stage`, 16 bytes at once. */
template <int D, class ROW>
static DEV_INLINE void att_store(__nv_bfloat16 *stage, const float s[D / 8][4], float f0, float f1, __nv_bfloat16 *to,
                                 int64_t ld, int hd, int fast, float beta, ROW row)
{
    const int l = (int)threadIdx.x % DEV_WARP, g = l / 4, t = l % 4;
    if (fast && beta == 0) {
        __syncwarp();
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            *(unsigned *)(stage + g * att_pitch<D> + 8 * n + 2 * t) = att_pack(s[n][0] * f0, s[n][1] * f0);
            *(unsigned *)(stage + (g + 8) * att_pitch<D> + 8 * n + 2 * t) = att_pack(s[n][2] * f1, s[n][3] * f1);
        }
        __syncwarp();
#pragma unroll 2
        for (int i = l; i < 2 * D; i += DEV_WARP) {
            int r, c;
            att_place<D, 16>(i, &r, &c);
            const int at = row(r);
            if (at >= 0 && 8 * c < hd)
                dev_store16((float *)(to + at * ld + 8 * c),
                            dev_load16((const float *)(stage + r * att_pitch<D> + 8 * c)));
        }
        return;
    }
    for (int h = 0; h < 2; h++) {
        const int at = row(g + 8 * h);
        if (at < 0) continue;
        const float f = h ? f1 : f0;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const int c = 8 * n + 2 * t;
            if (c < hd) dev_blend(to + at * ld + c, beta, (h ? s[n][2] : s[n][0]) * f);
            if (c + 1 < hd) dev_blend(to + at * ld + c + 1, beta, (h ? s[n][3] : s[n][1]) * f);
        }
    }
}

/* n rows of 64 MT queries from i0 on, of terms (grid, q_pad), from grid row or column g0 on. Rows past the grid: -inf,
 * whose keys get no weight; queries past q_pad: 0. */
template <int MT, int PITCH>
static DEV_INLINE void att_load_terms(float *to, const float *terms, int g0, int n, int grid, int i0, int q_pad)
{
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n * 16 * MT; i += ATT_THREADS) {
        const int r = i / (16 * MT), c = 4 * (i % (16 * MT));
        const bool in = i0 + c < q_pad;
        if (g0 + r < grid)
            dev_copy_async16(to + r * PITCH + c, in ? terms + (int64_t)(g0 + r) * q_pad + i0 + c : terms, in ? 16 : 0);
        else
            dev_store16(to + r * PITCH + c, make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY));
    }
}

/* A thread's accumulators in thread-private shared memory: n-tiles ATT_OWN floats apart. */
constexpr int ATT_OWN = 4 * ATT_THREADS;
static DEV_INLINE void att_load_own(float v[4], const float *own, int n)
{
    const float4 w = dev_load16(own + n * ATT_OWN);
    v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
}
static DEV_INLINE void att_store_own(float *own, int n, const float v[4])
{
    dev_store16(own + n * ATT_OWN, make_float4(v[0], v[1], v[2], v[3]));
}

/* Copies the rel_w bias of WIDE n-tiles, queries i and i + 8, to thread-private shared memory; -inf beyond the grid.
 * One n-tile after the other, as their addresses would take registers. */
template <int WIDE>
static DEV_INLINE void att_width_terms(const att &x, const float *terms_w, int x0, int i, float *own)
{
    const int t = (int)threadIdx.x % 4;
#pragma unroll 1
    for (int n = 0; n < WIDE; n++) {
        float w[4];
        for (int e = 0; e < 4; e++) {
            const int row = i + e / 2 * 8, kx = x0 + 8 * n + 2 * t + e % 2;
            w[e] = kx < x.a.grid_w ? terms_w[(int64_t)kx * x.q_pad + (row < x.q_pad ? row : x.q_pad - 1)] : -INFINITY;
        }
        att_store_own(own, n, w);
    }
}

/* ---- launchers, one a file ---- */
cudaError_t att_bf16_fwd(const att &x, cudaStream_t s);
cudaError_t att_bf16_bwd(const att &x, cudaStream_t s);
cudaError_t att_f32_fwd(const att &x, cudaStream_t s);
cudaError_t att_f32_bwd(const att &x, cudaStream_t s);
cudaError_t att_terms(const att &x, cudaStream_t s);  /* q, rel -> terms */
cudaError_t att_tables(const att &x, cudaStream_t s); /* q, dterms -> drel */

/* Blocks that att_find needs: with offsets, the most tiles that the sequences can have. */
static inline unsigned att_blocks(const int32_t *off, int n_seq, int len, int rows, int tile)
{
    return off ? (unsigned)((rows + tile - 1) / tile + n_seq) : (unsigned)(n_seq * ((len + tile - 1) / tile));
}

/* Runs the compiled form that serves x: Pass::run<D, SHIFT, DROP>, D the head dimension's bucket. Few forms drop, and
 * none of more than 80 with relative positions. */
template <class Pass, int SHIFT> static inline cudaError_t att_by_dimension(const att &x, cudaStream_t s)
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
template <class Pass> static inline cudaError_t att_by_shape(const att &x, cudaStream_t s)
{
    return !x.a.rel_h         ? att_by_dimension<Pass, 0>(x, s)
           : x.a.grid_w <= 16 ? att_by_dimension<Pass, 4>(x, s)
                              : att_by_dimension<Pass, 6>(x, s);
}

template <class... P> static inline cudaError_t att_allow(void (*kernel)(P...), size_t bytes)
{
    if (bytes <= 48 * 1024) return cudaSuccess;
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

#endif
