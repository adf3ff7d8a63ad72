/* Convolution weights from the tape's order to the order in which products read them, and into their type: blocks turn
 * 32 x 32 squares of (channel, tap) through shared memory. */
#include "kernels/conv_run.cuh"

constexpr int SIDE = 32, SIDE_ROWS = 8;

struct pack_shape {
    int o, c, taps, k[3], stride[3];
    int64_t ld;
    int how;
};

static DEV_INLINE int64_t packed_at(const pack_shape &p, int o, int c, int t)
{
    if (p.how == PACK_ROWS) return o * p.ld + (int64_t)t * p.c + c;
    if (p.how == PACK_TURNED) return c * p.ld + (int64_t)t * p.o + o;
    if (p.how == PACK_TAPS) return ((int64_t)t * p.c + c) * p.ld + o;
    const int t2 = t % p.k[2], t1 = t / p.k[2] % p.k[1], t0 = t / p.k[2] / p.k[1];
    const int r0 = t0 % p.stride[0], r1 = t1 % p.stride[1], r2 = t2 % p.stride[2];
    const int n0 = class_taps(r0, p.k[0], p.stride[0]), n1 = class_taps(r1, p.k[1], p.stride[1]),
              n2 = class_taps(r2, p.k[2], p.stride[2]);
    const int before =
        class_before(r0, p.k[0], p.stride[0]) * p.k[1] * p.k[2] +
        n0 * (class_before(r1, p.k[1], p.stride[1]) * p.k[2] + n1 * class_before(r2, p.k[2], p.stride[2]));
    const int own = ((t0 / p.stride[0]) * n1 + t1 / p.stride[1]) * n2 + t2 / p.stride[2];
    return (int64_t)before * p.c * p.o + ((int64_t)c * (n0 * n1 * n2) + own) * p.o + o;
}

/* grid: (taps, inner channels, outer channels): inner ones are c for PACK_ROWS, else o. w (o, c, taps). */
template <class T>
__global__ void __launch_bounds__(SIDE *SIDE_ROWS) pack_weights(const float *w, T *packed, pack_shape p)
{
    SHARED_ARRAY(float, square, [SIDE][SIDE + 1]);
    const bool rows = p.how == PACK_ROWS;
    const int x = (int)threadIdx.x, y = (int)threadIdx.y, outer = (int)blockIdx.z;
    const int t0 = (int)blockIdx.x * SIDE, i0 = (int)blockIdx.y * SIDE, inner = rows ? p.c : p.o;
    for (int i = y; i < SIDE && i0 + i < inner; i += SIDE_ROWS) {
        const int64_t o = rows ? outer : i0 + i, c = rows ? i0 + i : outer;
        if (t0 + x < p.taps) square[i][x] = w[(o * p.c + c) * p.taps + t0 + x];
    }
    DEV_SYNC();
    if (i0 + x >= inner) return;
    for (int t = y; t < SIDE && t0 + t < p.taps; t += SIDE_ROWS)
        dev_store(packed + packed_at(p, rows ? outer : i0 + x, rows ? i0 + x : outer, t0 + t), square[x][t]);
}

int64_t conv_pack_ld(enum conv_packing how, int64_t o, int64_t c, int64_t taps)
{
    return how == PACK_ROWS ? conv_round8(taps * c) : how == PACK_TURNED ? conv_round8(taps * o) : conv_round8(o);
}
size_t conv_pack_bytes(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, int64_t taps)
{
    const int64_t ld = conv_pack_ld(how, o, c, taps);
    const int64_t n = how == PACK_ROWS     ? o * ld
                      : how == PACK_TURNED ? c * ld
                      : how == PACK_TAPS   ? taps * c * ld
                                           : taps * c * o;
    return conv_round((size_t)n * conv_bytes(t));
}

cudaError_t conv_pack(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, const int k[3], const int stride[3],
                      const float *w, void *packed, cudaStream_t s)
{
    pack_shape p;
    p.o = (int)o, p.c = (int)c, p.taps = k[0] * k[1] * k[2], p.how = how;
    p.ld = conv_pack_ld(how, o, c, p.taps);
    for (int i = 0; i < 3; i++) p.k[i] = k[i], p.stride[i] = stride[i];
    const int64_t inner = how == PACK_ROWS ? c : o, outer = how == PACK_ROWS ? o : c;
    const dim3 grid((unsigned)tile_ceil(p.taps, SIDE), (unsigned)tile_ceil(inner, SIDE), (unsigned)outer);
    if (t == K_BF16)
        return dev_launch((pack_weights<__nv_bfloat16>), grid, dim3(SIDE, SIDE_ROWS), 0, s, w, (__nv_bfloat16 *)packed,
                          p);
    return dev_launch((pack_weights<float>), grid, dim3(SIDE, SIDE_ROWS), 0, s, w, (float *)packed, p);
}
