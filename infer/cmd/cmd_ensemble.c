/* mcsam ensemble: masks from the mean probabilities of several predictions. */
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "infer/cases.h"
#include "infer/requests.h"
#include "infer/unet/probability.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ensemble_command {
    struct mcs_common common;
    struct mcs_strings inputs;
    const char *output;
    double threshold;
    int save_probabilities;
};

static const struct mcs_option options[] = {
    {"inputs", 'i', MCS_FIELD(ensemble_command, inputs), .value = "DIR", .required = 1,
     .help = "folder of STEM.h5 from predict --save-probabilities (repeatable)"},
    {"output", 'o', MCS_FIELD(ensemble_command, output), .value = "DIR", .required = 1, .help = "folder for the masks"},
    {"threshold", 0, MCS_FIELD(ensemble_command, threshold), .def = "-1", .lo = -1, .hi = 1, .value = "P",
     .help = "foreground has a probability above P; 0: above the background's; -1: 0 (paper), 0.2 (release)"},
    {"save-probabilities", 0, MCS_FIELD(ensemble_command, save_probabilities), .help = "also the mean, as STEM.h5"},
    {0},
};

/* mean += share * probabilities of one folder's file. */
static enum mcs_status add(const struct case_file *file, float share, struct probability *mean)
{
    struct probability p;
    MCS_TRY(mcs_probability_read(file->path, &p));
    enum mcs_status st = MCS_OK;
    if (!mean->values) {
        MCS_TRY_GOTO(mcs_probability_alloc(mean, p.classes, p.nz, p.ny, p.nx), st, done);
        mean->is_volume = p.is_volume;
        for (int a = 0; a < 3; a++) mean->spacing[a] = p.spacing[a];
    }
    MCS_REQUIRE_GOTO(p.classes == mean->classes && p.nz == mean->nz && p.ny == mean->ny && p.nx == mean->nx, MCS_E_DATA,
                     st, done, "%s: has another shape than the same case in the folders before", file->path);
    const int64_t n = (int64_t)p.classes * p.nz * p.ny * p.nx;
    for (int64_t i = 0; i < n; i++) mean->values[i] += share * p.values[i];
done:
    mcs_probability_free(&p);
    return st;
}

struct job {
    const struct ensemble_command *c;
    struct case_list *lists; /* one per folder */
    struct failure_list failures;
    struct run_folder *run;
    int n_done;
    struct arena arena;
};

/* The case's files in all folders; E_DATA if one is missing. */
static enum mcs_status source_of(struct job *j, const char *stem, struct run_source *source)
{
    const int n = j->c->inputs.n;
    const char **files = mcs_arena_alloc(&j->arena, ((size_t)n + 1) * sizeof *files);
    MCS_TRY(mcs_arena_status(&j->arena));
    for (int i = 0; i < n; i++) {
        const struct case_file *file = mcs_cases_find(&j->lists[i], stem);
        MCS_REQUIRE(file, MCS_E_DATA, "%s: has no %s.h5", j->c->inputs.v[i], stem);
        files[i] = file->path;
    }
    *source = (struct run_source){files, NULL};
    return MCS_OK;
}

static enum mcs_status one_case(struct job *j, const char *stem)
{
    const struct ensemble_command *c = j->c;
    const double form_threshold = c->common.form[MCS_FORM_TRAIN] == MCS_RELEASE ? 0.2 : 0;
    struct probability mean = {0};
    struct run_source source;
    uint8_t *labels = NULL;
    enum mcs_status st = MCS_OK;
    MCS_TRY_GOTO(source_of(j, stem, &source), st, done);
    for (int i = 0; i < c->inputs.n; i++)
        MCS_TRY_GOTO(add(mcs_cases_find(&j->lists[i], stem), 1 / (float)c->inputs.n, &mean), st, done);
    MCS_TRY_GOTO(mcs_case_name_check(c->output, stem, mean.is_volume ? ".nii.gz" : ".png"), st, done);
    labels = malloc((size_t)mean.nz * (size_t)mean.ny * (size_t)mean.nx);
    MCS_REQUIRE_GOTO(labels, MCS_E_NOMEM, st, done, "%s: no memory for its mask", stem);
    mcs_probability_labels(&mean, c->threshold >= 0 ? c->threshold : form_threshold, labels);
    const char *store = mcs_arena_printf(&j->arena, "%s.h5", stem);
    if (c->save_probabilities)
        MCS_TRY_GOTO(mcs_probability_write(mcs_arena_printf(&j->arena, "%s/%s", c->output, store), &mean), st, done);
    MCS_TRY_GOTO(mcs_probability_write_mask(c->output, stem, &mean, labels, NULL), st, done);
    const char *ending = mean.is_volume || mean.nz > 1 ? "nii.gz" : "png",
               *files[] = {mcs_arena_printf(&j->arena, "%s.%s", stem, ending), c->save_probabilities ? store : NULL,
                           NULL};
    MCS_TRY_GOTO(mcs_run_case_add(j->run, stem, &source, files, NULL), st, done);
    st = mcs_run_flush(j->run);
done:
    mcs_probability_free(&mean);
    free(labels);
    return st;
}

/* For each case of the first folder: 1 if an earlier run finished it. NULL: no memory. */
static char *find_done(struct job *j)
{
    const struct case_list *first = &j->lists[0];
    char *done = mcs_arena_alloc(&j->arena, (size_t)first->n + 1);
    for (int i = 0; done && i < first->n; i++) {
        struct run_source source;
        done[i] = source_of(j, first->files[i].stem, &source) == MCS_OK &&
                  mcs_run_case_done(j->run, first->files[i].stem, &source, NULL);
        mcs_error_clear();
        j->n_done += done[i];
    }
    mcs_run_tell_done(j->n_done, first->n);
    return done;
}

static enum mcs_status all_cases(struct job *j)
{
    const struct ensemble_command *c = j->c;
    const struct case_list *first = &j->lists[0];
    const char *done = find_done(j);
    MCS_TRY(mcs_arena_status(&j->arena));
    for (int i = 0; i < first->n; i++) {
        if (done[i]) continue;
        if (mcs_stop_requested()) return mcs_run_stopped(j->n_done, first->n);
        const enum mcs_status st = one_case(j, first->files[i].stem);
        if (st == MCS_E_NOMEM || st == MCS_E_IO || st == MCS_E_FAIL) return st; /* later cases would fail as well */
        if (st != MCS_OK)
            mcs_failures_add_held(&j->failures, first->files[i].stem);
        else
            j->n_done++;
    }
    for (int k = 1; k < c->inputs.n; k++)
        for (int i = 0; i < j->lists[k].n; i++)
            if (!mcs_cases_find(first, j->lists[k].files[i].stem))
                mcs_failures_add(&j->failures, j->lists[k].files[i].stem, "not in the first folder");
    printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases\n", j->n_done);
    return mcs_failures_finish(&j->failures, c->output, j->n_done + j->failures.n);
}

static enum mcs_status run_job(struct job *j)
{
    const struct ensemble_command *c = j->c;
    const int n = c->inputs.n;
    struct run_input *in = mcs_arena_alloc(&j->arena, ((size_t)n + 1) * sizeof *in);
    const struct run_output out = {c->output, "*.h5;*.png;*.nii.gz;config.yaml;failures.csv"};
    MCS_TRY(mcs_arena_status(&j->arena));
    for (int i = 0; i < n; i++) in[i] = (struct run_input){"--inputs", c->inputs.v[i], ".h5"};
    MCS_TRY(mcs_run_check_paths(&c->common.command, &out, 1, in, n));
    for (int i = 0; i < n; i++) MCS_TRY(mcs_cases_list(c->inputs.v[i], ".h5", NULL, &j->lists[i]));
    if (c->common.dry_run) {
        printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases would be written\n", j->lists[0].n);
        return MCS_OK;
    }
    MCS_TRY(mcs_run_open(&c->common.command, c->output, NULL, &j->run));
    const enum mcs_status st = mcs_run_save_config(j->run);
    return mcs_run_close(j->run, st == MCS_OK ? all_cases(j) : st);
}

static enum mcs_status run(const void *command)
{
    const struct ensemble_command *c = command;
    struct job j = {.c = c, .lists = calloc((size_t)c->inputs.n + 1, sizeof *j.lists)};
    MCS_REQUIRE(j.lists, MCS_E_NOMEM, "no memory for the folders");
    const enum mcs_status st = run_job(&j);
    for (int i = 0; i < c->inputs.n; i++) mcs_cases_free(&j.lists[i]);
    free(j.lists);
    mcs_failures_free(&j.failures);
    mcs_arena_free(&j.arena);
    return st;
}

const struct mcs_verb mcs_verb_ensemble = {.name = "ensemble",
                                           .line = "mean of several predictions' probabilities, as masks",
                                           .options = options,
                                           .options_bytes = sizeof(struct ensemble_command),
                                           .run = run};
