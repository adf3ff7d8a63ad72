/* Simulated cuDNN: convolutions against direct sums in double; usage that must be refused. */
#include <criterion/criterion.h>
#include <cuda_bf16.h>
#include <cudnn.h>
#include <math.h>

#include <vector>

#include "tests/cudasim/cudasim.h"
extern "C" {
#include "engine/base/rng.h"
}

#define OK(call) cr_assert_eq(call, cudaSuccess, "%s", #call)
#define DONE(call) cr_assert_eq(call, CUDNN_STATUS_SUCCESS, "%s", #call)

struct array { /* values on the device and in double */
    cudnnDataType_t type;
    std::vector<double> v;
    char *at = NULL;
    array(cudnnDataType_t t, size_t n, uint32_t which) : type(t), v(n)
    {
        std::vector<char> raw(n * each());
        for (size_t i = 0; i < n; i++) {
            const float f = (float)mcs_rng_normal({5, which, 0, 0}, (uint32_t)i);
            if (t == CUDNN_DATA_FLOAT)
                v[i] = (double)(((float *)raw.data())[i] = f);
            else
                v[i] = (double)__bfloat162float(((__nv_bfloat16 *)raw.data())[i] = __float2bfloat16_rn(f));
        }
        OK(cudaMalloc((void **)&at, raw.size()));
        OK(cudaMemcpy(at, raw.data(), raw.size(), cudaMemcpyHostToDevice));
    }
    array(const array &) = delete;
    ~array()
    {
        cudaFree(at);
    }
    size_t each() const
    {
        return type == CUDNN_DATA_FLOAT ? 4 : 2;
    }
    double now(size_t i) const
    {
        char raw[4];
        OK(cudaMemcpy(raw, at + i * each(), each(), cudaMemcpyDeviceToHost));
        return type == CUDNN_DATA_FLOAT ? (double)*(float *)raw : (double)__bfloat162float(*(__nv_bfloat16 *)raw);
    }
};

struct bench { /* x (2, 3, in), 4 filters with 3 (or 1) taps a dimension, padding 1 with 3 taps */
    int n_dims, stride, x[5], w[5], y[5];
    cudnnHandle_t h;
    cudnnTensorDescriptor_t lx, ly;
    cudnnFilterDescriptor_t lw;
    cudnnConvolutionDescriptor_t c;
    char *workspace;
    size_t n = 0;
    bench(int dims, cudnnDataType_t t, int stride_) : n_dims(dims), stride(stride_)
    {
        const int in[] = {5, 7, 6}, pad[] = {1, 1, 1}, strides[] = {stride, stride, stride}, one[] = {1, 1, 1};
        x[0] = 2, x[1] = 3, w[0] = 4, w[1] = 3;
        for (int i = 0; i < dims; i++) x[2 + i] = in[i], w[2 + i] = 3;
        DONE(cudnnCreate(&h));
        DONE(cudnnCreateTensorDescriptor(&lx));
        DONE(cudnnCreateTensorDescriptor(&ly));
        DONE(cudnnCreateFilterDescriptor(&lw));
        DONE(cudnnCreateConvolutionDescriptor(&c));
        DONE(cudnnSetTensorNdDescriptorEx(lx, CUDNN_TENSOR_NHWC, t, dims + 2, x));
        DONE(cudnnSetFilterNdDescriptor(lw, t, CUDNN_TENSOR_NHWC, dims + 2, w));
        DONE(cudnnSetConvolutionNdDescriptor(c, dims, pad, strides, one, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
        DONE(cudnnSetConvolutionMathType(c, CUDNN_FMA_MATH));
        DONE(cudnnGetConvolutionNdForwardOutputDim(c, lx, lw, dims + 2, y));
        DONE(cudnnSetTensorNdDescriptorEx(ly, CUDNN_TENSOR_NHWC, t, dims + 2, y));
        DONE(cudnnGetConvolutionForwardWorkspaceSize(h, lx, lw, c, ly, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                                     &n));
        OK(cudaMalloc((void **)&workspace, n));
    }
    ~bench()
    {
        cudaFree(workspace);
        cudnnDestroyTensorDescriptor(lx);
        cudnnDestroyTensorDescriptor(ly);
        cudnnDestroyFilterDescriptor(lw);
        cudnnDestroyConvolutionDescriptor(c);
        cudnnDestroy(h);
    }
    size_t size(const int *d) const
    {
        size_t s = 1;
        for (int i = 0; i < n_dims + 2; i++) s *= (size_t)d[i];
        return s;
    }
    size_t place(const int *d, int n0, const int *p, int ch) const /* channels last */
    {
        size_t at = (size_t)n0;
        for (int i = 0; i < n_dims; i++) at = at * (size_t)d[2 + i] + (size_t)p[i];
        return at * (size_t)d[1] + (size_t)ch;
    }
};

/* Visits all terms of the convolution and adds each to y (fprop), dx (dgrad) or dw (wgrad). */
static void define(const bench &t, const array &x, const array &w, const array &y, int to, std::vector<double> *sum,
                   std::vector<double> *size)
{
    int o[3], k[3], p[3];
    const size_t outs = t.size(t.y) / (size_t)(t.y[0] * t.y[1]), taps = t.size(t.w) / (size_t)(t.w[0] * t.w[1]);
    for (int n = 0; n < t.x[0]; n++)
        for (size_t a = 0; a < outs; a++)
            for (size_t b = 0; b < taps; b++) {
                size_t ra = a, rb = b;
                bool inside = true;
                for (int i = t.n_dims - 1; i >= 0; i--) {
                    o[i] = (int)(ra % (size_t)t.y[2 + i]), ra /= (size_t)t.y[2 + i];
                    k[i] = (int)(rb % (size_t)t.w[2 + i]), rb /= (size_t)t.w[2 + i];
                    p[i] = o[i] * t.stride - 1 + k[i];
                    inside = inside && p[i] >= 0 && p[i] < t.x[2 + i];
                }
                for (int m = 0; inside && m < t.w[0]; m++)
                    for (int ch = 0; ch < t.x[1]; ch++) {
                        const size_t ix = t.place(t.x, n, p, ch), iw = t.place(t.w, m, k, ch),
                                     iy = t.place(t.y, n, o, m);
                        const size_t at = to == 0 ? iy : to == 1 ? ix : iw;
                        const double v = (to == 1 ? y.v[iy] : x.v[ix]) * (to == 2 ? y.v[iy] : w.v[iw]);
                        (*sum)[at] += v, (*size)[at] += fabs(v);
                    }
            }
}

/* |error| <= terms eps sum|terms| for float sums in any order, and one rounding to the type. */
static void check(int dims, cudnnDataType_t t, int stride)
{
    bench b(dims, t, stride);
    const float alpha = 2, beta = 0.5f;
    for (int to = 0; to < 3; to++) {
        array x(t, b.size(b.x), 1), w(t, b.size(b.w), 2), y(t, b.size(b.y), 3);
        const array &out = to == 0 ? y : to == 1 ? x : w;
        std::vector<double> sum(out.v.size()), size(out.v.size());
        define(b, x, w, y, to, &sum, &size);
        if (to == 0)
            DONE(cudnnConvolutionForward(b.h, &alpha, b.lx, x.at, b.lw, w.at, b.c,
                                         CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, b.workspace, b.n, &beta,
                                         b.ly, y.at));
        else if (to == 1)
            DONE(cudnnConvolutionBackwardData(b.h, &alpha, b.lw, w.at, b.ly, y.at, b.c,
                                              CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, b.workspace, b.n, &beta, b.lx, x.at));
        else
            DONE(cudnnConvolutionBackwardFilter(b.h, &alpha, b.lx, x.at, b.ly, y.at, b.c,
                                                CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, b.workspace, b.n, &beta, b.lw,
                                                w.at));
        OK(cudaDeviceSynchronize());
        const double terms = 2.0 * (double)(b.size(b.y) / (size_t)b.y[1]) + 108, eps = ldexp(1, -24);
        for (size_t i = 0; i < sum.size(); i++) {
            const double v = 2 * sum[i] + 0.5 * out.v[i];
            const double bound =
                terms * eps * (2 * size[i] + fabs(out.v[i])) + ldexp(fabs(v), t == CUDNN_DATA_FLOAT ? -24 : -8);
            cr_assert(fabs(out.now(i) - v) <= bound, "direction %d, %zu: %g for %g", to, i, out.now(i), v);
        }
    }
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
}

Test(dnn, convolutions)
{
    check(2, CUDNN_DATA_FLOAT, 1);
    check(2, CUDNN_DATA_BFLOAT16, 2);
    check(3, CUDNN_DATA_FLOAT, 2);
    check(3, CUDNN_DATA_BFLOAT16, 1);
    cr_expect_eq(cudasim_bytes_held(), 0);
}

static cudnnStatus_t ask(bench &t)
{
    size_t n;
    return cudnnGetConvolutionForwardWorkspaceSize(t.h, t.lx, t.lw, t.c, t.ly,
                                                   CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, &n);
}
static cudnnStatus_t forward(bench &t, const array &x, const array &w, const array &y, size_t n, size_t skew,
                             cudnnConvolutionFwdAlgo_t algo = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM)
{
    const float one = 1, zero = 0;
    return cudnnConvolutionForward(t.h, &one, t.lx, x.at + skew, t.lw, w.at, t.c, algo, t.workspace, n, &zero, t.ly,
                                   y.at);
}

Test(dnn, undocumented_usage_is_refused)
{
    cudasim_quiet(1);
    const cudnnDataType_t F = CUDNN_DATA_FLOAT;
    bench t(2, F, 1);
    array x(F, t.size(t.x), 1), w(F, t.size(t.w), 2), y(F, t.size(t.y), 3);
    cr_expect_eq(forward(t, x, w, y, t.n - 1, 0), CUDNN_STATUS_BAD_PARAM, "workspace");
    cr_expect_eq(forward(t, x, w, y, t.n, 4), CUDNN_STATUS_BAD_PARAM, "alignment");
    cr_expect_eq(forward(t, x, w, y, t.n, 0, CUDNN_CONVOLUTION_FWD_ALGO_FFT), CUDNN_STATUS_NOT_SUPPORTED);
    const float one = 1, zero = 0;
    cr_expect_eq(cudnnConvolutionBackwardData(t.h, &one, t.lw, w.at, t.ly, y.at, t.c, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
                                              t.workspace, t.n, &zero, t.lx, x.at),
                 CUDNN_STATUS_NOT_SUPPORTED, "not deterministic");
    cr_expect_eq(cudnnConvolutionBackwardFilter(t.h, &one, t.lx, x.at, t.ly, y.at, t.c,
                                                CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, t.workspace, t.n, &zero, t.lw,
                                                w.at),
                 CUDNN_STATUS_NOT_SUPPORTED, "not deterministic");
    DONE(cudnnSetTensor4dDescriptor(t.lx, CUDNN_TENSOR_NCHW, F, 2, 3, 5, 7));
    cr_expect_eq(ask(t), CUDNN_STATUS_NOT_SUPPORTED, "channels first");
    const int dim[] = {2, 3, 5, 7}, packed[] = {105, 1, 21, 3}, gaps[] = {210, 1, 42, 6};
    DONE(cudnnSetTensorNdDescriptor(t.lx, F, 4, dim, packed));
    cr_expect_eq(ask(t), CUDNN_STATUS_SUCCESS);
    DONE(cudnnSetTensorNdDescriptor(t.lx, F, 4, dim, gaps));
    cr_expect_eq(ask(t), CUDNN_STATUS_NOT_SUPPORTED, "not packed");
    DONE(cudnnSetTensor4dDescriptor(t.lx, CUDNN_TENSOR_NHWC, CUDNN_DATA_HALF, 2, 3, 5, 7));
    cr_expect_eq(ask(t), CUDNN_STATUS_NOT_SUPPORTED, "types");
    DONE(cudnnSetTensor4dDescriptor(t.lx, CUDNN_TENSOR_NHWC, F, 2, 3, 5, 8));
    cr_expect_eq(ask(t), CUDNN_STATUS_BAD_PARAM, "the output has another size");
    DONE(cudnnSetTensor4dDescriptor(t.lx, CUDNN_TENSOR_NHWC, F, 2, 3, 5, 7));
    DONE(cudnnSetConvolutionGroupCount(t.c, 3));
    cr_expect_eq(ask(t), CUDNN_STATUS_NOT_SUPPORTED, "groups");
    cr_expect_eq(cudnnSetConvolution2dDescriptor(t.c, 1, 1, 0, 1, 1, 1, CUDNN_CROSS_CORRELATION, F),
                 CUDNN_STATUS_BAD_PARAM, "a stride of 0");
    DONE(cudnnSetConvolution2dDescriptor(t.c, 2, 2, 1, 1, 2, 2, CUDNN_CROSS_CORRELATION, F));
    cr_expect_eq(ask(t), CUDNN_STATUS_NOT_SUPPORTED, "dilation");
}

/* Without CUDNN_FMA_MATH floats are rounded to the 10 mantissa bits of TF32: 1 + 2^-11 becomes 1. */
Test(dnn, default_math_rounds)
{
    bench t(2, CUDNN_DATA_FLOAT, 1);
    array x(CUDNN_DATA_FLOAT, t.size(t.x), 1), w(CUDNN_DATA_FLOAT, t.size(t.w), 2), y(CUDNN_DATA_FLOAT, t.size(t.y), 3);
    DONE(forward(t, x, w, y, t.n, 0));
    const double exact = y.now(0);
    DONE(cudnnSetConvolutionMathType(t.c, CUDNN_DEFAULT_MATH));
    DONE(forward(t, x, w, y, t.n, 0));
    const double rounded = y.now(0);
    cr_expect_neq(exact, rounded);
    cr_expect(fabs(exact - rounded) < 27 * 20 * ldexp(1, -10)); /* 27 terms below 20, two roundings of 2^-11 each */
}
