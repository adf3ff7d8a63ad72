#include "tests/cudasim/counted.h"

#include "kernels/common/device.cuh"

template <int WIDTH> static __global__ void transpose(const float *x, float *y)
{
    SHARED_ARRAY(float, tile, [32][WIDTH]);
    const int t = (int)threadIdx.x;
    for (int i = 0; i < 32; i++) tile[i][t] = x[32 * i + t];
    DEV_SYNC();
    for (int i = 0; i < 32; i++) y[32 * i + t] = tile[t][i];
}
cudaError_t counted_transpose(const float *x, float *y, int padded)
{
    if (padded) return dev_launch((transpose<33>), 1, 32, 0, NULL, x, y);
    return dev_launch((transpose<32>), 1, 32, 0, NULL, x, y);
}

static __global__ void strided(const float *x, float *y, int stride)
{
    y[threadIdx.x] = x[(int)threadIdx.x * stride];
}
cudaError_t counted_stride(const float *x, float *y, int stride)
{
    return dev_launch(strided, 1, 32, 0, NULL, x, y, stride);
}

static __global__ void wide(const float *x, float *y)
{
    SHARED_ARRAY(float, s, [128]);
    const int t = (int)threadIdx.x;
    dev_store16(s + 4 * t, dev_load16(x + 4 * t));
    dev_store16(y + 4 * t, dev_load16(s + 4 * t));
}
cudaError_t counted_wide(const float *x, float *y)
{
    return dev_launch(wide, 1, 32, 0, NULL, x, y);
}

static __global__ void half_warp(const float *x, float *y)
{
    float v = 0;
    if (threadIdx.x < 16) v = x[threadIdx.x];
    y[threadIdx.x] = v;
}
cudaError_t counted_half_warp(const float *x, float *y)
{
    return dev_launch(half_warp, 1, 32, 0, NULL, x, y);
}

static __global__ void mma_and_ldmatrix(float *y)
{
    SHARED_ARRAY(unsigned, m, [2][32][4]);
    const int w = (int)threadIdx.x / 32, l = (int)threadIdx.x % 32;
    for (int i = 0; i < 4; i++) m[w][l][i] = 0;
    DEV_SYNC();
    unsigned a[4], b[2];
    float d[4] = {0, 0, 0, 0};
    dev_ldmatrix_x4(a, m[w][l]);
    dev_ldmatrix_x2(b, m[w][l]);
    for (int i = 0; i < 6; i++) dev_mma_bf16(d, a, b);
    y[threadIdx.x] = d[0];
}
cudaError_t counted_mma(float *y)
{
    return dev_launch(mma_and_ldmatrix, 1, 64, 0, NULL, y);
}

static __global__ void diagonal(float *y, int meet)
{
    const int l = (int)threadIdx.x;
    for (int i = 0; i < 32; i++) {
        if (meet) __syncwarp();
        if (i >= l) y[32 * i + l] = 0;
    }
}
cudaError_t counted_diagonal(float *y, int meet)
{
    return dev_launch(diagonal, 1, 32, 0, NULL, y, meet);
}

static __global__ void turns(unsigned *turn, unsigned *y)
{
    y[atomicAdd(turn, 1u)] = blockIdx.x * 64 + threadIdx.x;
}
cudaError_t counted_turns(unsigned *turn, unsigned *y)
{
    return dev_launch(turns, 4, 64, 0, NULL, turn, y);
}

static __global__ void deep(float *y)
{
    volatile float much[20000];
    for (int i = 19999; i >= 0; i--) much[i] = (float)i;
    y[threadIdx.x] = much[threadIdx.x];
}
cudaError_t counted_deep(float *y)
{
    return dev_launch(deep, 1, 32, 0, NULL, y);
}
