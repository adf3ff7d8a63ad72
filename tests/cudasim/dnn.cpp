/* cuDNN's legacy convolution API: two or three dimensions, channels last and packed, float or bfloat16, accumulated in
 * float, by one deterministic algorithm of each direction. Everything else is refused. In float, only CUDNN_FMA_MATH
 * keeps all bits: the default may round to TF32, and does so here. */
#include <cudnn.h>
#include <string.h>

#include <algorithm>

#include "tests/cudasim/stream.h"

struct cudnnContext {
    int device;
    cudaStream_t stream;
};
struct shape { /* dim: N C D H W or K C D H W; last: channels last and packed */
    cudnnDataType_t type;
    int n_dims, dim[5];
    bool last;
};
struct cudnnTensorStruct : shape {
};
struct cudnnFilterStruct : shape {
};
struct cudnnConvolutionStruct {
    int n, pad[3], stride[3], dilation[3], groups;
    cudnnConvolutionMode_t mode;
    cudnnDataType_t compute;
    cudnnMathType_t math;
};

namespace
{
enum direction { FPROP, DGRAD, WGRAD };
const size_t workspace_bytes = 1 << 16;

size_t elements(const shape &s)
{
    size_t n = 1;
    for (int i = 0; i < s.n_dims; i++) n *= (size_t)s.dim[i];
    return n;
}
size_t bytes(const shape &s)
{
    return elements(s) * (s.type == CUDNN_DATA_FLOAT ? 4 : 2);
}
int out_dim(const cudnnConvolutionStruct &c, const shape &x, const shape &w, int i)
{
    return (x.dim[2 + i] + 2 * c.pad[i] - ((w.dim[2 + i] - 1) * c.dilation[i] + 1)) / c.stride[i] + 1;
}

struct job {
    direction way;
    cudnnConvolutionStruct c;
    shape x, w, y;
    const void *a, *b; /* inputs of fprop: x, w; of dgrad: w, dy; of wgrad: x, dy */
    void *out;         /* y, dx or dw */
    void *workspace;
    float alpha, beta;
};

cudnnStatus_t supported(const cudnnConvolutionStruct &c, const shape &x, const shape &w, const shape &y)
{
    if (x.n_dims != c.n + 2 || w.n_dims != x.n_dims || y.n_dims != x.n_dims) return CUDNN_STATUS_BAD_PARAM;
    if (w.dim[1] != x.dim[1] || y.dim[0] != x.dim[0] || y.dim[1] != w.dim[0]) return CUDNN_STATUS_BAD_PARAM;
    for (int i = 0; i < c.n; i++)
        if (out_dim(c, x, w, i) < 1 || y.dim[2 + i] != out_dim(c, x, w, i)) return CUDNN_STATUS_BAD_PARAM;
    const bool types = (x.type == CUDNN_DATA_FLOAT || x.type == CUDNN_DATA_BFLOAT16) && w.type == x.type &&
                       y.type == x.type && c.compute == CUDNN_DATA_FLOAT;
    if (!types || !x.last || !w.last || !y.last) return CUDNN_STATUS_NOT_SUPPORTED;
    if (c.groups != 1 || c.mode != CUDNN_CROSS_CORRELATION) return CUDNN_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < c.n; i++)
        if (c.dilation[i] != 1) return CUDNN_STATUS_NOT_SUPPORTED;
    for (const shape *s : {&x, &w, &y})
        if (bytes(*s) >= (size_t)1 << 31) return CUDNN_STATUS_NOT_SUPPORTED; /* cuDNN's limit: tensors below 2 GiB */
    return CUDNN_STATUS_SUCCESS;
}

float tf32(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    if ((u & 0x7f800000u) != 0x7f800000u) u = (u + 0x1000) & ~0x1fffu; /* round to nearest, ties away from zero */
    memcpy(&v, &u, 4);
    return v;
}
std::vector<float> floats(const shape &s, const void *p, cudnnMathType_t math)
{
    std::vector<float> v(elements(s));
    for (size_t i = 0; i < v.size(); i++) {
        v[i] = s.type == CUDNN_DATA_FLOAT ? ((const float *)p)[i] : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
        if (math != CUDNN_FMA_MATH) v[i] = tf32(v[i]);
    }
    return v;
}

/* Calls f(offset in x, offset in w, offset in y, C) for each sample, output position, tap and output channel; the C
 * input channels at the first two offsets are contiguous. */
template <class F> void taps(const job &j, F f)
{
    const auto at = [](const shape &s, int i) { return i < s.n_dims - 2 ? s.dim[2 + i] : 1; };
    int in[3], k[3], out[3], pad[3], stride[3];
    for (int i = 0; i < 3; i++) { /* 2-D is 3-D with a last dimension of 1 */
        in[i] = at(j.x, i), k[i] = at(j.w, i), out[i] = at(j.y, i);
        pad[i] = i < j.c.n ? j.c.pad[i] : 0, stride[i] = i < j.c.n ? j.c.stride[i] : 1;
    }
    const size_t C = (size_t)j.x.dim[1], K = (size_t)j.w.dim[0], k_all = (size_t)(k[0] * k[1] * k[2]);
    for (int n = 0; n < j.x.dim[0]; n++)
        for (int o = 0; o < out[0] * out[1] * out[2]; o++)
            for (int t = 0; t < (int)k_all; t++) {
                const int oo[3] = {o / (out[1] * out[2]), o / out[2] % out[1], o % out[2]};
                const int tt[3] = {t / (k[1] * k[2]), t / k[2] % k[1], t % k[2]};
                int p[3];
                bool inside = true;
                for (int i = 0; i < 3; i++) {
                    p[i] = oo[i] * stride[i] - pad[i] + tt[i];
                    inside = inside && p[i] >= 0 && p[i] < in[i];
                }
                if (!inside) continue;
                const size_t x = (size_t)(((n * in[0] + p[0]) * in[1] + p[1]) * in[2] + p[2]) * C;
                const size_t y = ((size_t)n * (size_t)(out[0] * out[1] * out[2]) + (size_t)o) * K;
                for (size_t m = 0; m < K; m++) f(x, (m * k_all + (size_t)t) * C, y + m, C);
            }
}

cudaError_t run(const job &j)
{
    const cudaError_t bad = cudaErrorIllegalAddress;
    const char *const names[] = {"cudnnConvolutionForward", "cudnnConvolutionBackwardData",
                                 "cudnnConvolutionBackwardFilter"};
    const char *name = names[j.way];
    const shape &sa = j.way == DGRAD ? j.w : j.x, &sb = j.way == FPROP ? j.w : j.y;
    const shape &so = j.way == FPROP ? j.y : j.way == DGRAD ? j.x : j.w;
    sim::block_now++;
    if (!sim::shadow_host_access(j.workspace, workspace_bytes, sim::WRITE, name)) return bad;
    memset(j.workspace, 0xff, workspace_bytes);
    sim::shadow_set(j.workspace, workspace_bytes, sim::UNINIT, true);
    if (!sim::shadow_host_access(j.a, bytes(sa), sim::READ, name) ||
        !sim::shadow_host_access(j.b, bytes(sb), sim::READ, name) ||
        (j.beta != 0 && !sim::shadow_host_access(j.out, bytes(so), sim::READ, name)) ||
        !sim::shadow_host_access(j.out, bytes(so), sim::WRITE, name))
        return bad;
    const std::vector<float> a = floats(sa, j.a, j.c.math), b = floats(sb, j.b, j.c.math);
    std::vector<float> sum(elements(so));
    if (j.way == FPROP)
        taps(j, [&](size_t x, size_t w, size_t y, size_t n) {
            for (size_t i = 0; i < n; i++) sum[y] += a[x + i] * b[w + i];
        });
    else if (j.way == DGRAD)
        taps(j, [&](size_t x, size_t w, size_t y, size_t n) {
            for (size_t i = 0; i < n; i++) sum[x + i] += a[w + i] * b[y];
        });
    else
        taps(j, [&](size_t x, size_t w, size_t y, size_t n) {
            for (size_t i = 0; i < n; i++) sum[w + i] += a[x + i] * b[y];
        });
    for (size_t i = 0; i < sum.size(); i++) {
        float *f = (float *)j.out + i;
        __nv_bfloat16 *h = (__nv_bfloat16 *)j.out + i;
        float v = j.alpha * sum[i];
        if (j.beta != 0) v += j.beta * (so.type == CUDNN_DATA_FLOAT ? *f : __bfloat162float(*h));
        if (so.type == CUDNN_DATA_FLOAT)
            *f = v;
        else
            *h = __float2bfloat16_rn(v);
    }
    return cudaSuccess;
}

cudnnStatus_t submit(cudnnHandle_t h, job j, size_t given, const void *alpha, const void *beta)
{
    const sim::guard g;
    if (!h || !alpha || !beta) return CUDNN_STATUS_BAD_PARAM;
    if (sim::entry_error() != cudaSuccess) return CUDNN_STATUS_EXECUTION_FAILED;
    const cudnnStatus_t s = supported(j.c, j.x, j.w, j.y);
    if (s != CUDNN_STATUS_SUCCESS) return s;
    j.alpha = *(const float *)alpha;
    j.beta = *(const float *)beta;
    const shape &sa = j.way == DGRAD ? j.w : j.x, &sb = j.way == FPROP ? j.w : j.y;
    const shape &so = j.way == FPROP ? j.y : j.way == DGRAD ? j.x : j.w;
    if (given < workspace_bytes || h->device != sim::device_now()) return CUDNN_STATUS_BAD_PARAM;
    const struct {
        const void *p;
        size_t n;
    } all[] = {{j.a, bytes(sa)}, {j.b, bytes(sb)}, {j.out, bytes(so)}, {j.workspace, workspace_bytes}};
    for (auto &x : all)
        if (!x.p || (uintptr_t)x.p % 16 || !sim::range_valid(x.p, x.n, true, "cudnnConvolution"))
            return CUDNN_STATUS_BAD_PARAM;
    return sim::enqueue_call(h->stream, "cudnnConvolution", [j]() { return run(j); }) == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_EXECUTION_FAILED;
}

cudnnStatus_t set_shape(shape *s, cudnnDataType_t type, bool last, int n, const int *dim)
{
    if (!s || !dim) return CUDNN_STATUS_BAD_PARAM;
    if (n < 4 || n > 5) return CUDNN_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < n; i++)
        if (dim[i] < 1) return CUDNN_STATUS_BAD_PARAM;
    s->type = type;
    s->n_dims = n;
    s->last = last;
    std::copy(dim, dim + n, s->dim);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t workspace_size(const cudnnConvolutionStruct *c, const shape *x, const shape *w, const shape *y,
                             bool deterministic, size_t *n)
{
    if (!c || !x || !w || !y || !n) return CUDNN_STATUS_BAD_PARAM;
    *n = 0;
    if (!deterministic) return CUDNN_STATUS_NOT_SUPPORTED;
    const cudnnStatus_t s = supported(*c, *x, *w, *y);
    if (s == CUDNN_STATUS_SUCCESS) *n = workspace_bytes;
    return s;
}
} // namespace

#define DESCRIPTOR(name, type)                                                                                         \
    cudnnStatus_t cudnnCreate##name##Descriptor(cudnn##name##Descriptor_t *d)                                          \
    {                                                                                                                  \
        if (!d) return CUDNN_STATUS_BAD_PARAM;                                                                         \
        *d = new type();                                                                                               \
        return CUDNN_STATUS_SUCCESS;                                                                                   \
    }                                                                                                                  \
    cudnnStatus_t cudnnDestroy##name##Descriptor(cudnn##name##Descriptor_t d)                                          \
    {                                                                                                                  \
        delete d;                                                                                                      \
        return CUDNN_STATUS_SUCCESS;                                                                                   \
    }

extern "C" {
DESCRIPTOR(Tensor, cudnnTensorStruct)
DESCRIPTOR(Filter, cudnnFilterStruct)
DESCRIPTOR(Convolution, cudnnConvolutionStruct)

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}
const char *cudnnGetErrorString(cudnnStatus_t s)
{
    switch (s) {
    case CUDNN_STATUS_SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS of another kind";
    }
}
cudnnStatus_t cudnnCreate(cudnnHandle_t *h)
{
    const sim::guard g;
    if (!h) return CUDNN_STATUS_BAD_PARAM;
    if (sim::entry_error() != cudaSuccess) return CUDNN_STATUS_NOT_INITIALIZED;
    *h = new cudnnContext{sim::device_now(), NULL};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    delete h;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s)
{
    const sim::guard g;
    if (!h || !sim::resolve(s)) return CUDNN_STATUS_BAD_PARAM;
    h->stream = s;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t f, cudnnDataType_t t, int n,
                                         int c, int h, int w)
{
    const int dim[] = {n, c, h, w};
    return set_shape(d, t, f == CUDNN_TENSOR_NHWC, 4, dim);
}
cudnnStatus_t cudnnSetTensorNdDescriptorEx(cudnnTensorDescriptor_t d, cudnnTensorFormat_t f, cudnnDataType_t t, int n,
                                           const int dim[])
{
    return set_shape(d, t, f == CUDNN_TENSOR_NHWC, n, dim);
}
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t t, int n, const int dim[],
                                         const int stride[])
{
    if (!stride) return CUDNN_STATUS_BAD_PARAM;
    const cudnnStatus_t s = set_shape(d, t, false, n, dim);
    if (s != CUDNN_STATUS_SUCCESS) return s;
    int64_t step = dim[1];
    bool last = stride[1] == 1;
    for (int i = n - 1; i != 1; i = i == 2 ? 0 : i - 1) { /* strides of W, H, D, then N */
        last = last && stride[i] == step;
        step *= dim[i];
        if (i == 0) break;
    }
    d->last = last;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t t, cudnnTensorFormat_t f, int k,
                                         int c, int h, int w)
{
    const int dim[] = {k, c, h, w};
    return set_shape(d, t, f == CUDNN_TENSOR_NHWC, 4, dim);
}
cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t t, cudnnTensorFormat_t f, int n,
                                         const int dim[])
{
    return set_shape(d, t, f == CUDNN_TENSOR_NHWC, n, dim);
}
cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t d, int n, const int pad[],
                                              const int stride[], const int dilation[], cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute)
{
    if (!d || !pad || !stride || !dilation) return CUDNN_STATUS_BAD_PARAM;
    if (n < 2 || n > 3) return CUDNN_STATUS_NOT_SUPPORTED;
    *d = {n, {}, {}, {}, 1, mode, compute, CUDNN_DEFAULT_MATH};
    for (int i = 0; i < n; i++) {
        if (pad[i] < 0 || stride[i] < 1 || dilation[i] < 1) return CUDNN_STATUS_BAD_PARAM;
        d->pad[i] = pad[i], d->stride[i] = stride[i], d->dilation[i] = dilation[i];
    }
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int u, int v,
                                              int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute)
{
    const int pad[] = {pad_h, pad_w}, stride[] = {u, v}, dilation[] = {dilation_h, dilation_w};
    return cudnnSetConvolutionNdDescriptor(d, 2, pad, stride, dilation, mode, compute);
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t m)
{
    if (!d) return CUDNN_STATUS_BAD_PARAM;
    d->math = m;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int n)
{
    if (!d || n < 1) return CUDNN_STATUS_BAD_PARAM;
    d->groups = n;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionNdForwardOutputDim(const cudnnConvolutionDescriptor_t c,
                                                    const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
                                                    int n, int dim[])
{
    if (!c || !x || !w || !dim || n != x->n_dims || n != w->n_dims || n != c->n + 2) return CUDNN_STATUS_BAD_PARAM;
    dim[0] = x->dim[0];
    dim[1] = w->dim[0];
    for (int i = 0; i < c->n; i++) dim[2 + i] = out_dim(*c, *x, *w, i);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t h, const cudnnTensorDescriptor_t x,
                                                      const cudnnFilterDescriptor_t w,
                                                      const cudnnConvolutionDescriptor_t c,
                                                      const cudnnTensorDescriptor_t y, cudnnConvolutionFwdAlgo_t algo,
                                                      size_t *n)
{
    return h ? workspace_size(c, x, w, y, algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, n)
             : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t h, const cudnnFilterDescriptor_t w,
                                                           const cudnnTensorDescriptor_t dy,
                                                           const cudnnConvolutionDescriptor_t c,
                                                           const cudnnTensorDescriptor_t dx,
                                                           cudnnConvolutionBwdDataAlgo_t algo, size_t *n)
{
    return h ? workspace_size(c, dx, w, dy, algo == CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, n) : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t h, const cudnnTensorDescriptor_t x,
                                                             const cudnnTensorDescriptor_t dy,
                                                             const cudnnConvolutionDescriptor_t c,
                                                             const cudnnFilterDescriptor_t dw,
                                                             cudnnConvolutionBwdFilterAlgo_t algo, size_t *n)
{
    return h ? workspace_size(c, x, dw, dy, algo == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, n) : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t h, const void *alpha, const cudnnTensorDescriptor_t lx,
                                      const void *x, const cudnnFilterDescriptor_t lw, const void *w,
                                      const cudnnConvolutionDescriptor_t c, cudnnConvolutionFwdAlgo_t algo,
                                      void *workspace, size_t n, const void *beta, const cudnnTensorDescriptor_t ly,
                                      void *y)
{
    if (!lx || !lw || !ly || !c) return CUDNN_STATUS_BAD_PARAM;
    if (algo != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM) return CUDNN_STATUS_NOT_SUPPORTED;
    return submit(h, {FPROP, *c, *lx, *lw, *ly, x, w, y, workspace, 0, 0}, n, alpha, beta);
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t h, const void *alpha, const cudnnFilterDescriptor_t lw,
                                           const void *w, const cudnnTensorDescriptor_t ly, const void *dy,
                                           const cudnnConvolutionDescriptor_t c, cudnnConvolutionBwdDataAlgo_t algo,
                                           void *workspace, size_t n, const void *beta,
                                           const cudnnTensorDescriptor_t lx, void *dx)
{
    if (!lx || !lw || !ly || !c) return CUDNN_STATUS_BAD_PARAM;
    /* ALGO_0 uses atomics: not deterministic */
    if (algo != CUDNN_CONVOLUTION_BWD_DATA_ALGO_1) return CUDNN_STATUS_NOT_SUPPORTED;
    return submit(h, {DGRAD, *c, *lx, *lw, *ly, w, dy, dx, workspace, 0, 0}, n, alpha, beta);
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t h, const void *alpha, const cudnnTensorDescriptor_t lx,
                                             const void *x, const cudnnTensorDescriptor_t ly, const void *dy,
                                             const cudnnConvolutionDescriptor_t c, cudnnConvolutionBwdFilterAlgo_t algo,
                                             void *workspace, size_t n, const void *beta,
                                             const cudnnFilterDescriptor_t lw, void *dw)
{
    if (!lx || !lw || !ly || !c) return CUDNN_STATUS_BAD_PARAM;
    if (algo != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1) return CUDNN_STATUS_NOT_SUPPORTED;
    return submit(h, {WGRAD, *c, *lx, *lw, *ly, x, dy, dw, workspace, 0, 0}, n, alpha, beta);
}
}
