/* One measured shape as a step of the tape, and the checks of its results. */
#include "bench/case.h"

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/tape/amp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct op_impl *impl_of(const struct bench_setup *u)
{
    return &u->step.device->backend->ops[u->step.op];
}

/* ---- memory ---- */

static enum mcs_status device_memory(struct bench_setup *u, int64_t bytes, void **p)
{
    struct device *d = u->step.device;
    MCS_TRY(d->backend->alloc(d, bytes, p));
    u->memory[u->n_memory++] = *p;
    return MCS_OK;
}

static enum mcs_status put(struct bench_setup *u, const struct tensor *t, const float *v)
{
    struct device *d = u->step.device;
    const int64_t n = mcs_count(t);
    if (t->dt != MCS_BF16) return d->backend->upload(d, t->data, v, 4 * n);
    uint16_t *half = malloc((size_t)n * sizeof *half);
    MCS_REQUIRE(half, MCS_E_NOMEM, "no memory for %lld values", (long long)n);
    for (int64_t i = 0; i < n; i++) half[i] = mcs_bf16_from(v[i]);
    const enum mcs_status st = d->backend->upload(d, t->data, half, 2 * n);
    free(half);
    return st;
}

static enum mcs_status get(const struct bench_setup *u, const struct tensor *t, float **v)
{
    struct device *d = u->step.device;
    const int64_t n = mcs_count(t);
    *v = malloc((size_t)n * sizeof **v + 4);
    MCS_REQUIRE(*v, MCS_E_NOMEM, "no memory for %lld values", (long long)n);
    const enum mcs_status st = d->backend->download(d, *v, t->data, mcs_bytes(t));
    const uint16_t *half = (const uint16_t *)*v;
    for (int64_t i = n - 1; t->dt == MCS_BF16 && i >= 0; i--) { /* in place, from the last to the first */
        const uint16_t h = half[i];
        (*v)[i] = mcs_bf16_to(h);
    }
    return st;
}

/* Noise with standard deviation 1/2; in bf16 all values, weights too, are rounded to bf16. */
static enum mcs_status place_filled(struct bench_setup *u, struct tensor *t, uint32_t fill, float **host)
{
    const int64_t n = mcs_count(t);
    MCS_TRY(device_memory(u, mcs_bytes(t), &t->data));
    *host = malloc((size_t)n * sizeof **host);
    MCS_REQUIRE(*host, MCS_E_NOMEM, "no memory for %lld values", (long long)n);
    mcs_rng_fill_normal((struct mcs_rng){.seed = 1, .site = mcs_rng_site("bench"), .sample = fill}, *host, n);
    for (int64_t i = 0; i < n; i++) (*host)[i] *= 0.5f;
    for (int64_t i = 0; u->half && i < n; i++) (*host)[i] = mcs_bf16_to(mcs_bf16_from((*host)[i]));
    return put(u, t, *host);
}

void mcs_bench_tear_down(struct bench_setup *u)
{
    struct device *d = u->step.device;
    if (!d) return;
    if (d->backend->sync(d) != MCS_OK) mcs_error_clear(); /* the first failure has been reported */
    if (impl_of(u)->release && u->step.prepared) impl_of(u)->release(&u->step);
    for (int i = 0; i < u->n_memory; i++) d->backend->free(d, u->memory[i]);
    for (int i = 0; i < MCS_MAX_IN; i++) free(u->host[i]);
    free(u->host_dout);
    memset(u, 0, sizeof *u);
}

/* ---- a case as a step ---- */

static struct tensor shaped(int nd, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)
{
    return (struct tensor){.name = "bench", .nd = nd, .dim = {a, b, c, d, e}};
}

static void shape_conv(const struct bench_case *c, struct bench_setup *u)
{
    const int three = c->sp[0] > 1;
    const int64_t k = c->kernel;
    u->in[0] = three ? shaped(5, c->batch, c->sp[0], c->sp[1], c->sp[2], c->c)
                     : shaped(4, c->batch, c->sp[1], c->sp[2], c->c, 0);
    u->in[1] = three ? shaped(5, c->o, c->c, k, k, k) : shaped(4, c->o, c->c, k, k, 0);
    u->in[2] = shaped(1, c->o, 0, 0, 0, 0);
    u->attr.conv.nsp = three ? 3 : 2;
    for (int i = 0; i < 3; i++) u->attr.conv.stride[i] = c->stride, u->attr.conv.pad[i] = k == c->stride ? 0 : k / 2;
}

static void shape_attention(const struct bench_case *c, struct bench_setup *u)
{
    const int64_t w = c->heads * c->hd;
    u->in[0] = shaped(2, c->seqs * c->nq, w, 0, 0, 0);
    u->in[1] = u->in[2] = shaped(2, c->seqs * c->nk, w, 0, 0, 0);
    u->attr.attention = (struct attention_attr){.heads = (int)c->heads,
                                                .head_dim = (int)c->hd,
                                                .q_len = c->nq,
                                                .k_len = c->nk,
                                                .grid_h = (int)c->grid,
                                                .grid_w = (int)c->grid};
    u->flops = 4.0 * (double)(c->seqs * c->nq) * (double)c->nk * (double)w;
    if (c->grid) u->in[5] = u->in[6] = shaped(2, 2 * c->grid - 1, c->hd, 0, 0, 0);
}

static void shape_rows(const struct bench_case *c, struct bench_setup *u)
{
    u->in[0] = c->op == OP_instance_norm ? shaped(3, 1, c->m, c->n, 0, 0) : shaped(2, c->m, c->n, 0, 0, 0);
    if (c->op == OP_add) u->in[1] = u->in[0];
    if (c->op == OP_layernorm || c->op == OP_instance_norm) {
        u->in[1] = u->in[2] = shaped(1, c->n, 0, 0, 0, 0);
        u->attr.norm = (struct norm_attr){.eps = 1e-5f, .slope = c->op == OP_layernorm ? 1 : 0.01f};
    }
}

static enum mcs_status prepare(struct bench_setup *u)
{
    if (impl_of(u)->prepare) MCS_TRY(impl_of(u)->prepare(&u->step));
    return device_memory(u, (int64_t)u->step.workspace_bytes + 64, &u->step.workspace);
}

enum mcs_status mcs_bench_set_up(const struct bench_case *c, struct device *d, struct bench_setup *u)
{
    memset(u, 0, sizeof *u);
    u->c = c;
    u->half = d->activations == MCS_BF16;
    u->step = (struct step){.device = d, .op = c->op, .scope = c->name, .attr = &u->attr, .run = &u->run};
    if (c->op == OP_linear) {
        u->in[0] = shaped(2, c->m, c->k, 0, 0, 0);
        u->in[1] = shaped(2, c->n, c->k, 0, 0, 0);
        u->in[2] = shaped(1, c->n, 0, 0, 0, 0);
        u->flops = 2.0 * (double)c->m * (double)c->n * (double)c->k;
    } else if (c->op == OP_conv) {
        shape_conv(c, u);
    } else if (c->op == OP_attention) {
        shape_attention(c, u);
    } else {
        shape_rows(c, u);
    }
    for (int i = 0; i < MCS_MAX_IN; i++) {
        struct tensor *t = &u->in[i];
        if (!t->nd) continue;
        if (u->half && (mcs_amp_slots(c->op) >> i & 1)) t->dt = MCS_BF16;
        MCS_TRY(place_filled(u, t, 1 + (uint32_t)i, &u->host[i]));
        t->root = t;
        u->step.in[i] = t;
    }
    MCS_TRY(mcs_op_shape(c->op, c->name, u->step.in, &u->attr, u->out));
    for (int i = 0; i < mcs_op_table[c->op].n_out; i++) {
        struct tensor *t = &u->out[i];
        t->dt = mcs_amp_output(u->half ? MCS_BF16 : MCS_F32, c->op, i, t->dt);
        MCS_TRY(device_memory(u, mcs_bytes(t), &t->data));
        t->root = t;
        u->step.out[i] = t;
    }
    if (c->op == OP_conv) u->flops = 2.0 * (double)mcs_count(&u->out[0]) * (double)mcs_count(&u->in[1]) / (double)c->o;
    return prepare(u);
}

enum mcs_status mcs_bench_make_backward(struct bench_setup *u, unsigned want)
{
    const struct op_info *info = &mcs_op_table[u->step.op];
    struct step *s = &u->step;
    if (impl_of(u)->release && s->prepared) impl_of(u)->release(s);
    s->prepared = NULL;
    s->backward = 1;
    s->workspace_bytes = 0;
    if (!u->dout.data) {
        u->dout = u->out[0];
        MCS_TRY(place_filled(u, &u->dout, 20, &u->host_dout));
    }
    s->dout[0] = &u->dout;
    for (int i = 0; i < MCS_MAX_OUT; i++) s->out[i] = info->out[i] & SLOT_KEEP ? &u->out[i] : NULL;
    for (int i = 0; i < MCS_MAX_IN; i++) {
        s->din[i] = NULL;
        s->in[i] = NULL;
        if (!u->in[i].nd) continue;
        s->like[i] = &u->in[i];
        if (info->in[i] & SLOT_KEEP) s->in[i] = &u->in[i];
        if (!(want >> i & 1)) continue;
        if (!u->din[i].data) {
            u->din[i] = u->in[i];
            MCS_TRY(device_memory(u, mcs_bytes(&u->in[i]), &u->din[i].data));
        }
        s->din[i] = &u->din[i];
    }
    return prepare(u);
}

enum mcs_status mcs_bench_run_step(void *step)
{
    const struct step *s = step;
    const struct op_impl *impl = &s->device->backend->ops[s->op];
    return s->backward ? impl->bwd(s) : impl->fwd(s);
}

double mcs_bench_bytes(const struct step *s)
{
    int64_t n = 0;
    for (int i = 0; i < MCS_MAX_IN; i++) {
        if (s->in[i]) n += mcs_bytes(s->in[i]);
        if (s->din[i]) n += mcs_bytes(s->din[i]);
    }
    for (int i = 0; i < MCS_MAX_OUT; i++) {
        if (s->out[i]) n += mcs_bytes(s->out[i]);
        if (s->dout[i]) n += mcs_bytes(s->dout[i]);
    }
    return (double)n;
}

void mcs_bench_shape(const struct bench_setup *u, char *text, size_t text_bytes)
{
    const struct bench_case *c = u->c;
    const char *type = u->half ? " bf16" : "";
    if (c->op == OP_linear)
        snprintf(text, text_bytes, "%lldx%lldx%lld%s", (long long)c->m, (long long)c->n, (long long)c->k, type);
    else if (c->op == OP_conv)
        snprintf(text, text_bytes, "%lldx%lldx%lldx%lld to %lld; %lld/%lld%s", (long long)c->sp[0], (long long)c->sp[1],
                 (long long)c->sp[2], (long long)c->c, (long long)c->o, (long long)c->kernel, (long long)c->stride,
                 type);
    else if (c->op == OP_attention)
        snprintf(text, text_bytes, "%lld: %lldx%lld; %lld heads of %lld%s%s", (long long)c->seqs, (long long)c->nq,
                 (long long)c->nk, (long long)c->heads, (long long)c->hd, c->grid ? "; relative" : "", type);
    else
        snprintf(text, text_bytes, "%lldx%lld%s", (long long)c->m, (long long)c->n, type);
}

/* ---- checking the forward pass ---- */

/* One output element in float64: its value, and the sum of its |terms|. */
static double linear_element(const struct bench_setup *u, int64_t at, double *mag)
{
    const int64_t k = u->c->k, n = u->c->n;
    const float *x = u->host[0] + at / n * k, *w = u->host[1] + at % n * k;
    double sum = 0;
    *mag = 0;
    for (int64_t i = 0; i < k; i++) sum += (double)x[i] * w[i], *mag += fabs((double)x[i] * w[i]);
    return sum;
}

static double conv_element(const struct bench_setup *u, int64_t at, double *mag)
{
    const struct conv_attr *a = &u->attr.conv;
    const struct tensor *x = &u->in[0], *w = &u->in[1], *y = &u->out[0];
    const int64_t o = at % w->dim[0], c = w->dim[1];
    int64_t pos[3], rest = at / w->dim[0], taps = 1;
    for (int i = a->nsp - 1; i >= 0; i--) pos[i] = rest % y->dim[1 + i], rest /= y->dim[1 + i];
    for (int i = 0; i < a->nsp; i++) taps *= w->dim[2 + i];
    double sum = 0;
    *mag = 0;
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
            const double v = (double)u->host[0][row * c + i] * u->host[1][(o * c + i) * taps + t];
            sum += v, *mag += fabs(v);
        }
    }
    return sum;
}

static double attention_element(const struct bench_setup *u, int64_t at, double *mag)
{
    const struct attention_attr *a = &u->attr.attention;
    const int64_t hd = a->head_dim, w = a->heads * hd, row = at / w, col = at % w, head = col / hd,
                  seq = row / a->q_len;
    const float *q = u->host[0] + row * w + head * hd;
    double top = -INFINITY, sum = 0, y = 0, size = 0;
    *mag = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < a->k_len; j++) {
            const float *k = u->host[1] + (seq * a->k_len + j) * w + head * hd;
            const int64_t i = row % a->q_len;
            double s = 0, terms = 0;
            for (int64_t l = 0; l < hd; l++) {
                double t = q[l] * (double)k[l] / sqrt((double)hd);
                if (u->in[5].nd) {
                    t += (double)q[l] * u->host[5][(i / a->grid_w - j / a->grid_w + a->grid_h - 1) * hd + l];
                    t += (double)q[l] * u->host[6][(i % a->grid_w - j % a->grid_w + a->grid_w - 1) * hd + l];
                }
                s += t, terms += fabs(t);
            }
            if (pass == 0) {
                top = fmax(top, s), size = fmax(size, terms);
                continue;
            }
            const double p = exp(s - top), v = u->host[2][(seq * a->k_len + j) * w + col];
            sum += p, y += p * v, *mag += p * fabs(v);
        }
    *mag *= (u->half ? 1 : 1 + size) / sum;
    return y / sum;
}

static double norm_element(const struct bench_setup *u, int64_t at, double *mag)
{
    const int64_t n = u->c->n, col = at % n, rows = u->c->op == OP_layernorm ? n : u->c->m;
    const int64_t step = u->c->op == OP_layernorm ? 1 : n;
    const float *x = u->host[0] + (u->c->op == OP_layernorm ? at - col : col);
    double mean = 0, var = 0;
    for (int64_t i = 0; i < rows; i++) mean += x[i * step];
    mean /= (double)rows;
    for (int64_t i = 0; i < rows; i++) var += (x[i * step] - mean) * (x[i * step] - mean);
    const double r = u->host[1][col] / sqrt(var / (double)rows + (double)u->attr.norm.eps);
    const double y = (u->host[0][at] - mean) * r + u->host[2][col];
    *mag = (fabs((double)u->host[0][at]) + fabs(mean)) * fabs(r) + fabs((double)u->host[2][col]);
    return u->c->op == OP_instance_norm && y < 0 ? y * (double)u->attr.norm.slope : y;
}

static double element(const struct bench_setup *u, int64_t at, int bias, double *mag)
{
    const double x = u->host[0][at % mcs_count(&u->in[0])];
    double y;
    switch (u->c->op) {
    case OP_linear:
    case OP_conv:
        y = u->c->op == OP_linear ? linear_element(u, at, mag) : conv_element(u, at, mag);
        if (!bias) return y;
        *mag += fabs((double)u->host[2][at % mcs_last(&u->out[0])]);
        return y + u->host[2][at % mcs_last(&u->out[0])];
    case OP_attention: return attention_element(u, at, mag);
    case OP_gelu: *mag = fabs(x); return 0.5 * x * (1 + erf(x / sqrt(2)));
    case OP_add: *mag = fabs(x) + fabs((double)u->host[1][at]); return x + u->host[1][at];
    default: return norm_element(u, at, mag);
    }
}

/* A sum of n terms in blocks is within about sqrt(n) of their roundings. In bf16 sums are still float32. Roundings to
 * bf16: 1 unit for the result, and for attention 1 for the probabilities and 1 for their divisor. */
enum mcs_status mcs_bench_check(struct bench_setup *u, int bias, struct bench_row *row)
{
    const int64_t n = mcs_count(&u->out[0]);
    const double spread = 4 * sqrt(u->flops / 2 / (double)n) + 8;
    float *got;
    row->error = 0;
    row->allowed = !u->half ? spread : u->c->op == OP_attention ? 3 : 1;
    MCS_TRY(get(u, &u->out[0], &got));
    for (uint32_t i = 0; i < 48; i++) {
        const int64_t at = (int64_t)(mcs_rng_uniform((struct mcs_rng){.seed = 3}, i) * (double)n);
        double mag;
        const double want = element(u, at, bias, &mag);
        const double unit =
            !u->half ? 0x1p-24 * mag : 0x1p-8 * (u->c->op == OP_attention ? mag : fabs(want)) + 0x1p-24 * spread * mag;
        const double e = fabs(got[at] - want) / unit;
        if (!(e <= row->error)) row->error = isnan(e) ? INFINITY : e;
    }
    free(got);
    return MCS_OK;
}

/* ---- checking the gradients ---- */

struct sums {
    double value, squares;
};

/* *s += sign <a, b - c>, c (last dimension) may be NULL. */
static void add_product(struct sums *s, double sign, const float *a, const float *b, const float *c, int64_t n,
                        int64_t last)
{
    for (int64_t i = 0; i < n; i++) {
        const double t = (double)a[i] * ((double)b[i] - (c ? (double)c[i % last] : 0));
        s->value += sign * t;
        s->squares += t * t;
    }
}

/* Adds the product of input `slot` and its gradient. */
static enum mcs_status add_gradient(const struct bench_setup *u, struct sums *s, double sign, int slot)
{
    float *g;
    if (!u->step.din[slot]) return MCS_OK;
    const enum mcs_status st = get(u, u->step.din[slot], &g);
    if (st == MCS_OK) add_product(s, sign, g, u->host[slot], NULL, mcs_count(&u->in[slot]), 1);
    free(g);
    return st;
}

/* The rounding errors of a gradient's elements are independent, so the error of their sum is about the root of the sum
 * of squares; each element's error is sqrt(terms) float32 roundings, or one bf16 rounding. */
enum mcs_status mcs_bench_check_gradients(struct bench_setup *u, struct bench_row *row)
{
    const int linear = u->c->op == OP_linear || u->c->op == OP_conv, attention = u->c->op == OP_attention;
    const int64_t n = mcs_count(&u->out[0]), last = mcs_last(&u->out[0]);
    const double terms = u->flops / 2 / (double)n;
    enum mcs_status st = MCS_OK;
    float *y;
    row->error = 0;
    row->allowed = u->half ? 8 : 8 + 4 * (sqrt(terms) + sqrt((double)mcs_rows(&u->out[0])));
    MCS_TRY(get(u, &u->out[0], &y));
    for (int k = 0; k < MCS_MAX_IN && st == MCS_OK; k++) {
        struct sums s = {0};
        if (!u->step.din[k]) continue;
        st = add_gradient(u, &s, 1, k);
        if (linear && k < 2) add_product(&s, -1, u->host_dout, y, u->host[2], n, last);
        if (linear && k == 2)
            for (int64_t i = 0; i < n; i++) s.value -= (double)u->host_dout[i] * u->host[2][i % last];
        if (attention && k == 2) add_product(&s, -1, u->host_dout, y, NULL, n, last);
        if (attention && k == 0)
            for (int j = 1; j < MCS_MAX_IN && st == MCS_OK; j++)
                if (j != 2) st = add_gradient(u, &s, -1, j);
        const int known = linear || (attention && (k == 0 || k == 2));
        const double e =
            known && s.squares > 0 ? fabs(s.value) / ((u->half ? 0x1p-8 : 0x1p-24) * sqrt(s.squares)) : 0 * s.value;
        if (!(e <= row->error)) row->error = isnan(e) ? INFINITY : e;
    }
    free(y);
    return st;
}
