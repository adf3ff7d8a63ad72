#include "infer/metrics/evaluate.h"

#include "data/image/image.h"
#include "data/image/media.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/base/text_cut.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct evaluate_options mcs_evaluate_defaults(enum mcs_form form)
{
    return (struct evaluate_options){.form = form, .tolerance = 2.0};
}

/* ---- reading a pair ---- */

/* A mask of one or more slices, 0 and 1. */
struct mask {
    int nx, ny, nz;
    double spacing[2];
    uint8_t *values; /* (nz, ny, nx), owned */
};

/* The caller frees m->values, also after a failure. */
static enum mcs_status read_volume(const char *path, float above, struct mask *m)
{
    struct volume v;
    MCS_TRY(mcs_volume_read(path, &v));
    enum mcs_status st = MCS_OK;
    int64_t n = (int64_t)v.nx * v.ny * v.nz;
    *m = (struct mask){v.nx, v.ny, v.nz, {v.spacing[0], v.spacing[1]}, malloc((size_t)n)};
    MCS_REQUIRE_GOTO(m->values, MCS_E_NOMEM, st, done, "%s: no memory for the mask", path);
    for (int64_t i = 0; i < n; i++) {
        MCS_REQUIRE_GOTO(isfinite(v.values[i]), MCS_E_DATA, st, done,
                         "%s: voxel (%lld, %lld, %lld), counted from 0, is %s; a mask holds finite numbers", path,
                         (long long)(i % v.nx), (long long)(i / v.nx % v.ny), (long long)(i / v.nx / v.ny),
                         isnan(v.values[i]) ? "NaN" : "infinite");
        m->values[i] = above > 0.0f ? v.values[i] > above : v.values[i] != 0.0f;
    }
done:
    mcs_volume_free(&v);
    return st;
}

static enum mcs_status read_mask(const char *path, enum mcs_form form, struct mask *m)
{
    *m = (struct mask){0};
    int above = form == MCS_RELEASE ? 200 : mcs_media_is_lossy(path) ? 127 : 0;
    if (mcs_media_is_volume(path)) return read_volume(path, (float)above, m);
    struct image img;
    MCS_TRY(mcs_image_read(path, 1, &img));
    int64_t n = (int64_t)img.width * img.height;
    *m = (struct mask){img.width, img.height, 1, {1.0, 1.0}, malloc((size_t)n)};
    for (int64_t i = 0; m->values && i < n; i++) m->values[i] = img.pixels[i] > above;
    mcs_image_free(&img);
    MCS_REQUIRE(m->values, MCS_E_NOMEM, "%s: no memory for the mask", path);
    return MCS_OK;
}

/* Nearest-neighbour resize with source index floor(i * n_source / n). */
static enum mcs_status resize_like(struct mask *m, const struct mask *like)
{
    uint8_t *values = malloc((size_t)like->nx * like->ny);
    MCS_REQUIRE(values, MCS_E_NOMEM, "no memory for a mask of %d x %d", like->nx, like->ny);
    for (int y = 0; y < like->ny; y++)
        for (int x = 0; x < like->nx; x++)
            values[(int64_t)y * like->nx + x] =
                m->values[(int64_t)y * m->ny / like->ny * m->nx + (int64_t)x * m->nx / like->nx];
    free(m->values);
    m->values = values;
    m->nx = like->nx;
    m->ny = like->ny;
    return MCS_OK;
}

static enum mcs_status measure(const struct mask *p, const struct mask *r, double tolerance, struct mask_metrics *m)
{
    if (p->nz == 1) return mcs_metrics_measure(p->values, r->values, r->nx, r->ny, r->spacing, tolerance, m);
    m->counts = mcs_metrics_count(p->values, r->values, (int64_t)p->nx * p->ny * p->nz);
    m->dice = mcs_metrics_dice(&m->counts);
    m->iou = mcs_metrics_iou(&m->counts);
    m->nsd = m->nsd_slice = m->hd95 = m->assd = NAN;
    return MCS_OK;
}

static enum mcs_status evaluate_case(const char *pred, const char *ref, const struct evaluate_options *o,
                                     struct mask_metrics *m)
{
    struct mask p = {0}, r = {0};
    enum mcs_status st = MCS_OK;
    MCS_TRY_GOTO(read_mask(pred, o->form, &p), st, done);
    MCS_TRY_GOTO(read_mask(ref, o->form, &r), st, done);
    if (o->form == MCS_RELEASE && p.nz == 1 && r.nz == 1 && (p.nx != r.nx || p.ny != r.ny))
        MCS_TRY_GOTO(resize_like(&p, &r), st, done);
    MCS_REQUIRE_GOTO(p.nx == r.nx && p.ny == r.ny && p.nz == r.nz, MCS_E_DATA, st, done,
                     "%s is %d x %d x %d, but %s is %d x %d x %d: masks must have one size", pred, p.nx, p.ny, p.nz,
                     ref, r.nx, r.ny, r.nz);
    MCS_TRY_GOTO(measure(&p, &r, o->tolerance, m), st, done);
done:
    free(p.values);
    free(r.values);
    return st;
}

/* ---- all pairs ---- */

static enum mcs_status summarise(struct evaluation *e)
{
    double *v = mcs_arena_alloc(&e->arena, ((size_t)e->n + 1) * sizeof *v);
    MCS_TRY(mcs_arena_status(&e->arena));
#define X(name, field)                                                                                                 \
    for (int i = 0; i < e->n; i++) v[i] = e->cases[i].m.field;                                                         \
    e->mean[MCS_METRIC_##field] = mcs_mean_interval(v, e->n);
    MCS_METRIC_LIST(X)
#undef X
    return MCS_OK;
}

static enum mcs_status evaluate_pairs(const struct case_list *p, const struct case_list *r,
                                      const struct evaluate_options *o, struct evaluation *e)
{
    e->cases = mcs_arena_alloc(&e->arena, ((size_t)p->n + 1) * sizeof *e->cases);
    MCS_TRY(mcs_arena_status(&e->arena));
    struct mcs_progress progress;
    mcs_progress_start(&progress, "evaluate", "case", p->n);
    for (int i = 0; i < p->n; i++) {
        const struct case_file *a = p->files + i, *b = mcs_cases_find(r, a->stem);
        MCS_TRY(mcs_stop_check());
        mcs_progress_set(&progress, i + 1);
        if (!b) {
            mcs_failures_add(&e->failures, a->stem, "a prediction without a reference");
            e->n_only_pred++;
            continue;
        }
        struct evaluated_case *c = e->cases + e->n;
        enum mcs_status st = evaluate_case(a->path, b->path, o, &c->m);
        if (st == MCS_E_NOMEM || st == MCS_E_USAGE) return st;
        if (st != MCS_OK) {
            mcs_failures_add_held(&e->failures, a->stem);
            e->n_failed++;
            continue;
        }
        c->stem = mcs_arena_strdup(&e->arena, a->stem);
        c->pred = mcs_arena_strdup(&e->arena, a->path);
        c->ref = mcs_arena_strdup(&e->arena, b->path);
        e->n++;
    }
    mcs_progress_end(&progress);
    for (int i = 0; i < r->n; i++) {
        if (mcs_cases_find(p, r->files[i].stem)) continue;
        mcs_failures_add(&e->failures, r->files[i].stem, "a reference without a prediction");
        e->n_only_ref++;
    }
    MCS_TRY(summarise(e));
    return MCS_OK;
}

enum mcs_status mcs_evaluate(const char *pred, const char *ref, const struct evaluate_options *o, struct evaluation *e)
{
    struct case_list p = {0}, r = {0};
    enum mcs_status st = MCS_OK;
    *e = (struct evaluation){0};
    MCS_REQUIRE(o->tolerance >= 0.0 && isfinite(o->tolerance), MCS_E_USAGE, "tolerance %g: want 0 or more",
                o->tolerance);
    MCS_TRY_GOTO(mcs_cases_list(pred, MCS_MEDIA_ENDINGS, NULL, &p), st, done);
    MCS_TRY_GOTO(mcs_cases_list(ref, MCS_MEDIA_ENDINGS, NULL, &r), st, done);
    MCS_TRY_GOTO(evaluate_pairs(&p, &r, o, e), st, done);
    MCS_REQUIRE_GOTO(e->n || e->n_failed, MCS_E_DATA, st, done, "no file of %s has its stem in %s: nothing to compare",
                     pred, ref);
done:
    mcs_cases_free(&p);
    mcs_cases_free(&r);
    if (st != MCS_OK) {
        mcs_evaluation_free(e);
        return st;
    }
    const struct failure_list *f = &e->failures;
    MCS_REQUIRE(
        !f->n, MCS_E_PARTIAL,
        "%d compared, %d failed, %d predictions without a reference, %d references without a prediction; the first: "
        "%s: %s",
        e->n, e->n_failed, e->n_only_pred, e->n_only_ref, f->items[0].stem, f->items[0].reason);
    return MCS_OK;
}

void mcs_evaluation_free(struct evaluation *e)
{
    mcs_failures_free(&e->failures);
    mcs_arena_free(&e->arena);
    *e = (struct evaluation){0};
}

/* ---- files ---- */

/*  name in nnU-Net's summary, field of mask_counts */
#define COUNT_LIST(X) X("TP", tp) X("FP", fp) X("FN", fn) X("TN", tn) X("n_pred", n_pred) X("n_ref", n_ref)

static json_t *metrics_to_json(const struct mask_metrics *m)
{
    json_t *o = json_object();
#define X(name, field) json_object_set_new(o, name, mcs_json_number(m->field));
    MCS_METRIC_LIST(X)
#undef X
#define X(name, field) json_object_set_new(o, name, json_integer(m->counts.field));
    COUNT_LIST(X)
#undef X
    return o;
}

static json_t *means_to_json(const struct evaluation *e)
{
    json_t *o = json_object();
#define X(name, field) json_object_set_new(o, name, mcs_json_number(e->mean[MCS_METRIC_##field].mean));
    MCS_METRIC_LIST(X)
#undef X
#define X(name, field)                                                                                                 \
    {                                                                                                                  \
        double sum = 0.0;                                                                                              \
        for (int i = 0; i < e->n; i++) sum += (double)e->cases[i].m.counts.field;                                      \
        json_object_set_new(o, name, mcs_json_number(e->n ? sum / e->n : NAN));                                        \
    }
    COUNT_LIST(X)
#undef X
    return o;
}

static json_t *intervals_to_json(const struct evaluation *e)
{
    json_t *o = json_object();
#define X(name, field)                                                                                                 \
    {                                                                                                                  \
        const struct mean_interval *m = &e->mean[MCS_METRIC_##field];                                                  \
        json_object_set_new(o, name,                                                                                   \
                            json_pack("{s:I, s:I, s:o, s:o}", "n", (json_int_t)m->n, "left_out",                       \
                                      (json_int_t)m->n_left_out, "lo", mcs_json_number(m->lo), "hi",                   \
                                      mcs_json_number(m->hi)));                                                        \
    }
    MCS_METRIC_LIST(X)
#undef X
    return o;
}

/* summary.json in nnU-Net's layout, where the key "1" is the foreground's label. */
static enum mcs_status write_summary(const char *out, const struct evaluate_options *o, const struct evaluation *e)
{
    json_t *cases = json_array(), *failures = json_array();
    for (int i = 0; i < e->n; i++) {
        const struct evaluated_case *c = e->cases + i;
        json_array_append_new(cases, json_pack("{s:{s:o}, s:o, s:o}", "metrics", "1", metrics_to_json(&c->m),
                                               "prediction_file", mcs_json_text(c->pred), "reference_file",
                                               mcs_json_text(c->ref)));
    }
    for (int i = 0; i < e->failures.n; i++)
        json_array_append_new(failures, json_pack("{s:o, s:o}", "case", mcs_json_text(e->failures.items[i].stem),
                                                  "reason", mcs_json_text(e->failures.items[i].reason)));
    json_t *root = json_pack("{s:o, s:{s:o}, s:{s:o}, s:i, s:f}", "foreground_mean", means_to_json(e), "mean", "1",
                             means_to_json(e), "interval_95", "1", intervals_to_json(e), "n_cases", e->n, "tolerance",
                             o->tolerance);
    json_object_set_new(root, "form", json_string(o->form == MCS_RELEASE ? "release" : "paper"));
    json_object_set_new(root, "version", json_string(MCS_VERSION));
    json_object_set_new(root, "failures", failures);
    json_object_set_new(root, "metric_per_case", cases);
    return mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12), "%s/summary.json", out);
}

static enum mcs_status write_cases(const char *out, struct evaluation *e)
{
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t n_bytes = 0;
    MCS_TRY(mcs_path(path, "%s/cases.csv", out));
    FILE *s = open_memstream(&text, &n_bytes);
    MCS_REQUIRE(s, MCS_E_NOMEM, "%s: no memory", path);
    fprintf(s, "case");
#define X(name, field) fprintf(s, "," name);
    MCS_METRIC_LIST(X)
    COUNT_LIST(X)
#undef X
    fprintf(s, ",prediction_file,reference_file\n");
    for (int i = 0; i < e->n; i++) {
        const struct evaluated_case *c = e->cases + i;
        fprintf(s, "%s", mcs_csv_field(&e->arena, c->stem));
        /* fabs: the sign of a NaN differs between machines */
#define X(name, field) fprintf(s, ",%.10g", isnan(c->m.field) ? fabs(c->m.field) : c->m.field);
        MCS_METRIC_LIST(X)
#undef X
#define X(name, field) fprintf(s, ",%lld", (long long)c->m.counts.field);
        COUNT_LIST(X)
#undef X
        fprintf(s, ",%s,%s\n", mcs_csv_field(&e->arena, c->pred), mcs_csv_field(&e->arena, c->ref));
    }
    const int written = fclose(s) == 0;
    enum mcs_status st = mcs_arena_status(&e->arena);
    if (st == MCS_OK && !written) st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory", path);
    if (st == MCS_OK) st = mcs_file_write(path, text, (int64_t)n_bytes);
    free(text);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_evaluate_folder(const char *pred, const char *ref, const char *out,
                                    const struct evaluate_options *o, struct evaluation *e)
{
    enum mcs_status done = mcs_evaluate(pred, ref, o, e), st = MCS_OK;
    if (done != MCS_OK && done != MCS_E_PARTIAL) return mcs_trace(done, __FILE__, __LINE__);
    /* Keep E_PARTIAL's message while the files are written; a failure to write them replaces it. */
    char message[2048];
    mcs_text_cut(message, sizeof message, "%s", mcs_error_message());
    mcs_error_clear();
    MCS_TRY_GOTO(mcs_folder_make(out), st, failed);
    MCS_TRY_GOTO(write_summary(out, o, e), st, failed);
    MCS_TRY_GOTO(write_cases(out, e), st, failed);
    MCS_TRY_GOTO(mcs_failures_write(&e->failures, out), st, failed);
    return done == MCS_OK ? done : MCS_FAIL(done, "%s", message);
failed:
    mcs_evaluation_free(e);
    return st;
}
