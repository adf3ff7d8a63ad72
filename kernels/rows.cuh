/* A warp's walk over a row: each lane takes every 32nd element, or every 32nd four where rows lie on multiples of four.
 */
#ifndef MCS_KERNELS_ROWS_CUH
#define MCS_KERNELS_ROWS_CUH

#include "kernels/device.cuh"

constexpr int ROWS_A_BLOCK = 4; /* one warp each */

/* V elements at p as floats. */
template <int V> struct pack {
    float v[V];
};
template <int V, class T> static DEV_INLINE pack<V> pack_load(const T *p)
{
    pack<V> r;
    if constexpr (V == 4) {
        const float4 f = dev_load4(p);
        r.v[0] = f.x, r.v[1] = f.y, r.v[2] = f.z, r.v[3] = f.w;
    } else {
        r.v[0] = dev_load(p);
    }
    return r;
}
template <int V, class T> static DEV_INLINE void pack_store(T *p, const pack<V> &r)
{
    if constexpr (V == 4)
        dev_store4(p, make_float4(r.v[0], r.v[1], r.v[2], r.v[3]));
    else
        dev_store(p, r.v[0]);
}
template <int V, class T> static DEV_INLINE void pack_blend(T *p, float beta, const pack<V> &r)
{
    if constexpr (V == 4)
        dev_blend4(p, beta, make_float4(r.v[0], r.v[1], r.v[2], r.v[3]));
    else
        dev_blend(p, beta, r.v[0]);
}

/* The row of this warp; at least `rows` where there is none for it. */
static DEV_INLINE int64_t warp_row()
{
    return (int64_t)blockIdx.x * ROWS_A_BLOCK + threadIdx.x / DEV_WARP;
}
static DEV_INLINE int warp_lane()
{
    return (int)(threadIdx.x % DEV_WARP);
}
static inline unsigned row_blocks(int64_t rows)
{
    return (unsigned)((rows + ROWS_A_BLOCK - 1) / ROWS_A_BLOCK);
}

#endif
