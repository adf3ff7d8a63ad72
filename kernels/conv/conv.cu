/* Implicit GEMM: rows are a sample's positions, columns output channels, k is (tap, channel). Serves fprop, stride-1
 * dgrad (with the kernel flipped), and dgrad of conv_transpose. */
#include "kernels/conv/conv_run.cuh"

conv_geometry conv_geometry_of(const int src[3], const int dst[3], const int k[3], const int stride[3],
                               const int pad[3], int64_t c, int64_t o)
{
    conv_geometry g;
    for (int i = 0; i < 3; i++)
        g.rows[i] = dst[i], g.src[i] = src[i], g.mul[i] = stride[i], g.step[i] = 1, g.off[i] = -pad[i],
        g.taps[i] = k[i];
    g.c = g.run = (int)c;
    g.source_batch = conv_positions(src) * c;
    g.result_batch = conv_positions(dst) * o;
    if (pad[2] == 0 && k[2] > 1) g.run *= k[2], g.taps[2] = 1; /* taps of a kernel row are contiguous */
    return g;
}

int conv_fits_vec(const conv_geometry *g, const void *p, enum k_dtype t)
{
    const int v = t == K_BF16 ? 8 : 4;
    /* Taps start at multiples of v: every position of the source does, or, where the taps of a kernel row are one run,
     * every position at which such a run starts. */
    const int aligned_taps =
        g->c % v == 0 || (g->run != g->c && g->mul[2] * g->c % v == 0 && g->src[2] * g->c % v == 0);
    return aligned_taps && g->run % v == 0 && g->source_batch % v == 0 && (size_t)p % 16 == 0;
}

struct igemm_plan {
    int bm, bn, splits;
    int64_t k_tiles;
};

static igemm_plan plan_of(const conv_igemm *a)
{
    const int bf16 = a->dtype == K_BF16;
    const int64_t m = conv_positions(a->g.rows), k = (int64_t)a->g.taps[0] * a->g.taps[1] * a->g.taps[2] * a->g.run;
    igemm_plan p = {64, 64, 1, tile_ceil(k, bf16 ? 32 : 16)};
    const int64_t parts = a->moments || p.k_tiles < 2 * SPLIT_STAGES ? 1 : p.k_tiles / SPLIT_STAGES;
    if (bf16 && (a->o <= 32 || !conv_fits_vec(&a->g, NULL, a->dtype))) {
        p.bm = 128, p.bn = a->o <= 32 ? 32 : 64; /* element loader: only these two sizes are instantiated */
    } else if (bf16) {
        const int bn = conv_columns(a->o);
        if (m > 64 && conv_wide(a->tile, tile_ceil(m, 128) * tile_ceil(a->o, bn) * a->n * parts)) p.bm = 128, p.bn = bn;
    }
    if (!a->moments)
        p.splits = (int)split_count(tile_ceil(m, p.bm) * tile_ceil(a->o, p.bn) * a->n, p.k_tiles, a->n * m * a->o);
    return p;
}

size_t conv_igemm_bytes(const conv_igemm *a)
{
    const int splits = plan_of(a).splits;
    return splits > 1 ? (size_t)(splits * a->n * conv_positions(a->g.rows) * a->o) * sizeof(float) : 0;
}

template <class T, class A, class Out>
static cudaError_t launch(const igemm_plan &p, const A &a, const rows_vec<T> &b, const Out &out, const tile_shape &t,
                          unsigned n, cudaStream_t s)
{
    const unsigned splits = (unsigned)p.splits;
    if constexpr (sizeof(T) == 2) {
        if constexpr (A::VEC) {
            if (p.bn == 128) return tile_launch<T, 128, 128, 64, 64>(a, b, out, t, splits, n, s);
            if (p.bm == 64) return tile_launch_64<T>(a, b, out, t, splits, n, s);
        }
        if (p.bn == 32) return tile_launch<T, 128, 32, 32, 32>(a, b, out, t, splits, n, s);
        return tile_launch<T, 128, 64, 64, 32>(a, b, out, t, splits, n, s);
    } else {
        return tile_launch_64<T>(a, b, out, t, splits, n, s);
    }
}

template <class T, class A> static cudaError_t run(const conv_igemm *a, cudaStream_t s)
{
    const igemm_plan p = plan_of(a);
    const int64_t m = conv_positions(a->g.rows), k = (int64_t)a->g.taps[0] * a->g.taps[1] * a->g.taps[2] * a->g.run;
    A la;
    la.p = (const T *)a->src, la.rows = m, la.g = a->g;
    rows_vec<T> lb;
    lb.p = (const T *)a->packed, lb.ld = a->ld, lb.rows = a->o, lb.k = k, lb.batch = 0;
    const tile_shape shape = {m, a->o, p.k_tiles, tile_ceil(p.k_tiles, p.splits)};
    tile_out_moments y;
    y.y = a->y, y.bias = a->bias, y.beta = a->beta, y.bf16 = sizeof(T) == 2, y.split_stride = 0, y.map.ld = a->o;
    y.aligned4 = a->o % 4 == 0 && dev_aligned4(a->bias) && dev_aligned4((const T *)a->y);
    y.moments = a->moments;
    if (a->moments) return launch<T>(p, la, lb, y, shape, (unsigned)a->n, s);
    if (p.splits == 1) return launch<T>(p, la, lb, (const tile_out<map_rows> &)y, shape, (unsigned)a->n, s);
    tile_out<map_rows> part = y;
    part.y = a->workspace, part.bias = NULL, part.beta = 0, part.bf16 = 0, part.split_stride = a->n * m * a->o;
    part.aligned4 = a->o % 4 == 0;
    const cudaError_t e = launch<T>(p, la, lb, part, shape, (unsigned)a->n, s);
    return e != cudaSuccess
               ? e
               : split_sum_launch(a->workspace, p.splits, a->n * m, a->o, (const tile_out<map_rows> &)y, s);
}

cudaError_t conv_igemm_run(const conv_igemm *a, cudaStream_t s)
{
    const int vec = conv_fits_vec(&a->g, a->src, a->dtype);
    if (a->dtype == K_BF16)
        return vec ? run<__nv_bfloat16, im2col_vec<__nv_bfloat16>>(a, s)
                   : run<__nv_bfloat16, im2col_scalar<__nv_bfloat16>>(a, s);
    return vec ? run<float, im2col_vec<float>>(a, s) : run<float, im2col_scalar<float>>(a, s);
}

/* ---- fprop ---- */

static conv_igemm fprop_of(const struct k_conv *a)
{
    conv_igemm g;
    g.dtype = a->dtype, g.n = a->n, g.o = a->o;
    g.g = conv_geometry_of(a->src, a->dst, a->k, a->stride, a->pad, a->c, a->o);
    g.ld = conv_pack_ld(PACK_ROWS, a->o, a->c, conv_positions(a->k));
    g.src = a->x, g.packed = a->workspace, g.bias = a->bias, g.y = a->y, g.beta = 0, g.moments = a->moments,
    g.tile = a->tile;
    g.workspace =
        (float *)((char *)a->workspace + conv_pack_bytes(PACK_ROWS, a->dtype, a->o, a->c, conv_positions(a->k)));
    return g;
}

size_t k_conv_fwd_bytes(const struct k_conv *a)
{
    const conv_igemm g = fprop_of(a);
    return (size_t)((char *)g.workspace - (char *)a->workspace) + conv_igemm_bytes(&g);
}

cudaError_t k_conv_fwd(const struct k_conv *a, cudaStream_t s)
{
    if (a->n <= 0 || a->o <= 0 || conv_positions(a->dst) <= 0) return cudaSuccess;
    const cudaError_t e =
        a->c > 0 ? conv_pack(PACK_ROWS, a->dtype, a->o, a->c, a->k, a->stride, a->w, a->workspace, s) : cudaSuccess;
    if (e != cudaSuccess) return e;
    const conv_igemm g = fprop_of(a);
    return conv_igemm_run(&g, s);
}

/* ---- partial moments for an instance norm ---- */

static igemm_plan plan_with(const struct k_conv *a, float *moments)
{
    struct k_conv with = *a;
    with.moments = moments;
    const conv_igemm g = fprop_of(&with);
    return plan_of(&g);
}
int k_conv_is_split(const struct k_conv *a)
{
    return plan_with(a, NULL).splits > 1;
}
int k_conv_part_rows(const struct k_conv *a)
{
    float any; /* plan_of only asks whether it is NULL */
    return plan_with(a, &any).bm;
}
