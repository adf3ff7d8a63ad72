/* `bench ops`: the matrix products, 3x3 convolutions, attentions and pointwise ops of the full-size models, each pass
 * separately, on any device. Before an op is timed, some elements of its forward result are compared with float64, and
 * its gradients are checked by identities that follow from the forward result: a fast wrong answer is an error, not a
 * figure.
 *
 * The percentages refer to the peak of the device's library in the same run: its best square product, its best 3x3
 * convolution, its best copy. On a GPU the same shapes are also timed with cuBLASLt and cuDNN. */
#include "bench/case.h"
#include "bench/shapes.h"
#include "engine/base/stop.h"
#include "engine/devices.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- output ---- */

struct report {
    const struct bench_options *o;
    struct device device;
    struct bench_peaks peaks;
    struct bench_text text;
    int n_wrong, counts;
};

static void put_head(struct report *r)
{
    mcs_bench_put_peaks(&r->text, r->o, &r->device, &r->peaks);
    if (r->counts) {
        mcs_bench_put(
            &r->text, BENCH_MD,
            "| model | op | what | pass | shape | error / allowed | launches | blocks | threads | tensor-core "
            "products |\n|---|---|---|---|---|---|---|---|---|---|\n");
        mcs_bench_put(&r->text, BENCH_CSV,
                      "model,op,what,pass,shape,error,allowed,launches,blocks,threads,tensor_products\n");
        return;
    }
    mcs_bench_put(
        &r->text, BENCH_MD,
        "| model | op | what | pass | shape | error / allowed | median ms | p10 | p90 | GFLOP/s | GB/s | %% of best |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    mcs_bench_put(&r->text, BENCH_CSV,
                  "model,op,what,pass,shape,error,allowed,median_s,p10_s,p90_s,runs,gflops,gbytes_s,percent_of_best\n");
    mcs_bench_put(&r->text, BENCH_JSONL,
                  "{\"threads\": %lld, \"best_product_gflops\": %.1f, \"best_conv_gflops\": %.1f, "
                  "\"best_copy_gbytes_s\": %.1f}\n",
                  (long long)r->o->common.device.threads, r->peaks.product, r->peaks.conv, r->peaks.copy);
}

static void put_counts(struct report *r, const struct device_counts *c)
{
    const unsigned long long n[4] = {c->launches, c->blocks, c->threads, c->tensor_products};
    mcs_bench_put(&r->text, BENCH_MD, " %llu | %llu | %llu | %llu |\n", n[0], n[1], n[2], n[3]);
    mcs_bench_put(&r->text, BENCH_CSV, ",%llu,%llu,%llu,%llu\n", n[0], n[1], n[2], n[3]);
    mcs_bench_put(&r->text, BENCH_JSONL,
                  ", \"launches\": %llu, \"blocks\": %llu, \"threads\": %llu, \"tensor_products\": %llu}\n", n[0], n[1],
                  n[2], n[3]);
}

static void put_row(struct report *r, const struct bench_row *w)
{
    struct bench_text *t = &r->text;
    const int wrong = !(w->error <= w->allowed);
    r->n_wrong += wrong;
    mcs_bench_put(t, BENCH_MD, "| %s | %s | %s | %s | %s | %.1f / %.0f%s |", w->model, w->op, w->name, w->pass,
                  w->shape, w->error, w->allowed, wrong ? " WRONG" : "");
    mcs_bench_put(t, BENCH_CSV, "%s,%s,\"%s\",\"%s\",\"%s\",%.3g,%.3g", w->model, w->op, w->name, w->pass, w->shape,
                  w->error, w->allowed);
    mcs_bench_put(t, BENCH_JSONL,
                  "{\"model\": \"%s\", \"op\": \"%s\", \"what\": \"%s\", \"pass\": \"%s\", \"shape\": \"%s\", "
                  "\"error\": %.3g, \"allowed\": %.3g",
                  w->model, w->op, w->name, w->pass, w->shape, isfinite(w->error) ? w->error : 1e30, w->allowed);
    if (r->counts) {
        put_counts(r, &w->counts);
        return;
    }
    mcs_bench_put(t, BENCH_MD, " %.3f | %.3f | %.3f | %.1f | %.1f | %.0f |\n", w->median * 1e3, w->p10 * 1e3,
                  w->p90 * 1e3, w->gflops, w->gbytes, w->percent);
    mcs_bench_put(t, BENCH_CSV, ",%.6g,%.6g,%.6g,%d,%.6g,%.6g,%.4g\n", w->median, w->p10, w->p90, w->n_runs, w->gflops,
                  w->gbytes, w->percent);
    mcs_bench_put(t, BENCH_JSONL,
                  ", \"median_s\": %.6g, \"p10_s\": %.6g, \"p90_s\": %.6g, \"runs\": %d, \"gflops\": %.6g, "
                  "\"gbytes_s\": %.6g, \"percent_of_best\": %.4g}\n",
                  w->median, w->p10, w->p90, w->n_runs, w->gflops, w->gbytes, w->percent);
}

/* ---- rows ---- */

static enum mcs_status time_row(struct report *r, struct bench_setup *u, enum mcs_status (*f)(void *), void *arg,
                                double flops, struct bench_row *row)
{
    MCS_TRY(mcs_bench_time(&r->device, f, arg, r->o->seconds, row));
    if (r->counts) return MCS_OK;
    const double peak = u->step.op == OP_conv ? r->peaks.conv : r->peaks.product;
    row->gflops = row->median > 0 ? flops / row->median / 1e9 : 0;
    row->gbytes = row->median > 0 ? mcs_bench_bytes(&u->step) / row->median / 1e9 : 0;
    row->percent = flops > 0 ? (peak > 0 ? 100 * row->gflops / peak : 0)
                             : (r->peaks.copy > 0 ? 100 * row->gbytes / r->peaks.copy : 0);
    return MCS_OK;
}

/* The same pass by other implementations, a row each; their forward results are checked too. */
static enum mcs_status bench_peers(struct report *r, struct bench_setup *u, double flops, const struct bench_row *own)
{
    const struct measure *m = mcs_bench_measure(&r->device);
    for (int i = 0; m && m->peer_new; i++) {
        struct bench_row row = *own;
        struct peer *p;
        char name[128];
        MCS_TRY(m->peer_new(&u->step, i, &p));
        if (!p) return MCS_OK;
        snprintf(name, sizeof name, "%s, by %s", own->name, p->name);
        row.name = name;
        enum mcs_status st = MCS_OK;
        if (p->missing[0]) {
            fprintf(stderr, "bench ops: %s, %s: skipped: %s\n", name, row.shape, p->missing);
        } else {
            st = m->peer_run(p);
            if (st == MCS_OK)
                st = u->step.backward ? mcs_bench_check_gradients(u, &row) : mcs_bench_check(u, p->adds_bias, &row);
            if (st == MCS_OK) st = time_row(r, u, m->peer_run, p, flops, &row);
            if (st == MCS_OK) put_row(r, &row);
        }
        m->peer_free(p);
        MCS_TRY(st);
    }
    return MCS_OK;
}

static enum mcs_status backward(struct report *r, struct bench_setup *u, unsigned want, const char *pass, double flops,
                                int peers, struct bench_row *row)
{
    row->pass = pass;
    MCS_TRY(mcs_bench_make_backward(u, want));
    MCS_TRY(mcs_bench_run_step(&u->step));
    MCS_TRY(mcs_bench_check_gradients(u, row));
    MCS_TRY(time_row(r, u, mcs_bench_run_step, &u->step, flops, row));
    put_row(r, row);
    return peers ? bench_peers(r, u, flops, row) : MCS_OK;
}

/* One shape: forward, then the backward passes. Each gradient of a matrix product or convolution takes as many
 * operations as forward; attention backward takes five matrix products, forward two. */
static enum mcs_status bench_case(struct report *r, const struct bench_case *c, struct bench_setup *u)
{
    struct bench_row row = {.model = c->model, .op = mcs_op_table[c->op].name, .name = c->name, .pass = "forward"};
    MCS_TRY(mcs_bench_set_up(c, &r->device, u));
    mcs_bench_shape(u, row.shape, sizeof row.shape);
    MCS_TRY(mcs_bench_run_step(&u->step));
    MCS_TRY(mcs_bench_check(u, 1, &row));
    MCS_TRY(time_row(r, u, mcs_bench_run_step, &u->step, u->flops, &row));
    put_row(r, &row);
    MCS_TRY(bench_peers(r, u, u->flops, &row));
    if (c->op != OP_linear && c->op != OP_conv) return backward(r, u, ~0u, "backward", 2.5 * u->flops, 0, &row);
    /* The gradients are compared with this op's forward result. */
    MCS_TRY(mcs_bench_run_step(&u->step));
    if (c->op != OP_conv || c->c > 3) /* the gradient of an image is never used */
        MCS_TRY(backward(r, u, 1u, "gradient of x", u->flops, 1, &row));
    return backward(r, u, 6u, "gradient of w, b", u->flops, 1, &row);
}

static int chosen(const struct bench_options *o, const struct bench_case *c)
{
    int named = o->ops.n == 0;
    for (int i = 0; i < o->ops.n; i++) named = named || strcmp(o->ops.v[i], mcs_op_table[c->op].name) == 0;
    return named && (!o->model || strcmp(o->model, "all") == 0 || strstr(c->model, o->model));
}

enum mcs_status mcs_bench_ops(const struct bench_options *o)
{
    struct report r = {.o = o, .text.json = o->common.json};
    struct bench_setup u = {0};
    const struct bench_case *cases = o->small ? bench_small : bench_full_size;
    const size_t n =
        o->small ? sizeof bench_small / sizeof *bench_small : sizeof bench_full_size / sizeof *bench_full_size;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_device_open(&o->common.device, &r.device));
    r.counts = mcs_bench_counts(&r.device);
    MCS_TRY_GOTO(mcs_bench_peaks(o, &r.device, &r.peaks), st, done);
    put_head(&r);
    for (size_t i = 0; i < n; i++) {
        if (!chosen(o, &cases[i])) continue;
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        st = bench_case(&r, &cases[i], &u);
        mcs_bench_tear_down(&u);
        if (st != MCS_OK) goto done;
    }
    if (r.n_wrong) st = MCS_FAIL(MCS_E_FAIL, "%d results are wrong: see the rows marked WRONG", r.n_wrong);
done:
    if (r.text.stream[BENCH_CSV]) { /* after a failure, write the rows before it */
        const enum mcs_status written = mcs_bench_write(&r.text, o->output);
        if (st == MCS_OK) st = written;
    }
    mcs_device_close(&r.device);
    mcs_bench_text_free(&r.text);
    return st;
}
