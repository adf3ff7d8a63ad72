#include "infer/metrics/evaluate.h"

#include "data/image/media.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/base/text_cut.h"
#include "infer/metrics/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NOTES_SHOWN = 10, ALONE_SHOWN = 100 };

struct evaluate_options mcs_evaluate_defaults(enum mcs_form form)
{
    return (struct evaluate_options){.form = form, .tolerance = 2.0, .lesion_iou = 0.1};
}

double mcs_metric_value(const struct mask_metrics *m, int metric)
{
    const double values[] = {
#define X(name, field, text) m->field,
        MCS_METRIC_LIST(X)
#undef X
    };
    return values[metric];
}

/* ---- one pair ---- */

/* held: both maps, where they are in memory already. */
static enum mcs_status evaluate_case(const struct case_file *pred, const struct case_file *ref,
                                     const struct evaluate_options *o, struct evaluation *e, struct label_map held[2],
                                     struct evaluated_case *c)
{
    struct label_map m[2] = {held[0], held[1]};
    const char *paths[2] = {pred->path, ref->path};
    const struct region_options ro = {o->tolerance, o->lesion_iou, e->rule};
    enum mcs_status st = MCS_OK;
    held[0] = held[1] = (struct label_map){0};
    c->m = mcs_arena_alloc(&e->arena, ((size_t)e->regions.n + 1) * sizeof *c->m);
    for (int side = 0; side < 2; side++) {
        if (!m[side].index) MCS_TRY_GOTO(mcs_evaluate_read(paths[side], o, &m[side]), st, done);
        MCS_TRY_GOTO(mcs_regions_check(&e->regions, &m[side], paths[side], &e->rule), st, done);
    }
    MCS_TRY_GOTO(mcs_evaluate_fit(&m[0], paths[0], &m[1], paths[1], o), st, done);
    c->note =
        mcs_arena_printf(&e->arena, "%s%s%s%s%s", m[0].notes[0] ? "prediction: " : "", m[0].notes,
                         m[0].notes[0] && m[1].notes[0] ? "; " : "", m[1].notes[0] ? "reference: " : "", m[1].notes);
    MCS_TRY_GOTO(mcs_arena_status(&e->arena), st, done);
    MCS_TRY_GOTO(mcs_regions_measure(&e->regions, &m[0], &m[1], &ro, c->m), st, done);
done:
    mcs_labels_free(&m[0]);
    mcs_labels_free(&m[1]);
    return st;
}

/* ---- means ---- */

static void count_empty(struct evaluation *e)
{
    for (int k = 0; k < e->regions.n; k++)
        for (int i = 0; i < e->n; i++) {
            const struct mask_counts *c = &e->cases[i].m[k].counts;
            e->empty[k].both += !c->n_ref && !c->n_pred;
            e->empty[k].ref += !c->n_ref && c->n_pred;
            e->empty[k].pred += c->n_ref && !c->n_pred;
        }
}

static enum mcs_status summarise(const struct evaluate_options *o, struct evaluation *e)
{
    const int n_means = e->regions.n * MCS_N_METRICS;
    double *values = mcs_arena_alloc(&e->arena, ((size_t)e->n * (size_t)n_means + 1) * sizeof *values);
    e->mean = mcs_arena_alloc(&e->arena, ((size_t)n_means + 1) * sizeof *e->mean);
    e->empty = mcs_arena_alloc(&e->arena, ((size_t)e->regions.n + 1) * sizeof *e->empty);
    MCS_TRY(mcs_arena_status(&e->arena));
    memset(e->empty, 0, (size_t)e->regions.n * sizeof *e->empty);
    count_empty(e);
    int failed = 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int k = 0; k < n_means; k++) {
        double *v = values + (int64_t)k * e->n;
        struct bootstrap_interval b;
        for (int i = 0; i < e->n; i++) v[i] = mcs_metric_value(&e->cases[i].m[k / MCS_N_METRICS], k % MCS_N_METRICS);
        e->mean[k] = mcs_mean_interval(v, e->n);
        if (mcs_bootstrap_mean(v, e->n, o->seed, &b) == MCS_OK) {
            e->mean[k].lo = b.lo;
            e->mean[k].hi = b.hi;
        } else {
#pragma omp atomic write
            failed = 1;
        }
    }
    MCS_REQUIRE(!failed, MCS_E_NOMEM, "no memory for the intervals of %d means", n_means);
    return MCS_OK;
}

double mcs_evaluation_foreground(const struct evaluation *e, int metric)
{
    double sum = 0;
    int n = 0;
    for (int k = 0; k < e->regions.n; k++) {
        const double mean = e->mean[k * MCS_N_METRICS + metric].mean;
        if (isnan(mean)) continue;
        sum += mean;
        n++;
    }
    return n ? sum / n : NAN;
}

/* ---- all pairs ---- */

static enum mcs_status evaluate_pair(const struct case_file *a, const struct case_file *b,
                                     const struct evaluate_options *o, struct evaluation *e, struct label_map held[2])
{
    struct evaluated_case *c = e->cases + e->n;
    const enum mcs_status st = evaluate_case(a, b, o, e, held, c);
    if (st == MCS_E_NOMEM || st == MCS_E_USAGE) return st;
    if (st != MCS_OK) {
        mcs_failures_add_held(&e->failures, a->stem);
        e->n_failed++;
        return MCS_OK;
    }
    c->stem = mcs_arena_strdup(&e->arena, a->stem);
    c->pred = mcs_arena_strdup(&e->arena, a->path);
    c->ref = mcs_arena_strdup(&e->arena, b->path);
    e->n++;
    return MCS_OK;
}

/* A file without a partner, with the nearest name there is (for the first of them: it takes a look at all names). */
static void add_alone(struct evaluation *e, const char *stem, const char *what, const struct case_list *others)
{
    const char *nearest = e->n_only_pred + e->n_only_ref < ALONE_SHOWN ? mcs_cases_nearest(others, stem) : NULL;
    mcs_failures_add(
        &e->failures, stem,
        mcs_arena_printf(&e->arena, "%s%s%s", what, nearest ? "; the nearest name is " : "", nearest ? nearest : ""));
}

static enum mcs_status evaluate_pairs(const struct case_list *p, const struct case_list *r,
                                      const struct evaluate_options *o, struct evaluation *e, struct label_map held[2])
{
    int notes = 0;
    struct mcs_progress progress;
    e->cases = mcs_arena_alloc(&e->arena, ((size_t)p->n + 1) * sizeof *e->cases);
    MCS_TRY(mcs_arena_status(&e->arena));
    mcs_progress_start(&progress, "evaluate", "case", p->n);
    for (int i = 0; i < p->n; i++) {
        const struct case_file *a = p->files + i, *b = mcs_cases_partner(p, i, r);
        const int before = e->n;
        MCS_TRY(mcs_stop_check());
        mcs_progress_set(&progress, i + 1);
        if (!b) {
            add_alone(e, a->stem, "a prediction without a reference", r);
            e->n_only_pred++;
            continue;
        }
        if (i > 0)
            for (int side = 0; side < 2; side++) mcs_labels_free(&held[side]);
        MCS_TRY(evaluate_pair(a, b, o, e, held));
        if (e->n > before && *e->cases[before].note && notes++ < NOTES_SHOWN)
            mcs_warn("%s: %s", a->stem, e->cases[before].note);
    }
    mcs_progress_end(&progress);
    if (notes > NOTES_SHOWN) mcs_warn("%d more cases have notes: cases.csv has them all", notes - NOTES_SHOWN);
    for (int i = 0; i < r->n; i++) {
        if (mcs_cases_partner(r, i, p)) continue;
        add_alone(e, r->files[i].stem, "a reference without a prediction", p);
        e->n_only_ref++;
    }
    return summarise(o, e);
}

/* The regions, and where all files had to be read for them the first pair's maps. */
static enum mcs_status find_regions(const struct case_list *p, const struct case_list *r,
                                    const struct evaluate_options *o, struct evaluation *e, struct label_map held[2])
{
    e->rule = o->rule;
    if (o->labels)
        MCS_TRY(mcs_regions_parse(o->labels, &e->arena, &e->rule, &e->regions));
    else if (o->merge || o->form == MCS_RELEASE)
        mcs_regions_any(&e->arena, &e->regions);
    else
        MCS_TRY(mcs_evaluate_scan(p, r, o, e, held));
    return mcs_arena_status(&e->arena);
}

static enum mcs_status evaluate_lists(const struct case_list *p, const struct case_list *r,
                                      const struct evaluate_options *o, struct evaluation *e)
{
    struct label_map held[2] = {{.n = 0}, {.n = 0}};
    struct evaluate_options own = *o;
    enum mcs_status st;
    MCS_TRY_GOTO(find_regions(p, r, o, e, held), st, done);
    own.rule = e->rule;
    if (p->n && !mcs_cases_partner(p, 0, r)) /* they are of a later pair */
        for (int side = 0; side < 2; side++) mcs_labels_free(&held[side]);
    MCS_TRY_GOTO(evaluate_pairs(p, r, &own, e, held), st, done);
done:
    for (int side = 0; side < 2; side++) mcs_labels_free(&held[side]);
    return st;
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
    MCS_TRY_GOTO(mcs_evaluate_check_folders(pred, ref), st, done);
    MCS_TRY_GOTO(evaluate_lists(&p, &r, o, e), st, done);
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
    MCS_TRY_GOTO(mcs_evaluate_write(out, o, e), st, failed);
    MCS_TRY_GOTO(mcs_failures_write(&e->failures, out), st, failed);
    return done == MCS_OK ? done : MCS_FAIL(done, "%s", message);
failed:
    mcs_evaluation_free(e);
    return st;
}
