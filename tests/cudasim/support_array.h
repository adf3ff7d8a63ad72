/* Device arrays of any element type, without conversion. */
#ifndef CUDASIM_SUPPORT_ARRAY_H
#define CUDASIM_SUPPORT_ARRAY_H

#include "tests/cudasim/support_sim.h"

/* n elements on the device: a copy of v, or uninitialised. */
template <class T> struct dev_array {
    T *p = nullptr;
    size_t n;
    explicit dev_array(size_t n_) : n(n_)
    {
        cr_assert_eq(cudaMalloc((void **)&p, (n + !n) * sizeof(T)), cudaSuccess);
    }
    explicit dev_array(const std::vector<T> &v) : dev_array(v.size())
    {
        set(v);
    }
    dev_array(const dev_array &) = delete;
    ~dev_array()
    {
        cudaFree(p);
    }
    void set(const std::vector<T> &v)
    {
        if (n) cr_assert_eq(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    }
    void zero()
    {
        cr_assert_eq(cudaMemset(p, 0, n * sizeof(T)), cudaSuccess);
    }
    std::vector<T> get() const
    {
        std::vector<T> v(n);
        if (n) cr_assert_eq(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
        return v;
    }
};

static inline float uniform_at(const char *name, size_t i)
{
    return (float)mcs_rng_uniform({11, mcs_rng_site(name), 0, 0}, (uint32_t)i);
}

/* n uniform numbers in lo..hi; the name is the seed. */
static inline std::vector<float> uniforms(const char *name, size_t n, float lo, float hi)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) v[i] = lo + (hi - lo) * uniform_at(name, i);
    return v;
}

static inline std::vector<__nv_bfloat16> to_bf16(std::vector<float> &v)
{
    std::vector<__nv_bfloat16> h(v.size());
    for (size_t i = 0; i < v.size(); i++) {
        h[i] = __float2bfloat16_rn(v[i]);
        v[i] = __bfloat162float(h[i]);
    }
    return h;
}

/* Floats stored on the device as float or bf16; v is rounded to the stored values. */
struct dev_values {
    enum k_dtype t;
    dev_array<float> f;
    dev_array<__nv_bfloat16> h;
    dev_values(std::vector<float> &v, enum k_dtype t_)
        : t(t_), f(t == K_F32 ? v.size() : 0), h(t == K_BF16 ? v.size() : 0)
    {
        if (t == K_BF16)
            h.set(to_bf16(v));
        else
            f.set(v);
    }
    void *at()
    {
        return t == K_BF16 ? (void *)h.p : (void *)f.p;
    }
    std::vector<float> get() const
    {
        if (t == K_F32) return f.get();
        const std::vector<__nv_bfloat16> b = h.get();
        std::vector<float> v(b.size());
        for (size_t i = 0; i < v.size(); i++) v[i] = __bfloat162float(b[i]);
        return v;
    }
};

/* |got - want| <= tolerance(i) for all. */
template <class A, class B, class F>
static void near_all(const std::string &what, const A &got, const B &want, F tolerance)
{
    cr_assert_eq(got.size(), want.size(), "%s: %zu values, want %zu", what.c_str(), got.size(), want.size());
    for (size_t i = 0; i < got.size(); i++)
        cr_assert(fabs((double)got[i] - (double)want[i]) <= tolerance(i), "%s[%zu]: %.9g, want %.9g, tolerance %.3g",
                  what.c_str(), i, (double)got[i], (double)want[i], (double)tolerance(i));
}

template <class T> static void equal_all(const std::string &what, const std::vector<T> &got, const std::vector<T> &want)
{
    near_all(what, got, want, [](size_t) { return 0.0; });
}

/* The same bytes as with the first order of threads. */
template <class T> static void same_bytes(const std::string &what, const std::vector<T> &v, std::vector<T> &first)
{
    if (first.empty()) first = v;
    cr_assert(memcmp(v.data(), first.data(), v.size() * sizeof(T)) == 0, "%s depends on the order of threads",
              what.c_str());
}

#endif
