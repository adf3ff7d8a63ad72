/* A small network on the simulated GPU, for the tests of the CUDA backend. */
#ifndef MCS_SUPPORT_BACKEND_H
#define MCS_SUPPORT_BACKEND_H

#include <criterion/criterion.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/cuda/module.h"
#include "engine/model/layers.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "train/clip/clip_train.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static inline void fails(enum mcs_status st, enum mcs_status want, const char *part)
{
    cr_expect_eq(st, want, "status %d, want %d: %s", st, want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    cr_expect(!strchr(mcs_error_message(), '\n'), "more than a line: %s", mcs_error_message());
    mcs_error_clear();
}

static inline struct device device_open(void)
{
    struct device d;
    OK(mcs_cuda_module.open(0, &d));
    return d;
}

/* Large enough for cuBLASLt (64^3 multiply-adds). */
enum { ROWS = 64, WIDTH = 64, RUNS = 4, N_X = ROWS * WIDTH };

struct net {
    struct params *p;
    struct graph *g;
    struct exec *e;
    struct tensor *x, *target, *hidden, *loss;
};

static inline void net_close(struct net *n)
{
    mcs_exec_free(n->e);
    mcs_graph_free(n->g);
    mcs_params_free(n->p);
    *n = (struct net){0};
}

static inline void draw(float *x, int64_t n, uint32_t site)
{
    mcs_rng_fill_normal((struct mcs_rng){.seed = 8, .site = site}, x, n);
}

static inline enum mcs_status build(struct net *n, struct device *d)
{
    n->p = mcs_params_new();
    struct graph *g = n->g = mcs_graph_new(n->p, d->activations);
    g->run.seed = 4;
    n->x = mcs_input(g, "x", MCS_F32, MCS_DIMS(ROWS, WIDTH));
    n->target = mcs_input(g, "target", MCS_F32, MCS_DIMS(ROWS, WIDTH));
    struct tensor *h = mcs_gelu(g, mcs_linear(g, n->x, WIDTH, BIAS, "first"));
    n->hidden = mcs_keep(mcs_dropout(g, mcs_layernorm(g, h, 1e-6f, "norm"), 0.25f, NULL, "dropout"));
    h = mcs_linear(g, n->hidden, WIDTH, BIAS, "second");
    n->loss = mcs_keep(mcs_apply(g, OP_mse, "loss", (struct tensor *[]){h, n->target, NULL}, NULL));
    MCS_TRY(mcs_graph_status(g));
    MCS_TRY(mcs_grad(g, &n->loss, 1));
    MCS_TRY(mcs_params_alloc(n->p, d));
    MCS_TRY(mcs_params_alloc_grad(n->p));
    MCS_TRY(mcs_params_init(n->p, 5));
    return mcs_exec_new(g, d, &n->e);
}

static inline enum mcs_status net_open(struct net *n, struct device *d)
{
    static float host[N_X];
    *n = (struct net){0};
    enum mcs_status st = build(n, d);
    if (st == MCS_OK) draw(host, N_X, 1), st = mcs_exec_set(n->e, n->x, host);
    if (st == MCS_OK) draw(host, N_X, 2), st = mcs_exec_set(n->e, n->target, host);
    if (st != MCS_OK) net_close(n);
    return st;
}

#endif
