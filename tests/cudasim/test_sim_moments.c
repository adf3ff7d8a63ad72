/* A convolution followed by an instance norm: the norm takes its statistics from the moments that the convolution
 * stored, unless the convolution uses split-k. Compared with the same two steps separated by another one, and with the
 * CPU. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/cuda/module.h"
#include "engine/model/layers.h"
#include "engine/tape/amp.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/cudasim/cudasim.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    mcs_log_quiet(1);
}
static void teardown(void)
{
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
    cr_expect_eq(cudasim_bytes_held(), 0, "%zu bytes of device memory left", cudasim_bytes_held());
}
TestSuite(moments, .init = setup, .fini = teardown, .timeout = 120);

/* Ragged tiles in rows and columns, one row less than a tile, odd numbers of channels and multiples of 8. The last one
 * uses split-k: long sums, few tiles. */
static const struct shape {
    int nd;
    int64_t x[5], o, k[3], stride[3];
    int joined;
} shapes[] = {{4, {2, 13, 11, 5}, 7, {3, 3}, {1, 1}, 1},         {4, {1, 7, 9, 5}, 7, {3, 3}, {1, 1}, 1},
              {4, {1, 9, 17, 24}, 72, {3, 1}, {1, 2}, 1},        {5, {2, 5, 6, 7, 3}, 36, {3, 3, 3}, {1, 1, 1}, 1},
              {5, {1, 7, 8, 9, 8}, 40, {3, 3, 3}, {2, 2, 2}, 1}, {5, {1, 3, 4, 5, 40}, 8, {3, 3, 3}, {1, 1, 1}, 0}};

enum { CONV_WEIGHT, CONV_BIAS, NORM_WEIGHT, NORM_BIAS, PARAMS };
enum { Y, STATS, OUT, DX, DWEIGHT, DNORM_WEIGHT, DNORM_BIAS, VALUES };
static const char *const value_names[] = {"y", "stats", "out", "dx", "conv dw", "norm dw", "norm db"};

struct net {
    struct device *d;
    struct params *p;
    struct graph *g;
    struct exec *e;
    struct tensor *x, *y, *stats, *out;
};
struct outcome {
    float *v[VALUES];
    int64_t n[VALUES];
    uint64_t launches;
};

/* Normal numbers rounded to bf16, so that a convolution in float and in bf16 differs only by the rounding of sums and
 * y. */
static float *drawn(int64_t n, uint32_t site, float mean, float deviation)
{
    float *v = malloc((size_t)n * sizeof *v);
    cr_assert(v);
    mcs_rng_fill_normal((struct mcs_rng){.seed = 3, .site = site}, v, n);
    for (int64_t i = 0; i < n; i++) v[i] = mcs_bf16_to(mcs_bf16_from(mean + deviation * v[i]));
    return v;
}
static void set_input(struct net *n, const struct tensor *t, uint32_t site)
{
    float *v = drawn(mcs_count(t), site, 0, 1);
    OK(mcs_exec_set(n->e, t, v));
    free(v);
}

/* apart: puts another step between the convolution and the norm. */
static void net_open(struct net *n, struct device *d, const struct shape *s, enum mcs_dtype t, float slope, int apart)
{
    n->d = d;
    n->p = mcs_params_new();
    struct graph *g = n->g = mcs_graph_new(n->p, t);
    n->x = mcs_input(g, "x", t, s->nd, s->x);
    n->x->wants_grad = 1;
    n->y = mcs_keep(mcs_conv(g, n->x, s->o, s->k, s->stride, 1, BIAS, (struct init){INIT_ZERO, 0}, "conv"));
    if (apart) mcs_relu(g, n->y);
    n->out = mcs_keep(mcs_instance_norm(g, n->y, 1e-5f, slope, "norm"));
    OK(mcs_graph_status(g));
    n->stats = mcs_keep(g->steps[g->n_steps - 1].out[1]);
    OK(mcs_grad(g, &n->out, 1));
    OK(mcs_params_alloc(n->p, d));
    OK(mcs_params_alloc_grad(n->p));
    OK(mcs_exec_new(g, d, &n->e));
    set_input(n, n->x, 1);
    set_input(n, n->out->grad, 2);
    cr_assert_eq(n->p->n, PARAMS);
    for (int i = 0; i < PARAMS; i++) {
        const struct tensor *w = n->p->t[i];
        const float terms = (float)(mcs_count(w) / w->dim[0]);
        float *v = drawn(mcs_count(w), 3 + (uint32_t)i, i == NORM_WEIGHT, i == CONV_WEIGHT ? 1 / sqrtf(terms) : 0.5f);
        OK(d->backend->upload(d, w->data, v, mcs_bytes(w)));
        free(v);
    }
}

static float *got(const struct net *n, const struct tensor *t, int64_t *count)
{
    float *v = malloc((size_t)(*count = mcs_count(t)) * sizeof *v);
    cr_assert(v);
    OK(mcs_exec_get(n->e, t, v));
    return v;
}
static float *got_grad(const struct net *n, int param, int64_t *count)
{
    const struct tensor *w = n->p->t[param];
    float *v = malloc((size_t)(*count = mcs_count(w)) * sizeof *v);
    cr_assert(v);
    OK(n->d->backend->download(n->d, v, mcs_params_grad(n->p, w), mcs_bytes(w)));
    return v;
}

/* Three runs: eager, captured, replayed. Returns the results of the last one and the launches of the first. */
static struct outcome run(struct device *d, const struct shape *s, enum mcs_dtype t, float slope, int apart)
{
    struct net n;
    struct outcome o;
    uint64_t work[4];
    net_open(&n, d, s, t, slope, apart);
    cudasim_work(work);
    for (int i = 0; i < 3; i++) {
        mcs_params_zero_grad(n.p);
        OK(mcs_exec_run(n.e));
        OK(d->backend->sync(d));
        if (!i) cudasim_work(work), o.launches = work[0];
    }
    o.v[Y] = got(&n, n.y, &o.n[Y]);
    o.v[STATS] = got(&n, n.stats, &o.n[STATS]);
    o.v[OUT] = got(&n, n.out, &o.n[OUT]);
    o.v[DX] = got(&n, n.x->grad, &o.n[DX]);
    o.v[DWEIGHT] = got_grad(&n, CONV_WEIGHT, &o.n[DWEIGHT]);
    o.v[DNORM_WEIGHT] = got_grad(&n, NORM_WEIGHT, &o.n[DNORM_WEIGHT]);
    o.v[DNORM_BIAS] = got_grad(&n, NORM_BIAS, &o.n[DNORM_BIAS]);
    mcs_exec_free(n.e);
    mcs_graph_free(n.g);
    mcs_params_free(n.p);
    return o;
}
static void outcome_free(struct outcome *o)
{
    for (int i = 0; i < VALUES; i++) free(o->v[i]);
}

/* Relative error |a - b| / |b| of each result as one vector. */
static void compare(const struct outcome *a, const struct outcome *b, double tolerance, const char *what, int shape)
{
    for (int k = 0; k < VALUES; k++) {
        double off = 0, size = 0;
        cr_assert_eq(a->n[k], b->n[k]);
        for (int64_t i = 0; i < a->n[k]; i++)
            off += pow((double)a->v[k][i] - (double)b->v[k][i], 2), size += pow((double)b->v[k][i], 2);
        cr_expect_leq(sqrt(off), tolerance * sqrt(size), "shape %d, %s, %s: off by 2^%.1f", shape, what, value_names[k],
                      log2(sqrt(off / size)));
        cr_log_info("shape %d, %s, %s: off by 2^%.1f", shape, what, value_names[k], log2(sqrt(off / size)));
    }
}

static void all_shapes(enum mcs_dtype t)
{
    /* bf16: slope 1, because a rounding that flips an element's sign would change its slope. */
    const float slope = t == MCS_BF16 ? 1 : 0.01f;
    struct device d, cpu;
    OK(mcs_cuda_module.open(0, &d));
    OK(mcs_cpu_open(1, &cpu));
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) {
        const struct shape *s = &shapes[i];
        cudasim_seed((uint64_t)i);
        struct outcome one = run(&d, s, t, slope, 0), two = run(&d, s, t, slope, 1);
        struct outcome host = run(&cpu, s, MCS_F32, slope, 0);
        /* one launch for the step in between and, with moments, one for the norm's pass over x */
        cr_expect_eq(two.launches - one.launches, s->joined ? 2 : 1, "shape %d: %d and %d launches", i,
                     (int)one.launches, (int)two.launches);
        cr_expect(!memcmp(one.v[Y], two.v[Y], (size_t)one.n[Y] * sizeof(float)), "shape %d: y", i);
        /* Statistics and y differ by a few roundings of the means; in bf16 about one result in 2^8 differs by one
         * ulp. */
        compare(&one, &two, t == MCS_BF16 ? 0x1p-12 : 0x1p-20, "joined and apart", i);
        /* Sums of up to 1080 terms: 2 sqrt(1080) roundings of 2^-24, and as many again after the norm. In bf16 y, out,
         * dz and dx have one rounding of 2^-9 each, and y is up to twice its deviation. */
        compare(&one, &host, t == MCS_BF16 ? 0x1p-6 : 0x1p-16, "device and CPU", i);
        outcome_free(&one);
        outcome_free(&two);
        outcome_free(&host);
    }
    mcs_device_close(&d);
    mcs_cpu_close(&cpu);
}
Test(moments, f32)
{
    all_shapes(MCS_F32);
}
Test(moments, bf16)
{
    all_shapes(MCS_BF16);
}
