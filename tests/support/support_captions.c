#include "tests/support/support_captions.h"

#include "engine/base/rng.h"
#include "engine/dist/comm.h"
#include "tests/support/support_counting.h"
#include "tests/support/support_tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *caption_of(int n)
{
    static char words[2 * CAPTION_CONTEXT + 1];
    if (!words[0])
        for (int i = 0; i < CAPTION_CONTEXT; i++) memcpy(words + 2 * i, " a", 2);
    return words + 2 * (CAPTION_CONTEXT - (n - 2)) + 1;
}

struct clip_config caption_towers(void)
{
    struct clip_config c = tiny_clip_config();
    c.image_size = 8;
    c.v_depth = c.t_depth = 1;
    c.v_width = c.t_width = 8;
    c.v_heads = c.t_heads = 1;
    c.v_mlp = c.t_mlp = 16;
    c.context = c.positions = CAPTION_CONTEXT;
    return c;
}

struct pairs caption_pairs(int n, const char *image)
{
    const double mean = 58, deviation = 46, variance = log(1 + deviation * deviation / (mean * mean));
    struct pairs p = {.n = n, .v = calloc((size_t)n, sizeof *p.v)};
    if (!p.v) abort();
    for (int i = 0; i < n; i++) {
        const struct mcs_rng r = {.seed = 17, .site = mcs_rng_site("tests.captions"), .sample = (uint32_t)i};
        const double tokens = exp(log(mean) - variance / 2 + sqrt(variance) * mcs_rng_normal(r, 0));
        p.v[i] = (struct pair){.image = (char *)(uintptr_t)image,
                               .caption = (char *)(uintptr_t)caption_of((int)fmin(fmax(tokens, 3), CAPTION_CONTEXT)),
                               .stem = (char *)(uintptr_t)image};
    }
    return p;
}

void caption_pairs_free(struct pairs *p)
{
    free(p->v);
    *p = (struct pairs){0};
}

int caption_tokens(const struct pairs *p, int i)
{
    return 2 + (int)(strlen(p->v[i].caption) + 1) / 2; /* "a a a" */
}

/* Resident anonymous memory: file-backed pages may be dropped and read again at any time. */
static double resident_mib(void)
{
    char line[200];
    double kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lf kB", &kib) == 1) break;
    if (f) fclose(f);
    cr_assert_geq(kib, 0, "/proc/self/status says no RssAnon");
    return kib / 1024;
}

/* A pair source that records token rows and memory. */
struct watched {
    struct pair_source source;
    struct caption_run *run;
    struct counting *device;
    int rank, at_start;
};

static enum mcs_status fill(void *ctx, int64_t step, struct clip_batch *b)
{
    struct watched *w = ctx;
    struct caption_run *run = w->run;
    int64_t rows = 0;
    if (step == 1) w->at_start = w->device->n_allocations;
    run->allocations[w->rank] = w->device->n_allocations - w->at_start;
    if (w->rank == 0 && step == run->early) run->early_mib = resident_mib();
    if (w->rank == 0 && step == run->steps - 1) run->last_mib = resident_mib();
    MCS_TRY(mcs_pair_source_fill(&w->source, step, b));
    for (int64_t i = 0; i < b->n; i++) rows += 2 + (int64_t)(strlen(b->texts[i]) + 1) / 2;
    if (rows > run->most_rows[w->rank]) run->most_rows[w->rank] = rows;
    return MCS_OK;
}

static enum mcs_status train(struct caption_run *run, struct comm *c, struct device *d, struct clip_model *m,
                             struct watched *w)
{
    const int rank = mcs_comm_rank(c), ranks = mcs_comm_size(c);
    struct clip_train_options o = {.batch = run->batch,
                                   .steps = run->steps,
                                   .lr = 1e-4,
                                   .weight_decay = 0.1,
                                   .clip_norm = 1,
                                   .loss = {.b_image = 0.15f, .b_text = 0.15f, .inv_tau = 1 / 0.6f},
                                   .seed = 3,
                                   .run = run->folder,
                                   .config = "a: 1\n",
                                   .comm = c};
    struct train_memory memory;
    MCS_TRY(mcs_pair_source_open(&w->source, run->pairs, &m->config, run->batch, 1, 3));
    MCS_TRY(mcs_pair_source_max_rows(&w->source, m->tokenizer, run->steps, ranks, &o.max_rows));
    run->max_rows[rank] = o.max_rows;
    MCS_TRY(mcs_clip_train_memory(m, &o, &memory));
    run->planned[rank] = mcs_memory_bytes(&memory);
    const enum mcs_status st = mcs_clip_train(m, &o, &(struct clip_source){fill, w}, NULL);
    run->taken[rank] = counting_of(d)->peak;
    return st;
}

static enum mcs_status run_rank(void *ctx, struct ranks *r)
{
    struct caption_run *run = ctx;
    struct device d;
    struct counting counted;
    struct comm *c = NULL;
    struct clip_model m;
    MCS_TRY(mcs_cpu_open(1, &d));
    count_device(&d, &counted);
    struct watched w = {.run = run, .device = &counted, .rank = r->rank};
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c);
    if (st == MCS_OK) st = mcs_clip_model_new(&run->config, run->vocabulary, 5, &d, NULL, &m);
    if (st == MCS_OK) {
        st = train(run, c, &d, &m, &w);
        mcs_pair_source_close(&w.source);
        mcs_clip_model_close(&m);
    }
    mcs_comm_close(c, st);
    mcs_device_close(&d);
    return st;
}

enum mcs_status caption_run(struct caption_run *run, int ranks)
{
    return mcs_ranks_run(ranks, run_rank, run);
}
