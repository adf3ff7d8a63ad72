/* The contrastive op against the golden file (tests/golden/make_contrastive.py): float64 autograd on the published
 * formulas, and the released code's six steps written out. */
#include "data/weights/weight_file.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/backend.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

extern const struct op_impl mcs_cpu_contrastive;
enum { D = 8 };

struct result {
    float loss, by_scale, *stats, *by_image, *by_text;
};

static struct weight_file *file;

static struct tensor tensor(int nd, int64_t d0, int64_t d1, int64_t d2, void *data)
{
    return (struct tensor){.name = "t", .nd = nd, .dim = {d0, d1, d2}, .data = data};
}

static float *numbers(const char *key, int nd, const int64_t *dims)
{
    int64_t n = 1;
    for (int i = 0; i < nd; i++) n *= dims[i];
    float *v = malloc((size_t)n * sizeof *v);
    cr_assert(v);
    OK(mcs_weight_file_read_f32(file, key, nd, dims, v));
    return v;
}

static void run(float *image, float *text, float log_scale, int64_t b, const struct contrastive_attr *a,
                struct result *r)
{
    struct tensor x = tensor(2, b, D, 0, image), t = tensor(2, b, D, 0, text), s = tensor(1, 1, 0, 0, &log_scale);
    float one = 1;
    r->stats = malloc((size_t)b * 4 * sizeof(float));
    r->by_image = malloc((size_t)(b * D) * sizeof(float));
    r->by_text = malloc((size_t)(b * D) * sizeof(float));
    struct tensor loss = tensor(1, 1, 0, 0, &r->loss), stats = tensor(3, 2, b, 2, r->stats),
                  dloss = tensor(1, 1, 0, 0, &one);
    struct tensor dx = tensor(2, b, D, 0, r->by_image), dt = tensor(2, b, D, 0, r->by_text),
                  ds = tensor(1, 1, 0, 0, &r->by_scale);
    for (int back = 0; back < 2; back++) {
        struct step st = {.op = OP_contrastive,
                          .backward = back,
                          .scope = "loss",
                          .attr = a,
                          .in = {&x, &t, &s},
                          .out = {&loss, &stats}};
        if (back) {
            st.din[0] = &dx, st.din[1] = &dt, st.din[2] = &ds;
            st.dout[0] = &dloss;
        }
        OK(mcs_cpu_contrastive.prepare(&st));
        st.workspace = aligned_alloc(64, (st.workspace_bytes + 63) / 64 * 64);
        OK(back ? mcs_cpu_contrastive.bwd(&st) : mcs_cpu_contrastive.fwd(&st));
        free(st.workspace);
    }
}

/* A similarity of unit vectors has an error of about D/2 roundings of its size, at most scale; exp turns that into a
 * relative error. A gradient is a sum of such terms, none much larger than the largest gradient times the scale. */
static double tolerance(double scale)
{
    return 8 * 0x1p-24 * (1 + scale);
}

static void expect_near(const char *key, const float *got, const float *want, int64_t n, double relative)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(want[i]));
    for (int64_t i = 0; i < n; i++)
        cr_expect(fabs((double)got[i] - want[i]) <= relative * most, "%s[%d] is %.9g, want %.9g", key, (int)i,
                  (double)got[i], (double)want[i]);
}

static void check_gradient(const char *base, const char *side, int64_t b, const float *got, double relative)
{
    char key[128];
    if (b < 100) {
        snprintf(key, sizeof key, "%s.grad.%s", base, side);
        float *want = numbers(key, 2, (int64_t[]){b, D});
        expect_near(key, got, want, b * D, relative);
        free(want);
        return;
    }
    snprintf(key, sizeof key, "%s.grad.%s.rows", base, side);
    float *want = numbers(key, 2, (int64_t[]){4, D});
    expect_near(key, got, want, 4 * D, relative);
    free(want);
    double sum[D] = {0}, size[D] = {0}, squares = 0;
    for (int64_t i = 0; i < b * D; i++) sum[i % D] += got[i], size[i % D] += fabs(got[i]), squares += pow(got[i], 2);
    snprintf(key, sizeof key, "%s.grad.%s.sum", base, side);
    want = numbers(key, 1, (int64_t[]){D});
    for (int k = 0; k < D; k++)
        cr_expect(fabs(sum[k] - want[k]) <= relative * size[k], "%s[%d] is %.9g, want %.9g", key, k, sum[k],
                  (double)want[k]);
    free(want);
    snprintf(key, sizeof key, "%s.grad.%s.norm", base, side);
    want = numbers(key, 1, (int64_t[]){1});
    cr_expect_float_eq(sqrt(squares), *want, relative * *want, "%s is %.9g, want %.9g", key, sqrt(squares),
                       (double)*want);
    free(want);
}

Test(contrastive, golden)
{
    static const struct {
        const char *name;
        double log_scale;
        struct contrastive_attr a;
    } cases[] = {
        {"infonce", 0, {1, 0, 0, 0, 0}},
        {"dcl", 0, {0, 0, 0, 0, 0}},
        {"hnnce", 0, {1, 0.15f, 0.15f, 0, 0}},
        {"dhnnce", 0, {0, 0.15f, 0.15f, 0, 0}},
        {"infonce_learned", 2.6593, {1, 0, 0, 0, 0}},
        {"dcl_learned", 2.6593, {0, 0, 0, 0, 0}},
        {"hnnce_learned", 2.6593, {1, 0.5f, 0.25f, 0, 0}},
        {"dhnnce_learned", 2.6593, {0, 0.5f, 0.25f, 0, 0}},
        {"release", 0, {0, 0.15f, 0.15f, 0, 1}},
        {"release_uneven", 0, {0, 0.5f, 0.25f, 0, 1}},
    };
    static const int64_t batches[] = {2, 16, 257};
    OK(mcs_weight_file_open(MCS_SOURCE_DIR "/tests/golden/contrastive.safetensors", &file));
    for (int n = 0; n < 3; n++) {
        const int64_t b = batches[n];
        char key[128], base[96];
        snprintf(key, sizeof key, "%d.image", (int)b);
        float *image = numbers(key, 2, (int64_t[]){b, D});
        snprintf(key, sizeof key, "%d.text", (int)b);
        float *text = numbers(key, 2, (int64_t[]){b, D});
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            const double log_scale = cases[c].log_scale > 0 ? cases[c].log_scale : -log(0.6),
                         tol = tolerance(exp(log_scale));
            struct result r;
            run(image, text, (float)log_scale, b, &cases[c].a, &r);
            snprintf(base, sizeof base, "%d.%s", (int)b, cases[c].name);
            snprintf(key, sizeof key, "%s.loss", base);
            float *want = numbers(key, 1, (int64_t[]){1});
            /* absolute: the loss is a difference of numbers of the scale's size */
            cr_expect_float_eq(r.loss, *want, tol, "%s is %.9g, want %.9g", key, (double)r.loss, (double)*want);
            free(want);
            snprintf(key, sizeof key, "%s.grad.log_scale", base);
            want = numbers(key, 1, (int64_t[]){1});
            cr_expect_float_eq(r.by_scale, *want, tol * exp(log_scale), "%s is %.9g, want %.9g", key,
                               (double)r.by_scale, (double)*want);
            free(want);
            check_gradient(base, "image", b, r.by_image, tol);
            check_gradient(base, "text", b, r.by_text, tol);
            free(r.stats), free(r.by_image), free(r.by_text);
        }
        free(image), free(text);
    }
    mcs_weight_file_close(file);
}

Test(contrastive, refusals)
{
    const struct contrastive_attr dcl = {.inv_tau = 1}, learned = {.a = 1},
                                  alpha = {.a = 1, .inv_tau = 1, .released = 1};
    struct tensor one = tensor(2, 1, D, 0, NULL), two = tensor(2, 2, D, 0, NULL), out[MCS_MAX_OUT] = {0};
    const struct op_info *info = &mcs_op_table[OP_contrastive];
    cr_expect_eq(info->shape("loss", (struct tensor *[]){&one, &one, NULL}, &dcl, out), MCS_E_SHAPE,
                 "one pair has no negatives");
    mcs_error_clear();
    cr_expect_eq(info->shape("loss", (struct tensor *[]){&two, &one, NULL}, &dcl, out), MCS_E_SHAPE);
    mcs_error_clear();
    cr_expect_eq(info->shape("loss", (struct tensor *[]){&two, &two, NULL}, &learned, out), MCS_E_SHAPE,
                 "no temperature at all");
    mcs_error_clear();
    struct step st = {.scope = "loss", .attr = &alpha, .in = {&two, &two}};
    cr_expect_eq(mcs_cpu_contrastive.prepare(&st), MCS_E_USAGE, "the released form has no closed form for alpha 1");
    mcs_error_clear();
}
