/* Simulated cuBLASLt: matrix products against sums in double, each epilogue, each status that the documentation gives
 * for wrong usage. */
#include <criterion/criterion.h>
#include <cublasLt.h>
#include <math.h>
#include <string.h>

#include <string>
#include <vector>

#include "tests/cudasim/cudasim.h"
extern "C" {
#include "engine/base/rng.h"
}

#define OK(call) cr_assert_eq(call, cudaSuccess, "%s", #call)
#define DONE(call) cr_assert_eq(call, CUBLAS_STATUS_SUCCESS, "%s", #call)

struct operand { /* a matrix on the device and its values in double */
    cudaDataType type;
    size_t rows, cols, ld, batch, n;
    bool by_rows;
    std::vector<double> v;
    char *at = NULL;
    cublasLtMatrixLayout_t layout;
    operand(cudaDataType t, size_t r, size_t c, bool rows_first, size_t extra, size_t batch_, int filled)
        : type(t), rows(r), cols(c), ld((rows_first ? c : r) + extra), batch(batch_), by_rows(rows_first)
    {
        n = ld * (rows_first ? r : c) * batch;
        v.resize(n);
        OK(cudaMalloc((void **)&at, n * each()));
        for (size_t i = 0; i < n; i++) {
            const float x = (float)mcs_rng_normal({11, (uint32_t)filled, 0, 0}, (uint32_t)i);
            v[i] = t == CUDA_R_16BF ? (double)__bfloat162float(__float2bfloat16_rn(x)) : (double)x;
        }
        if (filled || extra) put(); /* the padding between columns is compared too */
        DONE(cublasLtMatrixLayoutCreate(&layout, t, r, c, (int64_t)ld));
        const int32_t order = rows_first ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL, b = (int32_t)batch;
        const int64_t stride = (int64_t)(n / batch);
        DONE(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
        DONE(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &b, sizeof b));
        DONE(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                              sizeof stride));
    }
    operand(const operand &) = delete;
    ~operand()
    {
        cudaFree(at);
        cublasLtMatrixLayoutDestroy(layout);
    }
    size_t each() const
    {
        return type == CUDA_R_16BF ? 2 : 4;
    }
    size_t index(size_t b, size_t r, size_t c) const
    {
        return b * (n / batch) + (by_rows ? r * ld + c : c * ld + r);
    }
    double operator()(size_t b, size_t r, size_t c) const
    {
        return v[index(b, r, c)];
    }
    void put()
    {
        std::vector<char> raw(n * each());
        for (size_t i = 0; i < n; i++)
            if (type == CUDA_R_16BF)
                ((__nv_bfloat16 *)raw.data())[i] = __float2bfloat16_rn((float)v[i]);
            else
                ((float *)raw.data())[i] = (float)v[i];
        OK(cudaMemcpy(at, raw.data(), raw.size(), cudaMemcpyHostToDevice));
    }
    void get()
    {
        std::vector<char> raw(n * each());
        OK(cudaMemcpy(raw.data(), at, raw.size(), cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < n; i++)
            v[i] = type == CUDA_R_16BF ? (double)__bfloat162float(((__nv_bfloat16 *)raw.data())[i])
                                       : (double)((float *)raw.data())[i];
    }
};

struct setting {
    size_t m, n, k, batch, extra;
    bool ta, tb, by_rows;
    cudaDataType in, out;
    float alpha, beta;
    uint32_t epilogue;
};

struct bench { /* handle, matmul descriptor, operands and preference of one case */
    setting s;
    cublasLtHandle_t h;
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulPreference_t pref;
    operand a, b, c, d, bias;
    std::vector<double> c_before;
    cublasLtMatmulHeuristicResult_t found;
    explicit bench(const setting &x)
        : s(x), a(x.in, x.ta ? x.k : x.m, x.ta ? x.m : x.k, x.by_rows, x.extra, x.batch, 1),
          b(x.in, x.tb ? x.n : x.k, x.tb ? x.k : x.n, x.by_rows, x.extra, x.batch, 2),
          c(x.out, x.m, x.n, x.by_rows, x.extra, x.batch, 3), d(x.out, x.m, x.n, x.by_rows, x.extra, x.batch, 0),
          bias(x.out, x.epilogue == CUBLASLT_EPILOGUE_BGRADB ? x.n : x.m, 1, false, 0, 1, 4)
    {
        DONE(cublasLtCreate(&h));
        DONE(cublasLtMatmulDescCreate(&desc, x.in == CUDA_R_32F ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F,
                                      CUDA_R_32F));
        const int32_t ta = s.ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = s.tb ? CUBLAS_OP_T : CUBLAS_OP_N;
        DONE(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
        DONE(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
        DONE(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &s.epilogue, sizeof s.epilogue));
        DONE(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.at, sizeof bias.at));
        DONE(cublasLtMatmulPreferenceCreate(&pref));
    }
    ~bench()
    {
        cublasLtMatmulPreferenceDestroy(pref);
        cublasLtMatmulDescDestroy(desc);
        cublasLtDestroy(h);
    }
    cublasStatus_t search()
    {
        int n = 0;
        return cublasLtMatmulAlgoGetHeuristic(h, desc, a.layout, b.layout, c.layout, d.layout, pref, 1, &found, &n);
    }
    cublasStatus_t run(const cublasLtMatmulAlgo_t *algo, void *workspace = NULL, size_t bytes = 0, size_t skew = 0,
                       cudaStream_t stream = NULL)
    {
        return cublasLtMatmul(h, desc, &s.alpha, a.at + skew, a.layout, b.at, b.layout, &s.beta, c.at, c.layout, d.at,
                              d.layout, algo, workspace, bytes, stream);
    }
};

/* |error| <= (k + 8) eps sum|terms| for a float sum in any order, one rounding to the output's type and, for GELU,
 * whose slope is at most 1.13, a few ulp of tanhf. */
static void check(const setting &s)
{
    bench t(s);
    DONE(t.search());
    DONE(t.run(&t.found.algo));
    OK(cudaDeviceSynchronize());
    t.d.get();
    const double eps = ldexp(1, -23), out_eps = s.out == CUDA_R_16BF ? ldexp(1, -8) : eps;
    const bool bias = s.epilogue & CUBLASLT_EPILOGUE_BIAS, gelu = s.epilogue & CUBLASLT_EPILOGUE_GELU;
    for (size_t i = 0; i < s.batch; i++)
        for (size_t r = 0; r < s.m; r++)
            for (size_t c = 0; c < s.n; c++) {
                double v = 0, size = 0;
                for (size_t l = 0; l < s.k; l++) {
                    const double p = (s.ta ? t.a(i, l, r) : t.a(i, r, l)) * (s.tb ? t.b(i, c, l) : t.b(i, l, c));
                    v += (double)s.alpha * p, size += fabs((double)s.alpha * p);
                }
                v += (double)s.beta * t.c(i, r, c), size += fabs((double)s.beta * t.c(i, r, c));
                if (bias) v += t.bias(0, r, 0), size += fabs(t.bias(0, r, 0));
                if (s.epilogue & CUBLASLT_EPILOGUE_RELU) v = v < 0 ? 0 : v;
                if (gelu) v = 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
                const double bound = 1.2 * (double)(s.k + 8) * eps * size + out_eps * fabs(v) + 1e-30;
                cr_assert(fabs(t.d(i, r, c) - v) <= bound, "batch %zu (%zu,%zu): %g for %g", i, r, c, t.d(i, r, c), v);
            }
    if (s.epilogue == CUBLASLT_EPILOGUE_BGRADA || s.epilogue == CUBLASLT_EPILOGUE_BGRADB) {
        const bool of_a = s.epilogue == CUBLASLT_EPILOGUE_BGRADA;
        t.bias.get();
        for (size_t j = 0; j < t.bias.rows; j++) {
            double v = 0, size = 0;
            for (size_t l = 0; l < s.k; l++) {
                const double x = of_a ? (s.ta ? t.a(0, l, j) : t.a(0, j, l)) : (s.tb ? t.b(0, j, l) : t.b(0, l, j));
                v += x, size += fabs(x);
            }
            cr_assert(fabs(t.bias(0, j, 0) - v) <= (double)s.k * eps * size + out_eps * fabs(v));
        }
    }
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
}

static const cudaDataType F = CUDA_R_32F, H = CUDA_R_16BF;

Test(blaslt, matmuls_and_epilogues)
{
    check({5, 7, 9, 1, 0, false, false, false, F, F, 1, 0, CUBLASLT_EPILOGUE_DEFAULT});
    check({33, 20, 65, 1, 3, true, false, false, F, F, 0.5f, 2, CUBLASLT_EPILOGUE_DEFAULT});
    check({8, 31, 16, 3, 1, false, true, false, H, H, 1, 1, CUBLASLT_EPILOGUE_BIAS});
    check({8, 31, 16, 2, 0, true, true, true, H, F, 1, 0, CUBLASLT_EPILOGUE_DEFAULT});
    check({24, 10, 40, 1, 0, true, false, false, H, H, 1, 0, CUBLASLT_EPILOGUE_GELU_BIAS});
    check({24, 10, 40, 1, 2, true, false, false, F, F, 1, 0, CUBLASLT_EPILOGUE_GELU});
    check({6, 11, 13, 1, 0, false, false, true, F, F, 1, 0, CUBLASLT_EPILOGUE_RELU_BIAS});
    check({6, 11, 13, 1, 0, false, true, false, H, F, 1, 1, CUBLASLT_EPILOGUE_BGRADB});
    check({6, 11, 13, 1, 0, true, true, false, F, F, 1, 0, CUBLASLT_EPILOGUE_BGRADA});
    cr_expect_eq(cudasim_bytes_held(), 0);
}

static const setting plain = {16, 8, 32, 1, 0, false, false, false, H, H, 1, 0, CUBLASLT_EPILOGUE_DEFAULT};

Test(blaslt, undocumented_usage_is_refused)
{
    cudasim_quiet(1);
    setting s = plain;
    s.in = F, s.out = H; /* not in the documentation's table of types */
    cr_expect_eq(bench(s).search(), CUBLAS_STATUS_NOT_SUPPORTED);
    s = plain, s.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    cr_expect_eq(bench(s).search(), CUBLAS_STATUS_NOT_SUPPORTED, "not supported");
    s = plain, s.epilogue = CUBLASLT_EPILOGUE_BIAS;
    {
        bench t(s); /* a float bias with a bfloat16 D */
        const int32_t f = CUDA_R_32F;
        DONE(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &f, sizeof f));
        cr_expect_eq(t.search(), CUBLAS_STATUS_NOT_SUPPORTED);
        const char *none = NULL;
        const int32_t same = -1;
        DONE(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &same, sizeof same));
        DONE(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &none, sizeof none));
        DONE(t.search());
        cr_expect_eq(t.run(&t.found.algo), CUBLAS_STATUS_INVALID_VALUE, "no bias");
        const char *skewed = t.bias.at + 2;
        DONE(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &skewed, sizeof skewed));
        cr_expect_eq(t.run(&t.found.algo), CUBLAS_STATUS_INVALID_VALUE, "less aligned than at the search");
    }
    bench t(plain);
    DONE(t.search());
    cr_expect_eq(t.run(&t.found.algo, NULL, 0, 2), CUBLAS_STATUS_INVALID_VALUE, "A is not aligned to 256");
    cr_expect_eq(t.run(NULL, NULL, 0, 2), CUBLAS_STATUS_INVALID_VALUE, "nor for the algorithm of a NULL");
    const uint32_t two = 2, three = 3;
    DONE(cublasLtMatmulPreferenceSetAttribute(t.pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &three, 4));
    cr_expect_eq(t.search(), CUBLAS_STATUS_NOT_SUPPORTED);
    DONE(cublasLtMatmulPreferenceSetAttribute(t.pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &two, 4));
    DONE(t.search());
    cr_expect_eq(t.run(&t.found.algo, NULL, 0, 2), CUBLAS_STATUS_INVALID_VALUE, "A ends outside its allocation");
    cr_expect_eq(cudasim_reports(), 1);
    cr_expect(strstr(cudasim_report_text(0), "cublasLtMatmul"), "%s", cudasim_report_text(0));
    const int64_t small = 15;
    DONE(cublasLtMatrixLayoutSetAttribute(t.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &small, sizeof small));
    cr_expect_eq(t.search(), CUBLAS_STATUS_INVALID_VALUE, "ld below the rows");
    cr_expect_eq(cublasLtMatrixLayoutSetAttribute(t.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &small, 4),
                 CUBLAS_STATUS_INVALID_VALUE, "a size that is not the attribute's");
    setting other = plain;
    other.k = 64;
    bench u(other);
    DONE(u.search());
    bench v(plain);
    cr_expect_eq(v.run(&u.found.algo), CUBLAS_STATUS_INVALID_VALUE, "another problem's algorithm");
    cr_expect_eq(cublasLtMatmul(v.h, v.desc, &v.s.alpha, v.d.at, v.a.layout, v.b.at, v.b.layout, &v.s.beta, v.c.at,
                                v.c.layout, v.d.at, v.d.layout, NULL, NULL, 0, NULL),
                 CUBLAS_STATUS_INVALID_VALUE, "D is A");
    static char host[4096] __attribute__((aligned(256)));
    cr_expect_eq(cublasLtMatmul(v.h, v.desc, &v.s.alpha, host, v.a.layout, v.b.at, v.b.layout, &v.s.beta, v.c.at,
                                v.c.layout, v.d.at, v.d.layout, NULL, NULL, 0, NULL),
                 CUBLAS_STATUS_INVALID_VALUE, "A is host memory");
    cr_expect_eq(v.run(NULL, NULL, 0, 0, (cudaStream_t)v.d.at), CUBLAS_STATUS_EXECUTION_FAILED, "no stream");
}

Test(blaslt, workspace)
{
    cudasim_quiet(1);
    bench t(plain);
    uint64_t most = 1 << 20;
    DONE(cublasLtMatmulPreferenceSetAttribute(t.pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most));
    DONE(t.search());
    cr_expect_gt(t.found.workspaceSize, 0);
    cr_expect_leq(t.found.workspaceSize, most);
    char *w;
    OK(cudaMalloc((void **)&w, most));
    cr_expect_eq(t.run(&t.found.algo, w, t.found.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
    cr_expect_eq(t.run(&t.found.algo, NULL, most), CUBLAS_STATUS_INVALID_VALUE);
    DONE(t.run(&t.found.algo, w, most));
    OK(cudaDeviceSynchronize());
    cr_expect_eq(cudasim_reports(), 0);
    /* One workspace used on two streams: a race, since nothing orders the two matmuls. */
    bench u(plain);
    cudaStream_t s[2];
    for (int i = 0; i < 2; i++) OK(cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking));
    DONE(t.run(&t.found.algo, w, most, 0, s[0]));
    DONE(u.run(&t.found.algo, w, most, 0, s[1]));
    OK(cudaDeviceSynchronize());
    if (cudasim_checked()) {
        cr_assert_geq(cudasim_reports(), 1);
        cr_expect_eq(cudasim_report_kind(0), CUDASIM_RACE_GLOBAL);
        cr_expect(strstr(cudasim_report_text(0), "workspace"), "%s", cudasim_report_text(0));
    }
    for (int i = 0; i < 2; i++) OK(cudaStreamDestroy(s[i]));
    OK(cudaFree(w));
}

/* A matmul is an operation of its stream; scale factors in device memory; uninitialised inputs and memory freed too
 * early are reported. */
Test(blaslt, runs_in_stream_order)
{
    cudasim_quiet(1);
    bench t(plain);
    float factors[2] = {2, 0}, *on_device;
    OK(cudaMalloc((void **)&on_device, 8));
    OK(cudaMemcpy(on_device, factors, 8, cudaMemcpyHostToDevice));
    const int32_t mode = CUBLASLT_POINTER_MODE_DEVICE;
    DONE(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode));
    cudaStream_t s;
    OK(cudaStreamCreate(&s));
    DONE(cublasLtMatmul(t.h, t.desc, on_device, t.a.at, t.a.layout, t.b.at, t.b.layout, on_device + 1, t.c.at,
                        t.c.layout, t.d.at, t.d.layout, NULL, NULL, 0, s));
    cr_expect_eq(cudaStreamQuery(s), cudaSuccess, "the query lets it run");
    t.d.get();
    double v = 0;
    for (size_t l = 0; l < plain.k; l++) v += 2 * t.a(0, 3, l) * t.b(0, l, 5);
    cr_expect(fabs(t.d(0, 3, 5) - v) <= 0.01 * fabs(v) + 1e-4);
    cr_expect_eq(cudasim_reports(), 0);
    if (cudasim_checked()) {
        operand unset(H, plain.m, plain.k, false, 0, 1, 0);
        bench u(plain);
        DONE(cublasLtMatmul(u.h, u.desc, &u.s.alpha, unset.at, unset.layout, u.b.at, u.b.layout, &u.s.beta, u.c.at,
                            u.c.layout, u.d.at, u.d.layout, NULL, NULL, 0, s));
        OK(cudaStreamSynchronize(s));
        cr_assert_eq(cudasim_reports(), 1);
        cr_expect_eq(cudasim_report_kind(0), CUDASIM_UNINIT);
        cudasim_reports_clear();
        cudaStream_t other;
        OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
        OK(cudaMemsetAsync(u.b.at, 0, 64, other)); /* not ordered with the matmul */
        DONE(u.run(NULL, NULL, 0, 0, s));
        OK(cudaDeviceSynchronize());
        cr_assert_eq(cudasim_reports(), 1);
        cr_expect_eq(cudasim_report_kind(0), CUDASIM_RACE_GLOBAL);
        OK(cudaStreamDestroy(other));
    }
    OK(cudaStreamDestroy(s));
    OK(cudaFree(on_device));
}

/* Captured and replayed with the operands' values at replay; a handle belongs to one device. */
Test(blaslt, graphs_and_devices)
{
    cudasim_devices(2);
    cudasim_quiet(1);
    bench t(plain);
    cudaStream_t s;
    cudaGraph_t g;
    cudaGraphExec_t x;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cudaDeviceSynchronize());
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    DONE(t.run(NULL, NULL, 0, 0, s));
    t.s.alpha = 100; /* the host's alpha was read at capture */
    OK(cudaStreamEndCapture(s, &g));
    OK(cudaGraphInstantiateWithFlags(&x, g, 0));
    for (int turn = 0; turn < 2; turn++) {
        for (double &v : t.a.v) v = turn + 1;
        t.a.put();
        OK(cudaGraphLaunch(x, s));
        OK(cudaStreamSynchronize(s));
        t.d.get();
        double v = 0;
        for (size_t l = 0; l < plain.k; l++) v += (turn + 1) * t.b(0, l, 5);
        cr_expect(fabs(t.d(0, 3, 5) - v) <= 0.01 * fabs(v) + 1e-4, "%g for %g", t.d(0, 3, 5), v);
    }
    cr_expect_eq(cudasim_reports(), 0);
    OK(cudaSetDevice(1));
    cr_expect_eq(t.run(NULL), CUBLAS_STATUS_INVALID_VALUE, "another device's handle");
    OK(cudaSetDevice(0));
    OK(cudaGraphExecDestroy(x));
    OK(cudaGraphDestroy(g));
    OK(cudaStreamDestroy(s));
}
