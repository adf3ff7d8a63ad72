/* Operations of the CPU backend on values for which the answer is known exactly, or where a careless order of the same
 * sums loses what matters: losses of logits that are all large, the mask of a dropout draw by draw. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "engine/backend.h"
#include "engine/base/rng.h"
#include "engine/tape/op.h"
#include "tests/support/support_cpu_op.h"

extern const struct op_impl mcs_cpu_dice_ce, mcs_cpu_dropout, mcs_cpu_mse;

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* ---- cross-entropy ---- */

/* Adding the same number to all logits of a voxel changes nothing; the differences are exact in float32. The sum of
 * ln(1 + e^-gap) must not be made beside the large number: at 2^20 a float32 has steps of 1/8. Tolerance in units of
 * 2^-24: one for the sum 1 + e^-gap, whose rounding the logarithm hands on, and 8 of the terms for exp (2.2), logarithm
 * (3) and the mean. */
Test(cpu_values, cross_entropy_of_large_logits)
{
    static const float offsets[] = {0, 1048576, -1048576};
    static const float gaps[] = {0, 0.5f, 2, 4, 8, 12};
    const struct dice_ce_attr a = {.smooth = 1, .weight_ce = 1, .weight_dice = 0};
    for (int o = 0; o < 3; o++)
        for (int k = 0; k < 6; k++)
            for (int wrong = 0; wrong < 2; wrong++) {
                float x[6], loss = 0, sums[6];
                int32_t target[3];
                for (int v = 0; v < 3; v++) {
                    target[v] = v % 2 ^ wrong;
                    x[2 * v + v % 2] = offsets[o] + gaps[k];
                    x[2 * v + 1 - v % 2] = offsets[o];
                }
                struct tensor tx = cpu_op_tensor(3, (int64_t[]){1, 3, 2}, x),
                              tt = cpu_op_tensor(2, (int64_t[]){1, 3}, target),
                              tl = cpu_op_tensor(1, (int64_t[]){1}, &loss),
                              ts = cpu_op_tensor(3, (int64_t[]){1, 2, 3}, sums);
                struct step s = {.scope = "loss", .attr = &a, .in = {&tx, &tt}, .out = {&tl, &ts}};
                tt.dt = MCS_I32;
                cpu_op_run(&mcs_cpu_dice_ce, &s);
                const double right = log1p(exp(-(double)gaps[k])), want = right + (wrong ? (double)gaps[k] : 0),
                             most = 0x1p-24 * (1 + 8 * ((wrong ? (double)gaps[k] : 0) + exp(-(double)gaps[k]) + right));
                cr_expect_leq(fabs((double)loss - want), most, "offset %g, gap %g: %.9g, want %.9g", (double)offsets[o],
                              (double)gaps[k], (double)loss, want);
                const double p = 1 / (1 + exp(-(double)gaps[k])); /* of class 1: voxel 1 by p, 0 and 2 by 1 - p */
                cr_expect_lt(fabs((double)sums[4] - (p + 2 * (1 - p))), 1e-6);
                cr_expect_eq(sums[5], wrong ? 2 : 1, "voxels of class 1");
                cr_expect_eq(sums[2], wrong ? 1 : 2, "voxels of class 0");
                cr_expect_lt(fabs((double)sums[3] - (wrong ? 2 * (1 - p) : p)), 1e-6);
            }
}

/* ---- dropout ---- */

static void expect_dropout(int64_t rows, int64_t n, uint64_t seed, uint32_t step, int with_ids, float p)
{
    const struct dropout_attr a = {.p = p, .site = 77};
    struct run_state state = {.seed = seed, .step = step};
    float *x = malloc((size_t)(rows * n) * sizeof *x), *y = malloc((size_t)(rows * n) * sizeof *y),
          *u = malloc((size_t)n * sizeof *u);
    int32_t *ids = malloc((size_t)rows * sizeof *ids);
    cr_assert(x && y && u && ids);
    for (int64_t i = 0; i < rows * n; i++) x[i] = (float)(i % 50 + 1);
    for (int64_t r = 0; r < rows; r++) ids[r] = (int32_t)(1000 - 7 * r);
    struct tensor tx = cpu_op_tensor(2, (int64_t[]){rows, n}, x), ty = cpu_op_tensor(2, (int64_t[]){rows, n}, y),
                  ti = cpu_op_tensor(1, (int64_t[]){rows}, ids);
    ti.dt = MCS_I32;
    for (int back = 0; back < 3; back++) { /* forward; backward; backward, added to the values before */
        for (int64_t i = 0; i < rows * n; i++) y[i] = 8;
        struct step s = {.scope = "drop", .attr = &a, .run = &state, .backward = back > 0};
        s.in[0] = &tx, s.in[1] = with_ids ? &ti : NULL;
        if (back)
            s.dout[0] = &tx, s.din[0] = &ty, s.beta[0] = back == 2;
        else
            s.out[0] = &ty;
        cpu_op_run(&mcs_cpu_dropout, &s);
        for (int64_t r = 0; r < rows; r++) {
            mcs_rng_fill_uniform(
                (struct mcs_rng){
                    .seed = seed, .site = 77, .sample = with_ids ? (uint32_t)ids[r] : (uint32_t)r, .step = step},
                u, n);
            for (int64_t i = 0; i < n; i++) {
                const float kept = u[i] >= p ? 1 / (1 - p) * x[r * n + i] : 0, want = kept + (back == 2 ? 8 : 0);
                cr_assert_eq(y[r * n + i], want, "seed %llx, row %lld, channel %lld: %g, want %g",
                             (unsigned long long)seed, (long long)r, (long long)i, (double)y[r * n + i], (double)want);
            }
        }
    }
    free(x), free(y), free(u), free(ids);
}

Test(cpu_values, each_draw_of_a_dropout)
{
    static const uint64_t seeds[] = {0, 5, 0x123456789ABCDEF0, 0xFFFFFFFF00000001};
    static const int64_t widths[] = {1, 3, 63, 64, 65, 130};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 6; k++)
            for (int ids = 0; ids < 2; ids++)
                expect_dropout(5, widths[k], seeds[i], (uint32_t)(3 * i), ids, k % 2 ? 0.5f : 0.75f);
    expect_dropout(90, 130, seeds[2], 7, 1, 0.5f); /* rows by several threads */
}

/* ---- losses over several chunks of values ---- */

/* Sums of small integers are exact; the value at each place is another, so that one that is read twice or not at all
 * shows. */
Test(cpu_values, mean_square_of_many_values)
{
    static const int64_t counts[] = {1, 2047, 4095, 4096, 4097, 8191, 8192, 8193, 20001, 40000};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        for (int weighted = 0; weighted < 2; weighted++) {
            const int64_t n = counts[k];
            float *v = malloc((size_t)(4 * n) * sizeof *v), loss = 0, seed = 4;
            cr_assert(v);
            float *x = v, *t = v + n, *w = v + 2 * n, *dx = v + 3 * n;
            double sum = 0;
            for (int64_t i = 0; i < n; i++) {
                x[i] = (float)(i % 13) - 6, t[i] = (float)(i % 7), w[i] = (float)(i % 5), dx[i] = 3;
                sum += (double)((x[i] - t[i]) * (x[i] - t[i]) * (weighted ? w[i] : 1));
            }
            struct tensor tx = cpu_op_tensor(1, &n, x), tt = cpu_op_tensor(1, &n, t), tw = cpu_op_tensor(1, &n, w),
                          tl = cpu_op_tensor(1, (int64_t[]){1}, &loss), td = cpu_op_tensor(1, &n, dx),
                          ts = cpu_op_tensor(1, (int64_t[]){1}, &seed);
            struct step s = {.op = OP_mse, .scope = "mse", .in = {&tx, &tt, weighted ? &tw : NULL}, .out = {&tl}};
            cpu_op_run(&mcs_cpu_mse, &s);
            cr_expect_eq(loss, (float)(sum / (double)n), "%lld values, weighted %d: %.9g, want %.9g", (long long)n,
                         weighted, (double)loss, sum / (double)n);
            struct step b = {.op = OP_mse,
                             .scope = "mse",
                             .backward = 1,
                             .in = {&tx, &tt, weighted ? &tw : NULL},
                             .dout = {&ts},
                             .din = {&td},
                             .beta = {1}};
            cpu_op_run(&mcs_cpu_mse, &b);
            for (int64_t i = 0; i < n; i++) {
                const double want = 8.0 * (double)((x[i] - t[i]) * (weighted ? w[i] : 1)) / (double)n + 3;
                cr_assert_lt(fabs((double)dx[i] - want), 8 * 0x1p-24 * (fabs(want - 3) + 3), "%lld of %lld: %.9g, %.9g",
                             (long long)i, (long long)n, (double)dx[i], want);
            }
            free(v);
        }
}
