/* Shared by the tests of kernels in the simulation: values in double, device arrays, comparison with an oracle. */
#ifndef CUDASIM_SUPPORT_SIM_H
#define CUDASIM_SUPPORT_SIM_H

#include <criterion/criterion.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>

#include <string>
#include <vector>

#include "kernels/common/kernels.h"
#include "tests/cudasim/cudasim.h"
extern "C" {
#include "engine/base/rng.h"
#include "tests/ref/ref.h"
}

typedef std::vector<double> values;

/* Normal numbers offset + scale N(0,1), rounded to the device's type. */
static inline values normals(const char *name, int64_t n, enum k_dtype t, double scale = 1, double offset = 0)
{
    values v((size_t)n);
    for (int64_t i = 0; i < n; i++) {
        const float f = (float)(offset + scale * mcs_rng_normal({7, mcs_rng_site(name), 0, 0}, (uint32_t)i));
        v[(size_t)i] = (double)(t == K_BF16 ? __bfloat162float(__float2bfloat16_rn(f)) : f);
    }
    return v;
}

/* Device array that starts `skew` elements after the address from cudaMalloc: for misaligned pointers. */
struct on_device {
    void *base;
    enum k_dtype t;
    size_t n, skew;
    on_device(size_t n_, enum k_dtype t_, size_t skew_ = 0, const values *v = nullptr) : t(t_), n(n_), skew(skew_)
    {
        cr_assert_eq(cudaMalloc(&base, (n + skew) * each()), cudaSuccess);
        if (v) set(*v);
    }
    on_device(const on_device &) = delete;
    ~on_device()
    {
        cudaFree(base);
    }
    size_t each() const
    {
        return t == K_BF16 ? 2 : 4;
    }
    void *at() const
    {
        return (char *)base + skew * each();
    }
    float *f() const
    {
        return (float *)at();
    }
    void set(const values &v)
    {
        std::vector<float> f(n);
        std::vector<__nv_bfloat16> h(n);
        for (size_t i = 0; i < n; i++) f[i] = (float)v[i], h[i] = __float2bfloat16_rn(f[i]);
        cudaMemcpy(at(), t == K_BF16 ? (void *)h.data() : (void *)f.data(), n * each(), cudaMemcpyHostToDevice);
    }
    values get() const
    {
        std::vector<float> f(n);
        std::vector<__nv_bfloat16> h(n);
        cr_assert_eq(
            cudaMemcpy(t == K_BF16 ? (void *)h.data() : (void *)f.data(), at(), n * each(), cudaMemcpyDeviceToHost),
            cudaSuccess);
        values v(n);
        for (size_t i = 0; i < n; i++) v[i] = (double)(t == K_BF16 ? __bfloat162float(h[i]) : f[i]);
        return v;
    }
};

/* |got - want| <= k 2^-24 mag for k float roundings of terms whose absolute values sum to mag. In bfloat16 2^-8 mag
 * more for the result and for each of `carried` inputs that the device itself rounded. */
static inline void check(const std::string &what, const values &got, const values &want, const values &mag, double k,
                         enum k_dtype t, double carried = 0)
{
    for (size_t i = 0; i < got.size(); i++) {
        const double m = fmax(mag[i], fabs(want[i]));
        const double tol = k * 0x1p-24 * m + (t == K_BF16 ? (1 + carried) * 0x1p-8 * m : 0);
        cr_assert(fabs(got[i] - want[i]) <= tol, "%s[%zu]: %.9g, oracle %.9g, tolerance %.3g", what.c_str(), i, got[i],
                  want[i], tol);
    }
}

static inline void same(const std::string &what, const values &a, values &first)
{
    if (first.empty()) first = a;
    cr_assert(memcmp(a.data(), first.data(), a.size() * sizeof(double)) == 0, "%s depends on the order of threads",
              what.c_str());
}

static inline void expect_clean(const std::string &what)
{
    cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s: %s", what.c_str(), cudasim_report_text(i));
    cudasim_reports_clear();
}

static inline ref_tensor tensor(std::initializer_list<int64_t> dims, values &v, values *mag)
{
    ref_tensor t = {};
    for (int64_t d : dims) t.dim[t.nd++] = d;
    t.v = v.data();
    t.mag = mag ? mag->data() : nullptr;
    return t;
}

/* A struct k_run on the device. */
struct run_on_device {
    k_run *p;
    run_on_device(uint64_t seed, uint32_t step)
    {
        const k_run r = {seed, step};
        cr_assert_eq(cudaMalloc((void **)&p, sizeof r), cudaSuccess);
        cudaMemcpy(p, &r, sizeof r, cudaMemcpyHostToDevice);
    }
    run_on_device(const run_on_device &) = delete;
    ~run_on_device()
    {
        cudaFree(p);
    }
};

struct ints_on_device {
    int32_t *p = nullptr;
    ints_on_device(const std::vector<int32_t> &v)
    {
        if (v.empty()) return;
        cr_assert_eq(cudaMalloc((void **)&p, v.size() * sizeof *p), cudaSuccess);
        cudaMemcpy(p, v.data(), v.size() * sizeof *p, cudaMemcpyHostToDevice);
    }
    ints_on_device(const ints_on_device &) = delete;
    ~ints_on_device()
    {
        if (p) cudaFree(p);
    }
};

#endif
