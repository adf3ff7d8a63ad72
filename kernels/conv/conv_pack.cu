/* Packs convolution weights w (o, c, taps) into the layouts and the type of the GEMMs (conv_run.cuh), transposing
 * through shared memory so that both reads and writes are coalesced. */
#include "kernels/conv/conv_run.cuh"

constexpr int THREADS = TRANSPOSE_TILE * TRANSPOSE_ROWS;

/* Floats of shared memory of pack_rows: a channel of `taps` taps takes taps | 1 of them, and channels * taps is at most
 * 32 * 32. Two taps need the most, 3 floats for every 2. */
constexpr int SCRATCH = TRANSPOSE_TILE * TRANSPOSE_TILE / 2 * 3;

struct pack_shape {
    int o, c, taps, k[3], stride[3];
    int64_t ld;
    int how;
    int channels; /* per block of pack_rows */
};

/* Index of (o, c, t) in the packed layout; o is contiguous. */
static DEV_INLINE int64_t packed_index(const pack_shape &p, int o, int c, int t)
{
    if (p.how == PACK_FLIPPED) return c * p.ld + (int64_t)t * p.o + o;
    if (p.how == PACK_TAPS) return ((int64_t)t * p.c + c) * p.ld + o;
    const int t2 = t % p.k[2], t1 = t / p.k[2] % p.k[1], t0 = t / p.k[2] / p.k[1];
    const int r0 = t0 % p.stride[0], r1 = t1 % p.stride[1], r2 = t2 % p.stride[2];
    const int n0 = phase_taps(r0, p.k[0], p.stride[0]), n1 = phase_taps(r1, p.k[1], p.stride[1]),
              n2 = phase_taps(r2, p.k[2], p.stride[2]);
    const int before =
        phase_taps_before(r0, p.k[0], p.stride[0]) * p.k[1] * p.k[2] +
        n0 * (phase_taps_before(r1, p.k[1], p.stride[1]) * p.k[2] + n1 * phase_taps_before(r2, p.k[2], p.stride[2]));
    const int tap = ((t0 / p.stride[0]) * n1 + t1 / p.stride[1]) * n2 + t2 / p.stride[2];
    return (int64_t)before * p.c * p.o + ((int64_t)c * (n0 * n1 * n2) + tap) * p.o + o;
}

/* PACK_ROWS. grid: (taps / TRANSPOSE_TILE, c / channels, o). */
template <class T> __global__ void __launch_bounds__(THREADS) pack_rows(const float *w, T *packed, pack_shape p)
{
    SHARED_ARRAY(float, scratch, [SCRATCH]);
    const int c0 = (int)blockIdx.y * p.channels, t0 = (int)blockIdx.x * TRANSPOSE_TILE, o = (int)blockIdx.z;
    const int channels = p.c - c0 < p.channels ? p.c - c0 : p.channels,
              taps = p.taps - t0 < TRANSPOSE_TILE ? p.taps - t0 : TRANSPOSE_TILE;
    const int line = taps | 1; /* odd pitch: no bank conflicts among the channels of a tap */
    const int channels_per_step = THREADS / taps, taps_per_step = THREADS % taps;
    int c = (int)threadIdx.x / taps, t = (int)threadIdx.x % taps;
    w += ((int64_t)o * p.c + c0) * p.taps + t0;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < channels * taps; i += THREADS) {
        scratch[c * line + t] = w[(int64_t)c * p.taps + t];
        const int carry = t + taps_per_step >= taps;
        c += channels_per_step + carry, t += taps_per_step - (carry ? taps : 0);
    }
    DEV_SYNC();
    for (t = (int)threadIdx.x / TRANSPOSE_TILE; t < taps; t += TRANSPOSE_ROWS)
        for (c = (int)threadIdx.x % TRANSPOSE_TILE; c < channels; c += TRANSPOSE_TILE)
            dev_store(packed + o * p.ld + (int64_t)(t0 + t) * p.c + c0 + c, scratch[c * line + t]);
}

/* The other layouts: 32 x 32 tiles of (o, channel and tap). grid: (c taps / TRANSPOSE_TILE, o / TRANSPOSE_TILE). */
template <class T> __global__ void __launch_bounds__(THREADS) pack_columns(const float *w, T *packed, pack_shape p)
{
    SHARED_ARRAY(float, tile, [TRANSPOSE_TILE][TRANSPOSE_TILE + 1]);
    const int x = (int)threadIdx.x % TRANSPOSE_TILE, y = (int)threadIdx.x / TRANSPOSE_TILE;
    const int i0 = (int)blockIdx.x * TRANSPOSE_TILE, o0 = (int)blockIdx.y * TRANSPOSE_TILE, line = p.c * p.taps;
#pragma unroll
    for (int r = y; r < TRANSPOSE_TILE; r += TRANSPOSE_ROWS)
        if (o0 + r < p.o && i0 + x < line) tile[r][x] = w[(int64_t)(o0 + r) * line + i0 + x];
    DEV_SYNC();
    if (o0 + x >= p.o) return;
    for (int i = y; i < TRANSPOSE_TILE && i0 + i < line; i += TRANSPOSE_ROWS)
        dev_store(packed + packed_index(p, o0 + x, (i0 + i) / p.taps, (i0 + i) % p.taps), tile[x][i]);
}

int64_t conv_pack_ld(enum conv_packing how, int64_t o, int64_t c, int64_t taps)
{
    return how == PACK_ROWS ? conv_round8(taps * c) : how == PACK_FLIPPED ? conv_round8(taps * o) : conv_round8(o);
}
size_t conv_pack_bytes(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, int64_t taps)
{
    const int64_t ld = conv_pack_ld(how, o, c, taps);
    const int64_t n = how == PACK_ROWS      ? o * ld
                      : how == PACK_FLIPPED ? c * ld
                      : how == PACK_TAPS    ? taps * c * ld
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
    p.channels = p.taps >= TRANSPOSE_TILE ? TRANSPOSE_TILE : TRANSPOSE_TILE * (TRANSPOSE_TILE / p.taps);
    const dim3 rows((unsigned)tile_ceil(p.taps, TRANSPOSE_TILE), (unsigned)tile_ceil(c, p.channels), (unsigned)o);
    const dim3 squares((unsigned)tile_ceil(c * p.taps, TRANSPOSE_TILE), (unsigned)tile_ceil(o, TRANSPOSE_TILE));
    if (t == K_BF16) {
        __nv_bfloat16 *to = (__nv_bfloat16 *)packed;
        return how == PACK_ROWS ? dev_launch((pack_rows<__nv_bfloat16>), rows, THREADS, 0, s, w, to, p)
                                : dev_launch((pack_columns<__nv_bfloat16>), squares, THREADS, 0, s, w, to, p);
    }
    return how == PACK_ROWS ? dev_launch((pack_rows<float>), rows, THREADS, 0, s, w, (float *)packed, p)
                            : dev_launch((pack_columns<float>), squares, THREADS, 0, s, w, (float *)packed, p);
}
