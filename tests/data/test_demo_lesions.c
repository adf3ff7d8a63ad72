/* Lesion images against their config: numbers, looks, contrasts, forms, look-alikes, and the truth of prompts. */
#include "data/lesions/demo_sample.h"
#include "tests/support/support_demo_data.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(lesions, .init = demo_data_open, .fini = demo_data_close);

static struct demo_sample *make(enum demo_split split, enum demo_kind kind, uint64_t seed, int id,
                                struct demo_sample *s)
{
    mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, split, kind, seed, (uint32_t)id, s);
    return s;
}

/* 1: a count of n is less than four standard deviations of a binomial distribution away from its share. */
static int is_share(int count, double share, int n)
{
    return fabs(count - share * n) < 4 * sqrt(share * (1 - share) * n);
}

Test(lesions, are_what_their_config_says)
{
    const struct demo_config *c = &demo_data_config;
    struct demo_sample *s = malloc(sizeof *s);
    int n = 400, lesions = 0, first = 0, look[5] = {0}, number[DEMO_LESIONS + 1] = {0};
    double area = 0, cnr = 0;
    for (int i = 0; i < n; i++) {
        make(DEMO_TEST, DEMO_SOME, 1, i, s);
        cr_assert_eq(mcs_demo_slice_split(s->z), DEMO_TEST);
        number[s->n_lesions]++;
        first += s->lesion[0].bright;
        for (int k = 0; k < s->n_lesions; k++) {
            const struct demo_lesion *l = &s->lesion[k];
            cr_assert(l->area >= 24 && l->form <= DEMO_IRREGULAR, "sample %d: %d pixels, form %d", i, l->area, l->form);
            for (int p = 0; p < DEMO_PIXELS; p++) cr_assert(!s->truth[k][p] || s->brain[p]);
            lesions++;
            area += l->area;
            cnr += fabs(l->contrast) / s->noise;
            look[0] += l->bright;
            look[1] += l->blurred;
            look[2] += l->rim;
            look[3] += l->form == DEMO_IRREGULAR;
            look[4] += l->large;
        }
    }
    if (getenv("MCS_SHOW"))
        fprintf(stderr, "mean area %.1f, CNR %.1f, large %d of %d\n", area / lesions, cnr / lesions, look[4], lesions);
    cr_expect(is_share(look[0], c->bright, lesions) && is_share(look[1], c->blurred, lesions));
    cr_expect(is_share(look[2], c->rim, lesions) && is_share(look[3], c->irregular, lesions));
    cr_expect(is_share(first, c->bright, n));
    /* A second or third lesion that finds no place becomes small; few do. */
    cr_expect(look[4] > 0.4 * lesions && look[4] < 0.5 * lesions + 2 * sqrt(lesions), "%d large", look[4]);
    cr_expect(number[0] == 0 && is_share(number[2], c->two, n) && is_share(number[3], c->three, n));
    /* Discs with the config's radii have 380 pixels on average; the brain's edge and lesions that became small take
     * some. Areas have a standard deviation of about 300, so a mean of 600 has about 12. */
    cr_expect(area / lesions > 310 && area / lesions < 420, "mean area %.1f", area / lesions);
    free(s);
}

/* Sharp large lesions without a rim, where the finished image shows the contrast drawn (0.15 to 0.45, at most about
 * 0.27 above white matter) but for gain, bias, texture and the anatomy around. */
Test(lesions, contrasts_reach_from_low_to_high)
{
    const struct demo_config *c = &demo_data_config;
    struct demo_sample *s = malloc(sizeof *s);
    int n[2] = {0}, low = 0, high = 0, right_sign = 0;
    double sum[2] = {0};
    for (int i = 0; i < 400; i++) {
        make(DEMO_TEST, DEMO_SOME, 4, i, s);
        for (int k = 0; k < s->n_lesions; k++) {
            const struct demo_lesion *l = &s->lesion[k];
            cr_assert(l->grey > 0.029 && l->grey < 0.971);
            if (l->rim || l->blurred || !l->large) continue;
            const double contrast = l->bright ? l->contrast : -l->contrast;
            sum[l->bright] += contrast;
            n[l->bright]++;
            low += contrast < 0.2;
            high += contrast > 0.25;
            right_sign += contrast > 0;
        }
    }
    const int all = n[0] + n[1];
    if (getenv("MCS_SHOW"))
        fprintf(stderr, "%d: dark %.3f, bright %.3f; %d low, %d high, %d right\n", all, sum[0] / n[0], sum[1] / n[1],
                low, high, right_sign);
    cr_expect(all > 60 && right_sign > 0.95 * all, "%d of %d", right_sign, all);
    cr_expect(low > 0.15 * all && high > 0.15 * all, "%d low, %d high of %d", low, high, all);
    cr_expect(sum[0] / n[0] > c->contrast_low && sum[0] / n[0] < c->contrast_high);
    cr_expect(sum[1] / n[1] > c->contrast_low && sum[1] / n[1] < 0.35);
    free(s);
}

/* All distances city-block, in pixels. */
Test(lesions, and_lookalikes_keep_apart)
{
    struct demo_sample *s = malloc(sizeof *s);
    uint8_t steps[DEMO_PIXELS];
    int n = 300, found[2] = {0}, pixels = 0;
    for (int i = 0; i < n; i++) {
        make(DEMO_TEST, i % 3 == 2 ? DEMO_UNSEEN : i % 3 ? DEMO_SOME : DEMO_NONE, 6, i, s);
        for (int k = 0; k < s->n_lesions; k++) {
            mcs_demo_steps(s->truth[k], DEMO_SIZE, DEMO_SIZE, 1, steps);
            for (int p = 0; p < DEMO_PIXELS; p++) {
                for (int j = 0; j < s->n_lesions; j++)
                    cr_assert(j == k || !s->truth[j][p] || steps[p] >= demo_data_config.gap, "sample %d", i);
                cr_assert(!s->lookalike[p] || steps[p] >= 4, "sample %d", i);
            }
        }
        found[s->n_lesions > 0] += s->n_lookalikes;
        for (int p = 0; p < DEMO_PIXELS; p++) {
            pixels += s->lookalike[p];
            cr_assert(!s->lookalike[p] || s->brain[p]);
        }
    }
    /* 0 to 2 vessels and 0 to 3 dots: 2.5 an image with a standard deviation of 1.4, in images without and with lesions
     * (of which large ones leave less room) */
    cr_expect(found[0] > 2.0 * n / 3 && found[1] > 1.8 * 2 * n / 3, "%d and %d", found[0], found[1]);
    cr_expect_gt(pixels, 20 * n);
    struct demo_config without = demo_data_config;
    without.vessels = without.dots = 0;
    mcs_demo_lesion_sample(&demo_data_atlas, &without, DEMO_TEST, DEMO_SOME, 6, 1, s);
    cr_expect_eq(s->n_lookalikes, 0);
    for (int p = 0; p < DEMO_PIXELS; p++) cr_assert(!s->lookalike[p]);
    free(s);
}

Test(lesions, and_healthy_images_come_in_their_shares)
{
    struct demo_sample *s = malloc(sizeof *s);
    int count[DEMO_KINDS] = {0}, n = 500;
    for (int i = 0; i < n; i++) {
        count[make(DEMO_TRAIN, DEMO_MIXED, 1, i, s)->kind]++;
        cr_assert_eq(s->kind == DEMO_NONE, s->n_lesions == 0);
    }
    cr_expect(is_share(count[DEMO_NONE], demo_data_config.without, n), "%d none", count[DEMO_NONE]);
    cr_expect_eq(count[DEMO_NONE] + count[DEMO_SOME], n);
    free(s);
}

/* ---- forms that no training saw ---- */

Test(lesions, unseen_forms_are_in_the_test_split_alone)
{
    struct demo_sample *s = malloc(sizeof *s);
    int n = 150, forms[DEMO_FORMS] = {0}, two = 0;
    for (int i = 0; i < n; i++) {
        make(DEMO_TEST, DEMO_UNSEEN, 2, i, s);
        cr_assert(s->kind == DEMO_UNSEEN && s->n_lesions >= 1 && s->n_lesions <= 2);
        two += s->n_lesions == 2;
        for (int k = 0; k < s->n_lesions; k++) {
            forms[s->lesion[k].form]++;
            if (s->lesion[k].form != DEMO_WEDGE) continue;
            int edge = 0; /* a wedge reaches the brain's edge */
            for (int p = DEMO_SIZE; p < DEMO_PIXELS - DEMO_SIZE; p++)
                edge += s->truth[k][p] &&
                        !(s->brain[p - 1] && s->brain[p + 1] && s->brain[p - DEMO_SIZE] && s->brain[p + DEMO_SIZE]);
            cr_assert_gt(edge, 1, "sample %d", i);
        }
        for (int split = DEMO_TRAIN; split < DEMO_TEST; split++)
            for (int kind = 0; kind < DEMO_KINDS; kind++) {
                make((enum demo_split)split, (enum demo_kind)kind, 2, i, s);
                cr_assert_neq(s->kind, DEMO_UNSEEN);
                for (int k = 0; k < s->n_lesions; k++) cr_assert_leq(s->lesion[k].form, DEMO_IRREGULAR);
            }
    }
    cr_expect(is_share(two, demo_data_config.unseen_two, n), "%d", two);
    cr_expect_eq(forms[DEMO_SMOOTH] + forms[DEMO_IRREGULAR], 0);
    cr_expect(is_share(forms[DEMO_CLUSTER], demo_data_config.cluster, forms[DEMO_CLUSTER] + forms[DEMO_WEDGE]),
              "%d and %d", forms[DEMO_CLUSTER], forms[DEMO_WEDGE]);
    free(s);
}

/* ---- the truth of a prompt ---- */

Test(lesions, truth_of_a_prompt_is_what_it_describes)
{
    struct demo_sample *s = calloc(1, sizeof *s);
    uint8_t truth[DEMO_PIXELS];
    s->n_lesions = 3;
    for (int k = 0; k < 3; k++) {
        s->lesion[k] = (struct demo_lesion){.bright = 1, .large = 1, .side = DEMO_LEFT, .lobe = DEMO_FRONTAL};
        s->truth[k][100 + k] = 1;
    }
    s->lesion[1].lobe = DEMO_PARIETAL;
    s->lesion[2].rim = 1;
    cr_expect_eq(mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_WORD, truth), 7);
    cr_expect(truth[100] && truth[101] && truth[102] && !truth[103]);
    cr_expect_eq(mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_LOOK, truth), 7); /* no rim named: with and without */
    cr_expect_eq(mcs_demo_prompt_truth(s, 2, DEMO_PROMPT_LOOK, truth), 4); /* with a rim: the third alone */
    cr_expect(!truth[100] && !truth[101] && truth[102]);
    cr_expect_eq(mcs_demo_prompt_truth(s, 1, DEMO_PROMPT_LOOK_PLACE, truth), 2);
    cr_expect_eq(mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_LOOK_PLACE, truth), 5);
    int *const attribute[] = {&s->lesion[0].bright, &s->lesion[0].large, &s->lesion[0].blurred};
    for (int a = 0; a < 3; a++) {
        *attribute[a] ^= 1;
        cr_expect_eq(mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_LOOK, truth), 1, "attribute %d", a);
        cr_expect_eq(mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_WORD, truth), 7);
        *attribute[a] ^= 1;
    }
    s->lesion[0].side = DEMO_RIGHT;
    cr_expect_eq(mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_LOOK_PLACE, truth), 1);
    char prompt[DEMO_CAPTION_BYTES];
    mcs_demo_lesion_prompt(&s->lesion[2], DEMO_PROMPT_LOOK, prompt);
    cr_expect_str_eq(prompt, "axial t1 mri showing a large sharp bright lesion with a rim");
    mcs_demo_lesion_prompt(&s->lesion[1], DEMO_PROMPT_LOOK_PLACE, prompt);
    cr_expect_str_eq(prompt, "axial t1 mri showing a large sharp bright lesion in the left parietal lobe");
    mcs_demo_lesion_prompt(&s->lesion[1], DEMO_PROMPT_WORD, prompt);
    cr_expect_str_eq(prompt, "axial t1 mri showing a lesion");
    free(s);
}

/* Prompts by look must have something to tell apart: most images with several lesions have one that the first's prompt
 * does not describe. */
Test(lesions, looks_in_an_image_differ)
{
    struct demo_sample *s = malloc(sizeof *s);
    uint8_t truth[DEMO_PIXELS];
    int several = 0, differ = 0;
    for (int i = 0; i < 300; i++) {
        make(DEMO_TEST, DEMO_SOME, 9, i, s);
        if (s->n_lesions < 2) continue;
        several++;
        differ += mcs_demo_prompt_truth(s, 0, DEMO_PROMPT_LOOK, truth) != (1u << s->n_lesions) - 1;
    }
    cr_expect(differ > 0.8 * several, "%d of %d", differ, several);
    free(s);
}
