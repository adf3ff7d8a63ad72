/* mcsam ensemble: the mean of several predictions' probabilities, as masks. */
#include "data/file.h"
#include "engine/config.h"
#include "infer/cases.h"
#include "infer/probability.h"

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
     .help = "folder of STEM.h5 by predict --save-probabilities; give it again for each"},
    {"output", 'o', MCS_FIELD(ensemble_command, output), .value = "DIR", .required = 1, .help = "folder for the masks"},
    {"threshold", 0, MCS_FIELD(ensemble_command, threshold), .def = "-1", .lo = -1, .hi = 1, .value = "P",
     .help = "foreground is what is more probable than P; 0: than the background; -1: 0 (paper), 0.2 (release)"},
    {"save-probabilities", 0, MCS_FIELD(ensemble_command, save_probabilities), .help = "also the mean, as STEM.h5"},
    {0},
};

/* mean += share * the same case of one more folder. */
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

static enum mcs_status one_case(const struct ensemble_command *c, const struct case_list *lists, const char *stem)
{
    const double otherwise = c->common.form[MCS_FORM_TRAIN] == MCS_RELEASE ? 0.2 : 0;
    struct probability mean = {0};
    uint8_t *labels = NULL;
    char path[4096];
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < c->inputs.n; i++) {
        const struct case_file *file = mcs_cases_find(&lists[i], stem);
        MCS_REQUIRE_GOTO(file, MCS_E_DATA, st, done, "%s: has no %s.h5", c->inputs.v[i], stem);
        MCS_TRY_GOTO(add(file, 1 / (float)c->inputs.n, &mean), st, done);
    }
    MCS_TRY_GOTO(mcs_case_name_check(c->output, stem, mean.is_volume ? ".nii.gz" : ".png"), st, done);
    labels = malloc((size_t)mean.nz * (size_t)mean.ny * (size_t)mean.nx);
    MCS_REQUIRE_GOTO(labels, MCS_E_NOMEM, st, done, "%s: no memory for its mask", stem);
    mcs_probability_labels(&mean, c->threshold >= 0 ? c->threshold : otherwise, labels);
    snprintf(path, sizeof path, "%s/%s.h5", c->output, stem);
    if (c->save_probabilities) MCS_TRY_GOTO(mcs_probability_write(path, &mean), st, done);
    MCS_TRY_GOTO(mcs_probability_write_mask(c->output, stem, &mean, labels, NULL), st, done);
done:
    mcs_probability_free(&mean);
    free(labels);
    return st;
}

static enum mcs_status all_cases(const struct ensemble_command *c, const struct case_list *lists,
                                 struct failure_list *failures)
{
    int n = 0;
    MCS_TRY(mcs_folder_make(c->output));
    for (int i = 0; i < lists[0].n; i++) {
        const enum mcs_status st = one_case(c, lists, lists[0].files[i].stem);
        if (st == MCS_E_NOMEM || st == MCS_E_IO || st == MCS_E_FAIL) return st; /* the next case would fail alike */
        if (st != MCS_OK)
            mcs_failures_add_held(failures, lists[0].files[i].stem);
        else
            n++;
    }
    for (int k = 1; k < c->inputs.n; k++)
        for (int i = 0; i < lists[k].n; i++)
            if (!mcs_cases_find(&lists[0], lists[k].files[i].stem))
                mcs_failures_add(failures, lists[k].files[i].stem, "not in the first folder");
    MCS_TRY(mcs_failures_write(failures, c->output));
    printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases\n", n);
    MCS_REQUIRE(!failures->n, MCS_E_PARTIAL, "%d cases failed; %s/failures.csv says why", failures->n, c->output);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct ensemble_command *c = command;
    struct failure_list failures = {0};
    enum mcs_status st = MCS_OK;
    struct case_list *lists = calloc((size_t)c->inputs.n + 1, sizeof *lists);
    MCS_REQUIRE(lists, MCS_E_NOMEM, "no memory for the folders");
    for (int i = 0; i < c->inputs.n; i++)
        MCS_REQUIRE_GOTO(strcmp(c->inputs.v[i], c->output) != 0, MCS_E_USAGE, st, done,
                         "-o must be another folder than %s, whose files it reads", c->inputs.v[i]);
    for (int i = 0; i < c->inputs.n; i++)
        MCS_TRY_GOTO(mcs_cases_list(c->inputs.v[i], ".h5", NULL, &lists[i]), st, done);
    if (c->common.dry_run)
        printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases would be written\n", lists[0].n);
    else
        MCS_TRY_GOTO(all_cases(c, lists, &failures), st, done);
done:
    for (int i = 0; i < c->inputs.n; i++) mcs_cases_free(&lists[i]);
    free(lists);
    mcs_failures_free(&failures);
    return st;
}

const struct mcs_verb mcs_verb_ensemble = {.name = "ensemble",
                                           .line = "mean of several predictions' probabilities, as masks",
                                           .options = options,
                                           .options_bytes = sizeof(struct ensemble_command),
                                           .run = run};
