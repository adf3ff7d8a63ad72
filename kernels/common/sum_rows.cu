/* y (n) = beta y + column sums of x (rows, n): blocks sum a part of the rows, then the same kernel sums the parts. The
 * order of summation depends on the shape alone. */
#include "kernels/common/columns.cuh"
#include "kernels/common/kernels.h"

/* Row blockIdx.y of y (parts, n) is the sum of rows [blockIdx.y * per, ...) of x, whose rows are `stride` apart. */
template <class T, class U, int V>
__global__ void __launch_bounds__(COLUMN_THREADS)
    sum_rows(const T *x, int64_t stride, int64_t rows, int64_t per, int64_t n, U *y, float beta)
{
    SHARED_ARRAY(float, scratch, [V][COLUMN_THREADS]);
    const int64_t c = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    const int64_t first = (int64_t)blockIdx.y * per, last = first + per < rows ? first + per : rows;
    pack<V> s = {};
    if (c < n)
        for (int64_t r = first + threadIdx.y; r < last; r += blockDim.y) {
            const pack<V> p = pack_load<V>(x + r * stride + c);
            for (int j = 0; j < V; j++) s.v[j] += p.v[j];
        }
    column_tree<V>(scratch, s.v);
    if (threadIdx.y == 0 && c < n) pack_blend<V>(y + blockIdx.y * n + c, beta, s);
}

template <class T, class U, int V>
static cudaError_t launch(const T *x, int64_t stride, int64_t rows, int64_t n, U *y, float beta, float *parts,
                          cudaStream_t s)
{
    const column_tile t = column_tile_of<V>(n / V);
    const int64_t per = column_part_rows(rows), m = column_parts(rows);
    const dim3 one(t.chunks), grid(t.chunks, (unsigned)m), block((unsigned)t.tx, (unsigned)t.ty);
    if (m <= 1) return dev_launch((sum_rows<T, U, V>), one, block, 0, s, x, stride, rows, per, n, y, beta);
    const cudaError_t e = dev_launch((sum_rows<T, float, V>), grid, block, 0, s, x, stride, rows, per, n, parts, 0.0f);
    if (e != cudaSuccess) return e;
    constexpr int W = V < wide<float> ? V : wide<float>; /* the parts are floats: 16-byte packs of them */
    const column_tile u = column_tile_of<W>(n / W);
    const dim3 grid_parts(u.chunks), block_parts((unsigned)u.tx, (unsigned)u.ty);
    return dev_launch((sum_rows<float, U, W>), grid_parts, block_parts, 0, s, parts, n, m, m, n, y, beta);
}

template <class T, class U> static cudaError_t run(const struct k_sum_rows *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *x = (const T *)a->x;
    U *y = (U *)a->y;
    if (a->n % V == 0 && a->stride % V == 0 && pack_fits<V>(x) && pack_fits<V>(y) && pack_fits<V>(a->workspace))
        return launch<T, U, V>(x, a->stride, a->rows, a->n, y, a->beta, a->workspace, s);
    return launch<T, U, 1>(x, a->stride, a->rows, a->n, y, a->beta, a->workspace, s);
}

size_t k_sum_rows_bytes(int64_t rows, int64_t n)
{
    const int64_t m = column_parts(rows);
    return m > 1 ? (size_t)(m * n) * sizeof(float) : 0;
}

cudaError_t k_sum_rows(const struct k_sum_rows *a, cudaStream_t s)
{
    if (a->n <= 0) return cudaSuccess; /* with no rows, the sum is 0 */
    if (a->from == K_F32) return a->to == K_F32 ? run<float, float>(a, s) : run<float, __nv_bfloat16>(a, s);
    return a->to == K_F32 ? run<__nv_bfloat16, float>(a, s) : run<__nv_bfloat16, __nv_bfloat16>(a, s);
}
