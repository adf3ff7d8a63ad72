/* Times and counts of one function, and the device's peak rates. */
#include "bench/bench.h"

#include "bench/shapes.h"
#include "engine/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct measure *mcs_bench_measure(const struct device *d)
{
    return d->backend->measure ? d->backend->measure() : NULL;
}

int mcs_bench_counts(const struct device *d)
{
    const struct measure *m = mcs_bench_measure(d);
    return m && m->counts;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void mcs_bench_sort(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, ascending);
}

static enum mcs_status time_by_host(struct device *d, enum mcs_status (*f)(void *), void *arg, double seconds,
                                    double *t, int *n)
{
    const double start = mcs_seconds();
    while (*n < BENCH_MAX_RUNS && (*n < 3 || mcs_seconds() - start < seconds)) {
        const double begin = mcs_seconds();
        MCS_TRY(f(arg));
        MCS_TRY(d->backend->sync(d));
        t[(*n)++] = mcs_seconds() - begin;
    }
    return MCS_OK;
}

enum mcs_status mcs_bench_time(struct device *d, enum mcs_status (*f)(void *), void *arg, double seconds,
                               struct bench_row *row)
{
    const struct measure *m = mcs_bench_measure(d);
    double t[BENCH_MAX_RUNS];
    int n = 0;
    if (m && m->counts) {
        MCS_TRY(m->counts(d, &row->counts));
        MCS_TRY(m->time(d, f, arg, 1, t)); /* t is 0 */
        row->n_runs = 1;
        return m->counts(d, &row->counts);
    }
    MCS_TRY(f(arg));
    MCS_TRY(d->backend->sync(d));
    if (m && m->time) {
        MCS_TRY(m->time(d, f, arg, 3, t));
        mcs_bench_sort(t, 3);
        const double wanted = t[1] > 0 ? seconds / t[1] : 0;
        n = wanted < 3 ? 3 : wanted > BENCH_MAX_RUNS ? BENCH_MAX_RUNS : (int)wanted;
        MCS_TRY(m->time(d, f, arg, n, t));
    } else {
        MCS_TRY(time_by_host(d, f, arg, seconds, t, &n));
    }
    mcs_bench_sort(t, n);
    row->n_runs = n;
    row->median = n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
    row->p10 = t[n / 10];
    row->p90 = t[n - 1 - n / 10];
    return MCS_OK;
}

/* ---- the device's peak rates ---- */

static enum mcs_status best_peer(struct bench_setup *u, double seconds, double *best)
{
    struct device *d = u->step.device;
    const struct measure *m = mcs_bench_measure(d);
    for (int i = 0; m && m->peer_new; i++) {
        struct bench_row row;
        struct peer *p;
        MCS_TRY(m->peer_new(&u->step, i, &p));
        if (!p) break;
        const enum mcs_status st = p->missing[0] ? MCS_OK : mcs_bench_time(d, m->peer_run, p, seconds, &row);
        if (st == MCS_OK && !p->missing[0] && u->flops / row.p10 / 1e9 > *best) *best = u->flops / row.p10 / 1e9;
        m->peer_free(p);
        MCS_TRY(st);
    }
    return MCS_OK;
}

static enum mcs_status best_of(const struct bench_case *c, int n, struct device *d, double seconds, double *best)
{
    struct bench_setup u;
    struct bench_row row;
    for (int i = 0; i < n; i++) {
        enum mcs_status st = mcs_bench_set_up(&c[i], d, &u);
        if (st == MCS_OK) st = mcs_bench_time(d, mcs_bench_run_step, &u.step, seconds, &row);
        if (st == MCS_OK && u.flops / row.p10 / 1e9 > *best) *best = u.flops / row.p10 / 1e9;
        if (st == MCS_OK) st = best_peer(&u, seconds, best);
        mcs_bench_tear_down(&u);
        MCS_TRY(st);
    }
    return MCS_OK;
}

struct copy {
    struct device *d;
    void *p[2];
    int64_t bytes;
};

static enum mcs_status run_copy(void *arg)
{
    const struct copy *c = arg;
    const struct measure *m = mcs_bench_measure(c->d);
    if (m && m->copy) return m->copy(c->d, c->p[1], c->p[0], c->bytes);
    memcpy(c->p[1], c->p[0], (size_t)c->bytes);
    return MCS_OK;
}

static enum mcs_status best_copy(struct device *d, int64_t bytes, double seconds, double *best)
{
    struct copy c = {.d = d, .bytes = bytes};
    struct bench_row row = {0};
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < 2 && st == MCS_OK; i++) st = d->backend->alloc(d, bytes, &c.p[i]);
    for (int i = 0; i < 2 && st == MCS_OK; i++) st = d->backend->zero(d, c.p[i], bytes);
    if (st == MCS_OK) st = mcs_bench_time(d, run_copy, &c, seconds, &row);
    if (st == MCS_OK && row.p10 > 0) *best = 2 * (double)bytes / row.p10 / 1e9;
    for (int i = 0; i < 2; i++)
        if (c.p[i]) d->backend->free(d, c.p[i]);
    return st;
}

enum mcs_status mcs_bench_peaks(const struct bench_options *o, struct device *d, struct bench_peaks *p)
{
    const int gpu = mcs_bench_measure(d) != NULL, n_products = o->small ? 1 : gpu ? 5 : 3;
    *p = (struct bench_peaks){0};
    if (mcs_bench_counts(d)) return MCS_OK;
    MCS_TRY(best_of(bench_best_product, n_products, d, o->seconds, &p->product));
    MCS_TRY(best_of(bench_best_conv, o->small ? 1 : 3, d, o->seconds, &p->conv));
    return best_copy(d, (int64_t)(o->small ? 8 : gpu ? 1024 : 256) << 20, o->seconds, &p->copy);
}

void mcs_bench_put_peaks(struct bench_text *t, const struct bench_options *o, const struct device *d,
                         const struct bench_peaks *p)
{
    char who[64] = "GPU";
    if (mcs_bench_counts(d)) {
        mcs_bench_put(t, BENCH_MD, "A simulated GPU: counts, no times.\n\n");
        return;
    }
    if (!mcs_bench_measure(d))
        snprintf(who, sizeof who, "machine with %lld threads", (long long)o->common.device.threads);
    mcs_bench_put(t, BENCH_MD,
                  "Best of this %s: product %.0f GFLOP/s, 3x3 convolution %.0f GFLOP/s, copy %.0f GB/s.\n\n", who,
                  p->product, p->conv, p->copy);
}
