/* Sine and cosine of reduced arguments. The library functions also handle large arguments and need local memory for
 * that. */
#ifndef MCS_KERNELS_SINCOS_CUH
#define MCS_KERNELS_SINCOS_CUH

#include "kernels/common/device.cuh"

/* Sine (.x) and cosine (.y) of quarters * pi/2 + x, |x| <= pi/4: Taylor series up to x^9 and x^8; the truncation error
 * is below 2^-24. */
static DEV_INLINE float2 sincos_quarters(float x, int quarters)
{
    const float z = x * x;
    const float s =
        x * fmaf(z, fmaf(z, fmaf(z, fmaf(z, 2.7557319e-6f, -1.9841270e-4f), 8.3333333e-3f), -1.6666667e-1f), 1.0f);
    const float c = fmaf(z, fmaf(z, fmaf(z, fmaf(z, 2.4801587e-5f, -1.3888889e-3f), 4.1666667e-2f), -0.5f), 1.0f);
    const int k = quarters & 3;
    const float a = k & 1 ? c : s, b = k & 1 ? s : c;
    return make_float2(k & 2 ? -a : a, k == 1 || k == 2 ? -b : b);
}

#endif
