/* Parts of the convolutions: packed weights (conv_pack.cu), the implicit GEMM (conv.cu), wgrad (conv_grad.cu) and the
 * GEMM with depth-to-space output (conv_transpose.cu). */
#ifndef MCS_KERNELS_CONV_RUN_CUH
#define MCS_KERNELS_CONV_RUN_CUH

#include "kernels/conv/conv_load.cuh"
#include "kernels/gemm/tile_split.cuh"

/* Transposes: blocks of 32 x 8 threads, tiles of 32 x 32 elements. */
constexpr int TRANSPOSE_TILE = 32, TRANSPOSE_ROWS = 8;

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

/* Packs weights (o, c, taps), float, into type `dtype`:
 *   PACK_ROWS      (o, ld): column tap * c + channel; ld = taps c rounded up to a multiple of 8   fprop
 *   PACK_FLIPPED    (c, ld): column tap * o + channel of o; ld = taps o rounded up                 stride-1 dgrad
 *   PACK_PHASES   for each stride phase (tap mod stride, by axis): (c, taps of the phase, o)     strided dgrad
 *   PACK_TAPS      (taps, c, ld): o contiguous, ld = o rounded up to a multiple of 8              kernel == stride */
enum conv_packing { PACK_ROWS, PACK_FLIPPED, PACK_PHASES, PACK_TAPS };
int64_t conv_pack_ld(enum conv_packing how, int64_t o, int64_t c, int64_t taps);
size_t conv_pack_bytes(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, int64_t taps);
cudaError_t conv_pack(enum conv_packing how, enum k_dtype t, int64_t o, int64_t c, const int k[3], const int stride[3],
                      const float *w, void *packed, cudaStream_t s);

/* Tiles of 128 rows load less than tiles of 64. They are used where they give at least half of the GPU a block. */
static inline int conv_wide(enum k_tile tile, int64_t blocks)
{
    return tile == K_TILE_128 || (tile == K_TILE_CHOSEN && blocks >= SPLIT_BLOCKS / 2);
}
/* Columns of a tile: 128, or 64 where the last tile of 128 would be half empty. */
static inline int conv_columns(int64_t n)
{
    return n % 128 > 64 || n % 128 == 0 ? 128 : 64;
}

/* Implicit GEMM: y (n, rows, o) = beta y + bias + im2col(src) packed^T, packed (o, ld) as PACK_ROWS or PACK_FLIPPED.
 * Rows are a sample's positions, columns output channels, k (tap, channel). workspace: conv_igemm_bytes. moments: as in
 * k_conv. */
struct conv_igemm {
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
/* dx as an implicit GEMM over dy; weights are packed by `how` at the start of the workspace, with conv_pack's
 * o and c. */
static inline conv_igemm conv_dgrad_igemm(const struct k_conv *a, enum conv_packing how, int64_t o, int64_t c,
                                          const conv_geometry &over_dy)
{
    const int64_t taps = conv_positions(a->k);
    conv_igemm g;
    g.dtype = a->dtype, g.n = a->n, g.o = a->c, g.ld = conv_pack_ld(how, o, c, taps);
    g.g = over_dy;
    g.src = a->dy, g.packed = a->workspace, g.bias = NULL, g.y = a->dx, g.beta = a->beta_x, g.moments = NULL,
    g.tile = a->tile;
    g.workspace = (float *)((char *)a->workspace + conv_pack_bytes(how, a->dtype, o, c, taps));
    return g;
}
size_t conv_igemm_bytes(const conv_igemm *a);
cudaError_t conv_igemm_run(const conv_igemm *a, cudaStream_t s);

/* wgrad: dw (o, c, k) = beta dw + dy^T im2col(src), dy (n, rows, o), summed over all positions. */
struct conv_wgrad {
    enum k_dtype dtype;
    int64_t n, o, c;
    int k[3];
    conv_geometry g;
    const void *src, *dy;
    float *dw, beta;
    float *workspace;
    enum k_tile tile;
};
size_t conv_wgrad_bytes(const conv_wgrad *a);
cudaError_t conv_wgrad_run(const conv_wgrad *a, cudaStream_t s);

/* GEMM with depth-to-space output, for kernel == stride: y (n, rows k, c) at position p k + tap = beta y + bias (c) +
 * x[p] . packed[tap], x (n, rows, o), packed (taps, c, ld) as PACK_TAPS. */
struct conv_depth_to_space {
    enum k_dtype dtype;
    int64_t n, o, c;
    int rows[3], k[3];
    const void *x, *packed;
    const float *bias;
    void *y;
    float beta;
    enum k_tile tile;
};
cudaError_t conv_depth_to_space_run(const conv_depth_to_space *a, cudaStream_t s);

/* Geometry of fprop: positions `dst` over x (n, src, c). */
conv_geometry conv_geometry_of(const int src[3], const int dst[3], const int k[3], const int stride[3],
                               const int pad[3], int64_t c, int64_t o);
/* 1 where every 16-byte chunk is aligned and inside one tap, so that the _vec loaders serve. */
int conv_fits_vec(const conv_geometry *g, const void *p, enum k_dtype t);

#endif
