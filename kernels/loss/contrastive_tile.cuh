/* Tiles of similarities and of their gradients for contrastive.cu, and the running log-sum-exp of a row.
 *
 * Float: FMA, 4 x 4 results per thread. bfloat16: tensor cores; the tile of derivatives is rounded to bfloat16 for the
 * second product. Shared memory is padded to avoid bank conflicts: rows of 80 bytes (64 and 16 of padding);
 * similarities in rows of 72 floats, whose 64 columns the four threads of a row read in a rotated order. */
#ifndef MCS_KERNELS_CONTRASTIVE_TILE_CUH
#define MCS_KERNELS_CONTRASTIVE_TILE_CUH

#include "kernels/common/sums.cuh"

constexpr int TILE = 64, THREADS = SUM_THREADS, SIM_PITCH = 72, SLAB = 128; /* SLAB: columns of a gradient per block */
typedef __nv_bfloat16 bf16;

/* Layout of the input tiles in shared memory: K columns of a row at a time (64 bytes), in chunks of CHUNK elements (16
 * bytes), PITCH elements from one row to the next. */
template <class T> struct staging {
    static constexpr int CHUNK = 16 / (int)sizeof(T), K = 4 * CHUNK, PITCH = K + CHUNK;
    static constexpr int DEPTH = sizeof(T) == 4 ? 32 : 64;                 /* rows of a slab in shared memory */
    static constexpr int SLAB_PITCH = SLAB + (sizeof(T) == 4 ? 0 : CHUNK); /* pitch of its rows */
    static constexpr int SCRATCH = 4 * TILE * PITCH;                       /* two buffers of an A and a B tile */
    static_assert(DEPTH * SLAB_PITCH <= SCRATCH, "a slab reuses the memory of the buffers");
};

/* Copies the 16-byte chunk of x at element `from` if `inside`, else zeros. V: by one asynchronous copy; otherwise
 * element by element, n of them valid. */
template <class T, bool V> static DEV_INLINE void load_chunk(T *to, const T *x, int64_t from, bool inside, int n)
{
    if constexpr (V) {
        dev_copy_async16(to, inside ? x + from : x, inside ? 16 : 0);
    } else {
        for (int j = 0; j < staging<T>::CHUNK; j++) dev_store(to + j, inside && j < n ? dev_load(x + from + j) : 0.0f);
    }
}

/* to (TILE, PITCH) = rows from r0 to end and columns from k0 to d of x, ends excluded; zeros outside. One chunk per
 * thread; eight adjacent threads take two rows that are four apart, so that stores have no bank conflicts. */
template <class T, bool V> static DEV_INLINE void load_tile(T *to, const T *x, int64_t r0, int64_t end, int k0, int d)
{
    constexpr int CHUNK = staging<T>::CHUNK, PITCH = staging<T>::PITCH;
    const int q = (int)threadIdx.x / 4, r = q / 8 * 8 + q % 2 * 4 + q / 2 % 4, c = (int)threadIdx.x % 4 * CHUNK;
    load_chunk<T, V>(to + r * PITCH + c, x, (r0 + r) * d + k0 + c, r0 + r < end && k0 + c < d, d - k0 - c);
}

/* to (DEPTH, SLAB_PITCH) = rows from r0 to end and columns from d0 to d0 + SLAB of x, ends excluded; zeros outside. */
template <class T, bool V> static DEV_INLINE void load_slab(T *to, const T *x, int64_t r0, int64_t end, int d0, int d)
{
    constexpr int CHUNK = staging<T>::CHUNK, DEPTH = staging<T>::DEPTH, SLAB_PITCH = staging<T>::SLAB_PITCH;
    constexpr int CHUNKS = SLAB / CHUNK;
    for (int i = (int)threadIdx.x; i < DEPTH * CHUNKS; i += THREADS) {
        const int r = i / CHUNKS, c = i % CHUNKS * CHUNK;
        load_chunk<T, V>(to + r * SLAB_PITCH + c, x, (r0 + r) * d + d0 + c, r0 + r < end && d0 + c < d, d - d0 - c);
    }
}

/* First of a thread's four rows of a tile in FMA products; the others follow 16 apart. The two values of a warp are two
 * apart, so that stores to rows of SIM_PITCH floats have no bank conflicts. */
static DEV_INLINE int fma_row()
{
    const int y = (int)threadIdx.x / 16;
    return y / 4 * 4 + y % 2 * 2 + y / 2 % 2;
}

/* A thread's part of a TILE x TILE product in float: rows fma_row() + 16 i, columns threadIdx % 16 + 16 j. add(a, b)
 * adds A B^T of K columns, a and b (TILE, PITCH). store: s (TILE, SIM_PITCH) = scale times the sum. */
struct fma_tile {
    float v[4][4];
    DEV_INLINE void add(const float *a, const float *b)
    {
        constexpr int PITCH = staging<float>::PITCH, K = staging<float>::K;
        a += fma_row() * PITCH;
        b += (int)threadIdx.x % 16 * PITCH;
#pragma unroll 1 /* unrolling would take more registers than two blocks per SM allow */
        for (int k = 0; k < K; k += 4) {
            float4 fb[4];
#pragma unroll
            for (int j = 0; j < 4; j++) fb[j] = dev_load16(b + 16 * j * PITCH + k);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float4 fa = dev_load16(a + 16 * i * PITCH + k);
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
        s += fma_row() * SIM_PITCH + (int)threadIdx.x % 16;
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[16 * i * SIM_PITCH + 16 * j] = scale * v[i][j];
    }
};

/* The same in bfloat16 by mma.sync: warp w has 16 rows from w % 4 * 16 on and 32 columns from w / 4 * 32 on. */
struct mma_tile {
    float v[4][4];
    DEV_INLINE void add(const bf16 *a, const bf16 *b)
    {
        constexpr int PITCH = staging<bf16>::PITCH, K = staging<bf16>::K;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        a += (warp % 4 * 16 + lane % 16) * PITCH + lane / 16 * 8;
        b += (warp / 4 * 32 + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < K; k += 16) {
            unsigned fa[4], fb[4];
            dev_ldmatrix_x4(fa, a + k);
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                dev_ldmatrix_x4(fb, b + 8 * j * PITCH + k);
                dev_mma_bf16(v[j], fa, fb);
                dev_mma_bf16(v[j + 1], fa, fb + 2);
            }
        }
    }
    DEV_INLINE void store(float scale, float *s) const
    {
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        s += (warp % 4 * 16 + lane / 4) * SIM_PITCH + warp / 4 * 32 + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i += 2)
                dev_store8(s + i / 2 * 8 * SIM_PITCH + 8 * j,
                           make_uint2(__float_as_uint(scale * v[j][i]), __float_as_uint(scale * v[j][i + 1])));
    }
};
template <class T> struct tile_of {
    typedef fma_tile type;
};
template <> struct tile_of<bf16> {
    typedef mma_tile type;
};

/* s (TILE, SIM_PITCH) = scale A B^T, A the rows from a0 to a_end of a, B the rows from b0 to b_end of b, ends excluded,
 * d columns. Double-buffered in `scratch`; ends with a barrier. On entry no thread may still read scratch, nor s after
 * the first barrier. */
template <class T, bool V>
static DEV_INLINE void similarities(T *scratch, const T *a, int64_t a0, int64_t a_end, const T *b, int64_t b0,
                                    int64_t b_end, int d, float scale, float *s)
{
    constexpr int PITCH = staging<T>::PITCH, K = staging<T>::K;
    constexpr int OPERAND = TILE * PITCH;
    typename tile_of<T>::type sum = {};
    load_tile<T, V>(scratch, a, a0, a_end, 0, d);
    load_tile<T, V>(scratch + OPERAND, b, b0, b_end, 0, d);
    dev_copy_commit();
    for (int k0 = 0, buffer = 0; k0 < d; k0 += K, buffer ^= 1) {
        dev_copy_wait<0>();
        DEV_SYNC(); /* this buffer has arrived, and the other one is no longer read */
        if (k0 + K < d) {
            T *next = scratch + (buffer ^ 1) * 2 * OPERAND;
            load_tile<T, V>(next, a, a0, a_end, k0 + K, d);
            load_tile<T, V>(next + OPERAND, b, b0, b_end, k0 + K, d);
            dev_copy_commit();
        }
        sum.add(scratch + buffer * 2 * OPERAND, scratch + buffer * 2 * OPERAND + OPERAND);
    }
    sum.store(scale, s);
    DEV_SYNC();
}

/* In the reductions four threads share a row of the tile of similarities: row threadIdx / 4. This thread's columns are
 * column(0) to column(15), rotated by the row to avoid bank conflicts. */
static DEV_INLINE int column(int m)
{
    return (int)threadIdx.x % 4 + 4 * ((m + (int)threadIdx.x / 16) % 16);
}

/* A running log-sum-exp: the sum of exp is row_sum exp(row_max). */
struct lse {
    float row_max;
    double row_sum;
};
/* Combines two partial results; the caller fixes the order. */
static DEV_INLINE lse lse_merge(lse a, lse b)
{
    if (b.row_max == -INFINITY) return a;
    if (a.row_max == -INFINITY) return b;
    const float row_max = fmaxf(a.row_max, b.row_max);
    return {row_max, a.row_sum * (double)expf(a.row_max - row_max) + b.row_sum * (double)expf(b.row_max - row_max)};
}
/* Adds exp(factor v[j]), v[j] the similarity of column(j) of this thread, for each j whose bit in `used` is set. */
static DEV_INLINE void lse_update(lse &r, const float v[TILE / 4], unsigned used, float factor)
{
    float tile_max = -INFINITY, tile_sum = 0;
#pragma unroll
    for (int j = 0; j < TILE / 4; j++)
        if (used >> j & 1) tile_max = fmaxf(tile_max, factor * v[j]);
    if (!used) return;
    if (tile_max > r.row_max) { /* rescale; the factor is 0 the first time */
        r.row_sum *= (double)expf(r.row_max - tile_max);
        r.row_max = tile_max;
    }
#pragma unroll
    for (int j = 0; j < TILE / 4; j++)
        if (used >> j & 1) tile_sum += expf(factor * v[j] - r.row_max);
    r.row_sum += (double)tile_sum;
}
/* Merges the four threads of a row; all four get the result. */
static DEV_INLINE lse lse_quad_merge(lse r)
{
    for (int i = 1; i < 4; i *= 2) {
        const lse o = {__shfl_xor_sync(DEV_FULL, r.row_max, i), __shfl_xor_sync(DEV_FULL, r.row_sum, i)};
        r = threadIdx.x & (unsigned)i ? lse_merge(o, r) : lse_merge(r, o);
    }
    return r;
}
/* Sum over the four threads of a row. */
static DEV_INLINE double quad_sum(double v)
{
    v += __shfl_xor_sync(DEV_FULL, v, 1);
    return v + __shfl_xor_sync(DEV_FULL, v, 2);
}

/* A thread's part of dx (TILE rows, SLAB columns) in float: rows fma_row() + 16 i, four columns from
 * threadIdx % 16 * 4 + 64 j on. add(g, x) adds G X, where g points at the first of DEPTH columns of the tile of
 * derivatives (TILE, SIM_PITCH) and x is (DEPTH, SLAB_PITCH). store: dx = beta dx + f times the sum. */
struct fma_slab {
    float4 v[4][2];
    DEV_INLINE void add(const float *g, const float *x)
    {
        constexpr int DEPTH = staging<float>::DEPTH, SLAB_PITCH = staging<float>::SLAB_PITCH;
        g += fma_row() * SIM_PITCH;
        x += (int)threadIdx.x % 16 * 4;
        for (int k = 0; k < DEPTH; k++) {
            const float4 x0 = dev_load16(x + k * SLAB_PITCH), x1 = dev_load16(x + k * SLAB_PITCH + 64);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float w = g[16 * i * SIM_PITCH + k];
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
                const int r = fma_row() + 16 * i, c = (int)threadIdx.x % 16 * 4 + 64 * j;
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
/* The same in bfloat16: warp w has 16 rows from w % 4 * 16 on and 64 columns from w / 4 * 64 on. */
struct mma_slab {
    float v[8][4];
    DEV_INLINE void add(const bf16 *g, const bf16 *x)
    {
        constexpr int SLAB_PITCH = staging<bf16>::SLAB_PITCH, DEPTH = staging<bf16>::DEPTH;
        const int lane = (int)threadIdx.x % DEV_WARP, warp = (int)threadIdx.x / DEV_WARP;
        g += (warp % 4 * 16 + lane % 16) * SIM_PITCH + lane / 16 * 8;
        x += lane % 16 * SLAB_PITCH + warp / 4 * 64 + lane / 16 * 8;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned fa[4], fb[4];
            dev_ldmatrix_x4(fa, g + k);
#pragma unroll
            for (int j = 0; j < 8; j += 2) {
                dev_ldmatrix_x4_trans(fb, x + k * SLAB_PITCH + 8 * j);
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
                    /* Adjacent lanes exchange halves, so that each has four consecutive columns: even lanes of a, odd
                     * ones of b. */
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
    typedef fma_slab type;
};
template <> struct slab_of<bf16> {
    typedef mma_slab type;
};

#endif
