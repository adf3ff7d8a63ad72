/* Split k: where the result has too few tiles to fill a GPU, the sum over k is split into parts. The number of parts
 * depends on the shape alone, and they are added in order, so results are reproducible. */
#ifndef MCS_KERNELS_TILE_SPLIT_CUH
#define MCS_KERNELS_TILE_SPLIT_CUH

#include "kernels/gemm/tile.cuh"

/* 264: two blocks per multiprocessor of an H200. A part has at least 8 stages of k, so that filling the pipeline and
 * adding the parts cost little in comparison. */
constexpr int64_t SPLIT_BLOCKS = 264, SPLIT_STAGES = 8, SPLIT_MAX = 256, SPLIT_BYTES = 64 << 20;

/* Number of splits for a result of `tiles` tiles and `results` elements: enough to give SPLIT_BLOCKS blocks, limited by
 * SPLIT_STAGES, by SPLIT_MAX and by SPLIT_BYTES of partial results in float. */
static inline int64_t split_count(int64_t tiles, int64_t k_tiles, int64_t results)
{
    int64_t n = SPLIT_BLOCKS / (tiles ? tiles : 1);
    if (n > k_tiles / SPLIT_STAGES) n = k_tiles / SPLIT_STAGES;
    if (n > SPLIT_MAX) n = SPLIT_MAX;
    if (n * results * 4 > SPLIT_BYTES) n = SPLIT_BYTES / (results * 4);
    return n < 1 ? 1 : n;
}

/* out (m, n) = sum over splits of part (splits, m, n). A thread computes four columns where n is a multiple of four. */
template <class Map>
__global__ void __launch_bounds__(128) split_sum(const float *part, int splits, int64_t m, int64_t n, tile_out<Map> out)
{
    const int64_t width = n % 4 == 0 ? n / 4 : n, i = (int64_t)blockIdx.x * 128 + threadIdx.x;
    if (i >= m * width) return;
    const int64_t row = i / width, column = i % width;
    if (n % 4 == 0) {
        float4 v = make_float4(0, 0, 0, 0);
        for (int s = 0; s < splits; s++) {
            const float4 p = dev_load16(part + s * m * n + row * n + 4 * column);
            v = make_float4(v.x + p.x, v.y + p.y, v.z + p.z, v.w + p.w);
        }
        out.store(row, 4 * column, v, 4);
    } else {
        float v = 0;
        for (int s = 0; s < splits; s++) v += part[s * m * n + row * n + column];
        out.store(row, column, make_float4(v, 0, 0, 0), 1);
    }
}
template <class Map>
static cudaError_t split_sum_launch(const float *part, int splits, int64_t m, int64_t n, const tile_out<Map> &out,
                                    cudaStream_t s)
{
    const int64_t width = n % 4 == 0 ? n / 4 : n;
    return dev_launch((split_sum<Map>), dim3((unsigned)tile_ceil(m * width, 128)), 128, 0, s, part, splits, m, n, out);
}

#endif
