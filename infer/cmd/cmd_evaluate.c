/* mcsam evaluate: metrics of predicted masks against references. */
#include "data/image/media.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/run/run_folder.h"
#include "engine/cli/config.h"
#include "infer/metrics/evaluate.h"

#include <math.h>
#include <stdio.h>

struct evaluate_command {
    struct mcs_common common;
    const char *pred, *ref, *output;
    double tolerance;
};

static const struct mcs_option options[] = {
    {"pred", 'i', MCS_FIELD(evaluate_command, pred), .value = "DIR", .required = 1,
     .help = "folder of predicted masks: PNG, JPEG or NIfTI"},
    {"ref", 'r', MCS_FIELD(evaluate_command, ref), .value = "DIR", .required = 1,
     .help = "folder of reference masks; cases are matched by file stem"},
    {"output", 'o', MCS_FIELD(evaluate_command, output), .value = "DIR", .required = 1,
     .help = "folder for summary.json and cases.csv"},
    {"tolerance", 0, MCS_FIELD(evaluate_command, tolerance), .def = "2", .lo = 0, .hi = 1e6, .value = "D",
     .help = "of the NSD, in pixels (mm for NIfTI)"},
    {0},
};

static void print_value(double v, int json)
{
    if (isfinite(v))
        printf("%.6f", v);
    else
        printf(json ? "null" : "-");
}

static void print_means(const struct evaluation *e, int json)
{
    static const char *const names[] = {
#define X(name, field) name,
        MCS_METRIC_LIST(X)
#undef X
    };
    printf(json ? "{\"cases\": %d" : "%d cases; mean and 95 %% interval\n", e->n);
    for (int i = 0; i < MCS_N_METRICS; i++) {
        const struct mean_interval *m = &e->mean[i];
        printf(json ? ", \"%s\": {\"mean\": " : "%-10s ", names[i]);
        print_value(m->mean, json);
        printf(json ? ", \"lo\": " : "  ");
        print_value(m->lo, json);
        printf(json ? ", \"hi\": " : " .. ");
        print_value(m->hi, json);
        printf(json ? ", \"n\": %lld}" : "  (%lld)\n", (long long)m->n);
    }
    if (json) printf("}\n");
}

/* The output may be the folder of the masks, but must not replace another verb's summary.json. */
static enum mcs_status check_paths(const struct evaluate_command *c)
{
    const struct run_output out = {c->output, "summary.json;cases.csv;failures.csv"};
    const struct run_input in[] = {{"--pred", c->pred, MCS_MEDIA_ENDINGS}, {"--ref", c->ref, MCS_MEDIA_ENDINGS}};
    struct arena a = {0};
    const char *path = mcs_arena_printf(&a, "%s/summary.json", c->output);
    json_t *old = NULL;
    enum mcs_status st = mcs_run_check_paths(&c->common.command, &out, 1, in, 2);
    if (st == MCS_OK && mcs_file_exists(path)) {
        if (mcs_json_read(path, 1 << 30, 0, &old) != MCS_OK) mcs_error_clear();
        if (old && !json_object_get(old, "metric_per_case"))
            st = MCS_FAIL(MCS_E_USAGE, "%s: is not of an evaluation and would be overwritten; choose another -o", path);
    }
    json_decref(old);
    mcs_arena_free(&a);
    return st;
}

static enum mcs_status evaluate(const struct evaluate_command *c, const struct evaluate_options *o,
                                struct evaluation *e)
{
    struct run_folder *run;
    if (c->common.dry_run) return mcs_evaluate(c->pred, c->ref, o, e);
    MCS_TRY(mcs_run_open(&c->common.command, c->output, NULL, &run));
    return mcs_run_close(run, mcs_evaluate_folder(c->pred, c->ref, c->output, o, e));
}

static enum mcs_status run(const void *command)
{
    const struct evaluate_command *c = command;
    struct evaluate_options o = mcs_evaluate_defaults(c->common.form[MCS_FORM_METRICS]);
    struct evaluation e;
    o.tolerance = c->tolerance;
    MCS_TRY(check_paths(c));
    const enum mcs_status st = evaluate(c, &o, &e);
    if (st != MCS_OK && st != MCS_E_PARTIAL) return mcs_trace(st, __FILE__, __LINE__);
    print_means(&e, c->common.json);
    mcs_evaluation_free(&e);
    return st;
}

const struct mcs_verb mcs_verb_evaluate = {.name = "evaluate",
                                           .line = "Dice, IoU, NSD, HD95 and ASSD of masks, per case and mean",
                                           .options = options,
                                           .options_bytes = sizeof(struct evaluate_command),
                                           .run = run};
