/* What the parts of the convolution offer each other: packed weights (conv_pack.cu), the gathering product (conv.cu),
 * the weight gradient (conv_grad.cu) and the scattering product (conv_transpose.cu). */
#ifndef MCS_KERNELS_CONV_RUN_CUH
#define MCS_KERNELS_CONV_RUN_CUH

#include "kernels/conv/conv_load.cuh"
#include "kernels/gemm/tile_split.cuh"

static inline int64_t conv_round8(int64_t n)
{
    return (n + 7) / 8 * 8;
}
static inline size_t conv_round(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}
static inline size_t conv_bytes(enum k_dtype t)
{
    return t == K_BF16 ? 2 : 4;
}

/* Weights (o, c, taps) to type `dtype`, as
 *   PACK_ROWS      (o, ld): column tap * c + channel; ld = taps c rounded up to a multiple of 8
 *   PACK_TURNED    (c, ld): column tap * o + channel of o
 *   PACK_CLASSES   by residue class of the taps (tap mod stride, by axis), (c, taps of the class, o)
 *   PACK_TAPS      (taps, c, ld): o behind each other, ld = o rounded up to 8 */
enum conv_packing { PACK_ROWS, PACK_TURNED, PACK_CLASSES, PACK_TAPS };
int64_t conv_pack_ld(enum conv_packing how, int64_t o, int64_t c, int64_t taps);
size_t conv_pack_bytes(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, int64_t taps);
cudaError_t conv_pack(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, const int k[3], const int stride[3],
                      const float *w, void *packed, cudaStream_t s);

/* Tiles of 128 rows move less than those of 64; worth it where they keep half of a GPU busy. */
static inline int conv_wide(enum k_tile tile, int64_t blocks)
{
    return tile == K_TILE_128 || (tile == K_TILE_CHOSEN && blocks >= SPLIT_BLOCKS / 2);
}
/* Columns of a tile: 128, or 64 where that would leave the last tile half empty. */
static inline int conv_columns(int64_t n)
{
    return n % 128 > 64 || n % 128 == 0 ? 128 : 64;
}

/* y (n, rows, o) = beta y + bias + the windows of src times packed weights (PACK_ROWS or PACK_TURNED, rows of ld).
 * workspace: conv_gather_bytes. moments: as of k_conv. */
struct conv_gather {
    enum k_dtype dtype;
    int64_t n, o, ld;
    conv_geometry g;
    const void *src, *packed;
    const float *bias;
    void *y;
    float beta;
    float *moments, *workspace;
    enum k_tile tile;
};
/* dx as such a product over dy, weights packed `how` at the start of the workspace as (o, c) of conv_pack. */
static inline conv_gather conv_data_gather(const struct k_conv *a, enum conv_packing how, int64_t o, int64_t c,
                                           const conv_geometry &over_dy)
{
    const int64_t taps = conv_positions(a->k);
    conv_gather g;
    g.dtype = a->dtype, g.n = a->n, g.o = a->c, g.ld = conv_pack_ld(how, o, c, taps);
    g.g = over_dy;
    g.src = a->dy, g.packed = a->workspace, g.bias = NULL, g.y = a->dx, g.beta = a->beta_x, g.moments = NULL,
    g.tile = a->tile;
    g.workspace = (float *)((char *)a->workspace + conv_pack_bytes(how, a->dtype, o, c, taps));
    return g;
}
size_t conv_gather_bytes(const conv_gather *a);
cudaError_t conv_gather_run(const conv_gather *a, cudaStream_t s);

/* dw (o, c, k) = beta dw + sum over positions of dy (n, rows, o) times the windows of src. */
struct conv_weight_grad {
    enum k_dtype dtype;
    int64_t n, o, c;
    int k[3];
    conv_geometry g;
    const void *src, *dy;
    float *dw, beta;
    float *workspace;
    enum k_tile tile;
};
size_t conv_weight_grad_bytes(const conv_weight_grad *a);
cudaError_t conv_weight_grad_run(const conv_weight_grad *a, cudaStream_t s);

/* y (n, rows k, c): position p k + tap = beta y + bias (c) + x (n, rows, o) of p times packed weights (PACK_TAPS). */
struct conv_scatter {
    enum k_dtype dtype;
    int64_t n, o, c;
    int rows[3], k[3];
    const void *x, *packed;
    const float *bias;
    void *y;
    float beta;
    enum k_tile tile;
};
cudaError_t conv_scatter_run(const conv_scatter *a, cudaStream_t s);

/* Forward walk of x (n, src, c) by the positions `dst`. */
conv_geometry conv_geometry_of(const int src[3], const int dst[3], const int k[3], const int stride[3],
                               const int pad[3], int64_t c, int64_t o);
int conv_by_chunks(const conv_geometry *g, const void *p, enum k_dtype t);

#endif
