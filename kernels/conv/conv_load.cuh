/* Loaders of implicit GEMM convolutions for tile.cuh: elements of the im2col matrix are read directly from the
 * activations. A tap is a kernel element (tz, ty, tx).
 *
 *   im2col_*       fprop and stride-1 dgrad: rows are positions, k is (tap, channel)
 *   dgrad_phases   strided dgrad: the same with one GEMM per stride phase
 *   wgrad_*        wgrad: rows are (tap, channel), k is positions */
#ifndef MCS_KERNELS_CONV_LOAD_CUH
#define MCS_KERNELS_CONV_LOAD_CUH

#include "kernels/conv/convolution.h"
#include "kernels/gemm/tile_load.cuh"

/* Division of numbers below 2^31 by d: a multiplication and a shift. */
struct fast_div {
    uint32_t mul, shift, d;
    DEV_INLINE int by(int n) const
    {
        return (int)((uint64_t)(uint32_t)n * mul >> 31 >> shift);
    }
    DEV_INLINE int split(int n, int *rest) const
    {
        const int q = by(n);
        *rest = n - q * (int)d;
        return q;
    }
};
static inline fast_div fast_div_of(int64_t d)
{
    fast_div f = {0, 0, (uint32_t)(d > 0 ? d : 1)};
    while ((int64_t)1 << f.shift < (int64_t)f.d) f.shift++;
    f.mul = (uint32_t)((((uint64_t)1 << (31 + f.shift)) + f.d - 1) / f.d);
    return f;
}

/* Geometry per axis (z, y, x): position p in [0, rows) and tap t in [0, taps) read source coordinate
 * mul p + step t + off, zero outside [0, src). (The positions are the rows of the GEMM.)
 *
 * A tap has `run` contiguous elements; c: channels of the source. run == c, except without padding along x, where the
 * taps of a kernel row are contiguous and count as one tap of run = c k[2]. */
struct conv_geometry {
    int rows[3], src[3], mul[3], step[3], off[3], taps[3];
    int c, run;
    int64_t source_batch, result_batch; /* elements per sample */
};

static inline int64_t conv_positions(const int d[3])
{
    return (int64_t)d[0] * d[1] * d[2];
}

/* Iterator over k: tap t and channel c. */
struct tap_walk {
    int c, t[3];
    DEV_INLINE void start(const conv_geometry &g, int k)
    {
        /* Taps per kernel row and plane, at least 1: a stride phase may have no taps on an axis. */
        const int line = g.taps[2] ? g.taps[2] : 1, plane = g.taps[1] ? g.taps[1] * line : line;
        const int tap = k / g.run;
        c = k - tap * g.run;
        t[0] = tap / plane;
        t[1] = (tap - t[0] * plane) / line;
        t[2] = tap - t[0] * plane - t[1] * line;
    }
    DEV_INLINE void advance(const conv_geometry &g, int by)
    {
        c += by;
        while (c >= g.run) {
            c -= g.run;
            if (++t[2] < g.taps[2]) continue;
            t[2] = 0;
            if (++t[1] < g.taps[1]) continue;
            t[1] = 0;
            t[0]++;
        }
    }
};

/* Source coordinates of tap 0 of a row (a position). Rows past the end get a coordinate far outside the source. */
struct window_origin {
    int z, y, x;
    DEV_INLINE void start(const conv_geometry &g, int64_t row, int64_t rows)
    {
        const int plane = g.rows[1] * g.rows[2], r = (int)row, d = r / plane, h = (r - d * plane) / g.rows[2];
        z = row < rows ? d * g.mul[0] + g.off[0] : -(1 << 30);
        y = h * g.mul[1] + g.off[1];
        x = (r - d * plane - h * g.rows[2]) * g.mul[2] + g.off[2];
    }
    /* Element offset of the tap at displacement (dz, dy, dx), channel c; -1 outside the source. */
    DEV_INLINE int64_t element(const conv_geometry &g, int dz, int dy, int dx, int c) const
    {
        const int iz = z + dz, iy = y + dy, ix = x + dx;
        const bool in =
            (unsigned)iz < (unsigned)g.src[0] && (unsigned)iy < (unsigned)g.src[1] && (unsigned)ix < (unsigned)g.src[2];
        return in ? (int64_t)((iz * g.src[1] + iy) * g.src[2] + ix) * g.c + c : -1;
    }
};

template <class T, class Map>
static DEV_INLINE void offset_by_sample(int64_t z, const conv_geometry &g, const T *&p, tile_out<Map> &out)
{
    p += z * g.source_batch;
    out.y = out.bf16 ? (void *)((__nv_bfloat16 *)out.y + z * g.result_batch)
                     : (void *)((float *)out.y + z * g.result_batch);
}

/* im2col by 16-byte chunks: run and all offsets are multiples of a chunk. Rows: positions, k: (tap, channel), z:
 * sample. */
template <class T> struct im2col_vec {
    static constexpr bool K_MAJOR = true, VEC = true;
    typedef T type;
    const T *p;
    int64_t rows; /* positions per sample */
    conv_geometry g;
    template <class B, class Map> DEV_INLINE void offset_by_batch(int64_t z, B &, tile_out<Map> &out, tile_shape &)
    {
        offset_by_sample(z, g, p, out);
    }
    template <int ROWS> struct at {
        const im2col_vec &a;
        window_origin window[ROWS / 32];
        tap_walk walk;
        int row, chunk;
        DEV_INLINE at(const im2col_vec &from, int64_t row0, int64_t k0, int tid) : a(from), row(tid / 4), chunk(tid % 4)
        {
#pragma unroll
            for (int i = 0; i < ROWS / 32; i++) window[i].start(a.g, row0 + row + 32 * i, a.rows);
            walk.start(a.g, (int)k0 + chunk * TILE_V<T>);
        }
        DEV_INLINE void fill(T *tile)
        {
            const bool in_k = walk.t[0] < a.g.taps[0];
            const int dz = walk.t[0] * a.g.step[0], dy = walk.t[1] * a.g.step[1], dx = walk.t[2] * a.g.step[2];
#pragma unroll
            for (int i = 0; i < ROWS / 32; i++) {
                const int64_t e = window[i].element(a.g, dz, dy, dx, walk.c);
                const bool in = in_k && e >= 0;
                dev_copy_async16(tile + TILE_V<T> * tile_chunk<4>(row + 32 * i, chunk), a.p + (in ? e : 0),
                                 in ? 16 : 0);
            }
            walk.advance(a.g, TILE_K<T>);
        }
    };
};

/* Bits of a float or a bfloat16. */
static DEV_INLINE unsigned bits_of(float v)
{
    return __float_as_uint(v);
}
static DEV_INLINE unsigned bits_of(__nv_bfloat16 v)
{
    return (unsigned)__bfloat16_as_ushort(v);
}

/* im2col element by element, for few channels: one row per thread, so that adjacent lanes read adjacent positions;
 * stores whole chunks. */
template <class T> struct im2col_scalar {
    static constexpr bool K_MAJOR = true, VEC = false;
    typedef T type;
    const T *p;
    int64_t rows;
    conv_geometry g;
    template <class B, class Map> DEV_INLINE void offset_by_batch(int64_t z, B &, tile_out<Map> &out, tile_shape &)
    {
        offset_by_sample(z, g, p, out);
    }
    template <int ROWS> struct at {
        static constexpr int CHUNKS = 4 * ROWS / TILE_THREADS; /* per thread */
        const im2col_scalar &a;
        window_origin window;
        int row, chunk, k;
        DEV_INLINE at(const im2col_scalar &from, int64_t row0, int64_t k0, int tid)
            : a(from), row(tid % ROWS), chunk(tid / ROWS * CHUNKS), k((int)k0 + chunk * TILE_V<T>)
        {
            window.start(a.g, row0 + row, a.rows);
        }
        DEV_INLINE void fill(T *tile)
        {
            tap_walk walk;
            walk.start(a.g, k);
#pragma unroll 1
            for (int q = 0; q < CHUNKS; q++) {
                unsigned u[4] = {0, 0, 0, 0};
#pragma unroll
                for (int j = 0; j < TILE_V<T>; j++) {
                    const int64_t e = walk.t[0] < a.g.taps[0]
                                          ? window.element(a.g, walk.t[0] * a.g.step[0], walk.t[1] * a.g.step[1],
                                                           walk.t[2] * a.g.step[2], walk.c)
                                          : -1;
                    const unsigned bits = e >= 0 ? bits_of(a.p[e]) : 0;
                    if constexpr (sizeof(T) == 2)
                        u[j / 2] |= bits << 16 * (j % 2);
                    else
                        u[j] = bits;
                    walk.advance(a.g, 1);
                }
                dev_store16((float *)(tile + TILE_V<T> * tile_chunk<4>(row, chunk + q)),
                            make_float4(__uint_as_float(u[0]), __uint_as_float(u[1]), __uint_as_float(u[2]),
                                        __uint_as_float(u[3])));
            }
            k += TILE_K<T>;
        }
    };
};

/* Number of taps of stride phase r on an axis with k taps (t mod stride == r), and of the phases before r together. */
static DEV_INLINE int phase_taps(int r, int k, int stride)
{
    return k / stride + (r < k % stride);
}
static DEV_INLINE int phase_taps_before(int r, int k, int stride)
{
    const int rest = k % stride;
    return k / stride * r + (r < rest ? r : rest);
}

/* Output map of one stride phase: row m of the GEMM is the m-th position of the phase, (iz, iy, ix) with i < count on
 * each axis, which is position first + stride i of the full grid. A position has ld elements. */
struct map_grid {
    int64_t ld;
    int first[3], stride[3], count[3], full[3];
    DEV_INLINE int64_t offset(int64_t m, int64_t n) const
    {
        const unsigned r = (unsigned)m, h = r / (unsigned)count[2], d = h / (unsigned)count[1];
        const int x = first[2] + stride[2] * (int)(r - h * (unsigned)count[2]);
        const int y = first[1] + stride[1] * (int)(h - d * (unsigned)count[1]);
        const int z = first[0] + stride[0] * (int)d;
        return (int64_t)((z * full[1] + y) * full[2] + x) * ld + n;
    }
    DEV_INLINE int64_t channel(int64_t n) const
    {
        return n;
    }
};

/* Strided dgrad: one GEMM per stride phase (p + pad) mod stride, because positions of a phase use the same taps. No
 * product with zero is computed. blockIdx.z = sample * phases + phase. G: im2col loader over dy. B: the weights of
 * PACK_PHASES; a phase begins after the taps of the phases before it. */
template <class G> struct dgrad_phases : G {
    int k[3], stride[3], pad[3];
    template <int ROWS> using at = typename G::template at<ROWS>;
    template <class B> DEV_INLINE void offset_by_batch(int64_t z, B &b, tile_out<map_grid> &out, tile_shape &s)
    {
        typedef typename G::type T;
        const int phases = stride[0] * stride[1] * stride[2], phase = (int)(z % phases);
        const int r[3] = {phase / (stride[1] * stride[2]), phase / stride[2] % stride[1], phase % stride[2]};
#pragma unroll
        for (int i = 0; i < 3; i++) {
            int first = (r[i] - pad[i]) % stride[i];
            if (first < 0) first += stride[i];
            const int remaining = out.map.full[i] - first;
            out.map.first[i] = first;
            out.map.stride[i] = stride[i];
            out.map.count[i] = this->g.rows[i] = remaining > 0 ? (remaining - 1) / stride[i] + 1 : 0;
            this->g.off[i] = (first + pad[i] - r[i]) / stride[i];
            this->g.taps[i] = phase_taps(r[i], k[i], stride[i]);
        }
        const int *n = this->g.taps;
        const int before =
            phase_taps_before(r[0], k[0], stride[0]) * k[1] * k[2] +
            n[0] * (phase_taps_before(r[1], k[1], stride[1]) * k[2] + n[1] * phase_taps_before(r[2], k[2], stride[2]));
        s.m = this->rows = (int64_t)this->g.rows[0] * this->g.rows[1] * this->g.rows[2];
        b.p += (int64_t)before * s.n * this->g.run;
        b.ld = b.k = (int64_t)n[0] * n[1] * n[2] * this->g.run;
        s.k_tiles = s.k_tiles_per_split = (b.k + TILE_K<T> - 1) / TILE_K<T>;
        offset_by_sample(z / phases, this->g, this->p, out);
    }
};

/* wgrad: im2col transposed. Rows: (tap, channel), k: positions of all samples, over which wgrad sums. w, h, d: division
 * by the extents of the positions along x, y and z. */
template <class T> struct wgrad_windows {
    typedef T type;
    const T *p;
    int64_t rows, k;
    conv_geometry g;
    fast_div w, h, d;
    template <class B, class Map> DEV_INLINE void offset_by_batch(int64_t, B &, tile_out<Map> &, tile_shape &)
    {
    }
    /* Element offset of position `at` (over all samples) at tap coordinates t step + off, channel c; -1 outside the
     * source. */
    DEV_INLINE int64_t element(int at, int tz, int ty, int tx, int c) const
    {
        int z, y, x;
        const int n = d.split(h.split(w.split(at, &x), &y), &z);
        const int iz = z * g.mul[0] + tz, iy = y * g.mul[1] + ty, ix = x * g.mul[2] + tx;
        const bool in =
            (unsigned)iz < (unsigned)g.src[0] && (unsigned)iy < (unsigned)g.src[1] && (unsigned)ix < (unsigned)g.src[2];
        return in ? n * g.source_batch + (int64_t)((iz * g.src[1] + iy) * g.src[2] + ix) * g.c + c : -1;
    }
};

/* By 16-byte chunks along channels: a thread keeps its tap and channels for all k. */
template <class T> struct wgrad_vec : wgrad_windows<T> {
    static constexpr bool K_MAJOR = false, VEC = true;
    template <int ROWS> struct at {
        static constexpr int CHUNKS = ROWS / TILE_V<T>, STEP = TILE_THREADS / CHUNKS;
        const wgrad_vec &a;
        int tz, ty, tx, c, position, k, chunk;
        bool in;
        DEV_INLINE at(const wgrad_vec &from, int64_t row0, int64_t k0, int tid)
            : a(from), k(tid / CHUNKS), chunk(tid % CHUNKS)
        {
            const int row = (int)row0 + chunk * TILE_V<T>;
            tap_walk walk;
            walk.start(a.g, row);
            in = row < a.rows;
            tz = walk.t[0] * a.g.step[0] + a.g.off[0];
            ty = walk.t[1] * a.g.step[1] + a.g.off[1];
            tx = walk.t[2] * a.g.step[2] + a.g.off[2];
            c = walk.c;
            position = (int)k0 + k;
        }
        DEV_INLINE void fill(T *tile)
        {
#pragma unroll
            for (int i = 0; i < TILE_K<T> / STEP; i++) {
                const int q = position + i * STEP;
                const int64_t e = in && q < a.k ? a.element(q, tz, ty, tx, c) : -1;
                dev_copy_async16(tile + TILE_V<T> * tile_chunk<CHUNKS>(k + i * STEP, chunk), a.p + (e >= 0 ? e : 0),
                                 e >= 0 ? 16 : 0);
            }
            position += TILE_K<T>;
        }
    };
};

/* Element by element, for few channels; lanes along positions, K_MAJOR tile. */
template <class T> struct wgrad_scalar : wgrad_windows<T> {
    static constexpr bool K_MAJOR = true, VEC = false;
    template <int ROWS> struct at {
        static constexpr int PER_THREAD = ROWS * TILE_K<T> / TILE_THREADS; /* rows per thread */
        const wgrad_scalar &a;
        tap_walk first;
        int k, row, position;
        DEV_INLINE at(const wgrad_scalar &from, int64_t row0, int64_t k0, int tid)
            : a(from), k(tid % TILE_K<T>), row(tid / TILE_K<T> * PER_THREAD), position((int)k0 + k)
        {
            first.start(a.g, (int)row0 + row);
        }
        DEV_INLINE void fill(T *tile)
        {
            tap_walk walk = first;
#pragma unroll 4
            for (int r = row; r < row + PER_THREAD; r++) {
                T v = (T)0.0f;
                if (position < a.k && walk.t[0] < a.g.taps[0]) {
                    const int64_t e =
                        a.element(position, walk.t[0] * a.g.step[0] + a.g.off[0], walk.t[1] * a.g.step[1] + a.g.off[1],
                                  walk.t[2] * a.g.step[2] + a.g.off[2], walk.c);
                    if (e >= 0) v = a.p[e];
                }
                tile[TILE_V<T> * tile_chunk<4>(r, k / TILE_V<T>) + k % TILE_V<T>] = v;
                walk.advance(a.g, 1);
            }
            position += TILE_K<T>;
        }
    };
};

#endif
