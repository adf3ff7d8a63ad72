/* The optimizers against torch's numbers (tests/golden/make_optim.py) and against a loop in double. */
#include "data/weights/weight_file.h"
#include "engine/optim.h"

#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/backend.h"
#include "engine/base/rng.h"
#include "tests/golden/formula.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

struct model {
    struct device d;
    struct params *p;
    struct graph *g;
};

static const struct init zero = {INIT_ZERO, 0};

static void model_open(struct model *m)
{
    OK(mcs_cpu_open(2, &m->d));
    m->p = mcs_params_new();
    m->g = mcs_graph_new(m->p, MCS_F32);
}

static void model_alloc(struct model *m)
{
    OK(mcs_graph_status(m->g));
    OK(mcs_params_alloc(m->p, &m->d));
    OK(mcs_params_alloc_grad(m->p));
}

static void model_close(struct model *m)
{
    mcs_graph_free(m->g);
    mcs_params_free(m->p);
    mcs_cpu_close(&m->d);
}

/* ---- golden ---- */

static struct weight_file *golden;
static const char *const names[] = {"layer.weight", "layer.bias"};

/* Compares with the file's F32 array. Each step rounds a few times: errors are relative to the element and to the
 * largest element, since a weight near zero is a difference. */
static void expect_golden(const char *key, const float *got, int64_t n, double k)
{
    const struct weight_tensor *t = mcs_weight_file_find(golden, key);
    cr_assert(t && t->n_values == n, "%s is not in the golden file", key);
    float want[64], most = 0;
    OK(mcs_weight_file_read_f32(golden, key, t->nd, t->dims, want));
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(want[i]));
    for (int64_t i = 0; i < n; i++)
        cr_expect(fabs((double)got[i] - want[i]) <= k * 0x1p-24 * most, "%s[%d] is %.9g, want %.9g", key, (int)i,
                  (double)got[i], (double)want[i]);
}

static void like_torch(const char *tag, const struct optim_options *o, double lr, const char *m_name,
                       const char *v_name)
{
    struct model m;
    struct optim *opt;
    char key[96];
    model_open(&m);
    struct tensor *t[2] = {mcs_param(m.g, names[0], 2, (int64_t[]){5, 7}, zero),
                           mcs_param(m.g, names[1], 1, (int64_t[]){7}, zero)};
    model_alloc(&m);
    OK(mcs_weight_file_open(MCS_SOURCE_DIR "/tests/golden/optim.safetensors", &golden));
    for (int i = 0; i < 2; i++) mcs_golden_weight(names[i], t[i]->dim, t[i]->nd, t[i]->data);
    OK(mcs_optim_new(m.p, o, NULL, &opt));
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < 2; i++) {
            snprintf(key, sizeof key, "grad.%d.%s", step, names[i]);
            OK(mcs_weight_file_read_f32(golden, key, t[i]->nd, t[i]->dim, mcs_params_grad(m.p, t[i])));
        }
        OK(mcs_optim_step(opt, lr, NULL));
        for (int i = 0; i < 2; i++) {
            const int64_t n = mcs_count(t[i]), at = t[i]->offset / 4;
            snprintf(key, sizeof key, "%s.%d.%s", tag, step + 1, names[i]);
            expect_golden(key, t[i]->data, n, 8 * (step + 1));
            snprintf(key, sizeof key, "%s.%d.%s.%s", tag, step + 1, m_name, names[i]);
            expect_golden(key, opt->m + at, n, 8 * (step + 1));
            if (!v_name) continue;
            snprintf(key, sizeof key, "%s.%d.%s.%s", tag, step + 1, v_name, names[i]);
            expect_golden(key, opt->v + at, n, 8 * (step + 1));
        }
    }
    cr_expect_eq(opt->step, 3);
    cr_expect_eq(opt->v == NULL, v_name == NULL);
    mcs_optim_free(opt);
    mcs_weight_file_close(golden);
    model_close(&m);
}

Test(optim, adamw_like_torch)
{
    const struct optim_options o = {
        .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .weight_decay = 0.2f};
    like_torch("adamw", &o, 0.01, "exp_avg", "exp_avg_sq");
}

Test(optim, adam_like_torch)
{
    const struct optim_options o = {.kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    like_torch("adam", &o, 1.0, "exp_avg", "exp_avg_sq");
}

Test(optim, sgd_like_torch)
{
    const struct optim_options o = {.kind = OPTIM_SGD, .momentum = 0.99f, .weight_decay = 3e-5f, .decay_all = 1};
    like_torch("sgd", &o, 0.01, "momentum_buffer", NULL);
}

/* Plain SGD with lr 1 from zero weights shows the clipped gradient itself: w = -g. */
Test(optim, clips_like_torch)
{
    const struct optim_options o = {.kind = OPTIM_SGD, .clip_norm = 12};
    OK(mcs_weight_file_open(MCS_SOURCE_DIR "/tests/golden/optim.safetensors", &golden));
    for (int over = 0; over < 2; over++) {
        struct model m;
        struct optim *opt;
        char key[96];
        double norm;
        float want;
        model_open(&m);
        struct tensor *t[2] = {mcs_param(m.g, names[0], 2, (int64_t[]){5, 7}, zero),
                               mcs_param(m.g, names[1], 1, (int64_t[]){7}, zero)};
        model_alloc(&m);
        for (int i = 0; i < 2; i++) {
            float *g = mcs_params_grad(m.p, t[i]);
            snprintf(key, sizeof key, "input.clip.%s", names[i]);
            mcs_golden_input(key, g, (size_t)mcs_count(t[i]));
            for (int64_t k = 0; k < mcs_count(t[i]); k++) g[k] *= over ? 10 : 1;
        }
        OK(mcs_optim_new(m.p, &o, NULL, &opt));
        OK(mcs_optim_step(opt, -1.0, &norm));
        OK(mcs_weight_file_read_f32(golden, over ? "clip.over.norm" : "clip.under.norm", 1, (int64_t[]){1}, &want));
        cr_expect_float_eq(norm, want, 4 * 0x1p-24 * want);
        for (int i = 0; i < 2; i++) {
            snprintf(key, sizeof key, "clip.%s.%s", over ? "over" : "under", names[i]);
            expect_golden(key, t[i]->data, mcs_count(t[i]), 4);
        }
        mcs_optim_free(opt);
        model_close(&m);
    }
    mcs_weight_file_close(golden);
}

/* ---- a larger model against a loop in double ---- */

enum { BIG = 70000, N = 6, STEPS = 4 };
static const char *const frozen[] = {"stem.", NULL};

static void build(struct model *m, struct tensor **t)
{
    model_open(m);
    t[0] = mcs_param(m->g, "stem.weight", 2, (int64_t[]){3, 5}, zero);            /* frozen */
    t[1] = mcs_param(m->g, "block.weight", 2, (int64_t[]){BIG / 100, 100}, zero); /* decays */
    t[2] = mcs_param(m->g, "block.norm.weight", 1, (int64_t[]){101}, zero);
    t[3] = mcs_buffer(m->g, "matrix", 2, (int64_t[]){2, 8}, zero);
    t[4] = mcs_param(m->g, "head.weight", 2, (int64_t[]){9, 11}, zero);
    t[5] = mcs_param(m->g, "logit_scale", 1, (int64_t[]){1}, zero);
    model_alloc(m);
    for (int i = 0; i < N; i++)
        mcs_rng_fill_normal((struct mcs_rng){.seed = 3, .sample = (uint32_t)i}, t[i]->data, mcs_count(t[i]));
}

static void fill_grad(struct model *m, struct tensor **t, int step)
{
    for (int i = 0; i < N; i++)
        mcs_rng_fill_normal((struct mcs_rng){.seed = 4, .sample = (uint32_t)i, .step = (uint32_t)step},
                            mcs_params_grad(m->p, t[i]), mcs_count(t[i]));
}

static void against_double(const struct optim_options *o, double lr)
{
    struct model m;
    struct tensor *t[N];
    struct optim *opt;
    build(&m, t);
    OK(mcs_optim_new(m.p, o, frozen, &opt));
    cr_expect(!opt->trained[0] && opt->trained[1] && !opt->trained[3] && opt->trained[5]);
    const int64_t all = m.p->n_values;
    double *w = calloc((size_t)all, sizeof *w), *a = calloc((size_t)all, sizeof *a),
           *b = calloc((size_t)all, sizeof *b);
    for (int64_t i = 0; i < all; i++) w[i] = m.p->data[i];
    /* the options as decimals: 0.98, not its float */
    const double b1 = 0.9, b2 = 0.98, mu = 0.99, eps = 1e-6, wd = o->kind == OPTIM_SGD ? 0.03 : 0.2;
    for (int step = 1; step <= STEPS; step++) {
        double sum = 0, norm;
        fill_grad(&m, t, step);
        for (int i = 0; i < N; i++)
            for (int64_t k = 0; opt->trained[i] && k < mcs_count(t[i]); k++)
                sum += pow(mcs_params_grad(m.p, t[i])[k], 2);
        const double scale = fmin(1, o->clip_norm > 0 ? (double)o->clip_norm / (sqrt(sum) + 1e-6) : 1);
        for (int i = 0; i < N; i++) {
            const double decay = i == 1 || i == 4 || o->decay_all ? wd : 0;
            for (int64_t k = 0; opt->trained[i] && k < mcs_count(t[i]); k++) {
                const int64_t e = t[i]->offset / 4 + k;
                const double g = scale * m.p->grad[e];
                if (o->kind == OPTIM_ADAMW) {
                    a[e] = b1 * a[e] + (1 - b1) * g;
                    b[e] = b2 * b[e] + (1 - b2) * g * g;
                    w[e] -= lr * decay * w[e];
                    w[e] -= lr * (a[e] / (1 - pow(b1, step))) / (sqrt(b[e] / (1 - pow(b2, step))) + eps);
                } else {
                    const double d = g + decay * w[e];
                    a[e] = mu * a[e] + d;
                    w[e] -= lr * (d + mu * a[e]);
                }
            }
        }
        OK(mcs_optim_step(opt, lr, &norm));
        cr_expect_float_eq(norm, sqrt(sum), 1e-12 * sqrt(sum));
    }
    double worst = 0;
    for (int64_t i = 0; i < all; i++) worst = fmax(worst, fabs(m.p->data[i] - w[i]) / (1 + fabs(w[i])));
    /* about six roundings per step, each of a number below 1 + |w| */
    cr_expect(worst <= STEPS * 6 * 0x1p-24, "off by %.3g", worst);
    free(w), free(a), free(b);
    mcs_optim_free(opt);
    model_close(&m);
}

Test(optim, adamw_in_double)
{
    const struct optim_options o = {
        .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .weight_decay = 0.2f, .clip_norm = 1};
    against_double(&o, 0.01);
}

Test(optim, sgd_in_double)
{
    const struct optim_options o = {
        .kind = OPTIM_SGD, .momentum = 0.99f, .weight_decay = 0.03f, .decay_all = 1, .clip_norm = 12};
    against_double(&o, 0.01);
}

Test(optim, threads_do_not_matter)
{
    const struct optim_options o = {
        .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .weight_decay = 0.2f, .clip_norm = 1};
    float *first = NULL;
    double norm, first_norm = 0;
    for (int threads = 1; threads <= 2; threads++) {
        struct model m;
        struct tensor *t[N];
        struct optim *opt;
        build(&m, t);
        OK(mcs_optim_new(m.p, &o, frozen, &opt));
        omp_set_num_threads(threads);
        fill_grad(&m, t, 1);
        OK(mcs_optim_step(opt, 0.1, &norm));
        const size_t bytes = (size_t)m.p->n_values * sizeof(float);
        if (!first) {
            first = malloc(bytes);
            memcpy(first, m.p->data, bytes);
            first_norm = norm;
        } else {
            cr_expect(norm == first_norm && memcmp(first, m.p->data, bytes) == 0, "2 threads give other bits than 1");
        }
        mcs_optim_free(opt);
        model_close(&m);
    }
    free(first);
}

/* Wherever in a tensor it is; of several the last, which the backward pass comes to first. */
Test(optim, the_tensor_of_a_bad_gradient_is_named)
{
    const struct optim_options o = {.kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f};
    struct model m;
    struct tensor *t[N];
    struct optim *opt;
    double norm;
    char want[200];
    build(&m, t);
    OK(mcs_optim_new(m.p, &o, frozen, &opt));
    fill_grad(&m, t, 1);
    for (int i = 0; i < N; i++)
        for (int end = 0; end < 2; end++) {
            float *bad = &mcs_params_grad(m.p, t[i])[end ? mcs_count(t[i]) - 1 : 0];
            const float was = *bad;
            *bad = end ? -INFINITY : NAN;
            const enum mcs_status st = mcs_optim_step(opt, 0.1, &norm);
            if (!opt->trained[t[i]->index]) {
                OK(st);
                opt->step = 0;
            } else {
                cr_expect_eq(st, MCS_E_DATA);
                snprintf(want, sizeof want, "norm is not finite, first that of %s; lower", t[i]->name);
                cr_expect(strstr(mcs_error_message(), want), "%d: %s", end, mcs_error_message());
                mcs_error_clear();
            }
            *bad = was;
        }
    mcs_params_grad(m.p, t[1])[0] = NAN;
    mcs_params_grad(m.p, t[N - 1])[0] = NAN;
    cr_expect_eq(mcs_optim_step(opt, 0.1, &norm), MCS_E_DATA);
    snprintf(want, sizeof want, "first that of %s; lower", t[N - 1]->name);
    cr_expect(strstr(mcs_error_message(), want), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_optim_free(opt);
    model_close(&m);
}

Test(optim, a_bad_gradient_changes_nothing)
{
    const struct optim_options o = {.kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f};
    struct model m;
    struct tensor *t[N];
    struct optim *opt;
    double norm;
    build(&m, t);
    OK(mcs_optim_new(m.p, &o, frozen, &opt));
    const float before = ((float *)t[1]->data)[5];
    fill_grad(&m, t, 1);
    mcs_params_grad(m.p, t[0])[0] = NAN; /* gradient of a frozen parameter: ignored */
    OK(mcs_optim_step(opt, 0, &norm));
    mcs_params_grad(m.p, t[4])[3] = INFINITY;
    cr_expect_eq(mcs_optim_step(opt, 0.1, &norm), MCS_E_DATA);
    char first[200];
    snprintf(first, sizeof first, "update 2: the gradient's norm is not finite, first that of %s; lower", t[4]->name);
    cr_expect(strstr(mcs_error_message(), first), "%s", mcs_error_message());
    cr_expect(((float *)t[1]->data)[5] == before && opt->step == 1);
    mcs_error_clear();
    mcs_params_grad(m.p, t[4])[3] = 0;
    cr_expect_eq(mcs_optim_step(opt, NAN, &norm), MCS_E_USAGE);
    mcs_error_clear();
    mcs_optim_free(opt);
    model_close(&m);
}

Test(optim, refuses_bad_options)
{
    struct model m;
    struct tensor *t[N];
    struct optim *opt;
    const struct optim_options bad[] = {
        {.kind = OPTIM_ADAMW, .beta1 = 1.0f, .beta2 = 0.9f, .eps = 1e-8f},
        {.kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.9f, .eps = 0},
        {.kind = OPTIM_SGD, .momentum = 1.5f},
        {.kind = OPTIM_SGD, .weight_decay = -1},
    };
    build(&m, t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(mcs_optim_new(m.p, &bad[i], NULL, &opt), MCS_E_USAGE, "options %zu were taken", i);
        mcs_error_clear();
    }
    const struct optim_options good = {.kind = OPTIM_SGD};
    cr_expect_eq(mcs_optim_new(m.p, &good, (const char *const[]){"", NULL}, &opt), MCS_E_USAGE);
    mcs_error_clear();
    model_close(&m);
}

/* Five steps at five learning rates against torch's formulas in double: weight decay must be proportional to the
 * current step's rate. A step rounds about ten times, each to 2^-24 of the largest weight: 64 in total. */
static void at_several_rates(const struct optim_options *o)
{
    enum { N = 300, STEPS = 5 };
    static const double rates[STEPS] = {0.01, 0.3, 0.002, 0.1, 0.05};
    struct model m;
    struct optim *opt;
    double w[N], m1[N] = {0}, v2[N] = {0}, largest = 0;
    const struct mcs_rng r = {.seed = 2, .site = mcs_rng_site("tests.rates")};
    model_open(&m);
    struct tensor *t = mcs_param(m.g, "layer.weight", 2, (int64_t[]){20, 15}, zero);
    model_alloc(&m);
    float *weights = t->data, *grad = mcs_params_grad(m.p, t);
    for (int i = 0; i < N; i++) w[i] = weights[i] = (float)mcs_rng_normal(r, (uint32_t)i);
    OK(mcs_optim_new(m.p, o, NULL, &opt));
    const double b1 = mcs_optim_decimal(o->beta1), b2 = mcs_optim_decimal(o->beta2);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < N; i++) grad[i] = (float)mcs_rng_normal(r, (uint32_t)(1000 + s * N + i));
        OK(mcs_optim_step(opt, rates[s], NULL));
        for (int i = 0; i < N; i++) {
            double g = grad[i];
            if (o->kind == OPTIM_ADAMW) {
                m1[i] = b1 * m1[i] + (1 - b1) * g;
                v2[i] = b2 * v2[i] + (1 - b2) * g * g;
                w[i] -= rates[s] * (double)o->weight_decay * w[i];
                w[i] -= rates[s] * m1[i] / (1 - pow(b1, s + 1)) / (sqrt(v2[i] / (1 - pow(b2, s + 1))) + (double)o->eps);
            } else {
                g += (double)o->weight_decay * w[i];
                m1[i] = (double)o->momentum * m1[i] + g;
                w[i] -= rates[s] * (g + (double)o->momentum * m1[i]);
            }
            largest = fmax(largest, fabs(w[i]));
        }
    }
    for (int i = 0; i < N; i++)
        cr_assert_float_eq(weights[i], w[i], 64 * 0x1p-24 * largest, "weight %d is %.9g, want %.9g", i,
                           (double)weights[i], w[i]);
    mcs_optim_free(opt);
    model_close(&m);
}

Test(optim, adamw_at_several_rates)
{
    at_several_rates(&(struct optim_options){
        .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .weight_decay = 0.2f});
}

Test(optim, sgd_at_several_rates)
{
    at_several_rates(
        &(struct optim_options){.kind = OPTIM_SGD, .momentum = 0.9f, .weight_decay = 0.1f, .decay_all = 1});
}
