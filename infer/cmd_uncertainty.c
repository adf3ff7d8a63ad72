/* mcsam uncertainty: entropy maps and scores of saved probabilities. */
#include "data/file.h"
#include "engine/config.h"
#include "infer/cases.h"
#include "infer/probability.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static enum mcs_status one_case(const struct uncertainty_command *c, const struct case_file *file,
                                struct uncertainty_row *row)
{
    const enum mcs_form form = c->common.form[MCS_FORM_TRAIN];
    const double threshold = c->threshold >= 0 ? c->threshold : form == MCS_RELEASE ? 0.2 : 0;
    struct probability p;
    MCS_TRY(mcs_case_name_check(c->output, file->stem, "_entropy.png"));
    MCS_TRY(mcs_probability_read(file->path, &p));
    enum mcs_status st = MCS_OK;
    uint8_t *labels = malloc((size_t)p.nz * (size_t)p.ny * (size_t)p.nx);
    MCS_REQUIRE_GOTO(labels, MCS_E_NOMEM, st, done, "%s: no memory for its mask", file->path);
    mcs_probability_labels(&p, threshold, labels);
    row->stem = file->stem;
    MCS_TRY_GOTO(mcs_probability_write_entropy(c->output, file->stem, &p, NULL, labels, form, row), st, done);
done:
    free(labels);
    mcs_probability_free(&p);
    return st;
}

static enum mcs_status all_cases(const struct uncertainty_command *c, const struct case_list *list,
                                 struct uncertainty_row *rows, struct failure_list *failures)
{
    int n = 0;
    MCS_TRY(mcs_folder_make(c->output));
    for (int i = 0; i < list->n; i++) {
        const enum mcs_status st = one_case(c, &list->files[i], &rows[n]);
        if (st == MCS_E_NOMEM || st == MCS_E_IO || st == MCS_E_FAIL) return st; /* the next case would fail alike */
        if (st != MCS_OK)
            mcs_failures_add_held(failures, list->files[i].stem);
        else
            n++;
    }
    MCS_TRY(mcs_uncertainty_write_csv(c->output, rows, n));
    MCS_TRY(mcs_failures_write(failures, c->output));
    printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases\n", n);
    MCS_REQUIRE(!failures->n, MCS_E_PARTIAL, "%d of %d cases failed; %s/failures.csv says why", failures->n, list->n,
                c->output);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct uncertainty_command *c = command;
    struct failure_list failures = {0};
    struct case_list list = {0};
    enum mcs_status st;
    MCS_REQUIRE(strcmp(c->input, c->output) != 0, MCS_E_USAGE,
                "-o must be another folder than -i, whose files it reads");
    MCS_TRY(mcs_cases_list(c->input, ".h5", NULL, &list));
    struct uncertainty_row *rows = calloc((size_t)list.n + 1, sizeof *rows);
    MCS_REQUIRE_GOTO(rows, MCS_E_NOMEM, st, done, "no memory for the scores");
    if (c->common.dry_run) {
        printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases would be written\n", list.n);
        st = MCS_OK;
    } else
        MCS_TRY_GOTO(all_cases(c, &list, rows, &failures), st, done);
done:
    free(rows);
    mcs_cases_free(&list);
    mcs_failures_free(&failures);
    return st;
}

const struct mcs_verb mcs_verb_uncertainty = {.name = "uncertainty",
                                              .line = "entropy maps and scores of saved probabilities",
                                              .options = options,
                                              .options_bytes = sizeof(struct uncertainty_command),
                                              .run = run};
