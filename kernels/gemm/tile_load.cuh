/* Loaders of plain matrices for tile.cuh. A loader is a kernel argument; at<ROWS> is one thread's iterator over the
 * tiles of a block in order of k, and fill() loads its part of the next tile. _vec (VEC): by 16-byte chunks with
 * cp.async (rows and pointer aligned to 16 bytes); _scalar: element by element. Elements outside the matrix are 0. */
#ifndef MCS_KERNELS_TILE_LOAD_CUH
#define MCS_KERNELS_TILE_LOAD_CUH

#include "kernels/gemm/tile.cuh"

/* Operand A (rows = m) or B (rows = n) of a batch of GEMMs. ld: leading dimension; batch: elements from one z to the
 * next. */
template <class T> struct plain_matrix {
    const T *p;
    int64_t ld, rows, k, batch;
    template <class B, class Map> DEV_INLINE void offset_by_batch(int64_t z, B &b, tile_out<Map> &out, tile_shape &s)
    {
        p += z * batch;
        b.p += z * b.batch;
        const int64_t y = z * s.m * s.n; /* results lie one after the other */
        out.y = out.bf16 ? (void *)((__nv_bfloat16 *)out.y + y) : (void *)((float *)out.y + y);
    }
};

/* Bytes to copy of a chunk whose first element has `left` elements before the end. */
template <class T> static DEV_INLINE unsigned chunk_bytes(int64_t left)
{
    return left >= TILE_V<T> ? 16u : left > 0 ? (unsigned)left * (unsigned)sizeof(T) : 0u;
}

/* Matrix (rows, ld), contiguous along k; K_MAJOR tile. */
template <class T> struct rows_vec : plain_matrix<T> {
    static constexpr bool K_MAJOR = true, VEC = true;
    template <int ROWS> struct at {
        const T *p, *any;                /* any: a valid address for copies of 0 bytes */
        int64_t ld32, rows_left, k_left; /* a thread's rows are 32 apart */
        int row, chunk;
        DEV_INLINE at(const rows_vec &g, int64_t row0, int64_t k0, int tid)
            : any(g.p), ld32(32 * g.ld), row(tid / 4), chunk(tid % 4)
        {
            p = g.p + (row0 + row) * g.ld + k0 + chunk * TILE_V<T>;
            rows_left = g.rows - row0 - row;
            k_left = g.k - k0 - chunk * TILE_V<T>;
        }
        DEV_INLINE void fill(T *tile)
        {
            const unsigned bytes = chunk_bytes<T>(k_left);
#pragma unroll
            for (int i = 0; i < ROWS / 32; i++) {
                const bool in = 32 * i < rows_left && bytes;
                dev_copy_async16(tile + TILE_V<T> * tile_chunk<4>(row + 32 * i, chunk), in ? p + i * ld32 : any,
                                 in ? bytes : 0);
            }
            p += TILE_K<T>;
            k_left -= TILE_K<T>;
        }
    };
};

/* The same element by element; lanes along k. */
template <class T> struct rows_scalar : plain_matrix<T> {
    static constexpr bool K_MAJOR = true, VEC = false;
    template <int ROWS> struct at {
        const T *p;
        int64_t ld, rows_left, k_left;
        int row, k;
        DEV_INLINE at(const rows_scalar &g, int64_t row0, int64_t k0, int tid)
            : ld(g.ld), row(tid / TILE_K<T>), k(tid % TILE_K<T>)
        {
            p = g.p + row0 * g.ld + k0 + k;
            rows_left = g.rows - row0;
            k_left = g.k - k0 - k;
        }
        DEV_INLINE void fill(T *tile)
        {
#pragma unroll 4
            for (int r = row; r < ROWS; r += TILE_THREADS / TILE_K<T>) {
                T v = (T)0.0f;
                if (r < rows_left && k_left > 0) v = p[r * ld];
                tile[TILE_V<T> * tile_chunk<4>(r, k / TILE_V<T>) + k % TILE_V<T>] = v;
            }
            p += TILE_K<T>;
            k_left -= TILE_K<T>;
        }
    };
};

/* Matrix (k, ld), contiguous along rows; tile (k, rows). */
template <class T> struct columns_vec : plain_matrix<T> {
    static constexpr bool K_MAJOR = false, VEC = true;
    template <int ROWS> struct at {
        static constexpr int CHUNKS = ROWS / TILE_V<T>, STEP = TILE_THREADS / CHUNKS;
        const T *p, *any; /* any: a valid address for copies of 0 bytes */
        int64_t ld, k_left;
        unsigned bytes;
        int k, chunk;
        DEV_INLINE at(const columns_vec &g, int64_t row0, int64_t k0, int tid)
            : any(g.p), ld(g.ld), k(tid / CHUNKS), chunk(tid % CHUNKS)
        {
            p = g.p + (k0 + k) * g.ld + row0 + chunk * TILE_V<T>;
            bytes = chunk_bytes<T>(g.rows - row0 - chunk * TILE_V<T>);
            k_left = g.k - k0 - k;
        }
        DEV_INLINE void fill(T *tile)
        {
#pragma unroll
            for (int i = 0; i < TILE_K<T> / STEP; i++) {
                const bool in = i * STEP < k_left && bytes;
                dev_copy_async16(tile + TILE_V<T> * tile_chunk<CHUNKS>(k + i * STEP, chunk),
                                 in ? p + i * STEP * ld : any, in ? bytes : 0);
            }
            p += TILE_K<T> * ld;
            k_left -= TILE_K<T>;
        }
    };
};

/* The same element by element; lanes along rows. */
template <class T> struct columns_scalar : plain_matrix<T> {
    static constexpr bool K_MAJOR = false, VEC = false;
    template <int ROWS> struct at {
        static constexpr int CHUNKS = ROWS / TILE_V<T>, STEP = TILE_THREADS > ROWS ? TILE_THREADS / ROWS : 1;
        const T *p;
        int64_t ld, k_left;
        int k, row;
        bool in;
        DEV_INLINE at(const columns_scalar &g, int64_t row0, int64_t k0, int tid)
            : ld(g.ld), k(tid / ROWS), row(tid % ROWS)
        {
            p = g.p + k0 * g.ld + row0 + row;
            in = row0 + row < g.rows;
            k_left = g.k - k0;
        }
        DEV_INLINE void fill(T *tile)
        {
#pragma unroll 4
            for (int l = k; l < TILE_K<T>; l += STEP) {
                T v = (T)0.0f;
                if (in && l < k_left) v = p[l * ld];
                tile[TILE_V<T> * tile_chunk<CHUNKS>(l, row / TILE_V<T>) + row % TILE_V<T>] = v;
            }
            p += TILE_K<T> * ld;
            k_left -= TILE_K<T>;
        }
    };
};

#endif
