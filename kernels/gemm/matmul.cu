/* Matrix products by the tiled GEMM of tile.cuh: forms NT, NN and TN, large and small tiles, and loaders for rows that
 * are not 16-byte aligned. */
#include "kernels/common/kernels.h"
#include "kernels/gemm/tile_load.cuh"
#include "kernels/gemm/tile_split.cuh"

struct matmul_plan {
    int vec;   /* all lines of a and b are 16-byte aligned */
    int large; /* tiles of 128 x 128 */
    int splits;
    int64_t k_tiles;
};

static matmul_plan plan_of(const struct k_matmul *a)
{
    const int bf16 = a->dtype == K_BF16;
    const int64_t large = tile_ceil(a->m, 128) * tile_ceil(a->n, 128) * a->batch;
    const int64_t la = a->form == K_MATMUL_TN ? a->m : a->k, lb = a->form == K_MATMUL_NT ? a->k : a->n;
    matmul_plan p;
    p.vec = la % (bf16 ? 8 : 4) == 0 && lb % (bf16 ? 8 : 4) == 0;
    p.k_tiles = tile_ceil(a->k, bf16 ? TILE_K<__nv_bfloat16> : TILE_K<float>);
    /* Large tiles load half the data. They are used where they give at least half of the GPU a block, with k split. */
    const int64_t parts = p.k_tiles / SPLIT_STAGES > 1 ? p.k_tiles / SPLIT_STAGES : 1;
    p.large = bf16 && p.vec && a->tile != K_TILE_64 &&
              (a->tile == K_TILE_128 || (a->m > 64 && a->n > 64 && large * parts >= SPLIT_BLOCKS / 2));
    const int64_t tiles = p.large ? large : tile_ceil(a->m, 64) * tile_ceil(a->n, 64) * a->batch;
    p.splits = a->splits ? a->splits : (int)split_count(tiles, p.k_tiles, a->batch * a->m * a->n);
    if (p.splits > p.k_tiles) p.splits = p.k_tiles > 0 ? (int)p.k_tiles : 1;
    return p;
}

size_t k_matmul_bytes(const struct k_matmul *a)
{
    const int splits = plan_of(a).splits;
    return splits > 1 ? (size_t)(splits * a->batch * a->m * a->n) * sizeof(float) : 0;
}

template <class L, class T> static L load_of(const void *p, int64_t rows, int64_t k)
{
    L l;
    l.p = (const T *)p;
    l.rows = rows, l.k = k;
    l.ld = L::K_MAJOR ? k : rows;
    l.batch = rows * k;
    return l;
}

template <class T, class A, class B> static cudaError_t run_form(const struct k_matmul *a, cudaStream_t s)
{
    const matmul_plan p = plan_of(a);
    const A la = load_of<A, T>(a->a, a->m, a->k);
    const B lb = load_of<B, T>(a->b, a->n, a->k);
    const int64_t count = a->batch * a->m * a->n;
    const tile_shape shape = {a->m, a->n, p.k_tiles, tile_ceil(p.k_tiles, p.splits)};
    tile_out<map_rows> y;
    y.y = a->y, y.bias = a->bias, y.beta = a->beta, y.bf16 = a->dtype_y == K_BF16, y.split_stride = 0, y.map.ld = a->n;
    y.aligned4 = a->n % 4 == 0 && dev_aligned4((const float *)a->bias) &&
                 (y.bf16 ? dev_aligned4((const __nv_bfloat16 *)a->y) : dev_aligned4((const float *)a->y));
    tile_out<map_rows> to = y;
    if (p.splits > 1) {
        to.y = a->workspace, to.bias = NULL, to.beta = 0, to.bf16 = 0, to.split_stride = count;
        to.aligned4 = a->n % 4 == 0;
    }
    const unsigned splits = (unsigned)p.splits, z = (unsigned)a->batch;
    cudaError_t e = cudaSuccess;
    int launched = 0;
    if constexpr (A::VEC && sizeof(T) == 2) {
        if (p.large) {
            e = tile_launch<T, 128, 128, 64, 64>(la, lb, to, shape, splits, z, s);
            launched = 1;
        }
    }
    if (!launched) e = tile_launch_64<T>(la, lb, to, shape, splits, z, s);
    if (e != cudaSuccess || p.splits == 1) return e;
    return split_sum_launch(a->workspace, p.splits, a->batch * a->m, a->n, y, s);
}

template <class T> static cudaError_t run(const struct k_matmul *a, cudaStream_t s)
{
    const int vec = plan_of(a).vec && ((size_t)a->a | (size_t)a->b) % 16 == 0;
    if (a->form == K_MATMUL_NT)
        return vec ? run_form<T, rows_vec<T>, rows_vec<T>>(a, s) : run_form<T, rows_scalar<T>, rows_scalar<T>>(a, s);
    if (a->form == K_MATMUL_NN)
        return vec ? run_form<T, rows_vec<T>, columns_vec<T>>(a, s)
                   : run_form<T, rows_scalar<T>, columns_scalar<T>>(a, s);
    return vec ? run_form<T, columns_vec<T>, columns_vec<T>>(a, s)
               : run_form<T, columns_scalar<T>, columns_scalar<T>>(a, s);
}

cudaError_t k_matmul_run(const struct k_matmul *a, cudaStream_t s)
{
    if (a->batch <= 0 || a->m <= 0 || a->n <= 0) return cudaSuccess;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, s) : run<float>(a, s);
}
