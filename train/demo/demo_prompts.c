/* The effect of the text: zero-shot segmentation by prompts of each level, by another image's look and by a null
 * prompt; of two lesions in one image; of forms that no training saw; and of all lesions of an image. */
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum mcs_status segment(struct demo_run *run, struct segment_case *cases, int n)
{
    const struct segment_options o = mcs_demo_segment_options(run->o);
    return mcs_demo_segment_with(run, &o, &run->sam, cases, n);
}

/* Segments a set with the texts that are set in `cases`, and scores each case that has a text against the truth of the
 * prompt of a level. */
static enum mcs_status score_cases(struct demo_run *run, const struct demo_set *set, enum demo_prompt_level level,
                                   struct segment_case *cases, enum demo_list list, const char *folder)
{
    struct segment_case *with = calloc((size_t)set->n + 1, sizeof *with);
    int *of = calloc((size_t)set->n + 1, sizeof *of), n = 0;
    uint8_t truth[DEMO_PIXELS];
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(with && of, MCS_E_NOMEM, st, done, "no memory for %d cases", set->n);
    for (int i = 0; i < set->n; i++)
        if (cases[i].text) with[n] = cases[i], of[n++] = i;
    MCS_TRY_GOTO(segment(run, with, n), st, done);
    for (int k = 0; k < n; k++) {
        mcs_demo_truth(&set->cases[of[k]], level, truth);
        run->r.list[list].v[of[k]] = mcs_demo_dice(with[k].mask, truth);
        if (folder) MCS_TRY_GOTO(mcs_demo_write_mask(run, folder, with[k].stem, with[k].mask), st, done);
    }
done:
    mcs_demo_free_cases(with, n);
    free(of);
    return st;
}

static enum mcs_status level(struct demo_run *run, const struct demo_set *set, enum demo_prompt_level prompts,
                             enum demo_list list, const char *folder)
{
    struct segment_case *cases;
    MCS_TRY(mcs_demo_cases_new(set, prompts, &cases));
    const enum mcs_status st = score_cases(run, set, prompts, cases, list, folder);
    free(cases);
    return st;
}

/* The next image's look that differs from that of image i, or NULL. */
static const char *other_look(const struct demo_set *set, int i)
{
    const char *own = set->cases[i].prompt[DEMO_PROMPT_LOOK];
    for (int k = 1; k < set->n; k++) {
        const char *look = set->cases[(i + k) % set->n].prompt[DEMO_PROMPT_LOOK];
        if (strcmp(look, own) != 0) return look;
    }
    return NULL;
}

/* The masks of another image's look, or of a null prompt, against the lesions that the own look describes. */
static enum mcs_status wrong_prompts(struct demo_run *run, enum demo_list list)
{
    const struct demo_set *set = &run->test;
    struct segment_case *cases;
    MCS_TRY(mcs_demo_cases_new(set, DEMO_PROMPT_LOOK, &cases));
    for (int i = 0; i < set->n; i++) cases[i].text = list == LIST_OTHER ? other_look(set, i) : mcs_demo_null_prompts[0];
    const enum mcs_status st = score_cases(run, set, DEMO_PROMPT_LOOK, cases, list,
                                           list == LIST_OTHER ? "stages/other_look" : "stages/no_prompt");
    free(cases);
    return st;
}

static enum mcs_status all_lesions(struct demo_run *run)
{
    const struct demo_set *set = &run->test;
    uint8_t *masks = malloc((size_t)set->n * DEMO_PIXELS + 1), truth[DEMO_PIXELS];
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(masks, MCS_E_NOMEM, "no memory for the masks of %d images", set->n);
    MCS_TRY_GOTO(mcs_demo_segment_all(run, set, run->segmented, masks), st, done);
    for (int i = 0; i < set->n; i++) {
        const uint8_t *mask = masks + (int64_t)i * DEMO_PIXELS;
        mcs_demo_truth_all(&set->cases[i], truth);
        run->r.list[LIST_ALL_ZERO_SHOT].v[i] = mcs_demo_dice(mask, truth);
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/sam_all", set->cases[i].stem, mask), st, done);
    }
done:
    free(masks);
    return st;
}

/* ---- two lesions of opposite grey: each is asked for ---- */

static enum mcs_status two_lesions(struct demo_run *run)
{
    const int n = 2 * run->two.n;
    struct segment_case *cases = calloc((size_t)n + 1, sizeof *cases);
    struct {
        char stem[48], prompt[DEMO_CAPTION_BYTES];
    } *asked = calloc((size_t)n + 1, sizeof *asked);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(cases && asked, MCS_E_NOMEM, st, done, "no memory for %d cases", n);
    for (int i = 0; i < n; i++) {
        const struct demo_case *c = &run->two.cases[i / 2];
        snprintf(asked[i].stem, sizeof asked[i].stem, "%s_prompt%d", c->stem, i % 2);
        mcs_demo_lesion_prompt(&c->sample->lesion[i % 2], DEMO_PROMPT_LOOK, asked[i].prompt);
        cases[i] = (struct segment_case){.image = &c->image, .text = asked[i].prompt, .stem = asked[i].stem};
    }
    MCS_TRY_GOTO(segment(run, cases, n), st, done);
    run->r.prompt_dice = run->r.other_dice = n ? 0 : NAN;
    for (int i = 0; i < n; i++) {
        const struct demo_sample *s = run->two.cases[i / 2].sample;
        run->r.prompt_dice += mcs_demo_dice(cases[i].mask, s->truth[i % 2]) / n;
        run->r.other_dice += mcs_demo_dice(cases[i].mask, s->truth[1 - i % 2]) / n;
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/two", asked[i].stem, cases[i].mask), st, done);
    }
done:
    mcs_demo_free_cases(cases, n);
    free(asked);
    return st;
}

enum mcs_status mcs_demo_prompts(struct demo_run *run)
{
    MCS_TRY(level(run, &run->test, DEMO_PROMPT_WORD, LIST_WORD, "stages/word"));
    MCS_TRY(level(run, &run->test, DEMO_PROMPT_LOOK_PLACE, LIST_PLACE, "stages/look_place"));
    MCS_TRY(wrong_prompts(run, LIST_OTHER));
    MCS_TRY(wrong_prompts(run, LIST_NO_PROMPT));
    MCS_TRY(all_lesions(run));
    MCS_TRY(two_lesions(run));
    return level(run, &run->unseen, DEMO_PROMPT_LOOK, LIST_UNSEEN_ZERO_SHOT, "stages/unseen");
}
