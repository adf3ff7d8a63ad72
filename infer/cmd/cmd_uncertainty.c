/* mcsam uncertainty: entropy maps and uncertainty scores of saved probabilities. */
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "infer/cases.h"
#include "infer/requests.h"
#include "infer/unet/row_record.h"

#include <stdio.h>
#include <stdlib.h>

struct uncertainty_command {
    struct mcs_common common;
    const char *input, *output;
    double threshold;
};

static const struct mcs_option options[] = {
    {"input", 'i', MCS_FIELD(uncertainty_command, input), .value = "DIR", .required = 1,
     .help = "folder of STEM.h5 by predict or ensemble with --save-probabilities"},
    {"output", 'o', MCS_FIELD(uncertainty_command, output), .value = "DIR", .required = 1,
     .help = "STEM_entropy.png, STEM_entropy.h5 (bits) and uncertainty.csv"},
    {"threshold", 0, MCS_FIELD(uncertainty_command, threshold), .def = "-1", .lo = -1, .hi = 1, .value = "P",
     .help = "of the mask that the score is divided by; 0: the more probable; -1: 0 (paper), 0.2 (release)"},
    {0},
};

struct job {
    const struct uncertainty_command *c;
    struct case_list list;
    struct failure_list failures;
    struct run_folder *run;
    struct uncertainty_row *rows; /* [case of the list]; stem NULL: not done */
    int n_done;
    struct arena arena;
};

static enum mcs_status one_case(struct job *j, int i)
{
    const struct uncertainty_command *c = j->c;
    const struct case_file *file = &j->list.files[i];
    const enum mcs_form form = c->common.form[MCS_FORM_TRAIN];
    const double threshold = c->threshold >= 0 ? c->threshold : form == MCS_RELEASE ? 0.2 : 0;
    struct uncertainty_row *row = &j->rows[i];
    struct probability p;
    MCS_TRY(mcs_case_name_check(c->output, file->stem, "_entropy.png"));
    MCS_TRY(mcs_probability_read(file->path, &p));
    enum mcs_status st = MCS_OK;
    uint8_t *labels = malloc((size_t)p.nz * (size_t)p.ny * (size_t)p.nx);
    MCS_REQUIRE_GOTO(labels, MCS_E_NOMEM, st, done, "%s: no memory for its mask", file->path);
    mcs_probability_labels(&p, threshold, labels);
    MCS_TRY_GOTO(mcs_probability_write_entropy(c->output, file->stem, &p, NULL, labels, form, row), st, done);
    const struct run_source source = {(const char *const[]){file->path, NULL}, NULL};
    const char *files[] = {mcs_arena_printf(&j->arena, "%s_entropy.h5", file->stem),
                           p.nz == 1 ? mcs_arena_printf(&j->arena, "%s_entropy.png", file->stem) : NULL, NULL};
    MCS_TRY_GOTO(mcs_run_case_add(j->run, file->stem, &source, files, mcs_uncertainty_row_json(row)), st, done);
    MCS_TRY_GOTO(mcs_run_flush(j->run), st, done);
    row->stem = file->stem;
    j->n_done++;
done:
    free(labels);
    mcs_probability_free(&p);
    return st;
}

static void find_done(struct job *j)
{
    for (int i = 0; i < j->list.n; i++) {
        const struct case_file *file = &j->list.files[i];
        const struct run_source source = {(const char *const[]){file->path, NULL}, NULL};
        json_t *row;
        if (!mcs_run_case_done(j->run, file->stem, &source, &row) || !mcs_uncertainty_row_read(row, &j->rows[i]))
            continue;
        j->rows[i].stem = file->stem;
        j->n_done++;
    }
    mcs_run_tell_done(j->n_done, j->list.n);
}

static enum mcs_status all_cases(struct job *j)
{
    const struct uncertainty_command *c = j->c;
    int n = 0;
    find_done(j);
    for (int i = 0; i < j->list.n; i++) {
        if (j->rows[i].stem) continue;
        if (mcs_stop_requested()) return mcs_run_stopped(j->n_done, j->list.n);
        const enum mcs_status st = one_case(j, i);
        if (st == MCS_E_NOMEM || st == MCS_E_IO || st == MCS_E_FAIL) return st; /* later cases would fail as well */
        if (st != MCS_OK) mcs_failures_add_held(&j->failures, j->list.files[i].stem);
    }
    for (int i = 0; i < j->list.n; i++)
        if (j->rows[i].stem) j->rows[n++] = j->rows[i];
    MCS_TRY(mcs_uncertainty_write_csv(c->output, j->rows, n));
    printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases\n", n);
    return mcs_failures_finish(&j->failures, c->output, j->list.n);
}

static enum mcs_status run_job(struct job *j)
{
    const struct uncertainty_command *c = j->c;
    const struct run_output out = {c->output, "*.h5;*.png;uncertainty.csv;config.yaml;failures.csv"};
    const struct run_input in = {"--input", c->input, ".h5"};
    MCS_TRY(mcs_run_check_paths(&c->common.command, &out, 1, &in, 1));
    MCS_TRY(mcs_cases_list(c->input, ".h5", NULL, &j->list));
    if (c->common.dry_run) {
        printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases would be written\n", j->list.n);
        return MCS_OK;
    }
    j->rows = mcs_arena_alloc(&j->arena, ((size_t)j->list.n + 1) * sizeof *j->rows);
    MCS_TRY(mcs_arena_status(&j->arena));
    MCS_TRY(mcs_run_open(&c->common.command, c->output, NULL, &j->run));
    const enum mcs_status st = mcs_run_save_config(j->run);
    return mcs_run_close(j->run, st == MCS_OK ? all_cases(j) : st);
}

static enum mcs_status run(const void *command)
{
    struct job j = {.c = command};
    const enum mcs_status st = run_job(&j);
    mcs_cases_free(&j.list);
    mcs_failures_free(&j.failures);
    mcs_arena_free(&j.arena);
    return st;
}

const struct mcs_verb mcs_verb_uncertainty = {.name = "uncertainty",
                                              .line = "entropy maps and scores of saved probabilities",
                                              .options = options,
                                              .options_bytes = sizeof(struct uncertainty_command),
                                              .run = run};
