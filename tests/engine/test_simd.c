/* The vectorisable float functions against libm in double: the errors that engine/cpu/simd.h states. */
#include "engine/cpu/simd.h"

#include <criterion/criterion.h>
#include <math.h>

enum { N = 20001 };

/* z: arguments computed beforehand, since a fused multiply-add in a vector loop would round them differently */
MCS_CLONES static void all(const float *x, float (*z)[N], float (*y)[N])
{
    for (int i = 0; i < N; i++) y[0][i] = mcs_expf(x[i]);
    for (int i = 0; i < N; i++) y[1][i] = mcs_log1pf01(fabsf(x[i]) * 0.01f);
    for (int i = 0; i < N; i++) y[2][i] = mcs_logf(z[0][i]);
    for (int i = 0; i < N; i++) y[3][i] = mcs_normal_cdf(x[i] * 0.08f, &y[4][i]);
    for (int i = 0; i < N; i++) y[5][i] = mcs_erff(x[i] * 0.05f);
    for (int i = 0; i < N; i++) y[6][i] = mcs_sigmoidf(x[i]);
    for (int i = 0; i < N; i++) y[7][i] = mcs_softplusf(x[i]);
    for (int i = 0; i < N; i++) y[8][i] = mcs_logf(z[1][i]);
}

static float x[N], z[2][N], y[9][N];

Test(simd, errors)
{
    for (int i = 0; i < N; i++) x[i] = (float)(-87.0 + 174.0 * i / (N - 1));
    for (int i = 0; i < N; i++) z[0][i] = expf(x[i] * 0.5f);
    for (int i = 0; i < N; i++) z[1][i] = 1.0f + x[i] * 0.001f;
    all(x, z, y);
    double worst[9] = {0};
    for (int i = 0; i < N; i++) {
        double v = x[i], e[9];
        float a = fabsf(x[i]) * 0.01f, h = z[0][i], p = x[i] * 0.08f, q = x[i] * 0.05f, m = z[1][i];
        double cdf = 0.5 * erfc(-p / sqrt(2.0)), pdf = exp(-0.5 * (double)p * p) / sqrt(2 * M_PI);
        double tail = 5e-7 + 6e-8 * p * p;
        e[0] = fabs(y[0][i] / exp(v) - 1) / 1.3e-7;
        e[1] = a > 0 ? fabs(y[1][i] / log1p(a) - 1) / 2e-7 : y[1][i] != 0;
        e[2] = fabs(y[2][i] - log(h)) / (2e-7 * fmax(fabs(log(h)), 1e-30));
        e[3] = fabs(y[3][i] / cdf - 1) / tail;
        e[4] = fabs(y[4][i] / pdf - 1) / tail;
        e[5] = fabs(y[5][i] - erf(q)) / 6e-7;
        e[6] = fabs(y[6][i] * (1 + exp(-v)) - 1) / 4e-7;
        e[7] = fabs(y[7][i] / log1p(exp(v)) - 1) / 5e-7;
        e[8] = m == 1 ? y[8][i] != 0 : fabs(y[8][i] / log(m) - 1) / 2e-7;
        for (int k = 0; k < 9; k++)
            if (!(e[k] <= worst[k])) worst[k] = e[k];
    }
    for (int k = 0; k < 9; k++) cr_expect(worst[k] <= 1, "function %d: %g of the stated error", k, worst[k]);
}

Test(simd, ends)
{
    cr_expect(mcs_expf(-INFINITY) == 0 && mcs_expf(-88) == 0 && mcs_expf(89) == INFINITY &&
              mcs_expf(INFINITY) == INFINITY);
    cr_expect(isnan(mcs_expf(NAN)) && mcs_expf(0) == 1 && isfinite(mcs_expf(88.7f)));
    cr_expect(mcs_sigmoidf(-200) == 0 && mcs_sigmoidf(200) == 1 && mcs_softplusf(200) == 200 &&
              mcs_softplusf(-200) == 0);
    cr_expect(mcs_erff(9) == 1 && mcs_erff(-9) == -1 && mcs_logf(1) == 0);
}
