#include "tests/support/support_cases.h"

#include "tests/support/support_case_device.h"
#include "tests/support/support_cases.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/tape/amp.h"
#include "tests/ref/ref.h"

/* ---- the tables ---- */

#define CASE(op_, name_, ...) {.op = OP_##op_, .name = name_, __VA_ARGS__},
const struct op_case mcs_cases[] = {
#include "cases.def"
};
#undef CASE
const int mcs_n_cases = (int)(sizeof mcs_cases / sizeof mcs_cases[0]);

typedef void (*ref_fn)(const struct ref_step *);
static const struct {
    ref_fn fwd, bwd;
} oracle[MCS_N_OPS] = {
#define OP(name, inputs, outputs, attr) {ref_##name##_fwd, ref_##name##_bwd},
#include "engine/tape/ops.def"
#undef OP
};

static int compare_int(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Fills a host array (float or int32) of n elements for an input; returns its type. */
static enum mcs_dtype fill_input(const struct op_case *c, int slot, int64_t n, void *dst)
{
    const struct case_fill f = c->fill[slot].kind ? c->fill[slot] : (struct case_fill)NORMAL(0, 1);
    struct mcs_rng r = {.seed = c->seed ? c->seed : 1, .site = mcs_rng_site("test.case"), .sample = (uint32_t)slot};
    float *x = dst;
    int32_t *v = dst;
    for (int64_t i = 0; i < n; i++) {
        uint32_t e = (uint32_t)i;
        switch (f.kind) {
        case FILL_DEFAULT:
        case FILL_NORMAL: x[i] = f.a + f.b * (float)mcs_rng_normal(r, e); break;
        case FILL_UNIFORM: x[i] = (float)mcs_rng_range(r, e, f.a, f.b); break;
        case FILL_POSITIVE: x[i] = f.b * (0.1f + fabsf((float)mcs_rng_normal(r, e))); break;
        case FILL_CONST: x[i] = f.a; break;
        case FILL_BINARY: x[i] = (float)mcs_rng_below(r, e, 2); break;
        case FILL_FLOATS: x[i] = ((const float *)f.data)[i]; break;
        case FILL_INDEX:
            v[i] = mcs_rng_below(r, e + 0x40000000u, 8) == 0 ? -1 : (int32_t)mcs_rng_below(r, e, (uint32_t)f.a);
            break;
        case FILL_LABELS: v[i] = (int32_t)mcs_rng_below(r, e, (uint32_t)f.a); break;
        case FILL_OFFSETS:
            v[i] = i == 0 ? 0 : i == n - 1 ? (int32_t)f.a : (int32_t)mcs_rng_below(r, e, (uint32_t)f.a + 1);
            break;
        case FILL_INTS: v[i] = ((const int32_t *)f.data)[i]; break;
        }
    }
    if (f.kind == FILL_OFFSETS) qsort(v, (size_t)n, sizeof *v, compare_int);
    return f.kind >= FILL_INDEX ? MCS_I32 : MCS_F32;
}

/* ---- one run ---- */

/* Rounds to bf16 in float32 storage, so that inputs are exact in both types. */
static void round_to_half(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = mcs_bf16_to(mcs_bf16_from(x[i]));
}

static double *doubles(struct case_runner *r, int64_t n)
{
    return mcs_arena_alloc(&r->host, (size_t)(n ? n : 1) * sizeof(double));
}

static void check_values(struct case_runner *r, const char *what, const struct tensor *t, const double *want,
                         const double *mag, const float *base, double k)
{
    int64_t n = mcs_count(t), bad = 0;
    float *got = malloc((size_t)n * sizeof *got);
    double most = 0;
    if (!got) abort();
    case_get_floats(r, t, got);
    /* Roundings to bf16: one if the result is stored in bf16, and those inside the op. */
    const double half = (t->dt == MCS_BF16 ? 1 : 0) + (r->b->half ? r->c->half : 0);
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        double m = mag && mag[i] > 0 ? mag[i] : most, w = want[i];
        if (base) w += base[i], m += fabs((double)base[i]);
        double tol = k * 0x1p-24 * m + half * 0x1p-8 * m + FLT_MIN;
        if (!(fabs(got[i] - w) <= tol)) { /* true for NaN too */
            if (bad++ == 0)
                case_complain(r, what, "element %lld of %lld is %.9g, want %.9g +- %.2g", (long long)i, (long long)n,
                              (double)got[i], w, tol);
        }
    }
    if (bad > 1) fprintf(stderr, "    (%lld elements)\n", (long long)bad);
    free(got);
}

static struct tensor like(const struct tensor *t, const char *name, void *data)
{
    struct tensor d = *t;
    d.name = name;
    d.role = TENSOR_GRAD;
    d.data = data;
    d.root = NULL;
    return d;
}

/* Prepares, runs and releases the op. The workspace is filled with NaN. */
static void run_step(struct case_runner *r, struct step *s)
{
    const struct op_impl *impl = r->b->impl[r->c->op];
    const struct backend *be = r->b->device ? r->b->device->backend : NULL;
    s->prepared = NULL;
    s->workspace_bytes = 0;
    enum mcs_status st = impl->prepare ? impl->prepare(s) : MCS_OK;
    if (st == MCS_OK && be && be->begin_run) st = be->begin_run(r->b->device, &r->run);
    if (st == MCS_OK) {
        s->workspace = s->workspace_bytes ? case_device_new(r, (int64_t)s->workspace_bytes, NULL) : NULL;
        st = s->backward ? impl->bwd(s) : impl->fwd(s);
        if (st == MCS_OK && be && be->sync) st = be->sync(r->b->device);
    }
    if (st != MCS_OK) {
        case_complain(r, s->backward ? "bwd" : "fwd", "%s (%s)", mcs_error_message(), mcs_error_trace());
        mcs_error_clear();
    }
    if (impl->release) impl->release(s);
}

static void run_forward(struct case_runner *r)
{
    struct step s = {.device = r->b->device, .op = r->c->op, .scope = r->c->name, .attr = r->c->attr, .run = &r->run};
    int from = r->n_made;
    for (int i = 0; i < MCS_MAX_IN; i++)
        if (r->in[i].nd) s.in[i] = r->c->same[i] ? &r->in[r->c->same[i] - 1] : &r->in[i];
    for (int i = 0; i < r->info->n_out; i++) s.out[i] = &r->out[i];
    run_step(r, &s);
    case_device_free_from(r, from);
}

/* Runs backward for the gradients in `want` into din[] (allocated by the caller); only the tensors that the op keeps
 * for backward are set. */
static void run_backward(struct case_runner *r, unsigned want, float beta, struct tensor *din)
{
    struct step s = {
        .device = r->b->device, .op = r->c->op, .backward = 1, .scope = r->c->name, .attr = r->c->attr, .run = &r->run};
    int from = r->n_made;
    for (int i = 0; i < MCS_MAX_IN; i++) {
        int j = r->c->same[i] ? r->c->same[i] - 1 : i;
        if (!r->in[i].nd) continue;
        s.like[i] = &r->in[j];
        if (r->info->in[i] & SLOT_KEEP) s.in[i] = &r->in[j];
        if (want & IN(j)) s.din[i] = &din[j];
        s.beta[i] = beta;
    }
    for (int i = 0; i < r->info->n_out; i++) {
        if (r->info->out[i] & SLOT_KEEP) s.out[i] = &r->out[i];
        if (r->dout_mask & OUT(i)) s.dout[i] = &r->dout[i];
    }
    run_step(r, &s);
    case_device_free_from(r, from);
}

static char *snapshot(struct case_runner *r, const struct tensor *t)
{
    int64_t bytes = mcs_bytes(t);
    char *p = mcs_arena_alloc(&r->host, (size_t)bytes + 1);
    case_download(r, p, t->data, bytes);
    return p;
}

static void check_same_bytes(struct case_runner *r, const char *what, const char *before, const struct tensor *t)
{
    if (memcmp(before, snapshot(r, t), (size_t)mcs_bytes(t)) != 0)
        case_complain(r, what, "a second run gives other bytes");
}

/* sum(dout . out) over the outputs that get a gradient, with the oracle's input `slot` moved by step along dir. */
static double oracle_loss(struct case_runner *r, int slot, const double *dir, double step)
{
    int64_t n = ref_count(&r->ref.in[slot]);
    struct ref_step s = r->ref;
    double *moved = malloc((size_t)n * sizeof *moved), sum = 0;
    if (!moved) abort();
    for (int64_t i = 0; i < n; i++) moved[i] = r->ref.in[slot].v[i] + step * dir[i];
    for (int i = 0; i < MCS_MAX_IN; i++)
        if (s.in[i].v == r->ref.in[slot].v) s.in[i].v = moved;
    for (int i = 0; i < r->info->n_out; i++) {
        int64_t m = ref_count(&s.out[i]);
        s.out[i].v = calloc((size_t)m, sizeof(double));
        s.out[i].mag = calloc((size_t)m, sizeof(double));
        if (!s.out[i].v || !s.out[i].mag) abort();
    }
    oracle[r->c->op].fwd(&s);
    for (int i = 0; i < r->info->n_out; i++) {
        if (r->dout_mask & OUT(i))
            for (int64_t j = 0, m = ref_count(&s.out[i]); j < m; j++) sum += s.dout[i].v[j] * s.out[i].v[j];
        free(s.out[i].v);
        free(s.out[i].mag);
    }
    free(moved);
    return sum;
}

/* Checks the oracle's gradient of one input by a central difference along a random direction. Tolerance 1e-5: with a
 * step of 1e-6 the error is about 1e-12 from curvature and 2^-53 / 1e-6 = 1e-10 from rounding, relative to sums that
 * may cancel by a few digits. */
static void check_finite_difference(struct case_runner *r, int slot)
{
    int64_t n = ref_count(&r->ref.in[slot]);
    double h = r->c->fd_step > 0 ? r->c->fd_step : 1e-6, dot = 0, size = 0;
    double *dir = doubles(r, n);
    struct mcs_rng rng = {.seed = 77, .site = mcs_rng_site("test.direction"), .sample = (uint32_t)slot};
    for (int64_t i = 0; i < n; i++) {
        double t = r->ref.din[slot].v[i] * (dir[i] = mcs_rng_normal(rng, (uint32_t)i));
        dot += t, size += fabs(t);
    }
    double fd = (oracle_loss(r, slot, dir, h) - oracle_loss(r, slot, dir, -h)) / (2 * h);
    if (!(fabs(fd - dot) <= 1e-5 * size + 1e-9))
        case_complain(r, "oracle", "gradient of input %d along a direction is %.9g, finite difference %.9g", slot, dot,
                      fd);
}

static void fill_inputs(struct case_runner *r)
{
    const struct op_case *c = r->c;
    for (int i = 0; i < MCS_MAX_IN; i++) {
        struct tensor *t = &r->in[i];
        if (!c->in[i].nd) continue;
        *t = (struct tensor){.name = "in", .role = TENSOR_INPUT, .nd = c->in[i].nd, .index = i};
        memcpy(t->dim, c->in[i].dim, sizeof t->dim);
        if (c->same[i]) {
            *t = r->in[c->same[i] - 1];
            r->ref.in[i] = r->ref.in[c->same[i] - 1];
            continue;
        }
        int64_t n = mcs_count(t);
        void *host = mcs_arena_alloc(&r->host, (size_t)n * 4);
        t->dt = fill_input(c, i, n, host);
        if (t->dt == MCS_F32 && (r->b->half || c->half_in & IN(i))) round_to_half(host, n);
        if (t->dt == MCS_F32 &&
            ((r->b->half && mcs_amp_slots(c->op) & IN(i) && c->op != OP_cast) || c->half_in & IN(i)))
            t->dt = MCS_BF16;
        t->root = t;
        t->data = case_device_floats(r, t->dt, host, n);
        struct ref_tensor *o = &r->ref.in[i];
        o->nd = t->nd;
        memcpy(o->dim, t->dim, sizeof o->dim);
        o->v = doubles(r, n);
        for (int64_t j = 0; j < n; j++) o->v[j] = t->dt == MCS_I32 ? ((int32_t *)host)[j] : (double)((float *)host)[j];
        if (mcs_op_differentiates(c->op, i) && !(c->frozen & IN(i))) r->grad_mask |= IN(i);
    }
}

static enum mcs_status make_outputs(struct case_runner *r)
{
    struct tensor *in[MCS_MAX_IN];
    struct mcs_rng rng = {.seed = 5, .site = mcs_rng_site("test.dout")};
    for (int i = 0; i < MCS_MAX_IN; i++) in[i] = r->in[i].nd ? &r->in[r->c->same[i] ? r->c->same[i] - 1 : i] : NULL;
    MCS_TRY(mcs_op_shape(r->c->op, r->c->name, in, r->c->attr, r->out));
    for (int i = 0; i < r->info->n_out; i++) {
        struct tensor *t = &r->out[i];
        int64_t n = mcs_count(t);
        t->name = "out";
        t->role = TENSOR_ACT;
        t->root = t;
        t->dt = mcs_amp_output(r->b->half ? MCS_BF16 : MCS_F32, r->c->op, i, t->dt);
        t->data = case_device_floats(r, t->dt, NULL, n);
        struct ref_tensor *o = &r->ref.out[i];
        o->nd = t->nd;
        memcpy(o->dim, t->dim, sizeof o->dim);
        o->v = doubles(r, n);
        o->mag = doubles(r, n);
        if (!r->grad_mask || !(r->dout_mask & OUT(i))) continue;
        float *g = mcs_arena_alloc(&r->host, (size_t)n * 4);
        rng.sample = (uint32_t)i;
        for (int64_t j = 0; j < n; j++) g[j] = (float)mcs_rng_normal(rng, (uint32_t)j);
        if (n == 1) g[0] = 0.75f; /* a loss: not 1, to detect an op that does not scale by dout */
        if (t->dt == MCS_BF16) round_to_half(g, n);
        r->dout[i] = like(t, "dout", case_device_floats(r, t->dt, g, n));
        r->ref.dout[i] = *o;
        r->ref.dout[i].v = doubles(r, n);
        for (int64_t j = 0; j < n; j++) r->ref.dout[i].v[j] = g[j];
    }
    return MCS_OK;
}

static void check_outputs(struct case_runner *r, const char *when)
{
    char what[64];
    for (int i = 0; i < r->info->n_out; i++) {
        snprintf(what, sizeof what, "%s out[%d]", when, i);
        check_values(r, what, &r->out[i], r->ref.out[i].v, r->ref.out[i].mag, NULL, r->c->k);
    }
}

/* Runs backward for `want` and compares these gradients. add: accumulates to random values (beta 1), else overwrites
 * NaN (beta 0). */
static void check_backward(struct case_runner *r, const char *when, unsigned want, int add, int twice)
{
    struct tensor din[MCS_MAX_IN] = {0};
    float *base[MCS_MAX_IN] = {0};
    double k = r->c->k_bwd > 0 ? r->c->k_bwd : r->c->k;
    int from = r->n_made;
    char what[64], *first[MCS_MAX_IN] = {0};
    struct mcs_rng rng = {.seed = 9, .site = mcs_rng_site("test.base")};
    for (int i = 0; i < MCS_MAX_IN; i++) {
        if (!(want & IN(i))) continue;
        int64_t n = mcs_count(&r->in[i]);
        if (add) {
            base[i] = mcs_arena_alloc(&r->host, (size_t)n * 4);
            rng.sample = (uint32_t)i;
            mcs_rng_fill_normal(rng, base[i], n);
            if (r->in[i].dt == MCS_BF16) round_to_half(base[i], n);
        }
        din[i] = like(&r->in[i], "din", case_device_floats(r, r->in[i].dt, base[i], n));
    }
    run_backward(r, want, (float)add, din);
    for (int i = 0; i < MCS_MAX_IN; i++) {
        if (!(want & IN(i))) continue;
        snprintf(what, sizeof what, "%s din[%d]", when, i);
        check_values(r, what, &din[i], r->ref.din[i].v, r->ref.din[i].mag, base[i], k);
        if (twice) first[i] = snapshot(r, &din[i]);
    }
    if (twice) {
        run_backward(r, want, 0, din);
        for (int i = 0; i < MCS_MAX_IN; i++)
            if (want & IN(i)) check_same_bytes(r, "din", first[i], &din[i]);
    }
    case_device_free_from(r, from);
}

static void oracle_backward(struct case_runner *r)
{
    for (int i = 0; i < MCS_MAX_IN; i++) {
        int j = r->c->same[i] ? r->c->same[i] - 1 : i;
        if (!r->in[i].nd || !(r->grad_mask & IN(j))) continue;
        if (j != i) {
            r->ref.din[i] = r->ref.din[j];
            continue;
        }
        r->ref.din[i] = r->ref.in[i];
        r->ref.din[i].v = doubles(r, ref_count(&r->ref.in[i]));
        r->ref.din[i].mag = doubles(r, ref_count(&r->ref.in[i]));
    }
    oracle[r->c->op].bwd(&r->ref);
}

/* Only the device's ops, without oracle and comparison. */
int mcs_case_launch(const struct op_case *c, const struct case_backend *b)
{
    struct case_runner r = {.c = c, .b = b, .info = &mcs_op_table[c->op], .run = {.seed = 42, .step = 3}};
    struct tensor din[MCS_MAX_IN] = {0};
    r.dout_mask = c->dout ? c->dout : OUT(0);
    fill_inputs(&r);
    if (make_outputs(&r) != MCS_OK) {
        case_complain(&r, "shape", "%s", mcs_error_message());
        mcs_error_clear();
    } else {
        run_forward(&r);
        for (int i = 0; i < MCS_MAX_IN; i++)
            if (r.grad_mask & IN(i))
                din[i] = like(&r.in[i], "din", case_device_floats(&r, r.in[i].dt, NULL, mcs_count(&r.in[i])));
        if (r.grad_mask) run_backward(&r, r.grad_mask, 0, din);
    }
    case_device_free_from(&r, 0);
    free(r.made);
    mcs_arena_free(&r.host);
    return r.failed;
}

int mcs_case_run(const struct op_case *c, const struct case_backend *b)
{
    struct case_runner r = {.c = c, .b = b, .info = &mcs_op_table[c->op], .run = {.seed = 42, .step = 3}};
    int threads = b->set_threads != NULL;
    r.dout_mask = c->dout ? c->dout : OUT(0);
    r.ref.attr = c->attr;
    r.ref.seed = r.run.seed;
    r.ref.step = r.run.step;
    if (!(c->k > 0)) case_complain(&r, "case", "no tolerance k");
    fill_inputs(&r);
    if (make_outputs(&r) != MCS_OK) {
        case_complain(&r, "shape", "%s", mcs_error_message());
        mcs_error_clear();
        goto done;
    }
    oracle[c->op].fwd(&r.ref);
    if (threads) b->set_threads(1);
    run_forward(&r);
    check_outputs(&r, "1 thread");
    if (threads) b->set_threads(2);
    run_forward(&r);
    check_outputs(&r, "2 threads");
    char *first[MCS_MAX_OUT];
    for (int i = 0; i < r.info->n_out; i++) first[i] = snapshot(&r, &r.out[i]);
    run_forward(&r);
    for (int i = 0; i < r.info->n_out; i++) check_same_bytes(&r, "out", first[i], &r.out[i]);
    if (!r.grad_mask) goto done;

    oracle_backward(&r);
    for (int i = 0; i < MCS_MAX_IN; i++)
        if (r.grad_mask & IN(i)) check_finite_difference(&r, i);
    check_backward(&r, "2 threads", r.grad_mask, 0, 1);
    check_backward(&r, "beta 1", r.grad_mask, 1, 0);
    if (threads) b->set_threads(1);
    check_backward(&r, "1 thread", r.grad_mask, 0, 0);
    if (threads) b->set_threads(2);
    if (r.grad_mask & (r.grad_mask - 1))
        for (int i = 0; i < MCS_MAX_IN; i++)
            if (r.grad_mask & IN(i)) check_backward(&r, "alone", IN(i), 0, 0);
done:
    case_device_free_from(&r, 0);
    free(r.made);
    mcs_arena_free(&r.host);
    return r.failed;
}
