/* `bench models`: whole networks at full size with random weights. Before it is timed, a network runs twice: the
 * results (in training also the gradients) must be finite and identical.
 *
 * Operations are counted step by step (products, convolutions and attention; all others count as none). The percentage
 * of the peak is the time for these operations at the machine's peak product and 3x3 convolution rates, divided by the
 * measured time. */
#include "bench/bench.h"
#include "bench/bench_networks.h"

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "engine/devices.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- operations ---- */

/* Floating-point operations of a step. Backward: one product for each wanted gradient; attention has five products to
 * forward's two. */
static double flops_of(const struct step *s)
{
    struct tensor *const *in = s->backward ? (struct tensor *const *)s->like : s->in;
    const struct tensor *y = s->backward ? s->dout[0] : s->out[0];
    const int passes = s->backward ? (s->din[0] != NULL) + (s->din[1] != NULL) : 1;
    if (!y) return 0;
    switch (s->op) {
    case OP_linear: return 2.0 * passes * (double)mcs_count(y) * (double)mcs_last(in[1]);
    case OP_conv: return 2.0 * passes * (double)mcs_rows(y) * (double)mcs_count(in[1]);
    case OP_conv_transpose: return 2.0 * passes * (double)mcs_rows(in[0]) * (double)mcs_count(in[1]);
    case OP_bmm_nt: return 2.0 * passes * (double)mcs_count(y) * (double)mcs_last(in[0]);
    case OP_attention: {
        const struct attention_attr *a = s->attr;
        const int64_t sequences = in[3] ? mcs_count(in[3]) - 1 : 0; /* in[3]: offsets, one more than sequences */
        const int64_t keys = sequences > 0 ? mcs_rows(in[1]) / sequences : a->k_len;
        return (s->backward ? 10.0 : 4.0) * (double)mcs_rows(in[0]) * (double)keys * (double)(a->heads * a->head_dim);
    }
    default: return 0;
    }
}

static int is_conv(const struct step *s)
{
    return s->op == OP_conv || s->op == OP_conv_transpose;
}

/* ---- memory ---- */

/* A value of /proc/self/status in MiB, NAN where there is none. */
static double status_mib(const char *key)
{
    char line[256];
    double mib = NAN;
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return NAN;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) mib = strtod(line + strlen(key), NULL) / 1024;
    fclose(f);
    return mib;
}

/* Resets the peak of resident memory; 0 where the system cannot. */
static int reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return 0;
    const int written = fputs("5", f) >= 0;
    return fclose(f) == 0 && written;
}

/* ---- rows ---- */

struct bench {
    const struct bench_options *o;
    struct bench_peaks peaks;
    struct bench_text text;
    struct device device;
    int n_wrong;
};

static void put_head(struct bench *b)
{
    mcs_bench_put_peaks(&b->text, b->o, &b->device, &b->peaks);
    mcs_bench_put(
        &b->text, BENCH_MD,
        "| model | op | what | pass | shape | finite, same twice | median ms | p10 | p90 | %% of time | GFLOP/s | "
        "%% of best | planned MiB | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    mcs_bench_put(&b->text, BENCH_CSV,
                  "model,op,what,pass,shape,right,median_s,p10_s,p90_s,runs,share,gflops,percent_of_best,planned_mib,"
                  "peak_mib\n");
    mcs_bench_put(&b->text, BENCH_JSONL,
                  "{\"threads\": %lld, \"best_product_gflops\": %.1f, \"best_conv_gflops\": %.1f}\n",
                  (long long)b->o->common.device.threads, b->peaks.product, b->peaks.conv);
}

/* share: fraction of the network's time, 1 for all of it; planned, peak: MiB, NAN where unknown. Without times for a
 * simulated GPU, which measures none. */
static void put_row(struct bench *b, const struct bench_row *w, int right, double share, double planned, double peak)
{
    struct bench_text *t = &b->text;
    char memory[2][32] = {"", ""};
    if (!isnan(planned)) snprintf(memory[0], sizeof memory[0], "%.0f", planned);
    if (!isnan(peak)) snprintf(memory[1], sizeof memory[1], "%.0f", peak);
    b->n_wrong += !right;
    mcs_bench_put(t, BENCH_MD, "| %s | %s | %s | %s | %s | %s |", w->model, w->op, w->name, w->pass, w->shape,
                  right ? "yes" : "WRONG");
    mcs_bench_put(t, BENCH_CSV, "%s,%s,\"%s\",%s,%s,%d", w->model, w->op, w->name, w->pass, w->shape, right);
    mcs_bench_put(t, BENCH_JSONL,
                  "{\"model\": \"%s\", \"op\": \"%s\", \"what\": \"%s\", \"pass\": \"%s\", \"shape\": \"%s\", "
                  "\"right\": %s",
                  w->model, w->op, w->name, w->pass, w->shape, right ? "true" : "false");
    if (!(w->median > 0)) {
        mcs_bench_put(t, BENCH_MD, " | | | | | | %s | |\n", memory[0]);
        mcs_bench_put(t, BENCH_CSV, ",,,,,,,,%s,\n", memory[0]);
        mcs_bench_put(t, BENCH_JSONL, "}\n");
        return;
    }
    mcs_bench_put(t, BENCH_MD, " %.2f | %.2f | %.2f | %.1f | %.1f | %.0f | %s | %s |\n", w->median * 1e3, w->p10 * 1e3,
                  w->p90 * 1e3, 100 * share, w->gflops, w->percent, memory[0], memory[1]);
    mcs_bench_put(t, BENCH_CSV, ",%.6g,%.6g,%.6g,%d,%.4g,%.6g,%.4g,%s,%s\n", w->median, w->p10, w->p90, w->n_runs,
                  share, w->gflops, w->percent, memory[0], memory[1]);
    mcs_bench_put(t, BENCH_JSONL,
                  ", \"median_s\": %.6g, \"p10_s\": %.6g, \"p90_s\": %.6g, \"runs\": %d, \"share\": %.4g, \"gflops\": "
                  "%.6g, \"percent_of_best\": %.4g, \"planned_mib\": %s, \"peak_mib\": %s}\n",
                  w->median, w->p10, w->p90, w->n_runs, share, w->gflops, w->percent, *memory[0] ? memory[0] : "null",
                  *memory[1] ? memory[1] : "null");
}

/* ---- correctness ---- */

/* FNV-1a over 32-bit words; sets *finite to 0 for a value that is not finite. */
static uint64_t digest(uint64_t h, const float *v, int64_t n, int *finite)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        if ((bits & 0x7F800000u) == 0x7F800000u) *finite = 0;
        h = (h ^ bits) * 0x100000001B3u;
    }
    return h;
}

/* Runs once from the initial state and hashes the results. */
static enum mcs_status run_digest(struct exec *e, const struct bench_network *n, int train, uint64_t *h, int *finite)
{
    struct params *p = e->graph->params;
    if (train) mcs_params_zero_grad(p);
    MCS_TRY(mcs_exec_run(e));
    *h = 0xCBF29CE484222325u;
    *finite = 1;
    for (int i = 0; i < n->n_results; i++) {
        const int64_t count = mcs_count(n->result[i]);
        float *v = malloc((size_t)count * sizeof *v);
        MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %lld values", (long long)count);
        const enum mcs_status st = mcs_exec_get(e, n->result[i], v);
        *h = digest(*h, v, count, finite);
        free(v);
        MCS_TRY(st);
    }
    if (!train) return MCS_OK;
    float *v = malloc((size_t)p->n_values * sizeof *v);
    MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %lld gradients", (long long)p->n_values);
    const enum mcs_status st = p->device->backend->download(p->device, v, p->grad, 4 * p->n_values);
    *h = digest(*h, v, p->n_values, finite);
    free(v);
    return st;
}

/* Fills the image with noise; seed gradients are those of the mean. */
static enum mcs_status fill(struct exec *e, const struct bench_network *n, int train)
{
    for (int i = -1; i < (train ? n->n_results : 0); i++) {
        const struct tensor *t = i < 0 ? n->image : n->result[i]->grad;
        const int64_t count = mcs_count(t);
        float *v = malloc((size_t)count * sizeof *v);
        MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %lld values", (long long)count);
        if (i < 0) mcs_rng_fill_normal((struct mcs_rng){.seed = 1, .site = mcs_rng_site("bench")}, v, count);
        for (int64_t k = 0; i >= 0 && k < count; k++) v[k] = 1.0f / (float)count;
        const enum mcs_status st = mcs_exec_set(e, t, v);
        free(v);
        MCS_TRY(st);
    }
    return MCS_OK;
}

static enum mcs_status run_exec(void *e)
{
    return mcs_exec_run(e);
}

enum { KINDS = 2 * MCS_N_OPS, MAX_TRACED = 32 }; /* kind: an op forward, or MCS_N_OPS later the same op backward */

static int kind_of(const struct step *s)
{
    return (int)s->op + (s->backward ? MCS_N_OPS : 0);
}

/* A row per op and direction: its time in traced runs, and its share of the sum of all steps' medians. */
static enum mcs_status by_op(struct bench *b, struct exec *e, const struct bench_row *whole)
{
    static double t[KINDS][MAX_TRACED];
    const struct graph *g = e->graph;
    double flops[KINDS] = {0}, total = 0;
    int n_steps[KINDS] = {0}, n = 0;
    memset(t, 0, sizeof t);
    MCS_TRY(mcs_exec_time_steps(e));
    for (const double start = mcs_seconds(); n < MAX_TRACED && (n < 3 || mcs_seconds() - start < b->o->seconds); n++) {
        for (int i = 0; i < g->n_steps; i++)
            t[kind_of(&g->steps[i])][n] -= e->step_seconds[i]; /* step_seconds holds sums over runs */
        MCS_TRY(mcs_exec_run(e));
        for (int i = 0; i < g->n_steps; i++) t[kind_of(&g->steps[i])][n] += e->step_seconds[i];
    }
    for (int i = 0; i < g->n_steps; i++) {
        flops[kind_of(&g->steps[i])] += flops_of(&g->steps[i]);
        n_steps[kind_of(&g->steps[i])]++;
    }
    for (int k = 0; k < KINDS; k++) {
        mcs_bench_sort(t[k], n);
        total += t[k][n / 2];
    }
    for (int k = 0; k < KINDS && b->o->by_op; k++) {
        if (!n_steps[k]) continue;
        const int op = k % MCS_N_OPS, conv = op == OP_conv || op == OP_conv_transpose;
        struct bench_row row = *whole;
        char name[32];
        snprintf(name, sizeof name, "%d steps", n_steps[k]);
        row.op = mcs_op_table[op].name;
        row.name = name;
        row.pass = k < MCS_N_OPS ? "forward" : "backward";
        row.median = t[k][n / 2];
        row.p10 = t[k][n / 10];
        row.p90 = t[k][n - 1 - n / 10];
        row.n_runs = n;
        row.gflops = row.median > 0 ? flops[k] / row.median / 1e9 : 0;
        row.percent = 100 * row.gflops / (conv ? b->peaks.conv : b->peaks.product);
        put_row(b, &row, 1, row.median / total, NAN, NAN);
    }
    return MCS_OK;
}

/* ---- a network ---- */

/* One graph: planned, checked, timed. base: resident MiB at the start, NAN where the peak cannot be measured. */
static enum mcs_status measure(struct bench *b, const struct bench_model *m, const struct bench_network *n,
                               int64_t batch, int train, double base)
{
    const struct graph *g = n->graph;
    struct bench_row row = {
        .model = m->name, .op = "all", .name = "whole network", .pass = train ? "forward and backward" : "forward"};
    struct exec *e;
    enum mcs_status st;
    uint64_t h[2];
    int finite[2];
    MCS_TRY(mcs_exec_new(n->graph, &b->device, &e));
    const double planned = (double)(mcs_plan_bytes(&e->plan) + e->plan.param_bytes + e->plan.grad_bytes) / 1048576;
    snprintf(row.shape, sizeof row.shape, "%lldx%lldx%lldx%lld", (long long)batch, (long long)n->image->dim[1],
             (long long)n->image->dim[2], (long long)n->image->dim[3]);
    if (b->o->common.dry_run) {
        printf("%s, %s, %s: %d steps, %.0f MiB planned (activations %.0f, workspace %.0f, weights %.0f, gradients "
               "%.0f)\n",
               row.model, row.pass, row.shape, g->n_steps, planned, (double)e->plan.activation_bytes / 1048576,
               (double)e->plan.workspace_bytes / 1048576, (double)e->plan.param_bytes / 1048576,
               (double)e->plan.grad_bytes / 1048576);
        mcs_exec_free(e);
        return MCS_OK;
    }
    double best = 0, flops = 0; /* best: seconds for these operations at the machine's peak rates */
    for (int i = 0; i < g->n_steps; i++) {
        const double w = flops_of(&g->steps[i]);
        flops += w, best += w / 1e9 / (is_conv(&g->steps[i]) ? b->peaks.conv : b->peaks.product);
    }
    MCS_TRY_GOTO(fill(e, n, train), st, done);
    for (int i = 0; i < 2; i++) MCS_TRY_GOTO(run_digest(e, n, train, &h[i], &finite[i]), st, done);
    MCS_TRY_GOTO(mcs_bench_time(&b->device, run_exec, e, b->o->seconds, &row), st, done);
    row.gflops = row.median > 0 ? flops / row.median / 1e9 : 0;
    row.percent = row.median > 0 ? 100 * best / row.median : 0;
    put_row(b, &row, finite[0] && finite[1] && h[0] == h[1], 1, planned, status_mib("VmHWM:") - base);
    if (b->o->by_op) st = by_op(b, e, &row);
done:
    mcs_exec_free(e);
    return st;
}

static enum mcs_status bench_model(struct bench *b, const struct bench_model *m)
{
    const int64_t batch = b->o->batch ? b->o->batch : m->batch;
    const int passes = b->o->train ? 2 : 1;
    const double base = reset_peak() ? status_mib("VmRSS:") : NAN;
    struct params *p = mcs_params_new();
    struct bench_network n[2] = {0};
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(!b->o->train || !m->contrastive || batch >= 2, MCS_E_USAGE, st, done,
                     "bench models: a contrastive loss needs a batch of at least 2");
    for (int train = 0; train < passes; train++) {
        n[train].graph = mcs_graph_new(p, b->device.activations);
        n[train].graph->run.seed = (uint64_t)b->o->common.seed;
        m->build(&n[train], batch, b->o->small, train);
        MCS_TRY_GOTO(mcs_graph_status(n[train].graph), st, done);
        if (train) MCS_TRY_GOTO(mcs_grad(n[train].graph, n[train].result, n[train].n_results), st, done);
    }
    MCS_TRY_GOTO(mcs_params_alloc(p, &b->device), st, done);
    MCS_TRY_GOTO(mcs_params_init(p, (uint64_t)b->o->common.seed), st, done);
    for (int train = 0; train < passes && st == MCS_OK; train++) {
        if (train) MCS_TRY_GOTO(mcs_params_alloc_grad(p), st, done);
        st = measure(b, m, &n[train], batch, train, base);
    }
done:
    mcs_graph_free(n[0].graph);
    mcs_graph_free(n[1].graph);
    mcs_params_free(p);
    return st;
}

static int chosen(const struct bench_options *o, const struct bench_model *m)
{
    return !o->model || strcmp(o->model, "all") == 0 ? !m->part : strcmp(o->model, m->name) == 0;
}

enum mcs_status mcs_bench_models(const struct bench_options *o)
{
    struct bench b = {.o = o, .text.json = o->common.json};
    enum mcs_status st = MCS_OK;
    int n = 0;
    for (int i = 0; i < mcs_bench_n_networks; i++) n += chosen(o, &mcs_bench_networks[i]);
    MCS_REQUIRE(n, MCS_E_USAGE,
                "bench models: no model '%s'; known: biomedclip, biomedclip_image, sam_vit_b, sam_vit_b_encoder, "
                "nnunet_2d, all",
                o->model);
    MCS_TRY(mcs_device_open(&o->common.device, &b.device));
    if (st == MCS_OK && !o->common.dry_run) {
        st = mcs_bench_peaks(o, &b.device, &b.peaks);
        if (st == MCS_OK) put_head(&b);
    }
    for (int i = 0; i < mcs_bench_n_networks && st == MCS_OK; i++) {
        if (!chosen(o, &mcs_bench_networks[i])) continue;
        st = mcs_stop_check();
        if (st == MCS_OK) st = bench_model(&b, &mcs_bench_networks[i]);
    }
    mcs_device_close(&b.device);
    if (st == MCS_OK && !o->common.dry_run) st = mcs_bench_write(&b.text, o->output);
    if (st == MCS_OK && b.n_wrong)
        st = MCS_FAIL(MCS_E_FAIL, "%d results are not finite or differ from run to run: see the rows marked WRONG",
                      b.n_wrong);
    mcs_bench_text_free(&b.text);
    return st;
}
