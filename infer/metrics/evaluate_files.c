/* summary.json and cases.csv of an evaluation. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "infer/metrics/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/*  name in nnU-Net's summary, member of mask_metrics */
#define COUNT_LIST(X)                                                                                                  \
    X("TP", counts.tp)                                                                                                 \
    X("FP", counts.fp)                                                                                                 \
    X("FN", counts.fn)                                                                                                 \
    X("TN", counts.tn)                                                                                                 \
    X("n_pred", counts.n_pred)                                                                                         \
    X("n_ref", counts.n_ref)                                                                                           \
    X("lesions_pred", lesions.n_pred)                                                                                  \
    X("lesions_ref", lesions.n_ref)                                                                                    \
    X("lesions_matched", lesions.n_matched)
enum {
#define X(name, member) +1
    N_COUNTS = 0 COUNT_LIST(X)
#undef X
};

static const struct {
    const char *name, *text;
} metrics[] = {
#define X(name, field, text) {name, text},
    MCS_METRIC_LIST(X)
#undef X
};
static const char *const count_names[] = {
#define X(name, member) name,
    COUNT_LIST(X)
#undef X
};

static int64_t count_value(const struct mask_metrics *m, int k)
{
    const int64_t values[] = {
#define X(name, member) m->member,
        COUNT_LIST(X)
#undef X
    };
    return values[k];
}

static json_t *metrics_to_json(const struct mask_metrics *m)
{
    json_t *o = json_object();
    for (int i = 0; i < MCS_N_METRICS; i++)
        json_object_set_new(o, metrics[i].name, mcs_json_number(mcs_metric_value(m, i)));
    for (int i = 0; i < N_COUNTS; i++) json_object_set_new(o, count_names[i], json_integer(count_value(m, i)));
    return o;
}

static double mean_count(const struct evaluation *e, int region, int k)
{
    double sum = 0.0;
    for (int i = 0; i < e->n; i++) sum += (double)count_value(&e->cases[i].m[region], k);
    return e->n ? sum / e->n : NAN;
}

static json_t *means_to_json(const struct evaluation *e, int region)
{
    json_t *o = json_object();
    for (int i = 0; i < MCS_N_METRICS; i++)
        json_object_set_new(o, metrics[i].name, mcs_json_number(e->mean[region * MCS_N_METRICS + i].mean));
    for (int i = 0; i < N_COUNTS; i++)
        json_object_set_new(o, count_names[i], mcs_json_number(mean_count(e, region, i)));
    return o;
}

/* Means over the regions. */
static json_t *foreground_to_json(const struct evaluation *e)
{
    json_t *o = json_object();
    for (int i = 0; i < MCS_N_METRICS; i++)
        json_object_set_new(o, metrics[i].name, mcs_json_number(mcs_evaluation_foreground(e, i)));
    for (int i = 0; i < N_COUNTS; i++) {
        double sum = 0;
        for (int k = 0; k < e->regions.n; k++) sum += mean_count(e, k, i) / e->regions.n;
        json_object_set_new(o, count_names[i], mcs_json_number(e->regions.n ? sum : NAN));
    }
    return o;
}

static json_t *intervals_to_json(const struct evaluation *e, int region)
{
    json_t *o = json_object();
    for (int i = 0; i < MCS_N_METRICS; i++) {
        const struct mean_interval *m = &e->mean[region * MCS_N_METRICS + i];
        json_object_set_new(o, metrics[i].name,
                            json_pack("{s:I, s:I, s:o, s:o}", "n", (json_int_t)m->n, "left_out",
                                      (json_int_t)m->n_left_out, "lo", mcs_json_number(m->lo), "hi",
                                      mcs_json_number(m->hi)));
    }
    return o;
}

/* Each region's labels, and its cases with an empty mask. */
static void regions_to_json(const struct evaluation *e, json_t *regions, json_t *empty)
{
    for (int k = 0; k < e->regions.n; k++) {
        const struct region *r = &e->regions.v[k];
        json_t *labels = r->any ? json_string("all but 0") : json_array();
        for (int i = 0; i < r->n; i++) json_array_append_new(labels, json_integer(r->labels[i]));
        json_object_set_new(regions, r->name, labels);
        json_object_set_new(empty, r->name,
                            json_pack("{s:i, s:i, s:i}", "both", e->empty[k].both, "reference", e->empty[k].ref,
                                      "prediction", e->empty[k].pred));
    }
}

static json_t *case_to_json(const struct evaluation *e, const struct evaluated_case *c)
{
    json_t *by_region = json_object();
    for (int k = 0; k < e->regions.n; k++)
        json_object_set_new(by_region, e->regions.v[k].name, metrics_to_json(&c->m[k]));
    json_t *o = json_pack("{s:o, s:o, s:o}", "metrics", by_region, "prediction_file", mcs_json_text(c->pred),
                          "reference_file", mcs_json_text(c->ref));
    if (*c->note) json_object_set_new(o, "note", mcs_json_text(c->note));
    return o;
}

/* summary.json in nnU-Net's layout, whose keys of "mean" and of a case's "metrics" are the regions' names. */
static enum mcs_status write_summary(const char *out, const struct evaluate_options *o, const struct evaluation *e)
{
    json_t *cases = json_array(), *failures = json_array(), *means = json_object(), *intervals = json_object(),
           *definitions = json_object(), *regions = json_object(), *empty = json_object();
    for (int i = 0; i < e->n; i++) json_array_append_new(cases, case_to_json(e, e->cases + i));
    for (int i = 0; i < e->failures.n; i++)
        json_array_append_new(failures, json_pack("{s:o, s:o}", "case", mcs_json_text(e->failures.items[i].stem),
                                                  "reason", mcs_json_text(e->failures.items[i].reason)));
    for (int k = 0; k < e->regions.n; k++) {
        json_object_set_new(means, e->regions.v[k].name, means_to_json(e, k));
        json_object_set_new(intervals, e->regions.v[k].name, intervals_to_json(e, k));
    }
    regions_to_json(e, regions, empty);
    for (int i = 0; i < MCS_N_METRICS; i++)
        json_object_set_new(definitions, metrics[i].name, json_string(metrics[i].text));
    json_t *root = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:f, s:f}", "foreground_mean", foreground_to_json(e),
                             "mean", means, "interval_95", intervals, "empty", empty, "regions", regions, "definitions",
                             definitions, "n_cases", e->n, "tolerance", o->tolerance, "lesion_iou", o->lesion_iou);
    if (e->rule.has_ignore) json_object_set_new(root, "ignore_label", json_integer(e->rule.ignore));
    json_object_set_new(root, "interval", json_string("percentile bootstrap over cases, 2000 draws"));
    json_object_set_new(root, "form", json_string(o->form == MCS_RELEASE ? "release" : "paper"));
    json_object_set_new(root, "version", json_string(MCS_VERSION));
    json_object_set_new(root, "failures", failures);
    json_object_set_new(root, "metric_per_case", cases);
    return mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12), "%s/summary.json", out);
}

static void write_row(FILE *s, struct evaluation *e, const struct evaluated_case *c, int region)
{
    fprintf(s, "%s,%s", mcs_csv_field(&e->arena, c->stem), mcs_csv_field(&e->arena, e->regions.v[region].name));
    for (int i = 0; i < MCS_N_METRICS; i++) {
        const double v = mcs_metric_value(&c->m[region], i);
        fprintf(s, ",%.10g", isnan(v) ? fabs(v) : v); /* the sign of a NaN differs between machines */
    }
    for (int i = 0; i < N_COUNTS; i++) fprintf(s, ",%lld", (long long)count_value(&c->m[region], i));
    fprintf(s, ",%s,%s,%s\n", mcs_csv_field(&e->arena, c->pred), mcs_csv_field(&e->arena, c->ref),
            mcs_csv_field(&e->arena, c->note));
}

/* A row for each case and region. */
static enum mcs_status write_cases(const char *out, struct evaluation *e)
{
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t n_bytes = 0;
    MCS_TRY(mcs_path(path, "%s/cases.csv", out));
    FILE *s = open_memstream(&text, &n_bytes);
    MCS_REQUIRE(s, MCS_E_NOMEM, "%s: no memory", path);
    fprintf(s, "case,region");
    for (int i = 0; i < MCS_N_METRICS; i++) fprintf(s, ",%s", metrics[i].name);
    for (int i = 0; i < N_COUNTS; i++) fprintf(s, ",%s", count_names[i]);
    fprintf(s, ",prediction_file,reference_file,note\n");
    for (int i = 0; i < e->n; i++)
        for (int k = 0; k < e->regions.n; k++) write_row(s, e, e->cases + i, k);
    const int written = fclose(s) == 0;
    enum mcs_status st = mcs_arena_status(&e->arena);
    if (st == MCS_OK && !written) st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory", path);
    if (st == MCS_OK) st = mcs_file_write(path, text, (int64_t)n_bytes);
    free(text);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_evaluate_write(const char *out, const struct evaluate_options *o, struct evaluation *e)
{
    MCS_TRY(write_summary(out, o, e));
    return write_cases(out, e);
}
