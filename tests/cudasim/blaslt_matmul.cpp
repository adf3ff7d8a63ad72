/* Runs one matrix product in stream order: checks each range in shadow memory, accumulates in float, applies the
 * epilogue, writes. */
#include <dnnl.h>
#include <math.h>
#include <string.h>

#include "tests/cudasim/blaslt.h"

using namespace blaslt;

namespace
{
bool touch(const layout &m, const void *p, sim::access kind, bool may_be_uninit = false)
{
    for (size_t i = 0; i < lines(m); i++) {
        const char *line = (const char *)p + i * (size_t)m.ld * bytes_of(m.type);
        if (!sim::shadow_host_access(line, line_length(m) * bytes_of(m.type), kind, "cublasLtMatmul", may_be_uninit))
            return false;
    }
    return true;
}

/* op(m) as a packed row-major matrix of floats. */
std::vector<float> rows_of(const layout &m, const void *p, bool transposed)
{
    std::vector<float> v(m.rows * m.cols);
    for (size_t r = 0; r < m.rows; r++)
        for (size_t c = 0; c < m.cols; c++)
            v[transposed ? c * m.rows + r : r * m.cols + c] = value(m.type, p, offset_of(m, r, c));
    return v;
}

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): the tanh form, not erf. */
float gelu_tanh(float x)
{
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

bool touch_bias(const call &x, size_t batch, sim::access kind)
{
    const size_t each = bytes_of(x.q.d.type);
    const char *at = (const char *)x.q.p.bias + batch * (size_t)x.q.p.bias_stride * each;
    return sim::shadow_host_access(at, x.q.bias_n() * each, kind, "cublasLtMatmul");
}

bool run_one_matmul(const call &x, size_t i, float alpha, float beta)
{
    const problem &q = x.q;
    const auto at = [i](const void *p, const layout &m) { return (char *)p + i * (size_t)m.stride * bytes_of(m.type); };
    const char *a = at(x.a, q.a), *b = at(x.b, q.b), *c = at(x.c, q.c);
    char *d = at(x.d, q.d);
    const bool bias = has_bias(q.p.epilogue), bias_out = writes_bias(q.p.epilogue);
    if (!touch(q.a, a, sim::READ) || !touch(q.b, b, sim::READ) || (beta != 0 && !touch(q.c, c, sim::READ)) ||
        (bias && !touch_bias(x, i, sim::READ)))
        return false;
    const std::vector<float> fa = rows_of(q.a, a, q.p.trans_a != CUBLAS_OP_N);
    const std::vector<float> fb = rows_of(q.b, b, q.p.trans_b != CUBLAS_OP_N);
    std::vector<float> sum(q.m * q.n);
    dnnl_sgemm('N', 'N', (dnnl_dim_t)q.m, (dnnl_dim_t)q.n, (dnnl_dim_t)q.k, 1, fa.data(), (dnnl_dim_t)q.k, fb.data(),
               (dnnl_dim_t)q.n, 0, sum.data(), (dnnl_dim_t)q.n);
    if (!touch(q.d, d, sim::WRITE) || (bias_out && !touch_bias(x, i, sim::WRITE))) return false;
    const char *bias_at = (const char *)q.p.bias + i * (size_t)q.p.bias_stride * bytes_of(q.d.type);
    for (size_t r = 0; r < q.m; r++)
        for (size_t col = 0; col < q.n; col++) {
            float v = alpha * sum[r * q.n + col];
            if (beta != 0) v += beta * value(q.c.type, c, offset_of(q.c, r, col));
            if (bias) v += value(q.d.type, bias_at, r);
            if (q.p.epilogue & CUBLASLT_EPILOGUE_RELU) v = v < 0 ? 0 : v;
            if (q.p.epilogue & CUBLASLT_EPILOGUE_GELU) v = gelu_tanh(v);
            set_value(q.d.type, d, offset_of(q.d, r, col), v);
        }
    for (size_t j = 0; bias_out && j < q.bias_n(); j++) {
        float v = 0;
        for (size_t l = 0; l < q.k; l++)
            v += q.p.epilogue == CUBLASLT_EPILOGUE_BGRADA ? fa[j * q.k + l] : fb[l * q.n + j];
        set_value(q.d.type, q.p.bias, j, v);
    }
    return true;
}
} // namespace

cudaError_t blaslt::run(const call &x)
{
    const cudaError_t bad = cudaErrorIllegalAddress;
    sim::block_now++;
    if (x.workspace_bytes) {
        if (!sim::shadow_host_access(x.workspace, x.workspace_bytes, sim::WRITE, "cublasLtMatmul (workspace)"))
            return bad;
        memset(x.workspace, 0xff, x.workspace_bytes);
        sim::shadow_set(x.workspace, x.workspace_bytes, sim::UNINIT, true);
    }
    float alpha = x.alpha, beta = x.beta;
    if (x.alpha_at) {
        if (!sim::shadow_host_access(x.alpha_at, 4, sim::READ, "cublasLtMatmul (alpha)") ||
            !sim::shadow_host_access(x.beta_at, 4, sim::READ, "cublasLtMatmul (beta)"))
            return bad;
        alpha = *(const float *)x.alpha_at;
        beta = *(const float *)x.beta_at;
    }
    for (size_t i = 0; i < (size_t)x.q.d.batch; i++)
        if (!run_one_matmul(x, i, alpha, beta)) return bad;
    return cudaSuccess;
}
