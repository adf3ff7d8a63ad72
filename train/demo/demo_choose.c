/* demo --choose: every choice of the demo's pipeline on validation images, as a table. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "train/demo/demo_results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row of the table: choice, value, figure; its difference to this run's value, on the same images. */
struct choice_row {
    char choice[32], value[96];
    const char *figure;
    struct bootstrap_interval r, difference;
    int is_default, is_best;
};
enum { MAX_ROWS = 128 };
struct choice_table {
    struct choice_row row[MAX_ROWS];
    int n;
    double *own, *dice; /* of each validation image, with this run's options and with those of a row */
};

static struct choice_row *add_row(struct choice_table *t, const char *choice, const char *figure)
{
    struct choice_row *r = &t->row[t->n < MAX_ROWS ? t->n++ : MAX_ROWS - 1];
    const struct bootstrap_interval none = {.value = NAN, .lo = NAN, .hi = NAN};
    *r = (struct choice_row){.figure = figure, .r = none, .difference = none};
    snprintf(r->choice, sizeof r->choice, "%s", choice);
    return r;
}

/* Marks the row of the choice with the greatest figure. */
static void mark_best(struct choice_table *t, const char *choice)
{
    struct choice_row *best = NULL;
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->row[i].choice, choice) && (!best || t->row[i].r.value > best->r.value)) best = &t->row[i];
    if (best) best->is_best = 1;
}

/* ---- the pipeline's options: Dice by look on validation images ---- */

/* Dice (n) of the masks made with these options; kept, if not NULL, receives the results. */
static enum mcs_status dice_with(struct demo_run *run, const struct segment_options *s, double *dice,
                                 struct segment_case **kept)
{
    const struct demo_set *set = &run->validation;
    struct segment_case *cases = NULL;
    uint8_t truth[DEMO_PIXELS];
    enum mcs_status st = MCS_OK;
    MCS_TRY_GOTO(mcs_demo_cases_new(set, DEMO_PROMPT_LOOK, &cases), st, done);
    MCS_TRY_GOTO(mcs_demo_segment_with(run, s, &run->sam, cases, set->n), st, done);
    for (int i = 0; i < set->n; i++) {
        mcs_demo_truth(&set->cases[i], DEMO_PROMPT_LOOK, truth);
        dice[i] = mcs_demo_dice(cases[i].mask, truth);
    }
done:
    if (st == MCS_OK && kept)
        *kept = cases;
    else
        mcs_demo_free_cases(cases, set->n);
    return st;
}

static enum mcs_status add_option(struct demo_run *run, struct choice_table *t, const char *choice,
                                  const struct segment_options *s, int is_default, const char *value)
{
    struct choice_row *r = add_row(t, choice, "dsc");
    MCS_TRY(mcs_stop_check());
    snprintf(r->value, sizeof r->value, "%s", value);
    r->is_default = is_default;
    MCS_TRY(dice_with(run, s, t->dice, NULL));
    MCS_TRY(mcs_bootstrap_mean(t->dice, run->validation.n, (uint64_t)run->o->seed, &r->r));
    return mcs_bootstrap_difference(t->dice, t->own, run->validation.n, (uint64_t)run->o->seed, &r->difference);
}

/* One option is varied at a time, the others have the run's values. */
static enum mcs_status options_of_saliency(struct demo_run *run, struct choice_table *t)
{
    static const char *const ranks[] = {"confidence", "area", "text", "both"};
    static const double betas[] = {0.1, 0.3, 1, 3, 10};
    const struct segment_options own = mcs_demo_segment_options(run->o);
    char value[32];
    for (int k = 0; k < 4; k++) {
        struct segment_options s = own;
        s.coarse.rank = (enum mcs_coarse_rank)k;
        MCS_TRY(add_option(run, t, "rank", &s, k == run->o->rank, ranks[k]));
    }
    for (int k = 0; k <= 2; k++) {
        struct segment_options s = own;
        s.saliency.layer = k;
        snprintf(value, sizeof value, "%d", k);
        MCS_TRY(add_option(run, t, "saliency-layer", &s, k == run->o->saliency_layer, value));
    }
    for (size_t k = 0; k < sizeof betas / sizeof *betas; k++) {
        struct segment_options s = own;
        s.saliency.beta = (float)betas[k];
        snprintf(value, sizeof value, "%g", betas[k]);
        MCS_TRY(add_option(run, t, "saliency-beta", &s, betas[k] == run->o->saliency_beta, value));
    }
    for (int k = 0; k < DEMO_GROWS; k++) {
        struct segment_options s = own;
        s.coarse.grow_px = mcs_demo_grows[k];
        snprintf(value, sizeof value, "%d", mcs_demo_grows[k]);
        MCS_TRY(add_option(run, t, "grow", &s, mcs_demo_grows[k] == run->o->grow, value));
    }
    mark_best(t, "rank");
    mark_best(t, "saliency-layer");
    mark_best(t, "saliency-beta");
    mark_best(t, "grow");
    return MCS_OK;
}

/* ---- the presence score ---- */

static enum mcs_status presence_scores(struct demo_run *run, struct choice_table *t)
{
    const struct demo_set *with = &run->validation, *none = &run->validation_none;
    const struct segment_options s = mcs_demo_segment_options(run->o);
    struct segment_case *cases = NULL, *healthy = NULL;
    double *score = calloc((size_t)(with->n + none->n) + 1, sizeof *score), *other = score + with->n;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(score, MCS_E_NOMEM, "no memory for the presence scores");
    MCS_TRY_GOTO(dice_with(run, &s, t->dice, &cases), st, done);
    MCS_TRY_GOTO(mcs_demo_cases_new(none, DEMO_PROMPT_LOOK, &healthy), st, done);
    MCS_TRY_GOTO(mcs_demo_segment_with(run, &s, &run->sam, healthy, none->n), st, done);
    for (int k = 0; k < DEMO_PRESENCES; k++) {
        for (int i = 0; i < with->n; i++) score[i] = mcs_demo_presence((enum demo_presence)k, &cases[i]);
        for (int i = 0; i < none->n; i++) other[i] = mcs_demo_presence((enum demo_presence)k, &healthy[i]);
        struct choice_row *r = add_row(t, "presence", "auroc");
        snprintf(r->value, sizeof r->value, "%s", mcs_demo_presence_names[k]);
        r->is_default = k == run->o->presence;
        MCS_TRY_GOTO(mcs_bootstrap_auroc(score, with->n, other, none->n, (uint64_t)run->o->seed, &r->r), st, done);
    }
    mark_best(t, "presence");
done:
    if (cases) mcs_demo_free_cases(cases, with->n);
    if (healthy) mcs_demo_free_cases(healthy, none->n);
    free(score);
    return st;
}

/* ---- what each run tunes itself ---- */

static void rule_row(struct choice_table *t, const char *choice, const struct demo_rule *rule, int grow, double dice,
                     int is_best)
{
    struct choice_row *r = add_row(t, choice, "dsc");
    const struct demo_rule_threshold *d = &rule->threshold[0], *b = &rule->threshold[1];
    snprintf(r->value, sizeof r->value, "reads %u; dark %g %d %d; bright %g %d %d; grow %d", rule->reads, d->share,
             d->smooth, d->opening, b->share, b->smooth, b->opening, grow);
    r->r.value = dice;
    r->is_default = 1;
    r->is_best = is_best;
}

static enum mcs_status tuned_rows(struct demo_run *run, struct choice_table *t)
{
    const struct demo_tuned *u = &run->r.tuned;
    MCS_TRY(mcs_demo_tune_baselines(run));
    MCS_TRY(mcs_demo_tune_presence(run));
    rule_row(t, "rule", &u->rule, 0, u->rule.dice, 0);
    rule_row(t, "rule_words", &u->words, 0, u->words.dice, 0);
    rule_row(t, "rule_sam", &u->rule, u->rule_grow, u->rule_sam, !u->words_is_best);
    rule_row(t, "rule_words_sam", &u->words, u->words_grow, u->words_sam, u->words_is_best);
    struct choice_row *r = add_row(t, "min-presence", "lesions_found");
    snprintf(r->value, sizeof r->value, "%.4g", u->min_presence);
    r->r.value = u->presence_found;
    r->is_best = r->is_default = 1;
    return MCS_OK;
}

/* A number, or nothing where there is none. */
static void cell(FILE *f, double v)
{
    if (isfinite(v)) fprintf(f, "%.4f", v);
    fputc(',', f);
}

static enum mcs_status write_table(const struct demo_run *run, const struct choice_table *t)
{
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    MCS_REQUIRE(f, MCS_E_NOMEM, "no memory for choices.csv");
    fputs("choice,value,figure,mean,low,high,difference,difference_low,difference_high,best,default\n", f);
    printf("\n%-16s %-48s %-14s %s\n", "choice", "value", "figure", "on validation slabs");
    for (int i = 0; i < t->n; i++) {
        const struct choice_row *r = &t->row[i];
        fprintf(f, "%s,\"%s\",%s,", r->choice, r->value, r->figure);
        cell(f, r->r.value);
        cell(f, r->r.lo);
        cell(f, r->r.hi);
        cell(f, r->difference.value);
        cell(f, r->difference.lo);
        cell(f, r->difference.hi);
        fprintf(f, "%d,%d\n", r->is_best, r->is_default);
        printf("%-16s %-48s %-14s %.3f%s%s\n", r->choice, r->value, r->figure, r->r.value, r->is_best ? " best" : "",
               r->is_default ? " (this run's)" : "");
    }
    fclose(f);
    enum mcs_status st = mcs_path(path, "%s/choices.csv", run->o->output);
    if (st == MCS_OK) st = mcs_file_write(path, text, (int64_t)bytes);
    free(text);
    return st;
}

enum mcs_status mcs_demo_choose(struct demo_run *run)
{
    const size_t n = (size_t)run->validation.n + 1;
    const struct segment_options own = mcs_demo_segment_options(run->o);
    struct choice_table *t = calloc(1, sizeof *t);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(t, MCS_E_NOMEM, "no memory for the table of choices");
    t->own = calloc(2 * n, sizeof *t->own);
    MCS_REQUIRE_GOTO(t->own, MCS_E_NOMEM, st, done, "no memory for the table of choices");
    t->dice = t->own + n;
    MCS_TRY_GOTO(dice_with(run, &own, t->own, NULL), st, done);
    MCS_TRY_GOTO(options_of_saliency(run, t), st, done);
    MCS_TRY_GOTO(presence_scores(run, t), st, done);
    MCS_TRY_GOTO(tuned_rows(run, t), st, done);
    st = write_table(run, t);
done:
    free(t->own);
    free(t);
    return st;
}
