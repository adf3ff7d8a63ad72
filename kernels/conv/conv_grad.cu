/* Convolution backward. dgrad: stride 1, implicit GEMM over dy with the kernel flipped; kernel == stride, GEMM with
 * depth-to-space output; otherwise one GEMM per stride phase. wgrad: GEMM with rows (tap, channel) and columns output
 * channels; k is the positions of all samples, and is split. A last kernel adds the splits in order and transposes the
 * sum to the layout of the weights, (o, c, taps). db: column sums of dy. */
#include "kernels/conv/conv_run.cuh"

/* ---- wgrad ---- */

struct wgrad_plan {
    int bm, bn, splits;
    int vec_src, vec_dy; /* the _vec loader serves for src, for dy */
    int64_t m, k, k_tiles;
};

static wgrad_plan plan_of(const conv_wgrad *a)
{
    const int bf16 = a->dtype == K_BF16;
    wgrad_plan p;
    p.m = conv_positions(a->k) * a->c;
    p.k = a->n * conv_positions(a->g.rows);
    p.k_tiles = tile_ceil(p.k, bf16 ? 32 : 16);
    p.vec_src = conv_fits_vec(&a->g, NULL, a->dtype);
    p.vec_dy = a->o % (bf16 ? 8 : 4) == 0;
    p.bm = p.bn = 64;
    if (bf16 && p.vec_src && p.vec_dy && p.m > 64) {
        const int64_t parts = p.k_tiles < 2 * SPLIT_STAGES ? 1 : p.k_tiles / SPLIT_STAGES;
        const int bn = a->o <= 32 ? 32 : conv_columns(a->o);
        if (conv_wide(a->tile, tile_ceil(p.m, 128) * tile_ceil(a->o, bn) * parts)) p.bm = 128, p.bn = bn;
    }
    p.splits = (int)split_count(tile_ceil(p.m, p.bm) * tile_ceil(a->o, p.bn), p.k_tiles, p.m * a->o);
    return p;
}

size_t conv_wgrad_bytes(const conv_wgrad *a)
{
    const wgrad_plan p = plan_of(a);
    return (size_t)(p.splits * p.m * a->o) * sizeof(float);
}

/* dw (o, c, taps) = beta dw + sum over splits of part (splits, taps, c, o), transposed in 32 x 32 tiles. grid: (taps,
 * o, c). */
static __global__ void __launch_bounds__(TRANSPOSE_TILE *TRANSPOSE_ROWS)
    wgrad_sum_parts(const float *part, int splits, float *dw, float beta, int o, int c, int taps)
{
    SHARED_ARRAY(float, tile, [TRANSPOSE_TILE][TRANSPOSE_TILE + 1]); /* (tap, o); padded to avoid bank conflicts */
    const int x = (int)threadIdx.x, y = (int)threadIdx.y, channel = (int)blockIdx.z;
    const int t0 = (int)blockIdx.x * TRANSPOSE_TILE, o0 = (int)blockIdx.y * TRANSPOSE_TILE;
    const int64_t split_stride = (int64_t)taps * c * o;
    for (int t = y; t < TRANSPOSE_TILE && t0 + t < taps; t += TRANSPOSE_ROWS) {
        if (o0 + x >= o) continue;
        const float *p = part + ((int64_t)(t0 + t) * c + channel) * o + o0 + x;
        float s = 0;
        for (int i = 0; i < splits; i++) s += p[i * split_stride];
        tile[t][x] = s;
    }
    DEV_SYNC();
    if (t0 + x >= taps) return;
    for (int i = y; i < TRANSPOSE_TILE && o0 + i < o; i += TRANSPOSE_ROWS)
        dev_blend(dw + ((int64_t)(o0 + i) * c + channel) * taps + t0 + x, beta, tile[x][i]);
}

template <class T, class A, class B> static cudaError_t run_wgrad(const conv_wgrad *a, cudaStream_t s)
{
    const wgrad_plan p = plan_of(a);
    A la;
    la.p = (const T *)a->src, la.rows = p.m, la.k = p.k, la.g = a->g;
    la.w = fast_div_of(a->g.rows[2]), la.h = fast_div_of(a->g.rows[1]), la.d = fast_div_of(a->g.rows[0]);
    B lb;
    lb.p = (const T *)a->dy, lb.ld = a->o, lb.rows = a->o, lb.k = p.k, lb.batch = 0;
    const tile_shape shape = {p.m, a->o, p.k_tiles, tile_ceil(p.k_tiles, p.splits)};
    tile_out<map_rows> part;
    part.y = a->workspace, part.bias = NULL, part.beta = 0, part.bf16 = 0, part.aligned4 = a->o % 4 == 0;
    part.split_stride = p.m * a->o, part.map.ld = a->o;
    const unsigned splits = (unsigned)p.splits;
    cudaError_t e = cudaSuccess;
    int launched = 0;
    if constexpr (sizeof(T) == 2 && A::VEC && B::VEC) {
        launched = p.bm == 128;
        if (p.bm == 128 && p.bn == 32) e = tile_launch<T, 128, 32, 32, 32>(la, lb, part, shape, splits, 1, s);
        if (p.bm == 128 && p.bn == 64) e = tile_launch<T, 128, 64, 64, 32>(la, lb, part, shape, splits, 1, s);
        if (p.bm == 128 && p.bn == 128) e = tile_launch<T, 128, 128, 64, 64>(la, lb, part, shape, splits, 1, s);
    }
    if (!launched) e = tile_launch_64<T>(la, lb, part, shape, splits, 1, s);
    if (e != cudaSuccess) return e;
    const int taps = (int)conv_positions(a->k);
    const dim3 grid((unsigned)tile_ceil(taps, TRANSPOSE_TILE), (unsigned)tile_ceil(a->o, TRANSPOSE_TILE),
                    (unsigned)a->c);
    return dev_launch(wgrad_sum_parts, grid, dim3(TRANSPOSE_TILE, TRANSPOSE_ROWS), 0, s, (const float *)a->workspace,
                      p.splits, a->dw, a->beta, (int)a->o, (int)a->c, taps);
}

template <class T> static cudaError_t wgrad_by_loader(const conv_wgrad *a, cudaStream_t s)
{
    const wgrad_plan p = plan_of(a);
    if (p.vec_src)
        return p.vec_dy ? run_wgrad<T, wgrad_vec<T>, columns_vec<T>>(a, s)
                        : run_wgrad<T, wgrad_vec<T>, columns_scalar<T>>(a, s);
    return p.vec_dy ? run_wgrad<T, wgrad_scalar<T>, columns_vec<T>>(a, s)
                    : run_wgrad<T, wgrad_scalar<T>, columns_scalar<T>>(a, s);
}

cudaError_t conv_wgrad_run(const conv_wgrad *a, cudaStream_t s)
{
    return a->dtype == K_BF16 ? wgrad_by_loader<__nv_bfloat16>(a, s) : wgrad_by_loader<float>(a, s);
}

/* ---- dgrad ---- */

enum dgrad_kind { DGRAD_UNIT_STRIDE, DGRAD_NO_OVERLAP, DGRAD_PHASES };

static dgrad_kind dgrad_kind_of(const struct k_conv *a)
{
    int unit_stride = 1, no_overlap = 1;
    for (int i = 0; i < 3; i++) {
        unit_stride &= a->stride[i] == 1;
        no_overlap &= a->k[i] == a->stride[i] && a->pad[i] == 0 && a->src[i] == a->dst[i] * a->stride[i];
    }
    return unit_stride ? DGRAD_UNIT_STRIDE : no_overlap ? DGRAD_NO_OVERLAP : DGRAD_PHASES;
}

static conv_packing packing_of(dgrad_kind kind)
{
    return kind == DGRAD_UNIT_STRIDE ? PACK_FLIPPED : kind == DGRAD_NO_OVERLAP ? PACK_TAPS : PACK_PHASES;
}

/* Geometry of stride-1 dgrad, and of a stride phase: position p of x reads dy at p + pad - t for tap t. */
static conv_geometry dgrad_geometry(const struct k_conv *a)
{
    conv_geometry g;
    for (int i = 0; i < 3; i++)
        g.rows[i] = a->src[i], g.src[i] = a->dst[i], g.mul[i] = 1, g.step[i] = -1, g.off[i] = a->pad[i],
        g.taps[i] = a->k[i];
    g.c = g.run = (int)a->o;
    g.source_batch = conv_positions(a->dst) * a->o;
    g.result_batch = conv_positions(a->src) * a->c;
    return g;
}

static conv_igemm dgrad_igemm_of(const struct k_conv *a)
{
    return conv_dgrad_igemm(a, PACK_FLIPPED, a->o, a->c, dgrad_geometry(a));
}

template <class T, class G, class B> static cudaError_t run_phases(const struct k_conv *a, cudaStream_t s)
{
    dgrad_phases<G> la;
    B lb;
    tile_out<map_grid> out;
    int64_t max_positions = 1, phases = 1; /* positions of the largest phase */
    la.p = (const T *)a->dy, la.rows = 0, la.g = dgrad_geometry(a);
    for (int i = 0; i < 3; i++) {
        la.k[i] = a->k[i], la.stride[i] = a->stride[i], la.pad[i] = a->pad[i];
        out.map.full[i] = a->src[i];
        out.map.first[i] = 0, out.map.stride[i] = 1, out.map.count[i] = 0; /* set per phase on the device */
        max_positions *= tile_ceil(a->src[i], a->stride[i]);
        phases *= a->stride[i];
    }
    lb.p = (const T *)a->workspace, lb.ld = 0, lb.rows = a->c, lb.k = 0, lb.batch = 0;
    out.map.ld = a->c;
    out.y = a->dx, out.bias = NULL, out.beta = a->beta_x, out.bf16 = sizeof(T) == 2, out.split_stride = 0;
    out.aligned4 = a->c % 4 == 0 && dev_aligned4((const T *)a->dx);
    const tile_shape shape = {max_positions, a->c, 0, 0};
    const unsigned z = (unsigned)(a->n * phases);
    if constexpr (sizeof(T) == 2 && G::VEC) {
        if (a->c <= 32) return tile_launch<T, 128, 32, 32, 32>(la, lb, out, shape, 1, z, s);
        if (conv_wide(a->tile, tile_ceil(max_positions, 128) * tile_ceil(a->c, 64) * z))
            return tile_launch<T, 128, 64, 64, 32>(la, lb, out, shape, 1, z, s);
    }
    return tile_launch_64<T>(la, lb, out, shape, 1, z, s);
}

template <class T> static cudaError_t phases_by_loader(const struct k_conv *a, cudaStream_t s)
{
    const conv_geometry g = dgrad_geometry(a);
    if (conv_fits_vec(&g, a->dy, a->dtype)) return run_phases<T, im2col_vec<T>, rows_vec<T>>(a, s);
    return run_phases<T, im2col_scalar<T>, rows_scalar<T>>(a, s);
}

static cudaError_t run_dgrad(const struct k_conv *a, cudaStream_t s)
{
    const dgrad_kind kind = dgrad_kind_of(a);
    const cudaError_t e = conv_pack(packing_of(kind), a->dtype, a->o, a->c, a->k, a->stride, a->w, a->workspace, s);
    if (e != cudaSuccess) return e;
    if (kind == DGRAD_UNIT_STRIDE) {
        const conv_igemm g = dgrad_igemm_of(a);
        return conv_igemm_run(&g, s);
    }
    if (kind == DGRAD_NO_OVERLAP) {
        conv_depth_to_space g;
        g.dtype = a->dtype, g.n = a->n, g.o = a->o, g.c = a->c;
        for (int i = 0; i < 3; i++) g.rows[i] = a->dst[i], g.k[i] = a->k[i];
        g.x = a->dy, g.packed = a->workspace, g.bias = NULL, g.y = a->dx, g.beta = a->beta_x, g.tile = a->tile;
        return conv_depth_to_space_run(&g, s);
    }
    return a->dtype == K_BF16 ? phases_by_loader<__nv_bfloat16>(a, s) : phases_by_loader<float>(a, s);
}

/* ---- dgrad, wgrad and db ---- */

static conv_wgrad wgrad_of(const struct k_conv *a)
{
    conv_wgrad g;
    g.dtype = a->dtype, g.n = a->n, g.o = a->o, g.c = a->c;
    for (int i = 0; i < 3; i++) g.k[i] = a->k[i];
    g.g = conv_geometry_of(a->src, a->dst, a->k, a->stride, a->pad, a->c, a->o);
    g.src = a->x, g.dy = a->dy, g.dw = a->dw, g.beta = a->beta_w, g.workspace = (float *)a->workspace, g.tile = a->tile;
    return g;
}

size_t k_conv_bwd_bytes(const struct k_conv *a)
{
    const int64_t rows = a->n * conv_positions(a->dst);
    size_t bytes = 0, need = 0; /* the three share the workspace */
    if (a->dx) {
        const dgrad_kind kind = dgrad_kind_of(a);
        const conv_igemm g = dgrad_igemm_of(a);
        bytes = conv_pack_bytes(packing_of(kind), a->dtype, a->o, a->c, conv_positions(a->k)) +
                (kind == DGRAD_UNIT_STRIDE ? conv_igemm_bytes(&g) : 0);
    }
    if (a->dw) {
        const conv_wgrad g = wgrad_of(a);
        need = conv_wgrad_bytes(&g);
        bytes = need > bytes ? need : bytes;
    }
    if (a->db) {
        need = k_sum_rows_bytes(rows, a->o);
        bytes = need > bytes ? need : bytes;
    }
    return bytes;
}

cudaError_t k_conv_bwd(const struct k_conv *a, cudaStream_t s)
{
    cudaError_t e = cudaSuccess;
    if (a->n <= 0 || a->o <= 0 || a->c <= 0) return cudaSuccess;
    if (a->dx) e = run_dgrad(a, s);
    if (e == cudaSuccess && a->dw) {
        const conv_wgrad g = wgrad_of(a);
        e = conv_wgrad_run(&g, s);
    }
    if (e == cudaSuccess && a->db) {
        const struct k_sum_rows b = {a->dtype,  K_F32, a->n * conv_positions(a->dst), a->o, a->o, a->dy,
                                     a->beta_b, a->db, (float *)a->workspace};
        e = k_sum_rows(&b, s);
    }
    return e;
}
