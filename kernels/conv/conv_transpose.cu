/* conv_transpose with kernel == stride. Forward: every input position produces a separate block of outputs, so it is
 * one GEMM with columns (tap, channel) and a depth-to-space output map. Backward: dgrad is a convolution of dy with the
 * same kernel and stride (implicit GEMM); wgrad is that convolution's wgrad with x and dy exchanged. */
#include "kernels/conv/conv_run.cuh"

/* Depth-to-space: row m, a position of `rows`, and column n, (tap, channel), go to position p k + tap, channel o. */
struct map_depth_to_space {
    fast_div c, kw, kh, w, h;
    int depth; /* kernel size along z */
    DEV_INLINE int64_t offset(int64_t m, int64_t n) const
    {
        int o, tx, ty, x, y;
        const int tz = kh.split(kw.split(c.split((int)n, &o), &tx), &ty);
        const int z = h.split(w.split((int)m, &x), &y);
        const int64_t line = (int64_t)(z * depth + tz) * ((int)h.d * (int)kh.d) + y * (int)kh.d + ty;
        return (line * ((int)w.d * (int)kw.d) + x * (int)kw.d + tx) * (int)c.d + o;
    }
    DEV_INLINE int64_t channel(int64_t n) const
    {
        int o;
        c.split((int)n, &o);
        return o;
    }
};

template <class T, class A> static cudaError_t run(const conv_depth_to_space *a, cudaStream_t s)
{
    const int64_t m = conv_positions(a->rows), n = conv_positions(a->k) * a->c;
    A la;
    la.p = (const T *)a->x, la.ld = a->o, la.rows = m, la.k = a->o, la.batch = m * a->o;
    rows_vec<T> lb;
    lb.p = (const T *)a->packed, lb.ld = conv_round8(a->o), lb.rows = n, lb.k = a->o, lb.batch = 0;
    tile_out<map_depth_to_space> y;
    y.y = a->y, y.bias = a->bias, y.beta = a->beta, y.bf16 = sizeof(T) == 2, y.split_stride = 0;
    y.aligned4 = a->c % 4 == 0 && dev_aligned4(a->bias) && dev_aligned4((const T *)a->y);
    y.map.c = fast_div_of(a->c), y.map.kw = fast_div_of(a->k[2]), y.map.kh = fast_div_of(a->k[1]);
    y.map.w = fast_div_of(a->rows[2]), y.map.h = fast_div_of(a->rows[1]), y.map.depth = a->k[0];
    const int64_t k_tiles = tile_ceil(a->o, TILE_K<T>);
    const tile_shape shape = {m, n, k_tiles, k_tiles};
    if constexpr (sizeof(T) == 2 && A::VEC) {
        if (m > 64 && n > 64 && conv_wide(a->tile, tile_ceil(m, 128) * tile_ceil(n, 128) * a->n))
            return tile_launch<T, 128, 128, 64, 64>(la, lb, y, shape, 1, (unsigned)a->n, s);
    }
    return tile_launch_64<T>(la, lb, y, shape, 1, (unsigned)a->n, s);
}

cudaError_t conv_depth_to_space_run(const conv_depth_to_space *a, cudaStream_t s)
{
    const int vec = a->o % (a->dtype == K_BF16 ? 8 : 4) == 0 && (size_t)a->x % 16 == 0;
    if (a->dtype == K_BF16)
        return vec ? run<__nv_bfloat16, rows_vec<__nv_bfloat16>>(a, s)
                   : run<__nv_bfloat16, rows_scalar<__nv_bfloat16>>(a, s);
    return vec ? run<float, rows_vec<float>>(a, s) : run<float, rows_scalar<float>>(a, s);
}

/* ---- the op: c input channels, o output channels; the GEMMs above name them the other kind round ---- */

size_t k_conv_transpose_fwd_bytes(const struct k_conv *a)
{
    return conv_pack_bytes(PACK_TAPS, a->dtype, a->c, a->o, conv_positions(a->k));
}

cudaError_t k_conv_transpose_fwd(const struct k_conv *a, cudaStream_t s)
{
    if (a->n <= 0 || a->o <= 0 || conv_positions(a->src) <= 0) return cudaSuccess;
    const cudaError_t e =
        a->c > 0 ? conv_pack(PACK_TAPS, a->dtype, a->c, a->o, a->k, a->k, a->w, a->workspace, s) : cudaSuccess;
    if (e != cudaSuccess) return e;
    conv_depth_to_space g;
    g.dtype = a->dtype, g.n = a->n, g.o = a->c, g.c = a->o;
    for (int i = 0; i < 3; i++) g.rows[i] = a->src[i], g.k[i] = a->k[i];
    g.x = a->x, g.packed = a->workspace, g.bias = a->bias, g.y = a->y, g.beta = 0, g.tile = a->tile;
    return conv_depth_to_space_run(&g, s);
}

/* Geometry of the convolution of dy whose result has the shape of x. */
static conv_geometry over_dy(const struct k_conv *a)
{
    const int none[3] = {0, 0, 0};
    int dst[3];
    for (int i = 0; i < 3; i++) dst[i] = a->src[i] * a->k[i];
    return conv_geometry_of(dst, a->src, a->k, a->k, none, a->o, a->c);
}

static conv_igemm dgrad_of(const struct k_conv *a)
{
    return conv_dgrad_igemm(a, PACK_ROWS, a->c, a->o, over_dy(a));
}

static conv_wgrad wgrad_of(const struct k_conv *a)
{
    conv_wgrad g;
    g.dtype = a->dtype, g.n = a->n, g.o = a->c, g.c = a->o;
    for (int i = 0; i < 3; i++) g.k[i] = a->k[i];
    g.g = over_dy(a);
    g.src = a->dy, g.dy = a->x, g.dw = a->dw, g.beta = a->beta_w, g.workspace = (float *)a->workspace, g.tile = a->tile;
    return g;
}

static int64_t dy_rows(const struct k_conv *a)
{
    return a->n * conv_positions(a->src) * conv_positions(a->k);
}

size_t k_conv_transpose_bwd_bytes(const struct k_conv *a)
{
    size_t bytes = 0, need = 0; /* the three share the workspace */
    if (a->dx) {
        const conv_igemm g = dgrad_of(a);
        bytes = conv_pack_bytes(PACK_ROWS, a->dtype, a->c, a->o, conv_positions(a->k)) + conv_igemm_bytes(&g);
    }
    if (a->dw) {
        const conv_wgrad g = wgrad_of(a);
        need = conv_wgrad_bytes(&g);
        bytes = need > bytes ? need : bytes;
    }
    if (a->db) {
        need = k_sum_rows_bytes(dy_rows(a), a->o);
        bytes = need > bytes ? need : bytes;
    }
    return bytes;
}

cudaError_t k_conv_transpose_bwd(const struct k_conv *a, cudaStream_t s)
{
    cudaError_t e = cudaSuccess;
    if (a->n <= 0 || a->o <= 0 || a->c <= 0) return cudaSuccess;
    if (a->dx) {
        e = conv_pack(PACK_ROWS, a->dtype, a->c, a->o, a->k, a->k, a->w, a->workspace, s);
        const conv_igemm g = dgrad_of(a);
        if (e == cudaSuccess) e = conv_igemm_run(&g, s);
    }
    if (e == cudaSuccess && a->dw) {
        const conv_wgrad g = wgrad_of(a);
        e = conv_wgrad_run(&g, s);
    }
    if (e == cudaSuccess && a->db) {
        const struct k_sum_rows b = {a->dtype,  K_F32, dy_rows(a),           a->o, a->o, a->dy,
                                     a->beta_b, a->db, (float *)a->workspace};
        e = k_sum_rows(&b, s);
    }
    return e;
}
