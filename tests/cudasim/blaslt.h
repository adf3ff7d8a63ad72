/* One matrix product as cuBLASLt describes it: shared by the API (blaslt.cpp) and the computation
 * (blaslt_matmul.cpp). */
#ifndef CUDASIM_BLASLT_H
#define CUDASIM_BLASLT_H

#include <cublasLt.h>

#include "tests/cudasim/sim.h"

namespace blaslt
{
struct layout {
    int32_t type, order;
    uint64_t rows, cols;
    int64_t ld, stride;
    int32_t batch;
};
struct matmul_desc {
    int32_t compute, scale, mode, trans_a, trans_b, trans_c, fill;
    uint32_t epilogue;
    void *bias;
    int64_t bias_stride;
    int32_t bias_type;
};
inline size_t bytes_of(int32_t type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 0;
}
inline size_t lines(const layout &m)
{
    return m.order == CUBLASLT_ORDER_COL ? m.cols : m.rows;
}
inline size_t line_length(const layout &m)
{
    return m.order == CUBLASLT_ORDER_COL ? m.rows : m.cols;
}
inline size_t span(const layout &m) /* bytes from the first element to the end of the last */
{
    const size_t one = (lines(m) - 1) * (size_t)m.ld + line_length(m);
    return ((size_t)(m.batch - 1) * (size_t)m.stride + one) * bytes_of(m.type);
}
inline float value(int32_t type, const void *p, size_t i)
{
    if (type == CUDA_R_32F) return ((const float *)p)[i];
    return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
inline void set_value(int32_t type, void *p, size_t i, float v)
{
    if (type == CUDA_R_32F)
        ((float *)p)[i] = v;
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
}
inline size_t offset_of(const layout &m, size_t r, size_t c)
{
    return m.order == CUBLASLT_ORDER_COL ? c * (size_t)m.ld + r : r * (size_t)m.ld + c;
}

inline bool has_bias(uint32_t e)
{
    return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_RELU_BIAS || e == CUBLASLT_EPILOGUE_GELU_BIAS;
}
inline bool writes_bias(uint32_t e)
{
    return e == CUBLASLT_EPILOGUE_BGRADA || e == CUBLASLT_EPILOGUE_BGRADB;
}
inline bool epilogue_known(uint32_t e)
{
    return has_bias(e) || writes_bias(e) || e == CUBLASLT_EPILOGUE_DEFAULT || e == CUBLASLT_EPILOGUE_RELU ||
           e == CUBLASLT_EPILOGUE_GELU;
}

struct problem {
    matmul_desc p;
    layout a, b, c, d;
    size_t m, n, k;
    size_t bias_n() const
    {
        return p.epilogue == CUBLASLT_EPILOGUE_BGRADB ? n : m;
    }
    uint32_t hash() const
    {
        uint64_t h = 0xcbf29ce484222325u;
        const uint64_t v[] = {(uint64_t)p.compute,
                              (uint64_t)p.trans_a,
                              (uint64_t)p.trans_b,
                              p.epilogue,
                              m,
                              n,
                              k,
                              (uint64_t)a.ld,
                              (uint64_t)b.ld,
                              (uint64_t)c.ld,
                              (uint64_t)d.ld,
                              (uint64_t)a.type,
                              (uint64_t)c.type,
                              (uint64_t)d.type,
                              (uint64_t)a.order,
                              (uint64_t)b.order,
                              (uint64_t)d.order,
                              (uint64_t)d.batch,
                              (uint64_t)p.mode};
        for (uint64_t x : v) h = (h ^ x) * 0x100000001b3u;
        return (uint32_t)(h ^ (h >> 32));
    }
};

struct call {
    problem q;
    const void *a, *b, *c, *alpha_at, *beta_at;
    void *d, *workspace;
    float alpha, beta;
    size_t workspace_bytes;
};
cudaError_t run(const call &x); /* runs it, in stream order */
} // namespace blaslt

#endif
