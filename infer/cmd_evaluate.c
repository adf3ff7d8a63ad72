/* mcsam evaluate: predicted masks against references. */
#include "engine/config.h"
#include "infer/evaluate.h"

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

static enum mcs_status run(const void *command)
{
    const struct evaluate_command *c = command;
    struct evaluate_options o = mcs_evaluate_defaults(c->common.form[MCS_FORM_METRICS]);
    struct evaluation e;
    o.tolerance = c->tolerance;
    enum mcs_status st = c->common.dry_run ? mcs_evaluate(c->pred, c->ref, &o, &e)
                                           : mcs_evaluate_folder(c->pred, c->ref, c->output, &o, &e);
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
