#include "tests/support/support_golden.h"

#include "tests/golden/formula.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct weight_file *golden_open(const char *name)
{
    char path[1024];
    struct weight_file *file = NULL;
    snprintf(path, sizeof path, "%s/tests/golden/%s", MCS_SOURCE_DIR, name);
    const enum mcs_status st = mcs_weight_file_open(path, &file);
    cr_assert(st == MCS_OK, "%s", mcs_error_message());
    return file;
}

float *golden_values(const struct weight_file *file, const char *name, int64_t *n)
{
    const struct weight_tensor *t = mcs_weight_file_find(file, name);
    cr_assert(t, "the golden file has no %s", name);
    float *v = malloc((size_t)t->n_values * sizeof *v + 1);
    if (mcs_weight_is_whole(t->type)) {
        int64_t *whole = malloc((size_t)t->n_values * sizeof *whole + 1);
        cr_assert(whole && mcs_weight_file_read_i64(file, name, t->nd, t->dims, whole) == MCS_OK, "%s",
                  mcs_error_message());
        for (int64_t i = 0; i < t->n_values; i++) v[i] = (float)whole[i];
        free(whole);
    } else
        cr_assert(mcs_weight_file_read_f32(file, name, t->nd, t->dims, v) == MCS_OK, "%s", mcs_error_message());
    if (n) *n = t->n_values;
    return v;
}

void golden_fill_params(struct params *p)
{
    for (int i = 0; i < p->n; i++) {
        const struct tensor *t = p->t[i];
        float *w = malloc((size_t)mcs_count(t) * sizeof *w);
        mcs_golden_weight(t->name, t->dim, t->nd, w);
        p->device->backend->upload(p->device, t->data, w, mcs_count(t) * (int64_t)sizeof *w);
        free(w);
    }
}

float *golden_channels_last(const float *src, int64_t n, int64_t c, int64_t n_sp)
{
    float *dst = malloc((size_t)(n * c * n_sp) * sizeof *dst);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t s = 0; s < n_sp; s++) dst[(i * n_sp + s) * c + k] = src[(i * c + k) * n_sp + s];
    return dst;
}

void golden_fill_image(const char *name, int64_t n, int64_t c, int64_t n_sp, float *dst)
{
    float *planes = malloc((size_t)(n * c * n_sp) * sizeof *planes);
    mcs_golden_input(name, planes, (size_t)(n * c * n_sp));
    float *last = golden_channels_last(planes, n, c, n_sp);
    memcpy(dst, last, (size_t)(n * c * n_sp) * sizeof *dst);
    free(planes);
    free(last);
}

double golden_error(const float *got, const float *want, int64_t n, double floor)
{
    double lo = want[0], hi = want[0], worst = 0;
    for (int64_t i = 0; i < n; i++) {
        lo = fmin(lo, want[i]);
        hi = fmax(hi, want[i]);
        const double d = fabs((double)got[i] - want[i]);
        worst = d <= worst ? worst : d; /* propagates NaN */
    }
    return worst / fmax(fmax(hi - lo, fmax(fabs(hi), fabs(lo))), floor);
}

void golden_check(const char *what, const float *got, const float *want, int64_t n, double tolerance, double floor)
{
    const double e = golden_error(got, want, n, floor);
    cr_expect(e <= tolerance, "%s: error %.3g of the range, allowed %.3g (first values %g, want %g)", what, e,
              tolerance, (double)got[0], (double)want[0]);
}

float *golden_get(struct exec *e, const struct tensor *t)
{
    float *v = malloc((size_t)mcs_count(t) * sizeof *v);
    cr_assert(mcs_exec_get(e, t, v) == MCS_OK, "%s", mcs_error_message());
    return v;
}

int golden_check_grads(const struct weight_file *file, const char *prefix, const struct params *p, double tolerance,
                       double floor)
{
    int n_compared = 0;
    for (int i = 0; i < p->n; i++) {
        char name[512];
        snprintf(name, sizeof name, "%sgrad.%s", prefix, p->t[i]->name);
        if (!mcs_weight_file_find(file, name)) continue;
        int64_t n;
        float *want = golden_values(file, name, &n), *got = malloc((size_t)n * sizeof *got);
        cr_assert_eq(n, mcs_count(p->t[i]));
        p->device->backend->download(p->device, got, mcs_params_grad(p, p->t[i]), n * (int64_t)sizeof *got);
        golden_check(name, got, want, n, tolerance, floor);
        free(want);
        free(got);
        n_compared++;
    }
    return n_compared;
}

struct clip_config golden_clip_config(int v_depth)
{
    struct clip_config c = tiny_clip_config();
    c.embed = 16, c.image_size = 32, c.vocab = 64, c.context = c.positions = 24, c.dropout = 0;
    c.v_width = 32, c.v_depth = v_depth, c.v_mlp = 128;
    c.t_width = 32, c.t_mlp = 64, c.t_proj = 24;
    for (int k = 0; k < 3; k++) c.mean[k] = 0, c.std[k] = 1;
    return c;
}

struct sam_config golden_sam_config(void)
{
    struct sam_config c = tiny_sam_config();
    c.image_size = 64, c.depth = 3, c.window = 5, c.mlp = 64, c.global[0] = 2, c.d_mlp = 16, c.mask_in = 16;
    return c;
}
