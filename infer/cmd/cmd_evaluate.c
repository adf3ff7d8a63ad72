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
    const char *pred, *ref, *output, *labels, *ignore_label;
    double tolerance, lesion_iou;
    int merge_labels, resample;
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
    {"labels", 0, MCS_FIELD(evaluate_command, labels), .value = "LIST",
     .help =
         "classes and regions, as 1,2 or organ=1+2,tumour=2, or a dataset.json; default: those that the files have"},
    {"merge-labels", 0, MCS_FIELD(evaluate_command, merge_labels), .help = "all labels but 0 are one mask"},
    {"ignore-label", 0, MCS_FIELD(evaluate_command, ignore_label), .value = "N",
     .help = "label of references whose pixels count nowhere, such as 255 or -1"},
    {"resample", 0, MCS_FIELD(evaluate_command, resample),
     .help = "take predictions on another grid than their reference by the nearest voxel"},
    {"lesion-iou", 0, MCS_FIELD(evaluate_command, lesion_iou), .def = "0.1", .lo = 0, .hi = 1, .value = "X",
     .help = "least IoU of a lesion that is found"},
    {0},
};

static void print_value(double v, int json)
{
    if (isfinite(v))
        printf("%.6f", v);
    else
        printf(json ? "null" : "-");
}

static const char *const names[] = {
#define X(name, field, text) name,
    MCS_METRIC_LIST(X)
#undef X
};

static void print_json(const struct evaluation *e)
{
    printf("{\"cases\": %d", e->n);
    for (int k = 0; k < e->regions.n; k++) {
        const int nested = e->regions.n > 1;
        if (nested) printf(k ? "}, \"%s\": {" : ", \"regions\": {\"%s\": {", e->regions.v[k].name);
        for (int i = 0; i < MCS_N_METRICS; i++) {
            const struct mean_interval *m = &e->mean[k * MCS_N_METRICS + i];
            printf("%s\"%s\": {\"mean\": ", nested && i == 0 ? "" : ", ", names[i]);
            print_value(m->mean, 1);
            printf(", \"lo\": ");
            print_value(m->lo, 1);
            printf(", \"hi\": ");
            print_value(m->hi, 1);
            printf(", \"n\": %lld}", (long long)m->n);
        }
    }
    printf(e->regions.n > 1 ? "}}}\n" : "}\n");
}

/* One line for each metric: mean, interval, and how many cases are in it. */
static void print_region(const struct evaluation *e, int k)
{
    const struct empty_counts *c = &e->empty[k];
    for (int i = 0; i < MCS_N_METRICS; i++) {
        const struct mean_interval *m = &e->mean[k * MCS_N_METRICS + i];
        printf("%-18s ", names[i]);
        print_value(m->mean, 0);
        printf("  ");
        print_value(m->lo, 0);
        printf(" .. ");
        print_value(m->hi, 0);
        printf("  (%lld%s)\n", (long long)m->n, m->n_left_out ? "*" : "");
    }
    if (c->both + c->ref + c->pred)
        printf(
            "* left out where undefined: %d cases with both masks empty, %d with an empty reference, %d with an empty "
            "prediction\n",
            c->both, c->ref, c->pred);
}

static void print_means(const struct evaluation *e)
{
    enum { SHOWN = 8 };
    printf("%d cases; mean, 95 %% interval by bootstrap, cases in the mean\n", e->n);
    for (int k = 0; k < e->regions.n && (k < SHOWN || e->regions.n == SHOWN + 1); k++) {
        if (e->regions.n > 1) printf("\n%s\n", e->regions.v[k].name);
        print_region(e, k);
    }
    if (e->regions.n == 1) return;
    printf("\nmean of %d regions\n", e->regions.n);
    for (int i = 0; i < MCS_N_METRICS; i++) {
        printf("%-18s ", names[i]);
        print_value(mcs_evaluation_foreground(e, i), 0);
        printf("\n");
    }
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
    o.lesion_iou = c->lesion_iou;
    o.labels = c->labels;
    o.merge = c->merge_labels;
    o.resample = c->resample;
    o.seed = (uint64_t)c->common.seed;
    MCS_TRY(mcs_label_rule_parse(c->ignore_label, &o.rule));
    MCS_REQUIRE(!(c->labels && c->merge_labels), MCS_E_USAGE, "--labels and --merge-labels: give one of them");
    MCS_TRY(check_paths(c));
    const enum mcs_status st = evaluate(c, &o, &e);
    if (st != MCS_OK && st != MCS_E_PARTIAL) return mcs_trace(st, __FILE__, __LINE__);
    if (c->common.json)
        print_json(&e);
    else
        print_means(&e);
    mcs_evaluation_free(&e);
    return st;
}

const struct mcs_verb mcs_verb_evaluate = {.name = "evaluate",
                                           .line = "Dice, IoU, NSD, HD95 and ASSD of masks, per case and mean",
                                           .options = options,
                                           .options_bytes = sizeof(struct evaluate_command),
                                           .run = run};
