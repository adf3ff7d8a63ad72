/* The contrastive losses (formulas: struct contrastive_attr, engine/tape/op.h). Tiles of 64 x 64 similarities are made
 * from rows of image and text in shared memory and used up there; the backward pass makes them again.
 *
 * Direction 0 is image -> text, 1 is text -> image. By direction and row i, over j != i: stats[0] = ln sum exp((1+b)
 * L_ij), stats[1] = ln sum exp(b L_ij); in the released form stats[0] = ln(1 + sum exp(L_ij)), stats[1] = 0.
 *
 * Float: plain multiply-adds, 4 x 4 a thread. bfloat16: tensor cores, and the tile of derivatives is rounded to
 * bfloat16 for the second product. Shared memory is padded against bank conflicts: rows of 80 bytes (64 and
 * a gap), tiles of 72 floats a row whose rows of 64 a quad reads in a rotated order. */
#include "kernels/common/sums.cuh"
#include "kernels/loss/losses.h"

constexpr int TILE = 64, THREADS = SUM_THREADS, LD = 72, SLAB = 128, MAX_SPLITS = 16;
typedef __nv_bfloat16 bf16;

/* How elements of type T are staged: K columns of a row at a time (64 bytes), in pieces of EACH (16 bytes). */
template <class T> struct shape {
    static constexpr int EACH = 16 / (int)sizeof(T), K = 4 * EACH, ROW = K + EACH;
    static constexpr int DEPTH = sizeof(T) == 4 ? 32 : 64;              /* rows of a slab at a time */
    static constexpr int SLAB_ROW = SLAB + (sizeof(T) == 4 ? 0 : EACH); /* its rows in shared memory */
    static constexpr int ROOM = 4 * TILE * ROW;                         /* two buffers for each side */
    static_assert(DEPTH * SLAB_ROW <= ROOM, "a slab takes the room of the buffers");
};

template <class T> struct problem {
    const T *image, *text; /* (batch, d) */
    int64_t batch, row0, rows;
    int d, released;
    float b_image, b_text, inv_tau;
    const float *log_scale;
    double a, log_negatives; /* ln(B-1) */
    /* The rows, and b, of a direction. */
    DEV_INLINE const T *x(int dir) const
    {
        return dir ? text : image;
    }
    DEV_INLINE float b(int dir) const
    {
        return dir ? b_text : b_image;
    }
};
template <class T> static DEV_INLINE float scale_of(const problem<T> &p)
{
    return p.log_scale ? (float)exp((double)*p.log_scale) : p.inv_tau;
}
/* Of exp(m1 L), exp(m0 L) in a direction. */
template <class T> static DEV_INLINE float m1_of(const problem<T> &p, int dir)
{
    return p.released ? 1.0f : 1.0f + p.b(dir);
}

/* A piece of 16 bytes of x at element `from` if `inside`, else zeros; V: by one copy, else up to `n` of its elements.
 */
template <class T, bool V> static DEV_INLINE void piece(T *to, const T *x, int64_t from, bool inside, int n)
{
    if constexpr (V) {
        dev_copy_async16(to, inside ? x + from : x, inside ? 16 : 0);
    } else {
        for (int j = 0; j < shape<T>::EACH; j++) dev_store(to + j, inside && j < n ? dev_load(x + from + j) : 0.0f);
    }
}

/* to (TILE, ROW) = rows r0 ... of x below `end`, columns k0 ... below d; zeros outside. A piece a thread; eight
 * neighbours have two rows that are four apart, which lie in different banks. */
template <class T, bool V> static DEV_INLINE void stage(T *to, const T *x, int64_t r0, int64_t end, int k0, int d)
{
    constexpr int EACH = shape<T>::EACH, ROW = shape<T>::ROW;
    const int q = (int)threadIdx.x / 4, r = q / 8 * 8 + q % 2 * 4 + q / 2 % 4, c = (int)threadIdx.x % 4 * EACH;
    piece<T, V>(to + r * ROW + c, x, (r0 + r) * d + k0 + c, r0 + r < end && k0 + c < d, d - k0 - c);
}

/* to (DEPTH, SLAB_ROW) = rows r0 ... of x below `end`, columns d0 to d0 + SLAB. */
template <class T, bool V> static DEV_INLINE void stage_slab(T *to, const T *x, int64_t r0, int64_t end, int d0, int d)
{
    constexpr int EACH = shape<T>::EACH, DEPTH = shape<T>::DEPTH, SLAB_ROW = shape<T>::SLAB_ROW;
    constexpr int PIECES = SLAB / EACH;
    for (int i = (int)threadIdx.x; i < DEPTH * PIECES; i += THREADS) {
        const int r = i / PIECES, c = i % PIECES * EACH;
        piece<T, V>(to + r * SLAB_ROW + c, x, (r0 + r) * d + d0 + c, r0 + r < end && d0 + c < d, d - d0 - c);
    }
}

/* A thread's rows of a tile in plain products: four, this one and each 16th below it. A warp has two of these, which
 * are two apart: then its stores to rows of LD floats meet no bank twice. */
static DEV_INLINE int plain_row()
{
    const int y = (int)threadIdx.x / 16;
    return y / 4 * 4 + y % 2 * 2 + y / 2 % 2;
}

/* Float: rows plain_row() + 16 i, columns threadIdx % 16 + 16 j. */
struct plain_tile {
    float v[4][4];
    DEV_INLINE void add(const float *a, const float *b)
    {
        constexpr int ROW = shape<float>::ROW, K = shape<float>::K;
        a += plain_row() * ROW;
        b += (int)threadIdx.x % 16 * ROW;
#pragma unroll 1 /* more would want more registers than two blocks a processor have */
        for (int k = 0; k < K; k += 4) {
            float4 fb[4];
#pragma unroll
            for (int j = 0; j < 4; j++) fb[j] = dev_load16(b + 16 * j * ROW + k);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float4 fa = dev_load16(a + 16 * i * ROW + k);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    v[i][j] = fmaf(fa.x, fb[j].x, v[i][j]);
                    v[i][j] = fmaf(fa.y, fb[j].y, v[i][j]);
                    v[i][j] = fmaf(fa.z, fb[j].z, v[i][j]);
                    v[i][j] = fmaf(fa.w, fb[j].w, v[i][j]);
                }
            }
        }
    }
    DEV_INLINE void store(float scale, float *s) const
    {
        s += plain_row() * LD + (int)threadIdx.x % 16;
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[16 * i * LD + 16 * j] = scale * v[i][j];
    }
};

/* bfloat16: warp w has rows w % 4 * 16 ..., columns w / 4 * 32 ...; registers as mma lays them out. */
struct mma_tile {
    float v[4][4];
    DEV_INLINE void add(const bf16 *a, const bf16 *b)
    {
        constexpr int ROW = shape<bf16>::ROW, K = shape<bf16>::K;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        a += (warp % 4 * 16 + lane % 16) * ROW + lane / 16 * 8;
        b += (warp / 4 * 32 + lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < K; k += 16) {
            unsigned fa[4], fb[4];
            dev_ldmatrix_x4(fa, a + k);
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                dev_ldmatrix_x4(fb, b + 8 * j * ROW + k);
                dev_mma_bf16(v[j], fa, fb);
                dev_mma_bf16(v[j + 1], fa, fb + 2);
            }
        }
    }
    DEV_INLINE void store(float scale, float *s) const
    {
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        s += (warp % 4 * 16 + lane / 4) * LD + warp / 4 * 32 + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i += 2)
                dev_store8(s + i / 2 * 8 * LD + 8 * j,
                           make_uint2(__float_as_uint(scale * v[j][i]), __float_as_uint(scale * v[j][i + 1])));
    }
};
template <class T> struct tile_of {
    typedef plain_tile type;
};
template <> struct tile_of<bf16> {
    typedef mma_tile type;
};

/* s (TILE, LD) = scale (rows a0 ... of a) (rows b0 ... of b)^T, seen by the whole block. Nobody may still read `room`,
 * nor, behind the first barrier in here, s. */
template <class T, bool V>
static DEV_INLINE void similarities(T *room, const T *a, int64_t a0, int64_t a_end, const T *b, int64_t b0,
                                    int64_t b_end, int d, float scale, float *s)
{
    constexpr int ROW = shape<T>::ROW, K = shape<T>::K;
    constexpr int SIDE = TILE * ROW;
    typename tile_of<T>::type sum = {};
    stage<T, V>(room, a, a0, a_end, 0, d);
    stage<T, V>(room + SIDE, b, b0, b_end, 0, d);
    dev_copy_commit();
    for (int k0 = 0, now = 0; k0 < d; k0 += K, now ^= 1) {
        dev_copy_wait<0>();
        DEV_SYNC(); /* this buffer is full, and the other one has been read */
        if (k0 + K < d) {
            T *next = room + (now ^ 1) * 2 * SIDE;
            stage<T, V>(next, a, a0, a_end, k0 + K, d);
            stage<T, V>(next + SIDE, b, b0, b_end, k0 + K, d);
            dev_copy_commit();
        }
        sum.add(room + now * 2 * SIDE, room + now * 2 * SIDE + SIDE);
    }
    sum.store(scale, s);
    DEV_SYNC();
}

/* After the products four threads share a row of the tile: row threadIdx / 4, columns column(0) to column(15). */
static DEV_INLINE int column(int m)
{
    return (int)threadIdx.x % 4 + 4 * ((m + (int)threadIdx.x / 16) % 16);
}

/* A running log-sum-exp: sum e^top. */
struct lse {
    float top;
    double sum;
};
/* Two of them in one: a first always, so the order is fixed. */
static DEV_INLINE lse lse_join(lse a, lse b)
{
    if (b.top == -INFINITY) return a;
    if (a.top == -INFINITY) return b;
    const float top = fmaxf(a.top, b.top);
    return {top, a.sum * (double)expf(a.top - top) + b.sum * (double)expf(b.top - top)};
}
/* Takes in m L_j of this thread's columns; bit j of `used`: the column counts. */
static DEV_INLINE void lse_add(lse &r, const float v[TILE / 4], unsigned used, float m)
{
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int j = 0; j < TILE / 4; j++)
        if (used >> j & 1) top = fmaxf(top, m * v[j]);
    if (!used) return;
    if (top > r.top) {
        r.sum *= (double)expf(r.top - top); /* 0 the first time */
        r.top = top;
    }
#pragma unroll
    for (int j = 0; j < TILE / 4; j++)
        if (used >> j & 1) sum += expf(m * v[j] - r.top);
    r.sum += (double)sum;
}
/* The same of the four threads of a row, in all of them. */
static DEV_INLINE lse lse_quad(lse r)
{
    for (int i = 1; i < 4; i *= 2) {
        const lse o = {__shfl_xor_sync(DEV_FULL, r.top, i), __shfl_xor_sync(DEV_FULL, r.sum, i)};
        r = threadIdx.x & (unsigned)i ? lse_join(o, r) : lse_join(r, o);
    }
    return r;
}
static DEV_INLINE double sum_quad(double v)
{
    v += __shfl_xor_sync(DEV_FULL, v, 1);
    return v + __shfl_xor_sync(DEV_FULL, v, 2);
}

static DEV_INLINE double log_add(double x, double y)
{
    const double top = x > y ? x : y;
    return top + log1p(exp((x > y ? y : x) - top));
}
/* ln( a e^L_ii + (B-1) S1/S0 ) */
template <class T> static DEV_INLINE double log_denominator(const problem<T> &p, double diag, double log1, double log0)
{
    const double negative = p.log_negatives + log1 - log0;
    return p.a > 0 ? log_add(log(p.a) + diag, negative) : negative;
}

/* Partial log-sum-exp of one row of a direction over one column split. */
struct seen {
    lse r1, r0;
    double off, diag; /* sum over j != i of L_ij; L_ii or 0 */
};

/* part (2, rows, splits). Block: rows of a tile, a split of the columns, a direction. */
template <class T, bool V>
__global__ void __launch_bounds__(THREADS, 2) contrastive_rows(problem<T> p, int tiles, seen *part)
{
    SHARED_ARRAY(T, room, [shape<T>::ROOM]);
    SHARED_ARRAY(float, s, [TILE * LD]);
    const int dir = (int)blockIdx.z, r = (int)threadIdx.x / 4;
    const int64_t local = (int64_t)blockIdx.x * TILE + r, row = p.row0 + local, end = p.row0 + p.rows;
    const int64_t first = (int64_t)blockIdx.y * tiles * TILE, all = first + (int64_t)tiles * TILE;
    const int64_t last = all < p.batch ? all : p.batch;
    const float scale = scale_of(p), m1 = m1_of(p, dir), m0 = p.b(dir);
    seen w = {{-INFINITY, 0}, {-INFINITY, 0}, 0, 0};
    for (int64_t j0 = first; j0 < last; j0 += TILE) {
        float v[TILE / 4];
        unsigned used = 0;
        similarities<T, V>(room, p.x(dir), p.row0 + (int64_t)blockIdx.x * TILE, end, p.x(!dir), j0, p.batch, p.d, scale,
                           s);
#pragma unroll
        for (int m = 0; m < TILE / 4; m++) {
            const int64_t j = j0 + column(m);
            v[m] = s[r * LD + column(m)];
            if (j == row) w.diag = (double)v[m];
            if (j < p.batch && j != row) used |= 1u << m;
        }
        lse_add(w.r1, v, used, m1);
        if (!p.released) lse_add(w.r0, v, used, m0);
#pragma unroll
        for (int m = 0; m < TILE / 4; m++)
            if (p.released && (used >> m & 1)) w.off += (double)v[m];
    }
    w.r1 = lse_quad(w.r1);
    w.r0 = lse_quad(w.r0);
    w.off = sum_quad(w.off);
    w.diag = sum_quad(w.diag); /* three of them are 0 */
    if (threadIdx.x % 4 == 0 && local < p.rows) part[(dir * p.rows + local) * gridDim.y + blockIdx.y] = w;
}

/* A thread a row and direction: its statistics, and its part of the loss. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    contrastive_finish(problem<T> p, const seen *part, int splits, float *stats, double *loss)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= 2 * p.rows) return;
    const int dir = (int)(i / p.rows);
    const double count = (double)p.batch;
    seen w = part[i * splits];
    for (int k = 1; k < splits; k++) {
        const seen o = part[i * splits + k];
        w.r1 = lse_join(w.r1, o.r1);
        w.r0 = lse_join(w.r0, o.r0);
        w.off += o.off;
        w.diag += o.diag;
    }
    double log1 = w.r1.top + log(w.r1.sum), log0 = 0;
    if (p.released) {
        log1 = log_add(log1, 0);
        loss[i] = (((1 + (double)p.b(dir)) * w.off - w.diag) / count + p.log_negatives - log1) / count;
    } else {
        log0 = w.r0.top + log(w.r0.sum);
        loss[i] = (log_denominator(p, w.diag, log1, log0) - w.diag) / count;
    }
    stats += 2 * (dir * p.batch + p.row0 + i % p.rows);
    stats[0] = (float)log1;
    stats[1] = (float)log0;
}

/* The derivative of one direction's loss by L_ij, j != i, is flat + c1 exp(m1 L_ij - l1) + c0 exp(m0 L_ij - l0): by row
 * i a float4 of c1, l1, c0, l0. */
typedef float4 side;
static DEV_INLINE float slope(side e, float m1, float m0, float l)
{
    return e.x * expf(m1 * l - e.y) + e.z * expf(m0 * l - e.w);
}

/* sides (2, batch); diag (batch): the derivative by L_ii, both directions. A warp a row. */
template <class T>
__global__ void __launch_bounds__(THREADS) contrastive_sides(problem<T> p, const float *stats, side *sides, float *diag)
{
    const int64_t i = (int64_t)blockIdx.x * (THREADS / DEV_WARP) + threadIdx.x / DEV_WARP;
    const int lane = (int)threadIdx.x % DEV_WARP;
    if (i >= p.batch) return; /* the whole warp */
    float dot = 0;
    for (int k = lane; p.a > 0 && k < p.d; k += DEV_WARP)
        dot = fmaf(dev_load(p.x(0) + i * p.d + k), dev_load(p.x(1) + i * p.d + k), dot);
    const double own = (double)(scale_of(p) * dev_warp_sum(dot)), count = (double)p.batch;
    if (lane > 0) return;
    double on_diag = 0;
    for (int dir = 0; dir < 2; dir++) {
        const float l1 = stats[2 * (dir * p.batch + i)], l0 = stats[2 * (dir * p.batch + i) + 1];
        const double b = (double)p.b(dir);
        double positive = 0, negative = 1;
        if (!p.released && p.a > 0) {
            const double all = log_denominator(p, own, (double)l1, (double)l0);
            positive = exp(log(p.a) + own - all);
            negative = exp(p.log_negatives + l1 - l0 - all);
        }
        on_diag += p.released ? -1 / (count * count) : (positive - 1) / count;
        const float c1 = p.released ? (float)(-1 / count) : (float)(negative * (1 + b) / count),
                    c0 = p.released ? 0.0f : (float)(-negative * b / count);
        dev_store16((float *)(sides + dir * p.batch + i), make_float4(c1, l1, c0, l0));
    }
    diag[i] = (float)on_diag;
}

/* dx += g (TILE rows) x (rows of the tile of columns): float, rows plain_row() + 16 i, columns threadIdx % 16 * 4 + 64
 * j of the slab. */
struct plain_slab {
    float4 v[4][2];
    DEV_INLINE void add(const float *g, const float *x)
    {
        constexpr int DEPTH = shape<float>::DEPTH, SLAB_ROW = shape<float>::SLAB_ROW;
        g += plain_row() * LD;
        x += (int)threadIdx.x % 16 * 4;
        for (int k = 0; k < DEPTH; k++) {
            const float4 x0 = dev_load16(x + k * SLAB_ROW), x1 = dev_load16(x + k * SLAB_ROW + 64);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float w = g[16 * i * LD + k];
                v[i][0] = make_float4(fmaf(w, x0.x, v[i][0].x), fmaf(w, x0.y, v[i][0].y), fmaf(w, x0.z, v[i][0].z),
                                      fmaf(w, x0.w, v[i][0].w));
                v[i][1] = make_float4(fmaf(w, x1.x, v[i][1].x), fmaf(w, x1.y, v[i][1].y), fmaf(w, x1.z, v[i][1].z),
                                      fmaf(w, x1.w, v[i][1].w));
            }
        }
    }
    template <bool V> DEV_INLINE void store(float *dx, int64_t rows, int columns, int d, float f, float beta) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int r = plain_row() + 16 * i, c = (int)threadIdx.x % 16 * 4 + 64 * j;
                const float4 y = make_float4(f * v[i][j].x, f * v[i][j].y, f * v[i][j].z, f * v[i][j].w);
                float *to = dx + (int64_t)r * d + c;
                if (r >= rows || c >= columns) continue;
                if constexpr (V) {
                    dev_blend4(to, beta, y);
                } else {
                    dev_blend(to, beta, y.x);
                    if (c + 1 < columns) dev_blend(to + 1, beta, y.y);
                    if (c + 2 < columns) dev_blend(to + 2, beta, y.z);
                    if (c + 3 < columns) dev_blend(to + 3, beta, y.w);
                }
            }
    }
};
/* bfloat16: warp w has rows w % 4 * 16 ..., columns w / 4 * 64 ... of the slab. */
struct mma_slab {
    float v[8][4];
    DEV_INLINE void add(const bf16 *g, const bf16 *x)
    {
        constexpr int SLAB_ROW = shape<bf16>::SLAB_ROW, DEPTH = shape<bf16>::DEPTH;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        g += (warp % 4 * 16 + lane % 16) * LD + lane / 16 * 8;
        x += lane % 16 * SLAB_ROW + warp / 4 * 64 + lane / 16 * 8;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned fa[4], fb[4];
            dev_ldmatrix_x4(fa, g + k);
#pragma unroll
            for (int j = 0; j < 8; j += 2) {
                dev_ldmatrix_x4_trans(fb, x + k * SLAB_ROW + 8 * j);
                dev_mma_bf16(v[j], fa, fb);
                dev_mma_bf16(v[j + 1], fa, fb + 2);
            }
        }
    }
    template <bool V> DEV_INLINE void store(bf16 *dx, int64_t rows, int columns, int d, float f, float beta) const
    {
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
#pragma unroll
        for (int j = 0; j < 8; j += 2)
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                const int64_t r = warp % 4 * 16 + lane / 4 + i / 2 * 8;
                const int first = warp / 4 * 64 + 8 * j;
                if constexpr (V) {
                    /* Neighbours swap, so that each has four columns: even lanes of a, odd ones of b. */
                    const float *a = v[j] + i, *b = v[j + 1] + i;
                    const int odd = lane % 2, c = first + 8 * odd + lane % 4 / 2 * 4;
                    const float x = __shfl_xor_sync(DEV_FULL, odd ? a[0] : b[0], 1);
                    const float y = __shfl_xor_sync(DEV_FULL, odd ? a[1] : b[1], 1);
                    const float4 four = odd ? make_float4(f * x, f * y, f * b[0], f * b[1])
                                            : make_float4(f * a[0], f * a[1], f * x, f * y);
                    if (r < rows && c < columns) dev_blend4(dx + r * d + c, beta, four);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int c = first + 8 * (e / 2) + lane % 4 * 2 + e % 2;
                        if (r < rows && c < columns) dev_blend(dx + r * d + c, beta, f * v[j + e / 2][i + e % 2]);
                    }
                }
            }
    }
};
template <class T> struct slab_of {
    typedef plain_slab type;
};
template <> struct slab_of<bf16> {
    typedef mma_slab type;
};

template <class T> struct gradients {
    T *image, *text; /* NULL: not wanted */
    float beta_image, beta_text;
    const float *dloss;
    double *by_scale; /* (rows): by row of the image the sum of g_ij L_ij; NULL: not wanted */
};

/* Block: rows of a tile of image or text, a slab of the columns of its gradient. */
template <class T, bool V>
__global__ void __launch_bounds__(THREADS, 2)
    contrastive_bwd(problem<T> p, const side *sides, const float *diag, gradients<T> to)
{
    constexpr int ROOM = shape<T>::ROOM, DEPTH = shape<T>::DEPTH;
    constexpr bool HALF = sizeof(T) == 2;
    SHARED_ARRAY(T, room, [ROOM]);
    SHARED_ARRAY(float, s, [TILE * LD]);
    SHARED_ARRAY(bf16, rounded, [HALF ? TILE * LD : 8]); /* g for the tensor cores; floats lie in s */
    const int dir = (int)blockIdx.z, r = (int)threadIdx.x / 4, d0 = (int)blockIdx.y * SLAB;
    const int64_t at = (int64_t)blockIdx.x * TILE, row = p.row0 + at + r, end = p.row0 + p.rows;
    const bool scales = dir == 0 && to.by_scale && blockIdx.y == 0;
    T *dx = dir ? to.text : to.image;
    if (!dx && !scales) return; /* the whole block */
    const float scale = scale_of(p), m1 = m1_of(p, dir), m0 = p.b(dir), k1 = m1_of(p, !dir), k0 = p.b(!dir);
    const float count = (float)p.batch, flat = p.released ? (2 + m0 + k0) / (count * count) : 0.0f;
    const side mine = row < end ? dev_load16((const float *)(sides + dir * p.batch + row)) : make_float4(0, 0, 0, 0);
    const side *others = sides + (!dir) * p.batch;
    const float own = row < end ? diag[row] : 0.0f;
    typename slab_of<T>::type sum = {};
    double by_scale = 0;
    for (int64_t j0 = 0; j0 < p.batch; j0 += TILE) {
        similarities<T, V>(room, p.x(dir), p.row0 + at, end, p.x(!dir), j0, p.batch, p.d, scale, s);
#pragma unroll 4
        for (int m = 0; m < TILE / 4; m++) {
            const int c = column(m);
            const int64_t j = j0 + c;
            const float l = s[r * LD + c];
            float g = 0;
            if (j < p.batch && row < end) {
                g = flat + slope(mine, m1, m0, l) + slope(dev_load16((const float *)(others + j)), k1, k0, l);
                if (j == row) g = own;
            }
            if (scales) by_scale += (double)g * l;
            if constexpr (HALF)
                dev_store(rounded + r * LD + c, g);
            else
                s[r * LD + c] = g;
        }
        for (int k = 0; dx && k < TILE; k += DEPTH) {
            if (k) DEV_SYNC(); /* the rows before have been read */
            stage_slab<T, V>(room, p.x(!dir), j0 + k, p.batch, d0, p.d);
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
            if constexpr (HALF)
                sum.add(rounded + k, room);
            else
                sum.add(s + k, room);
        }
        DEV_SYNC(); /* before the next tile overwrites all of it */
    }
    if (scales) {
        by_scale = sum_quad(by_scale);
        if (threadIdx.x % 4 == 0 && row < end) to.by_scale[at + r] = by_scale;
    }
    if (dx)
        sum.template store<V>(dx + at * p.d + d0, p.rows - at, p.d - d0, p.d, *to.dloss * scale,
                              dir ? to.beta_text : to.beta_image);
}

/* How the columns are split among blocks, by the shape alone: enough of them for the processors of a large device. */
struct splits {
    int n, tiles;
};
static splits splits_of(int64_t batch, int64_t rows)
{
    const int64_t all = div_up(batch, TILE), blocks = 2 * div_up(rows, TILE), want = div_up(264, blocks);
    const int64_t most = want < MAX_SPLITS ? want : MAX_SPLITS, tiles = div_up(all, most < all ? most : all);
    return {(int)div_up(all, tiles), (int)tiles};
}

template <class T> static problem<T> problem_of(const struct k_contrastive *a)
{
    problem<T> p = {};
    p.image = (const T *)a->image;
    p.text = (const T *)a->text;
    p.batch = a->batch;
    p.row0 = a->row0;
    p.rows = a->rows;
    p.d = a->d;
    p.released = a->released;
    p.b_image = a->b_image;
    p.b_text = a->b_text;
    p.inv_tau = a->inv_tau;
    p.log_scale = a->log_scale;
    p.a = (double)a->a;
    p.log_negatives = log((double)((a->released > 1 ? a->released : a->batch) - 1));
    return p;
}
/* 1 where all rows of x may be read by 16 bytes. */
static int by_pieces(const struct k_contrastive *a)
{
    const size_t all = (size_t)a->image | (size_t)a->text | (size_t)a->dimage | (size_t)a->dtext;
    return (all & 15) == 0 && a->d % (a->dtype == K_BF16 ? 8 : 4) == 0;
}

size_t k_contrastive_fwd_bytes(int64_t batch, int64_t rows)
{
    return rows ? (size_t)(2 * rows) * ((size_t)splits_of(batch, rows).n * sizeof(seen) + sizeof(double)) : 0;
}
size_t k_contrastive_bwd_bytes(int64_t batch, int64_t rows)
{
    return (size_t)batch * (2 * sizeof(side) + sizeof(float)) + 8 + (size_t)rows * sizeof(double);
}

template <class T> static cudaError_t run_fwd(const struct k_contrastive *a, cudaStream_t s)
{
    const problem<T> p = problem_of<T>(a);
    const splits z = splits_of(a->batch, a->rows);
    seen *part = (seen *)a->workspace;
    double *loss = (double *)(part + 2 * a->rows * z.n);
    const dim3 grid((unsigned)div_up(a->rows, TILE), (unsigned)z.n, 2);
    cudaError_t e = by_pieces(a) ? dev_launch((contrastive_rows<T, true>), grid, THREADS, 0, s, p, z.tiles, part)
                                 : dev_launch((contrastive_rows<T, false>), grid, THREADS, 0, s, p, z.tiles, part);
    if (e != cudaSuccess) return e;
    e = dev_launch((contrastive_finish<T>), (unsigned)div_up(2 * a->rows, THREADS), THREADS, 0, s, p, part, z.n,
                   a->stats, loss);
    if (e != cudaSuccess) return e;
    return dev_launch(sum_parts, 1, SUM_THREADS, 0, s, loss, 2 * a->rows, 1.0, (const float *)NULL, 0.0f, a->loss);
}

template <class T> static cudaError_t run_bwd(const struct k_contrastive *a, cudaStream_t s)
{
    const problem<T> p = problem_of<T>(a);
    side *sides = (side *)a->workspace;
    double *by_scale = (double *)(sides + 2 * a->batch);
    float *diag = (float *)(by_scale + a->rows);
    gradients<T> to = {};
    to.image = (T *)a->dimage;
    to.text = (T *)a->dtext;
    to.beta_image = a->beta_image;
    to.beta_text = a->beta_text;
    to.dloss = a->dloss;
    to.by_scale = a->dlog_scale ? by_scale : NULL;
    cudaError_t e = dev_launch((contrastive_sides<T>), (unsigned)div_up(a->batch, THREADS / DEV_WARP), THREADS, 0, s, p,
                               a->stats, sides, diag);
    if (e != cudaSuccess) return e;
    const dim3 grid((unsigned)div_up(a->rows, TILE), (unsigned)div_up(a->d, SLAB), 2);
    e = by_pieces(a) ? dev_launch((contrastive_bwd<T, true>), grid, THREADS, 0, s, p, sides, diag, to)
                     : dev_launch((contrastive_bwd<T, false>), grid, THREADS, 0, s, p, sides, diag, to);
    if (e != cudaSuccess || !a->dlog_scale) return e;
    return dev_launch(sum_parts, 1, SUM_THREADS, 0, s, by_scale, a->rows, 1.0, a->dloss, a->beta_scale, a->dlog_scale);
}

cudaError_t k_contrastive_fwd(const struct k_contrastive *a, cudaStream_t s)
{
    if (!a->rows || !a->d) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<bf16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_contrastive_bwd(const struct k_contrastive *a, cudaStream_t s)
{
    if (!a->rows || !a->d || (!a->dimage && !a->dtext && !a->dlog_scale)) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<bf16>(a, s) : run_bwd<float>(a, s);
}
