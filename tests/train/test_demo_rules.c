/* Rules without a model on drawn images: threshold, opening, choice of the component, and what tuning finds. */
#include "tests/support/support_figures.h"
#include "train/demo/demo_rules.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A grey brain of 100 x 100 pixels; its noise is a fixed pattern of -3 to 3. */
static struct demo_sample *new_sample(void)
{
    struct demo_sample *s = calloc(1, sizeof *s);
    cr_assert(s);
    for (int y = 14; y < 114; y++)
        for (int x = 14; x < 114; x++) {
            s->brain[y * DEMO_SIZE + x] = 1;
            s->image[y * DEMO_SIZE + x] = (uint8_t)(120 + (x * 7 + y * 13) % 7 - 3);
        }
    return s;
}

static void disc(struct demo_sample *s, int cx, int cy, int radius, int grey, uint8_t *truth)
{
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const int dx = i % DEMO_SIZE - cx, dy = i / DEMO_SIZE - cy;
        if (dx * dx + dy * dy > radius * radius) continue;
        s->image[i] = (uint8_t)grey;
        if (truth) truth[i] = 1;
    }
}

static struct demo_rule plain(double share, int opening)
{
    struct demo_rule r = {.threshold = {{share, 0, opening}, {share, 0, opening}}};
    for (int b = 0; b < 2; b++)
        for (int f = 0; f < DEMO_RULE_FEATURES; f++) r.deviation[b][f] = 1;
    return r;
}

/* Bright and dark discs of 314 and 149 pixels: the word decides which is found, and only the brain counts. */
Test(demo_rules, bright_or_dark)
{
    struct demo_sample *s = new_sample();
    uint8_t truth[2][DEMO_PIXELS] = {0}, mask[DEMO_PIXELS];
    disc(s, 40, 40, 10, 220, truth[1]);
    disc(s, 80, 80, 7, 30, truth[0]);
    for (int x = 0; x < DEMO_SIZE; x++) s->image[x] = 255; /* outside the brain */
    for (int bright = 0; bright < 2; bright++) {
        const struct demo_lesion l = {.bright = bright};
        const struct demo_rule r = plain(bright ? 0.03 : 0.0145, 0);
        cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
        cr_expect_gt(figure_dice(mask, truth[bright], DEMO_PIXELS), 0.99);
    }
    free(s);
}

/* A share above the lesion's takes noise too, which touches it or not: opening removes lines and dots. The disc and its
 * opening by a disc of radius 2 differ in a few corners. */
Test(demo_rules, opening_removes_thin_parts)
{
    struct demo_sample *s = new_sample();
    uint8_t truth[DEMO_PIXELS] = {0}, mask[DEMO_PIXELS];
    const struct demo_lesion l = {.bright = 1};
    disc(s, 60, 60, 9, 220, truth);
    for (int x = 20; x < 110; x++) s->image[60 * DEMO_SIZE + x] = 230; /* a vessel through it */
    struct demo_rule r = plain(0.04, 0);
    cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
    cr_expect(mask[60 * DEMO_SIZE + 25] && mask[60 * DEMO_SIZE + 105]);
    r = plain(0.034, 2);
    cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
    cr_expect(!mask[60 * DEMO_SIZE + 25] && !mask[60 * DEMO_SIZE + 105]);
    cr_expect_gt(figure_dice(mask, truth, DEMO_PIXELS), 0.97);
    free(s);
}

/* Without words the largest component; by size the one nearest to the words' mean. */
Test(demo_rules, size_chooses_the_component)
{
    struct demo_sample *s = new_sample();
    uint8_t large[DEMO_PIXELS] = {0}, small[DEMO_PIXELS] = {0}, mask[DEMO_PIXELS];
    disc(s, 40, 40, 12, 220, large);
    disc(s, 85, 85, 5, 220, small);
    struct demo_rule r = plain(0.05, 0);
    r.mean[1][0][0] = log(80), r.mean[1][0][1] = log(450);
    for (int word = 0; word < 2; word++) {
        const struct demo_lesion l = {.bright = 1, .large = word};
        r.reads = 0;
        cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
        cr_expect_gt(figure_dice(mask, large, DEMO_PIXELS), 0.99);
        r.reads = DEMO_READS_SIZE;
        cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
        cr_expect_gt(figure_dice(mask, word ? large : small, DEMO_PIXELS), 0.99);
    }
    free(s);
}

/* Nothing is left of a brain whose brightest pixels are single: an empty mask, no error. */
Test(demo_rules, nothing_is_found)
{
    struct demo_sample *s = new_sample();
    uint8_t mask[DEMO_PIXELS];
    const struct demo_lesion l = {.bright = 1};
    const struct demo_rule r = plain(0.01, 3);
    for (int k = 0; k < 10; k++) s->image[(20 + 9 * k) * DEMO_SIZE + 20 + 9 * k] = 250;
    cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
    cr_expect(!memchr(mask, 1, DEMO_PIXELS));
    memset(s->brain, 0, sizeof s->brain);
    cr_assert_eq(mcs_demo_rule_apply(&r, s, &l, mask), MCS_OK);
    cr_expect(!memchr(mask, 1, DEMO_PIXELS));
    free(s);
}

/* Each image has a sharp and a blurred disc, one with a dark rim, of the same size: only border or rim tells which is
 * meant. Tuning finds thresholds that work, and that these words help. */
Test(demo_rules, tuning_finds_what_the_words_mean)
{
    enum { N = 6 };
    struct demo_sample *s[N];
    struct demo_lesion lesion[N];
    static uint8_t truth[N][DEMO_PIXELS];
    struct demo_rule_case cases[N];
    struct demo_rule rules[DEMO_READS_SETS];
    for (int i = 0; i < N; i++) {
        uint8_t *at[2] = {i % 2 ? truth[i] : NULL, i % 2 ? NULL : truth[i]};
        s[i] = new_sample();
        disc(s[i], 45, 45 + i, 11, 210, at[0]);
        for (int k = 0; k < 3; k++) disc(s[i], 45, 45 + i, 10 - k, 211 + k, NULL);
        for (int k = 0; k < 6; k++) disc(s[i], 85, 85 - i, 13 - k, 130 + 16 * k, k == 2 ? at[1] : NULL);
        lesion[i] = (struct demo_lesion){.bright = 1, .blurred = !(i % 2)};
        cases[i] = (struct demo_rule_case){s[i], &lesion[i], truth[i]};
    }
    cr_assert_eq(mcs_demo_rules_tune(cases, N, rules), MCS_OK);
    for (int k = 0; k < DEMO_READS_SETS; k++) {
        double sum = 0;
        for (int i = 0; i < N; i++) {
            uint8_t mask[DEMO_PIXELS];
            cr_assert_eq(mcs_demo_rule_apply(&rules[k], s[i], &lesion[i], mask), MCS_OK);
            sum += figure_dice(mask, truth[i], DEMO_PIXELS) / N;
        }
        cr_expect_eq((int)rules[k].reads, k);
        cr_expect_float_eq(rules[k].dice, sum, 1e-12, "rule %d: %g, applied %g", k, rules[k].dice, sum);
    }
    cr_expect_gt(rules[DEMO_READS_BORDER].dice, 0.8, "border: %g", rules[DEMO_READS_BORDER].dice);
    cr_expect_lt(rules[0].dice, 0.6, "the largest: %g", rules[0].dice);
    for (int i = 0; i < N; i++) free(s[i]);
}
