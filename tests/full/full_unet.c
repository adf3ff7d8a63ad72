/* nnU-Net's 2-D network at 512 x 512: runs forward and backward and takes the planned memory. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/tape/grad.h"
#include "infer/unet/unet_model.h"

/* Available memory in bytes, from /proc/meminfo. */
static int64_t available(void)
{
    char line[128];
    long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld", &kib) == 1) break;
    if (f) fclose(f);
    return (int64_t)kib * 1024;
}

static int64_t peak_rss(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)u.ru_maxrss * 1024;
}

static void run(int64_t batch)
{
    struct device d;
    struct unet_plans p;
    struct unet_model m;
    struct exec *e;
    struct tensor *out[UNET_MAX_STAGES], *target[UNET_MAX_STAGES], *loss[UNET_MAX_STAGES];
    float weight[UNET_MAX_STAGES];
    const struct dice_ce_attr attr = {.batch_dice = 1, .smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1};
    const int64_t before = peak_rss();
    cr_assert_eq(mcs_cpu_open(0, &d), MCS_OK);
    cr_assert_eq(mcs_unet_plans_make(1, 2, 512, 512, 8, 32, 512, &p), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_unet_model_new(&p, 1, &d, &m), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_params_alloc_grad(m.params), MCS_OK);
    struct graph *g = mcs_graph_new(m.params, MCS_F32);
    struct tensor *x = mcs_input(g, "image", MCS_F32, 4, (int64_t[]){batch, 512, 512, 1});
    const int n = mcs_unet(g, x, &p.net, 1, out);
    cr_assert_eq(n, 7);
    mcs_unet_deep_weights(n, weight);
    for (int i = 0; i < n - 1; i++) {
        char name[32];
        snprintf(name, sizeof name, "target_%d", i);
        target[i] = mcs_input(g, name, MCS_I32, 3, out[i]->dim);
        loss[i] = mcs_keep(mcs_apply(g, OP_dice_ce, "loss", (struct tensor *[]){out[i], target[i]}, &attr));
    }
    cr_assert_eq(mcs_graph_status(g), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_grad(g, loss, n - 1), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_exec_new(g, &d, &e), MCS_OK, "%s", mcs_error_message());
    const int64_t pixels = batch * 512 * 512;
    float *image = malloc((size_t)pixels * sizeof *image);
    int32_t *label = malloc((size_t)pixels * sizeof *label);
    cr_assert(image && label);
    mcs_rng_fill_normal((struct mcs_rng){1, 2, 3, 4}, image, pixels);
    for (int64_t i = 0; i < pixels; i++) label[i] = image[i] > 1;
    cr_assert_eq(mcs_exec_set(e, x, image), MCS_OK);
    for (int i = 0; i < n - 1; i++) {
        cr_assert_eq(mcs_exec_set(e, target[i], label), MCS_OK); /* a prefix of label: any labels will do */
        cr_assert_eq(mcs_exec_set(e, loss[i]->grad, &weight[i]), MCS_OK);
    }
    mcs_params_zero_grad(m.params);
    const double started = mcs_seconds();
    cr_assert_eq(mcs_exec_run(e), MCS_OK, "%s", mcs_error_message());
    const double seconds = mcs_seconds() - started;
    double norm = 0;
    for (int64_t i = 0; i < m.params->n_values; i++) norm += (double)m.params->grad[i] * (double)m.params->grad[i];
    cr_expect(isfinite(norm) && norm > 0, "the gradient's norm is %g", sqrt(norm));
    for (int i = 0; i < n - 1; i++) {
        float v;
        cr_assert_eq(mcs_exec_get(e, loss[i], &v), MCS_OK);
        cr_expect(isfinite(v) && v > -1 && v < 20, "level %d: %g", i, (double)v);
    }
    const double mib = 1048576;
    const double planned = (double)(mcs_plan_bytes(&e->plan) + 2 * m.params->n_values * (int64_t)sizeof(float)) / mib;
    const double own = (double)(pixels * 8) / mib, taken = (double)(peak_rss() - before) / mib;
    fprintf(
        stderr,
        "full_unet: batch %lld: planned %.0f MiB (activations %.0f, workspace %.0f), taken %.0f MiB, %.1f s a run\n",
        (long long)batch, planned, (double)e->plan.activation_bytes / mib, (double)e->plan.workspace_bytes / mib, taken,
        seconds);
    /* More than planned: this test's two arrays, and oneDNN's code, packed weights and per-thread scratch, at most 1/8
     * of the plan and 128 MiB. */
    cr_expect_lt(taken, planned * 1.125 + own + 128, "%.0f MiB taken", taken);
    cr_expect_gt(taken, planned * 0.5, "%.0f MiB taken: what was planned is hardly used", taken);
    free(image);
    free(label);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
}

Test(full_unet, batch_2, .timeout = 600)
{
    if (available() < (int64_t)3 << 30) cr_skip_test("less than 3 GiB of memory are free");
    run(2);
}

Test(full_unet, batch_12, .timeout = 1800)
{
    if (available() < (int64_t)16 << 30) cr_skip_test("less than 16 GiB of memory are free");
    run(12);
}
