/* `bench comm`: the collectives of training over several ranks, reported like nccl-tests: size, count, type, time,
 * algorithm bandwidth, bus bandwidth, wrong values. The bus bandwidth is the algorithm bandwidth times the share of the
 * data that must pass the slowest link: 2(n-1)/n for an allreduce (reduce-scatter and allgather), (n-1)/n for an
 * allgather, whose size is that of all ranks together, 1 for a broadcast. It can be compared with a link's rate,
 * whatever the number of ranks. */
#include "bench/bench.h"

#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "train/run/process_group.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 9, MOST_CALLS = 100 /* in a round */ };

enum collective { SUM, GATHER, BROADCAST, N_COLLECTIVES };
static const struct {
    const char *name, *pass;
} collectives[N_COLLECTIVES] = {{"all_reduce", "sum"}, {"all_gather", "gather"}, {"broadcast", "from rank 0"}};

struct bench_comm {
    const struct bench_options *o;
    struct bench_text text;
    int64_t n_wrong;
    int counts; /* a simulated device: no times */
};

/* One collective of one size on one rank. src: this rank's contribution, in place for allreduce and broadcast. */
struct task {
    const struct process_group *group;
    enum collective what;
    int64_t count; /* floats: of src, for an allgather of dst */
    float *src, *dst;
};

/* Floats that one rank contributes. */
static int64_t part_of(const struct task *u)
{
    return u->what == GATHER ? u->count / u->group->size : u->count;
}

/* Rank r's contribution at i: small integers, whose sums are exact, different in every rank. */
static float value_of_rank(int r, int64_t i)
{
    return (float)((i * 7 + r * 13 + i / 1024) % 101 - 50);
}

static float wanted(const struct task *u, int64_t i)
{
    float sum = 0;
    if (u->what == BROADCAST) return value_of_rank(0, i);
    if (u->what == GATHER) return value_of_rank((int)(i / part_of(u)), i % part_of(u));
    for (int r = 0; r < u->group->size; r++) sum += value_of_rank(r, i);
    return sum;
}

static enum mcs_status call(const struct task *u)
{
    struct comm *c = u->group->comm;
    if (u->what == SUM) return mcs_comm_allreduce_sum(c, u->src, u->count, "bench");
    if (u->what == GATHER) return mcs_comm_allgather(c, u->src, u->dst, part_of(u), "bench");
    return mcs_comm_broadcast(c, u->src, u->count, "bench");
}

/* Runs the collective once and counts the wrong values on this rank. */
static enum mcs_status check(const struct task *u, int64_t *wrong)
{
    struct device *d = u->group->device;
    const int64_t n = u->count;
    float *v = malloc((size_t)n * sizeof *v);
    MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %lld values", (long long)n);
    enum mcs_status st;
    *wrong = 0;
    for (int64_t i = 0; i < part_of(u); i++) v[i] = value_of_rank(u->group->rank, i);
    MCS_TRY_GOTO(d->backend->upload(d, u->src, v, 4 * part_of(u)), st, done);
    MCS_TRY_GOTO(call(u), st, done);
    MCS_TRY_GOTO(mcs_comm_join(u->group->comm), st, done);
    MCS_TRY_GOTO(mcs_comm_wait(u->group->comm), st, done);
    MCS_TRY_GOTO(d->backend->download(d, v, u->what == GATHER ? u->dst : u->src, 4 * n), st, done);
    for (int64_t i = 0; i < n; i++) *wrong += v[i] != wanted(u, i);
done:
    free(v);
    return st;
}

/* Seconds per call in each of ROUNDS rounds of n calls, averaged over ranks as in nccl-tests. */
static enum mcs_status rounds(const struct task *u, int n, double *seconds)
{
    struct device *d = u->group->device;
    MCS_TRY(d->backend->zero(d, u->src, 4 * part_of(u))); /* repeated sums would overflow float */
    MCS_TRY(d->backend->sync(d));
    for (int k = 0; k < ROUNDS; k++) {
        MCS_TRY(mcs_comm_barrier(u->group->comm, "bench"));
        const double begin = mcs_seconds();
        for (int i = 0; i < n; i++) MCS_TRY(call(u));
        MCS_TRY(mcs_comm_join(u->group->comm));
        MCS_TRY(mcs_comm_wait(u->group->comm));
        float all[COMM_VALUES], mine = (float)(1e6 * (mcs_seconds() - begin) / n);
        MCS_TRY(mcs_comm_values(u->group->comm, &mine, 1, all, "bench"));
        double sum = 0;
        for (int i = 0; i < u->group->size; i++) sum += all[i];
        seconds[k] = 1e-6 * sum / u->group->size;
    }
    return MCS_OK;
}

static void put_row(struct bench_comm *b, const struct task *u, const double *t, int n_calls, int64_t wrong)
{
    const double bytes = 4 * (double)u->count, n = u->group->size, median = t[ROUNDS / 2];
    const double algorithm = median > 0 ? bytes / median / 1e9 : 0;
    const double bus = algorithm * (u->what == SUM ? 2 * (n - 1) / n : u->what == GATHER ? (n - 1) / n : 1);
    const char *name = collectives[u->what].name, *pass = collectives[u->what].pass, *by = u->group->comm->ops->name;
    char rate[96], times[160] = "";
    snprintf(rate, sizeof rate, "%.1f | %.3f | %.3f", 1e6 * median, algorithm, bus);
    if (b->counts) snprintf(rate, sizeof rate, "| |");
    mcs_bench_put(&b->text, BENCH_MD, "| %s | %.0f | %lld | float | %s | %s | %lld%s |\n", name, bytes,
                  (long long)u->count, pass, rate, (long long)wrong, wrong ? " WRONG" : "");
    if (!b->counts)
        snprintf(times, sizeof times, "%.6g,%.6g,%.6g,%d,%.6g,%.6g", median, t[ROUNDS / 10],
                 t[ROUNDS - 1 - ROUNDS / 10], ROUNDS * n_calls, algorithm, bus);
    mcs_bench_put(&b->text, BENCH_CSV, "%d ranks by %s,%s,%s,\"%s\",%lld floats,%.0f,%lld,%s\n", u->group->size, by,
                  name, "float", pass, (long long)u->count, bytes, (long long)wrong, b->counts ? ",,,,," : times);
    if (!b->counts)
        snprintf(times, sizeof times, ", \"median_s\": %.6g, \"algbw_gbytes_s\": %.6g, \"busbw_gbytes_s\": %.6g",
                 median, algorithm, bus);
    mcs_bench_put(
        &b->text, BENCH_JSONL,
        "{\"model\": \"%d ranks by %s\", \"op\": \"%s\", \"what\": \"%s\", \"pass\": \"%s\", \"shape\": \"%lld "
        "floats\", \"bytes\": %.0f, \"wrong\": %lld%s}\n",
        u->group->size, by, name, "float", pass, (long long)u->count, bytes, (long long)wrong, times);
}

static void put_head(struct bench_comm *b, const struct process_group *group)
{
    mcs_bench_put(
        &b->text, BENCH_MD,
        "%d ranks by %s%s.\n\n| collective | size B | count | type | what | time us | algbw GB/s | busbw GB/s | "
        "wrong |\n|---|---|---|---|---|---|---|---|---|\n",
        group->size, group->comm->ops->name, b->counts ? ", simulated: no times" : "");
    mcs_bench_put(&b->text, BENCH_CSV,
                  "model,op,what,pass,shape,bytes,wrong,median_s,p10_s,p90_s,runs,algbw_gbytes_s,busbw_gbytes_s\n");
}

static enum mcs_status measure_one(struct bench_comm *b, const struct task *u)
{
    double t[ROUNDS] = {0};
    int64_t wrong;
    int n = 0;
    float mine, all[COMM_VALUES];
    MCS_TRY(check(u, &wrong));
    if (!b->counts) {
        MCS_TRY(rounds(u, 1, t)); /* the first round also determines the number of calls, the same on all ranks */
        mcs_bench_sort(t, ROUNDS);
        const double fit = b->o->seconds / ROUNDS / t[ROUNDS / 2];
        n = fit < 1 ? 1 : fit > MOST_CALLS ? MOST_CALLS : (int)fit;
        MCS_TRY(mcs_comm_allreduce_max(u->group->comm, n, &n, "calls"));
        MCS_TRY(rounds(u, n, t));
        mcs_bench_sort(t, ROUNDS);
    }
    mine = (float)wrong;
    MCS_TRY(mcs_comm_values(u->group->comm, &mine, 1, all, "wrong values"));
    for (int r = wrong = 0; r < u->group->size; r++) wrong += (int64_t)all[r];
    if (u->group->rank) return MCS_OK;
    b->n_wrong += wrong;
    put_row(b, u, t, n, wrong);
    return MCS_OK;
}

static enum mcs_status measure(void *ctx, const struct process_group *group)
{
    struct bench_comm *b = ctx;
    struct device *d = group->device;
    const int64_t most = b->o->small ? 1 << 14 : 1 << 28; /* bytes */
    struct task u = {.group = group};
    void *p[2] = {NULL, NULL};
    enum mcs_status st = MCS_OK;
    if (group->rank == 0) {
        b->counts = mcs_bench_counts(d);
        put_head(b, group);
    }
    MCS_TRY(mcs_comm_barrier(group->comm, "bench")); /* all ranks read counts */
    for (int i = 0; i < 2 && st == MCS_OK; i++) st = d->backend->alloc(d, most, &p[i]);
    u.src = p[0], u.dst = p[1];
    for (int k = 0; k < N_COLLECTIVES && st == MCS_OK; k++)
        for (int64_t bytes = b->o->small ? 1 << 6 : 1 << 10; bytes <= most && st == MCS_OK; bytes *= 16) {
            u.what = (enum collective)k;
            u.count = bytes / 4 / group->size * group->size;
            int stop = 0;
            st = mcs_comm_allreduce_max(group->comm, mcs_stop_requested(), &stop,
                                        "request to stop"); /* all ranks or none */
            if (st == MCS_OK && stop) st = mcs_stop_check();
            if (st == MCS_OK) st = measure_one(b, &u);
        }
    if (st == MCS_OK) st = mcs_comm_wait(group->comm);
    for (int i = 0; i < 2; i++)
        if (p[i]) d->backend->free(d, p[i]);
    return st;
}

enum mcs_status mcs_bench_comm(const struct bench_options *o)
{
    struct bench_comm b = {.o = o, .text.json = o->common.json};
    MCS_REQUIRE(o->gpus >= 2, MCS_E_USAGE, "bench comm: --gpus N, 2 or more, says over how many ranks");
    enum mcs_status st = mcs_process_group_run(&(struct process_group_options){.device = &o->common.device,
                                                                               .dry_run = o->common.dry_run,
                                                                               .gpus = o->gpus,
                                                                               .run = ".",
                                                                               .config = "bench comm"},
                                               measure, &b);
    if (st == MCS_OK) st = mcs_bench_write(&b.text, o->output);
    if (st == MCS_OK && b.n_wrong)
        st = MCS_FAIL(MCS_E_FAIL, "%lld values are wrong: see the rows marked WRONG", (long long)b.n_wrong);
    mcs_bench_text_free(&b.text);
    return st;
}
