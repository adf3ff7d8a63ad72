/* V elements of storage type T as floats, by the widest accesses: 16 bytes for 4 floats or 8 bf16, 8 bytes for 4 bf16,
 * two of 16 bytes for 8 floats. V is 1 where addresses are not aligned to that. */
#ifndef MCS_KERNELS_PACK_CUH
#define MCS_KERNELS_PACK_CUH

#include "kernels/common/device.cuh"

template <int V> struct pack {
    float v[V];
};

/* Elements of T in 16 bytes. */
template <class T> constexpr int wide = 16 / (int)sizeof(T);

/* 1 where p is aligned for accesses of V elements. */
template <int V, class T> static inline int pack_fits(const T *p)
{
    const size_t bytes = V * sizeof(T) > 16 ? 16 : V * sizeof(T);
    return ((size_t)p & (bytes - 1)) == 0;
}

static DEV_INLINE void pack_two(unsigned u, float *v)
{
    v[0] = __uint_as_float(u << 16);
    v[1] = __uint_as_float(u & 0xffff0000u);
}

template <int V, class T> static DEV_INLINE pack<V> pack_load(const T *p)
{
    static_assert(V == 1 || V == 4 || V == 8, "one, four or eight");
    pack<V> r;
    if constexpr (V == 8 && sizeof(T) == 2) {
        const float4 f = dev_load16((const float *)p);
        pack_two(__float_as_uint(f.x), r.v);
        pack_two(__float_as_uint(f.y), r.v + 2);
        pack_two(__float_as_uint(f.z), r.v + 4);
        pack_two(__float_as_uint(f.w), r.v + 6);
    } else if constexpr (V == 1) {
        r.v[0] = dev_load(p);
    } else {
        for (int i = 0; i < V; i += 4) {
            const float4 f = dev_load4(p + i);
            r.v[i] = f.x, r.v[i + 1] = f.y, r.v[i + 2] = f.z, r.v[i + 3] = f.w;
        }
    }
    return r;
}
template <int V, class T> static DEV_INLINE void pack_store(T *p, const pack<V> &r)
{
    if constexpr (V == 8 && sizeof(T) == 2) {
        const unsigned a = dev_pack_bf16(r.v[0], r.v[1]), b = dev_pack_bf16(r.v[2], r.v[3]);
        const unsigned c = dev_pack_bf16(r.v[4], r.v[5]), d = dev_pack_bf16(r.v[6], r.v[7]);
        dev_store16((float *)p,
                    make_float4(__uint_as_float(a), __uint_as_float(b), __uint_as_float(c), __uint_as_float(d)));
    } else if constexpr (V == 1) {
        dev_store(p, r.v[0]);
    } else {
        for (int i = 0; i < V; i += 4) dev_store4(p + i, make_float4(r.v[i], r.v[i + 1], r.v[i + 2], r.v[i + 3]));
    }
}
template <int V, class T> static DEV_INLINE void pack_blend(T *p, float beta, pack<V> r)
{
    if (beta != 0) {
        const pack<V> old = pack_load<V>(p);
        for (int i = 0; i < V; i++) r.v[i] = fmaf(beta, old.v[i], r.v[i]);
    }
    pack_store<V>(p, r);
}

/* The same at the end of an array: only the first `left` elements exist; the others read as 0 and are not written. */
template <int V, class T> static DEV_INLINE pack<V> pack_load(const T *p, int64_t left)
{
    if constexpr (V > 1)
        if (left < V) {
            pack<V> r;
            for (int i = 0; i < V; i++) r.v[i] = i < left ? dev_load(p + i) : 0.0f;
            return r;
        }
    return pack_load<V>(p);
}
template <int V, class T> static DEV_INLINE void pack_blend(T *p, float beta, const pack<V> &r, int64_t left)
{
    if constexpr (V > 1)
        if (left < V) {
            for (int i = 0; i < V; i++)
                if (i < left) dev_blend(p + i, beta, r.v[i]);
            return;
        }
    pack_blend<V>(p, beta, r);
}

#endif
