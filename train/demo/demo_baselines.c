/* The demo's baselines: rules without a model, their boxes into SAM, and a random box into SAM. All that they choose is
 * chosen on the same validation images as the pipeline's presence threshold. */
#include "engine/base/path.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const int mcs_demo_grows[DEMO_GROWS] = {0, 2, 4};

/* ---- tuning ---- */

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int median(int *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_size);
    return n ? v[n / 2] : 0;
}

/* Dice of the rule's boxes into SAM on a set, as a mean; dice (n) receives each. */
static enum mcs_status rule_sam(struct demo_run *run, const struct demo_set *set, const struct demo_rule *rule,
                                int grow, double *mean, double *dice, double *dice_sam, const char *folder)
{
    int(*boxes)[4] = calloc((size_t)set->n + 1, sizeof *boxes);
    uint8_t *masks = malloc((size_t)set->n * DEMO_PIXELS + 1), mask[DEMO_PIXELS], truth[DEMO_PIXELS];
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(boxes && masks, MCS_E_NOMEM, st, done, "no memory for %d masks", set->n);
    for (int i = 0; i < set->n; i++) {
        const struct demo_sample *s = set->cases[i].sample;
        MCS_TRY_GOTO(mcs_demo_rule_apply(rule, s, &s->lesion[0], mask), st, done);
        if (!mcs_demo_box(mask, boxes[i])) boxes[i][0] = 0, boxes[i][2] = -1;
        mcs_demo_truth(&set->cases[i], DEMO_PROMPT_LOOK, truth);
        if (dice) dice[i] = mcs_demo_dice(mask, truth);
    }
    MCS_TRY_GOTO(mcs_demo_sam_boxes(run, set, boxes, grow, masks), st, done);
    *mean = 0;
    for (int i = 0; i < set->n; i++) {
        const uint8_t *found = masks + (int64_t)i * DEMO_PIXELS;
        mcs_demo_truth(&set->cases[i], DEMO_PROMPT_LOOK, truth);
        const double d = mcs_demo_dice(found, truth);
        *mean += d / set->n;
        if (dice_sam) dice_sam[i] = d;
        if (folder) MCS_TRY_GOTO(mcs_demo_write_mask(run, folder, set->cases[i].stem, found), st, done);
    }
done:
    free(boxes);
    free(masks);
    return st;
}

/* The margin of the rule's box with the greatest Dice on validation images. */
static enum mcs_status tune_grow(struct demo_run *run, const struct demo_rule *rule, int *grow, double *dice)
{
    *dice = -1;
    for (int k = 0; k < DEMO_GROWS; k++) {
        double mean;
        MCS_TRY(rule_sam(run, &run->validation, rule, mcs_demo_grows[k], &mean, NULL, NULL, NULL));
        if (mean > *dice) *dice = mean, *grow = mcs_demo_grows[k];
    }
    return MCS_OK;
}

enum mcs_status mcs_demo_tune_baselines(struct demo_run *run)
{
    const struct demo_set *set = &run->validation;
    struct demo_tuned *t = &run->r.tuned;
    struct demo_rule rules[DEMO_READS_SETS];
    struct demo_rule_case *cases = calloc((size_t)set->n + 1, sizeof *cases);
    uint8_t *truth = malloc((size_t)set->n * DEMO_PIXELS + 1);
    int *sides = calloc(2 * (size_t)set->n + 1, sizeof *sides), best = 1;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(cases && truth && sides, MCS_E_NOMEM, st, done, "no memory to tune on %d images", set->n);
    for (int i = 0; i < set->n; i++) {
        const struct demo_sample *s = set->cases[i].sample;
        uint8_t *own = truth + (int64_t)i * DEMO_PIXELS;
        mcs_demo_truth(&set->cases[i], DEMO_PROMPT_LOOK, own);
        cases[i] = (struct demo_rule_case){s, &s->lesion[0], own};
        sides[i] = s->lesion[0].box[2] - s->lesion[0].box[0] + 1;
        sides[set->n + i] = s->lesion[0].box[3] - s->lesion[0].box[1] + 1;
    }
    MCS_TRY_GOTO(mcs_demo_rules_tune(cases, set->n, rules), st, done);
    for (int k = 2; k < DEMO_READS_SETS; k++)
        if (rules[k].dice > rules[best].dice) best = k;
    t->rule = rules[0];
    t->words = rules[best];
    t->box_width = median(sides, set->n);
    t->box_height = median(sides + set->n, set->n);
    MCS_TRY_GOTO(tune_grow(run, &t->rule, &t->rule_grow, &t->rule_sam), st, done);
    MCS_TRY_GOTO(tune_grow(run, &t->words, &t->words_grow, &t->words_sam), st, done);
    t->words_is_best = t->words_sam > t->rule_sam;
done:
    free(cases);
    free(truth);
    free(sides);
    return st;
}

/* ---- on the test images ---- */

/* A box of the median size of a lesion, its centre drawn among the brain's pixels. */
static void random_box(const struct demo_run *run, int i, int box[4])
{
    const struct demo_case *c = &run->test.cases[i];
    const struct mcs_rng rng = {
        .seed = (uint64_t)run->o->seed, .site = mcs_rng_site("demo.random_box"), .sample = c->sample->id};
    const int w = run->r.tuned.box_width, h = run->r.tuned.box_height;
    int n = 0, at = DEMO_PIXELS / 2 + DEMO_SIZE / 2;
    for (int k = 0; k < DEMO_PIXELS; k++) n += c->sample->brain[k] != 0;
    if (n) {
        int wanted = (int)mcs_rng_below(rng, 0, (uint32_t)n);
        for (at = 0; at < DEMO_PIXELS; at++)
            if (c->sample->brain[at] && !wanted--) break;
    }
    const int x0 = at % DEMO_SIZE - w / 2, y0 = at / DEMO_SIZE - h / 2;
    box[0] = x0 < 0 ? 0 : x0;
    box[1] = y0 < 0 ? 0 : y0;
    box[2] = x0 + w > DEMO_SIZE ? DEMO_SIZE - 1 : x0 + w - 1;
    box[3] = y0 + h > DEMO_SIZE ? DEMO_SIZE - 1 : y0 + h - 1;
}

static enum mcs_status random_boxes(struct demo_run *run)
{
    const struct demo_set *set = &run->test;
    int(*boxes)[4] = calloc((size_t)set->n + 1, sizeof *boxes);
    uint8_t *masks = malloc((size_t)set->n * DEMO_PIXELS + 1), truth[DEMO_PIXELS];
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(boxes && masks, MCS_E_NOMEM, st, done, "no memory for %d masks", set->n);
    for (int i = 0; i < set->n; i++) random_box(run, i, boxes[i]);
    MCS_TRY_GOTO(mcs_demo_sam_boxes(run, set, boxes, 0, masks), st, done);
    for (int i = 0; i < set->n; i++) {
        mcs_demo_truth(&set->cases[i], DEMO_PROMPT_LOOK, truth);
        const uint8_t *mask = masks + (int64_t)i * DEMO_PIXELS;
        run->r.list[LIST_RANDOM_SAM].v[i] = mcs_demo_dice(mask, truth);
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/random_box_sam", set->cases[i].stem, mask), st, done);
    }
done:
    free(boxes);
    free(masks);
    return st;
}

enum mcs_status mcs_demo_baselines(struct demo_run *run)
{
    struct demo_tuned *t = &run->r.tuned;
    struct demo_list_values *l = run->r.list;
    double mean;
    MCS_TRY(mcs_demo_tune_baselines(run));
    MCS_TRY(mcs_stop_check());
    MCS_TRY(rule_sam(run, &run->test, &t->rule, t->rule_grow, &mean, l[LIST_RULE].v, l[LIST_RULE_SAM].v,
                     "stages/rule_sam"));
    MCS_TRY(rule_sam(run, &run->test, &t->words, t->words_grow, &mean, l[LIST_WORDS].v, l[LIST_WORDS_SAM].v,
                     "stages/rule_words_sam"));
    for (int i = 0; i < run->test.n; i++)
        l[LIST_BEST_SAM].v[i] = l[t->words_is_best ? LIST_WORDS_SAM : LIST_RULE_SAM].v[i];
    return random_boxes(run);
}
