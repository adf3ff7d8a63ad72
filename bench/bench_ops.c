/* `bench ops`: the matrix products, 3x3 convolutions and attentions of the full-size models, each pass on its own.
 * Before an op is timed, some elements of its forward result are computed in float64 and compared: a fast wrong answer
 * is an error, not a figure.
 *
 * The yardstick is what oneDNN reaches on this machine in the same run: its best square product of 1024 to 2048, its
 * best 3x3 convolution. */
#include "bench/bench.h"

#include "engine/backend.h"
#include "engine/log.h"
#include "engine/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A product y (m,n) = x (m,k) w (n,k)^T + b; a convolution of c to o channels over h x w; an attention of seqs
 * sequences. */
struct bench_case {
    const char *model, *name;
    enum mcs_op op;
    int64_t m, n, k;                            /* linear */
    int64_t batch, c, o, sp[3], kernel, stride; /* conv; sp[0] 1 = two spatial dimensions */
    int64_t seqs, nq, nk, heads, hd, grid;      /* attention */
};
#define LINEAR(model_, name_, m_, n_, k_)                                                                              \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_linear, .m = m_, .n = n_, .k = k_                                     \
    }
#define CONV2(model_, name_, size, c_, o_, kernel_, stride_)                                                           \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_conv, .batch = 1, .c = c_, .o = o_, .sp = {1, size, size},            \
        .kernel = kernel_, .stride = stride_                                                                           \
    }
#define CONV3(model_, name_, size, c_, o_, kernel_, stride_)                                                           \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_conv, .batch = 1, .c = c_, .o = o_, .sp = {size, size, size},         \
        .kernel = kernel_, .stride = stride_                                                                           \
    }
#define ATTENTION(model_, name_, seqs_, nq_, nk_, heads_, hd_, grid_)                                                  \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_attention, .seqs = seqs_, .nq = nq_, .nk = nk_, .heads = heads_,      \
        .hd = hd_, .grid = grid_                                                                                       \
    }

static const struct bench_case full_size[] = {
    LINEAR("biomedclip image", "qkv", 8 * 197, 2304, 768),
    LINEAR("biomedclip image", "proj", 8 * 197, 768, 768),
    LINEAR("biomedclip image", "fc1", 8 * 197, 3072, 768),
    LINEAR("biomedclip image", "fc2", 8 * 197, 768, 3072),
    ATTENTION("biomedclip image", "attention", 8, 197, 197, 12, 64, 0),
    ATTENTION("biomedclip image", "attention, first token", 8, 1, 197, 12, 64, 0),
    LINEAR("biomedclip text", "query", 8 * 256, 768, 768),
    LINEAR("biomedclip text", "fc1", 8 * 256, 3072, 768),
    LINEAR("biomedclip text", "fc2", 8 * 256, 768, 3072),
    ATTENTION("biomedclip text", "attention", 8, 256, 256, 12, 64, 0),
    LINEAR("sam vit-b", "qkv", 4096, 2304, 768),
    LINEAR("sam vit-b", "proj", 4096, 768, 768),
    LINEAR("sam vit-b", "fc1", 4096, 3072, 768),
    LINEAR("sam vit-b", "fc2", 4096, 768, 3072),
    ATTENTION("sam vit-b", "attention, windows", 25, 196, 196, 12, 64, 14),
    ATTENTION("sam vit-b", "attention, global", 1, 4096, 4096, 12, 64, 64),
    ATTENTION("sam decoder", "tokens to image", 1, 7, 4096, 8, 16, 0),
    ATTENTION("sam decoder", "image to tokens", 1, 4096, 7, 8, 16, 0),
    CONV2("sam vit-b", "patches", 1024, 3, 768, 16, 16),
    CONV2("sam vit-b", "neck 1x1", 64, 768, 256, 1, 1),
    CONV2("sam vit-b", "neck 3x3", 64, 256, 256, 3, 1),
    CONV2("nnunet 2d", "stem", 512, 1, 32, 3, 1),
    CONV2("nnunet 2d", "32", 512, 32, 32, 3, 1),
    CONV2("nnunet 2d", "32 to 64, stride 2", 512, 32, 64, 3, 2),
    CONV2("nnunet 2d", "64", 256, 64, 64, 3, 1),
    CONV2("nnunet 2d", "128", 128, 128, 128, 3, 1),
    CONV2("nnunet 2d", "256", 64, 256, 256, 3, 1),
    CONV2("nnunet 2d", "512", 32, 512, 512, 3, 1),
    CONV2("nnunet 2d", "512, decoder", 32, 1024, 512, 3, 1),
    CONV3("nnunet 3d", "32", 64, 32, 32, 3, 1),
    CONV3("nnunet 3d", "128", 16, 128, 128, 3, 1),
};
static const struct bench_case small[] = {
    LINEAR("small", "product", 37, 20, 33),
    CONV2("small", "3x3", 12, 5, 8, 3, 1),
    CONV3("small", "3x3x3", 6, 4, 8, 3, 2),
    ATTENTION("small", "attention", 2, 20, 20, 2, 8, 0),
    ATTENTION("small", "attention, relative", 2, 25, 25, 2, 8, 5),
};

static struct device device;

static const struct op_impl *impl_of(enum mcs_op op)
{
    return &device.backend->ops[op];
}

/* ---- a case as a step ---- */

union any_attr {
    struct linear_attr linear;
    struct conv_attr conv;
    struct attention_attr attention;
};

struct setup {
    union any_attr attr;
    struct tensor in[MCS_MAX_IN], out[MCS_MAX_OUT], din[MCS_MAX_IN], dout;
    struct run_state run;
    struct step step;
    void *memory[2 * MCS_MAX_IN + MCS_MAX_OUT + 2];
    int n_memory;
    double flops; /* of the forward pass */
};

static enum mcs_status place(struct setup *u, struct tensor *t, uint32_t fill)
{
    const int64_t n = mcs_count(t);
    t->data = mcs_aligned_alloc((size_t)n * 4);
    MCS_REQUIRE(t->data, MCS_E_NOMEM, "no memory for %lld values", (long long)n);
    u->memory[u->n_memory++] = t->data;
    if (fill) {
        mcs_rng_fill_normal((struct mcs_rng){.seed = 1, .site = mcs_rng_site("bench"), .sample = fill}, t->data, n);
        for (int64_t i = 0; i < n; i++) mcs_f32(t)[i] *= 0.5f;
    }
    return MCS_OK;
}

static void tear_down(struct setup *u)
{
    const struct op_impl *impl = impl_of(u->step.op);
    if (impl->release) impl->release(&u->step);
    for (int i = 0; i < u->n_memory; i++) mcs_aligned_free(u->memory[i]);
    memset(u, 0, sizeof *u);
}

static struct tensor shaped(int nd, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)
{
    return (struct tensor){.name = "bench", .nd = nd, .dim = {a, b, c, d, e}};
}

/* The forward step of a case, filled and prepared. */
static enum mcs_status set_up(const struct bench_case *c, struct setup *u)
{
    int n_in = 3;
    memset(u, 0, sizeof *u);
    u->step.op = c->op;
    u->step.scope = c->name;
    u->step.attr = &u->attr;
    u->step.run = &u->run;
    if (c->op == OP_linear) {
        u->in[0] = shaped(2, c->m, c->k, 0, 0, 0);
        u->in[1] = shaped(2, c->n, c->k, 0, 0, 0);
        u->in[2] = shaped(1, c->n, 0, 0, 0, 0);
        u->flops = 2.0 * (double)c->m * (double)c->n * (double)c->k;
    } else if (c->op == OP_conv) {
        const int three = c->sp[0] > 1;
        const int64_t k = c->kernel;
        u->in[0] = three ? shaped(5, c->batch, c->sp[0], c->sp[1], c->sp[2], c->c)
                         : shaped(4, c->batch, c->sp[1], c->sp[2], c->c, 0);
        u->in[1] = three ? shaped(5, c->o, c->c, k, k, k) : shaped(4, c->o, c->c, k, k, 0);
        u->in[2] = shaped(1, c->o, 0, 0, 0, 0);
        u->attr.conv.nsp = three ? 3 : 2;
        for (int i = 0; i < 3; i++)
            u->attr.conv.stride[i] = c->stride, u->attr.conv.pad[i] = k == c->stride ? 0 : k / 2;
    } else {
        const int64_t w = c->heads * c->hd;
        u->in[0] = shaped(2, c->seqs * c->nq, w, 0, 0, 0);
        u->in[1] = shaped(2, c->seqs * c->nk, w, 0, 0, 0);
        u->in[2] = u->in[1];
        u->attr.attention = (struct attention_attr){.heads = (int)c->heads,
                                                    .head_dim = (int)c->hd,
                                                    .q_len = c->nq,
                                                    .k_len = c->nk,
                                                    .grid_h = (int)c->grid,
                                                    .grid_w = (int)c->grid};
        u->flops = 4.0 * (double)(c->seqs * c->nq) * (double)c->nk * (double)w;
        if (c->grid) {
            u->in[5] = u->in[6] = shaped(2, 2 * c->grid - 1, c->hd, 0, 0, 0);
            n_in = 7;
        }
    }
    for (int i = 0; i < n_in; i++)
        if (u->in[i].nd) {
            MCS_TRY(place(u, &u->in[i], 1 + (uint32_t)i));
            u->step.in[i] = &u->in[i];
        }
    MCS_TRY(mcs_op_table[c->op].shape(c->name, u->step.in, &u->attr, u->out));
    for (int i = 0; i < mcs_op_table[c->op].n_out; i++) {
        MCS_TRY(place(u, &u->out[i], 0));
        u->step.out[i] = &u->out[i];
    }
    if (c->op == OP_conv) u->flops = 2.0 * (double)mcs_count(&u->out[0]) * (double)mcs_count(&u->in[1]) / (double)c->o;
    MCS_TRY(impl_of(c->op)->prepare(&u->step, &device));
    u->step.workspace = mcs_aligned_alloc(u->step.workspace_bytes + 64);
    MCS_REQUIRE(u->step.workspace, MCS_E_NOMEM, "no memory for the workspace of %s", c->name);
    u->memory[u->n_memory++] = u->step.workspace;
    return MCS_OK;
}

/* Turns a forward step that has run into the backward step for the inputs in `want`. */
static enum mcs_status turn_back(struct setup *u, unsigned want)
{
    const struct op_impl *impl = impl_of(u->step.op);
    if (impl->release) impl->release(&u->step);
    u->step.prepared = NULL;
    u->step.backward = 1;
    u->step.workspace_bytes = 0;
    if (!u->dout.data) {
        u->dout = u->out[0];
        MCS_TRY(place(u, &u->dout, 20));
    }
    u->step.dout[0] = &u->dout;
    for (int i = 0; i < MCS_MAX_IN; i++) {
        u->step.din[i] = NULL;
        if (!(want >> i & 1) || !u->in[i].nd) continue;
        if (!u->din[i].data) {
            u->din[i] = u->in[i];
            MCS_TRY(place(u, &u->din[i], 0));
        }
        u->step.din[i] = &u->din[i];
    }
    MCS_TRY(impl->prepare(&u->step, &device));
    mcs_aligned_free(u->step.workspace);
    for (int i = 0; i < u->n_memory; i++)
        if (u->memory[i] == u->step.workspace) u->memory[i] = NULL;
    u->step.workspace = mcs_aligned_alloc(u->step.workspace_bytes + 64);
    MCS_REQUIRE(u->step.workspace, MCS_E_NOMEM, "no memory for the workspace of %s", u->step.scope);
    for (int i = 0; i < u->n_memory; i++)
        if (!u->memory[i]) {
            u->memory[i] = u->step.workspace;
            break;
        }
    return MCS_OK;
}

/* ---- is it right ---- */

/* One output element in float64: its value, and the sum of its |terms|. */
static double linear_element(const struct setup *u, int64_t at, double *mag)
{
    const int64_t k = u->in[1].dim[1], n = u->in[1].dim[0];
    const float *x = mcs_f32(&u->in[0]) + at / n * k, *w = mcs_f32(&u->in[1]) + at % n * k;
    double sum = mcs_f32(&u->in[2])[at % n];
    *mag = fabs(sum);
    for (int64_t i = 0; i < k; i++) sum += (double)x[i] * w[i], *mag += fabs((double)x[i] * w[i]);
    return sum;
}

static double conv_element(const struct setup *u, int64_t at, double *mag)
{
    const struct conv_attr *a = &u->attr.conv;
    const struct tensor *x = &u->in[0], *w = &u->in[1], *y = &u->out[0];
    const int64_t o = at % w->dim[0], c = w->dim[1];
    int64_t pos[3], rest = at / w->dim[0], taps = 1;
    for (int i = a->nsp - 1; i >= 0; i--) pos[i] = rest % y->dim[1 + i], rest /= y->dim[1 + i];
    for (int i = 0; i < a->nsp; i++) taps *= w->dim[2 + i];
    double sum = mcs_f32(&u->in[2])[o];
    *mag = fabs(sum);
    for (int64_t t = 0; t < taps; t++) {
        int64_t left = t, row = 0, step = 1, inside = 1;
        for (int i = a->nsp - 1; i >= 0; i--) {
            const int64_t p = pos[i] * a->stride[i] + left % w->dim[2 + i] - a->pad[i];
            inside = inside && p >= 0 && p < x->dim[1 + i];
            row += p * step, step *= x->dim[1 + i], left /= w->dim[2 + i];
        }
        if (!inside) continue;
        row += rest * step;
        for (int64_t i = 0; i < c; i++) {
            const double v = (double)mcs_f32(x)[row * c + i] * mcs_f32(w)[(o * c + i) * taps + t];
            sum += v, *mag += fabs(v);
        }
    }
    return sum;
}

static double attention_element(const struct setup *u, int64_t at, double *mag)
{
    const struct attention_attr *a = &u->attr.attention;
    const int64_t hd = a->head_dim, w = a->heads * hd, row = at / w, col = at % w, head = col / hd,
                  seq = row / a->q_len;
    const float *q = mcs_f32(&u->in[0]) + row * w + head * hd;
    double top = -INFINITY, sum = 0, y = 0, size = 0;
    *mag = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < a->k_len; j++) {
            const float *k = mcs_f32(&u->in[1]) + (seq * a->k_len + j) * w + head * hd;
            const int64_t i = row % a->q_len;
            double s = 0, terms = 0;
            for (int64_t l = 0; l < hd; l++) {
                double t = q[l] * (double)k[l] / sqrt((double)hd);
                if (u->in[5].nd) {
                    t += (double)q[l] * mcs_f32(&u->in[5])[(i / a->grid_w - j / a->grid_w + a->grid_h - 1) * hd + l];
                    t += (double)q[l] * mcs_f32(&u->in[6])[(i % a->grid_w - j % a->grid_w + a->grid_w - 1) * hd + l];
                }
                s += t, terms += fabs(t);
            }
            if (pass == 0) {
                top = fmax(top, s), size = fmax(size, terms);
                continue;
            }
            const double p = exp(s - top), v = mcs_f32(&u->in[2])[(seq * a->k_len + j) * w + col];
            sum += p, y += p * v, *mag += p * fabs(v);
        }
    *mag *= (1 + size) / sum;
    return y / sum;
}

/* The largest error of 48 elements, in units of 2^-24 x the sum of |terms|. A sum of n terms in blocks is within about
 * sqrt(n) of them. */
static void check(const struct bench_case *c, const struct setup *u, struct bench_row *row)
{
    const int64_t n = mcs_count(&u->out[0]);
    row->error = 0;
    row->allowed = 4 * sqrt(u->flops / 2 / (double)n) + 8;
    for (uint32_t i = 0; i < 48; i++) {
        const int64_t at = (int64_t)(mcs_rng_uniform((struct mcs_rng){.seed = 3}, i) * (double)n);
        double mag, want;
        if (c->op == OP_linear)
            want = linear_element(u, at, &mag);
        else if (c->op == OP_conv)
            want = conv_element(u, at, &mag);
        else
            want = attention_element(u, at, &mag);
        const double e = fabs(mcs_f32(&u->out[0])[at] - want) / (0x1p-24 * mag);
        if (!(e <= row->error)) row->error = isnan(e) ? INFINITY : e;
    }
}

/* ---- times ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum mcs_status mcs_bench_time(enum mcs_status (*f)(void *), void *arg, double seconds, struct bench_row *row)
{
    double t[BENCH_MAX_RUNS];
    int n = 0;
    MCS_TRY(f(arg));
    const double start = mcs_seconds();
    while (n < BENCH_MAX_RUNS && (n < 3 || mcs_seconds() - start < seconds)) {
        const double begin = mcs_seconds();
        MCS_TRY(f(arg));
        t[n++] = mcs_seconds() - begin;
    }
    qsort(t, (size_t)n, sizeof *t, compare);
    row->n_runs = n;
    row->median = n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
    row->p10 = t[n / 10];
    row->p90 = t[n - 1 - n / 10];
    return MCS_OK;
}

static enum mcs_status run_step(void *arg)
{
    struct step *s = arg;
    return s->backward ? impl_of(s->op)->bwd(s) : impl_of(s->op)->fwd(s);
}

/* Bytes that must move at least: every tensor of the step once. */
static double bytes_of(const struct step *s)
{
    int64_t n = 0;
    for (int i = 0; i < MCS_MAX_IN; i++) {
        if (s->in[i]) n += mcs_count(s->in[i]);
        if (s->din[i]) n += mcs_count(s->din[i]);
    }
    for (int i = 0; i < MCS_MAX_OUT; i++) {
        if (s->out[i] && !s->backward) n += mcs_count(s->out[i]);
        if (s->dout[i]) n += mcs_count(s->dout[i]);
    }
    return 4.0 * (double)n;
}

static enum mcs_status time_step(struct setup *u, double flops, double peak, double seconds, struct bench_row *row)
{
    MCS_TRY(mcs_bench_time(run_step, &u->step, seconds, row));
    row->gflops = flops / row->median / 1e9;
    row->gbytes = bytes_of(&u->step) / row->median / 1e9;
    row->percent = peak > 0 ? 100 * row->gflops / peak : 0;
    return MCS_OK;
}

/* ---- the machine's best ---- */

static enum mcs_status best_of(const struct bench_case *c, int n, double seconds, double *best)
{
    struct setup u;
    struct bench_row row;
    for (int i = 0; i < n; i++) {
        enum mcs_status st = set_up(&c[i], &u);
        if (st == MCS_OK) st = time_step(&u, u.flops, 0, seconds, &row);
        const double reached = st == MCS_OK ? u.flops / row.p10 / 1e9 : 0;
        tear_down(&u);
        MCS_TRY(st);
        if (reached > *best) *best = reached;
    }
    return MCS_OK;
}

static enum mcs_status measure_peaks(const struct bench_options *o, struct bench_peaks *p)
{
    static const struct bench_case product[] = {LINEAR("", "1024", 1024, 1024, 1024),
                                                LINEAR("", "1536", 1536, 1536, 1536),
                                                LINEAR("", "2048", 2048, 2048, 2048)};
    static const struct bench_case conv[] = {CONV2("", "64", 128, 64, 64, 3, 1), CONV2("", "128", 64, 128, 128, 3, 1),
                                             CONV2("", "256", 64, 256, 256, 3, 1)};
    MCS_TRY(best_of(product, o->small ? 1 : 3, o->seconds, &p->product));
    return best_of(conv, o->small ? 1 : 3, o->seconds, &p->conv);
}

enum mcs_status mcs_bench_peaks(const struct bench_options *o, struct bench_peaks *p)
{
    MCS_TRY(mcs_cpu_open(0, &device));
    const enum mcs_status st = measure_peaks(o, p);
    mcs_cpu_close(&device);
    return st;
}

/* ---- output ---- */

struct report {
    const struct bench_options *o;
    struct bench_peaks peaks;
    struct bench_text text;
    int n_wrong;
};

static void put_head(struct report *r)
{
    char line[512];
    snprintf(
        line, sizeof line,
        "Best of this machine with %lld threads: product %.0f GFLOP/s, 3x3 convolution %.0f GFLOP/s.\n\n"
        "| model | op | what | pass | shape | error / allowed | median ms | p10 | p90 | GFLOP/s | GB/s | %% of best |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        (long long)r->o->common.threads, r->peaks.product, r->peaks.conv);
    mcs_bench_put(&r->text, BENCH_MD, line);
    mcs_bench_put(&r->text, BENCH_CSV,
                  "model,op,what,pass,shape,error,allowed,median_s,p10_s,p90_s,runs,gflops,gbytes_s,percent_of_best\n");
    snprintf(line, sizeof line, "{\"threads\": %lld, \"best_product_gflops\": %.1f, \"best_conv_gflops\": %.1f}\n",
             (long long)r->o->common.threads, r->peaks.product, r->peaks.conv);
    mcs_bench_put(&r->text, BENCH_JSONL, line);
}

static void put_row(struct report *r, const struct bench_row *w)
{
    char line[640];
    const int wrong = !(w->error <= w->allowed);
    r->n_wrong += wrong;
    snprintf(line, sizeof line,
             "| %s | %s | %s | %s | %s | %.1f / %.0f%s | %.3f | %.3f | %.3f | %.1f | %.1f | %.0f |\n", w->model, w->op,
             w->name, w->pass, w->shape, w->error, w->allowed, wrong ? " WRONG" : "", w->median * 1e3, w->p10 * 1e3,
             w->p90 * 1e3, w->gflops, w->gbytes, w->percent);
    mcs_bench_put(&r->text, BENCH_MD, line);
    snprintf(line, sizeof line, "%s,%s,\"%s\",\"%s\",\"%s\",%.3g,%.3g,%.6g,%.6g,%.6g,%d,%.6g,%.6g,%.4g\n", w->model,
             w->op, w->name, w->pass, w->shape, w->error, w->allowed, w->median, w->p10, w->p90, w->n_runs, w->gflops,
             w->gbytes, w->percent);
    mcs_bench_put(&r->text, BENCH_CSV, line);
    snprintf(
        line, sizeof line,
        "{\"model\": \"%s\", \"op\": \"%s\", \"what\": \"%s\", \"pass\": \"%s\", \"shape\": \"%s\", \"error\": %.3g, "
        "\"allowed\": %.3g, \"median_s\": %.6g, \"p10_s\": %.6g, \"p90_s\": %.6g, \"runs\": %d, \"gflops\": %.6g, "
        "\"gbytes_s\": %.6g, \"percent_of_best\": %.4g}\n",
        w->model, w->op, w->name, w->pass, w->shape, isfinite(w->error) ? w->error : 1e30, w->allowed, w->median,
        w->p10, w->p90, w->n_runs, w->gflops, w->gbytes, w->percent);
    mcs_bench_put(&r->text, BENCH_JSONL, line);
}

static int chosen(const struct bench_options *o, const struct bench_case *c)
{
    int named = o->ops.n == 0;
    for (int i = 0; i < o->ops.n; i++) named = named || strcmp(o->ops.v[i], mcs_op_table[c->op].name) == 0;
    return named && (!o->model || strcmp(o->model, "all") == 0 || strstr(c->model, o->model));
}

/* Backward passes and their work: one product for each gradient; attention's five products to forward's two. */
static enum mcs_status bench_case(struct report *r, const struct bench_case *c, struct setup *u)
{
    const double peak = c->op == OP_conv ? r->peaks.conv : r->peaks.product;
    struct bench_row row = {.model = c->model, .op = mcs_op_table[c->op].name, .name = c->name, .pass = "forward"};
    if (c->op == OP_linear)
        snprintf(row.shape, sizeof row.shape, "%lldx%lldx%lld", (long long)c->m, (long long)c->n, (long long)c->k);
    else if (c->op == OP_conv)
        snprintf(row.shape, sizeof row.shape, "%lldx%lldx%lldx%lld to %lld; %lld/%lld", (long long)c->sp[0],
                 (long long)c->sp[1], (long long)c->sp[2], (long long)c->c, (long long)c->o, (long long)c->kernel,
                 (long long)c->stride);
    else
        snprintf(row.shape, sizeof row.shape, "%lld: %lldx%lld; %lld heads of %lld", (long long)c->seqs,
                 (long long)c->nq, (long long)c->nk, (long long)c->heads, (long long)c->hd);
    MCS_TRY(set_up(c, u));
    MCS_TRY(run_step(&u->step));
    check(c, u, &row);
    MCS_TRY(time_step(u, u->flops, peak, r->o->seconds, &row));
    put_row(r, &row);
    if (c->op == OP_attention) {
        row.pass = "backward";
        MCS_TRY(turn_back(u, ~0u));
        MCS_TRY(time_step(u, 2.5 * u->flops, peak, r->o->seconds, &row));
        put_row(r, &row);
        return MCS_OK;
    }
    for (int i = 0; i < 2; i++) {
        if (c->op == OP_conv && i == 0 && c->c <= 3) continue; /* no gradient of an image is ever wanted */
        row.pass = i == 0 ? "gradient of x" : "gradient of w, b";
        MCS_TRY(turn_back(u, i == 0 ? 1u : 6u));
        MCS_TRY(time_step(u, u->flops, peak, r->o->seconds, &row));
        put_row(r, &row);
    }
    return MCS_OK;
}

enum mcs_status mcs_bench_ops(const struct bench_options *o)
{
    struct report r = {.o = o, .text.json = o->common.json};
    struct setup u = {0};
    const struct bench_case *cases = o->small ? small : full_size;
    const size_t n = o->small ? sizeof small / sizeof *small : sizeof full_size / sizeof *full_size;
    enum mcs_status st;
    MCS_TRY(mcs_cpu_open(0, &device));
    MCS_TRY_GOTO(measure_peaks(o, &r.peaks), st, done);
    put_head(&r);
    for (size_t i = 0; i < n; i++) {
        if (!chosen(o, &cases[i])) continue;
        st = bench_case(&r, &cases[i], &u);
        tear_down(&u);
        if (st != MCS_OK) goto done;
    }
    st = mcs_bench_write(&r.text, o->output);
    if (st == MCS_OK && r.n_wrong)
        st = MCS_FAIL(MCS_E_FAIL, "%d results are wrong: see the rows marked WRONG", r.n_wrong);
done:
    mcs_cpu_close(&device);
    mcs_bench_text_free(&r.text);
    return st;
}
