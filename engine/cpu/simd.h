/* Vector code without instruction-set flags: MCS_CLONES, and float functions that a compiler can vectorise.
 *
 * A function marked MCS_CLONES is compiled three times (AVX-512, AVX2 + FMA, baseline); the fitting one is chosen at
 * load time. Functions called in its loops must be inlined: only the MCS_INLINE functions below and compiler built-ins
 * vectorise; libm's expf does not. gcc outlines the body of `#pragma omp parallel` before it clones, and the outlined
 * part stays baseline code. So keep the vector code in a cloned function, and the parallel loop in a caller that is not
 * cloned:
 *
 *     MCS_CLONES static void rows(const float *x, float *y, int64_t lo, int64_t hi) { ... loops ... }
 *
 *     #pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
 *         for (int64_t c = 0; c < chunks; c++) rows(x, y, c * chunk, min(n, (c + 1) * chunk));
 *
 * A sum needs `#pragma omp simd reduction(+:s)`. Cut sums into chunks of a fixed size (MCS_CHUNK) and add the chunks'
 * sums in order: then the result does not depend on the number of threads. */
#ifndef MCS_CPU_SIMD_H
#define MCS_CPU_SIMD_H

#include <stdint.h>
#include <string.h>

/* Under a sanitizer the clones' resolvers would run before its start-up; other compilers and machines use the plain
 * code. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(MCS_SANITIZE) &&                       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MCS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MCS_CLONES
#endif
#define MCS_INLINE static inline __attribute__((always_inline, unused))

enum {
    MCS_PARALLEL_MIN = 32768, /* elements: below, starting threads costs more time than it saves */
    MCS_CHUNK = 4096,         /* elements of one partial sum */
};

MCS_INLINE float simd_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
MCS_INLINE uint32_t simd_bits(float f)
{
    uint32_t b;
    memcpy(&b, &f, 4);
    return b;
}

/* The polynomial with coefficients c (n), the highest power's first, by Horner's rule. */
MCS_INLINE float simd_poly(float x, const float *c, int n)
{
    float p = c[0];
#pragma GCC unroll 16
    for (int i = 1; i < n; i++) p = p * x + c[i];
    return p;
}

/* e^x. Relative error < 2^-22.9 (1.3e-7) where the result is normal; 0 below -87.33, inf above 88.72, NaN stays NaN.
 * With x = n ln2 + r and |r| <= ln2/2: a polynomial of degree 6 in r. n is rounded by adding 1.5 * 2^23, which needs no
 * SSE4.1. */
MCS_INLINE float mcs_expf(float x)
{
    float c = x < -87.4f ? -87.4f : x;
    c = c > 89.0f ? 89.0f : c;
    float t = c * 1.44269504f + 12582912.0f;
    float n = t - 12582912.0f;
    float r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
    static const float coefficients[] = {0.00139266901f, 0.00836318662f, 0.0416665501f, 0.166665769f, 0.5f};
    const float p = simd_poly(r, coefficients, 5);
    const float exp_r = (p * r) * r + r + 1.0f;
    /* 2^n as a product of two powers: 2^128 is not a float */
    int32_t k = (int32_t)(simd_bits(t) - 0x4B400000u), h = k >> 1;
    float y = exp_r * simd_float((uint32_t)(h + 127) << 23) * simd_float((uint32_t)(k - h + 127) << 23);
    y = x < -87.33f ? 0.0f : y;
    return x > 88.7228394f ? simd_float(0x7F800000u) : y;
}

/* ln(1+z) for 0 <= z <= 1. Relative error < 2e-7. */
MCS_INLINE float mcs_log1pf01(float z)
{
    static const float coefficients[] = {-0.00317605702f, 0.0195425273f, -0.0563736128f, 0.105436238f,  -0.152696671f,
                                         0.196632743f,    -0.249516163f, 0.333297105f,   -0.499998926f, 0.999999995f};
    const float p = simd_poly(z, coefficients, 10);
    return p * z;
}

/* ln x for normal x > 0. Error < 2e-7 of max(|ln x|, |x-1|), so it is accurate near 1 too. */
MCS_INLINE float mcs_logf(float x)
{
    uint32_t b = simd_bits(x) - 0x3F3504F3u; /* so that the mantissa falls in [sqrt(1/2), sqrt(2)) */
    float n = (float)((int32_t)b >> 23);
    float z = simd_float((b & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    static const float coefficients[] = {-0.0745126787f, 0.128067364f,  -0.132660635f, 0.141996346f,  -0.16608364f,
                                         0.2000094f,     -0.250015793f, 0.333333453f,  -0.499999885f, 0.999999999f};
    const float p = simd_poly(z, coefficients, 10);
    return n * 0.693359375f + (n * -2.12194440e-4f + p * z);
}

/* e^(t^2) erfc(t) for 0 <= t <= 10: a polynomial of degree 9 in 1/(1 + 0.3 t), fitted at Chebyshev points
 * (error 2.5e-8). Relative error < 4e-7. */
MCS_INLINE float simd_erfcx(float t)
{
    float u = 1.0f / (1.0f + 0.3f * t);
    static const float coefficients[] = {-0.130770877f, 0.491934271f, -0.526151663f, 0.564514242f, -0.106983362f,
                                         0.220539169f,  0.146796022f, 0.17094912f,   0.169173058f};
    const float p = simd_poly(u, coefficients, 9);
    return p * u;
}

/* The normal distribution function (1 + erf(x / sqrt 2)) / 2, and its density. Relative error of both <
 * 5e-7 + 2^-24 x^2 (the rounding of x^2), also in the lower tail, where 1 + erf would cancel. 0 below x = -13.2. */
MCS_INLINE float mcs_normal_cdf(float x, float *density)
{
    float a = x < 0 ? -x : x, g = mcs_expf(-0.5f * x * x);
    float q = 0.5f * g * simd_erfcx(a * 0.707106781f);
    *density = 0.398942280f * g;
    return x < 0 ? q : 1.0f - q;
}

/* erf(x). Absolute error < 6e-7 (exp, erfcx and the product add up; near 0 not relative: 1 - erfc). */
MCS_INLINE float mcs_erff(float x)
{
    float e = 1.0f - mcs_expf(-x * x) * simd_erfcx(x < 0 ? -x : x);
    return x < 0 ? -e : e;
}

/* 1 / (1 + e^-x). Relative error < 4e-7 where normal. */
MCS_INLINE float mcs_sigmoidf(float x)
{
    float z = mcs_expf(x < 0 ? x : -x), s = 1.0f / (1.0f + z);
    return x < 0 ? z * s : s;
}

/* ln(1 + e^x) = -ln sigmoid(-x). Relative error < 5e-7. */
MCS_INLINE float mcs_softplusf(float x)
{
    return (x > 0 ? x : 0.0f) + mcs_log1pf01(mcs_expf(x > 0 ? -x : x));
}

#endif
