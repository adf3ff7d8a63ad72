/* The demo's data: the atlas, lesion images, captions, starting images. Files and bad input: test_demo_write.c. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/lesions/demo_write.h"
#include "tests/support/support_demo_data.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

TestSuite(demo, .init = demo_data_open, .fini = demo_data_close);

Test(demo, committed_config_holds_the_defaults)
{
    char path[] = MCS_SOURCE_DIR "/configs/demo.yaml";
    struct demo_config file;
    cr_assert_eq(demo_data_read_config(path, &file), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(memcmp(&file, &demo_data_config, sizeof file), 0);
}

Test(demo, slabs_and_their_gaps)
{
    cr_assert_eq(demo_data_atlas.n_slices[DEMO_TEST], 24);
    cr_assert_eq(demo_data_atlas.n_slices[DEMO_VALIDATION], 12);
    cr_assert_eq(demo_data_atlas.n_slices[DEMO_TRAIN], 37);
    for (int a = DEMO_Z_LOW; a <= DEMO_Z_HIGH; a++)
        for (int b = DEMO_Z_LOW; b <= DEMO_Z_HIGH; b++) {
            const int sa = mcs_demo_slice_split(a), sb = mcs_demo_slice_split(b);
            if (sa >= 0 && sb >= 0 && sa != sb) cr_assert_gt(abs(a - b), 3, "slices %d and %d", a, b);
        }
}

Test(demo, atlas_is_the_head_it_should_be)
{
    const int64_t plane = (int64_t)demo_data_atlas.nx * demo_data_atlas.ny;
    cr_assert_str_eq(demo_data_atlas.region[5].words, "superior orbital frontal");
    cr_assert_str_eq(demo_data_atlas.region[103].words, "cerebellum");
    cr_assert_str_eq(demo_data_atlas.region[57].words, "postcentral gyrus");
    cr_assert_str_eq(demo_data_atlas.region[62].words, "inferior parietal lobule");
    cr_assert_str_eq(demo_data_atlas.region[87].words, "middle temporal pole");
    cr_assert_eq(demo_data_atlas.region[103].side, DEMO_LEFT);
    cr_assert_eq(demo_data_atlas.region[109].side, DEMO_MIDLINE);
    cr_assert_eq(demo_data_atlas.region[55].lobe, DEMO_TEMPORAL);
    cr_assert_eq(demo_data_atlas.region[54].lobe, DEMO_OCCIPITAL);
    /* Every voxel of the brain has a region; voxels of left regions are on the left. */
    int64_t brain = 0, left[2] = {0};
    for (int64_t i = 0; i < plane * demo_data_atlas.nz; i++) {
        if (!demo_data_atlas.brain[i]) continue;
        brain++;
        cr_assert(demo_data_atlas.label[i] >= 1 && demo_data_atlas.label[i] < DEMO_REGIONS);
        if (demo_data_atlas.region[demo_data_atlas.label[i]].side == DEMO_LEFT) left[i % demo_data_atlas.nx > 90]++;
    }
    cr_assert(brain > 1200000 && brain < 1900000, "%lld voxels", (long long)brain);
    cr_assert_gt(left[0], 40 * left[1]);
}

/* Against the definition: no labelled voxel is nearer than the nearest one that has the label given. */
Test(demo, labels_are_the_nearest)
{
    struct volume aal;
    struct demo_draw d = mcs_demo_draw("test", 1, 0, 0);
    cr_assert_eq(mcs_volume_read("/usr/share/mricron/templates/aal.nii.gz", &aal), MCS_OK);
    const int reach = 15, nx = demo_data_atlas.nx, ny = demo_data_atlas.ny;
    for (int t = 0; t < 300; t++) {
        const int x = 20 + mcs_demo_below(&d, 141), y = 20 + mcs_demo_below(&d, 177), z = 45 + mcs_demo_below(&d, 75);
        const int given = demo_data_atlas.label[((z - DEMO_Z_LOW) * ny + y) * nx + x];
        int nearest = 1 << 20, of_given = 1 << 20;
        for (int k = -reach; k <= reach; k++)
            for (int j = -reach; j <= reach; j++)
                for (int i = -reach; i <= reach; i++) {
                    const int label = (int)aal.values[((z + k) * ny + y + j) * nx + x + i], r2 = i * i + j * j + k * k;
                    if (label && r2 < nearest) nearest = r2;
                    if (label == given && r2 < of_given) of_given = r2;
                }
        if (nearest <= reach * reach) cr_assert_eq(nearest, of_given, "at %d %d %d", x, y, z);
    }
    mcs_volume_free(&aal);
}

Test(demo, one_sample_twice_is_the_same_and_others_differ)
{
    struct demo_sample *a = malloc(3 * sizeof *a), *b = a + 1, *c = a + 2;
    for (int k = 0; k < DEMO_KINDS; k++) {
        memset(a, 1, sizeof *a);
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TRAIN, (enum demo_kind)k, 7, 41, a);
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TRAIN, (enum demo_kind)k, 7, 42, c);
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TRAIN, (enum demo_kind)k, 7, 41, b);
        cr_assert_eq(memcmp(a, b, sizeof *a), 0);
        cr_assert_neq(memcmp(a->image, c->image, sizeof a->image), 0);
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TEST, (enum demo_kind)k, 7, 41, c);
        cr_assert_neq(memcmp(a->image, c->image, sizeof a->image), 0);
    }
    free(a);
}

static int count_words(const char *text)
{
    int n = *text != 0;
    for (; *text; text++) n += *text == ' ';
    return n;
}

static int in_vocabulary(const char *vocabulary, const char *text)
{
    char word[64];
    while (*text) {
        const size_t n = strcspn(text, " ");
        snprintf(word, sizeof word, "\n%.*s\n", (int)n, text);
        if (!n || !strstr(vocabulary, word)) return 0;
        text += n + (text[n] == ' ');
    }
    return 1;
}

Test(demo, captions_are_short_and_in_the_vocabulary)
{
    struct demo_sample *s = malloc(sizeof *s);
    char *vocabulary, caption[DEMO_CAPTION_BYTES];
    int n_words, longest = 0;
    cr_assert_eq(mcs_demo_vocabulary(&demo_data_atlas, &vocabulary, &n_words), MCS_OK);
    cr_assert_eq(strncmp(vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", 32), 0);
    cr_assert(n_words > 80 && n_words < 140, "%d words", n_words);
    for (uint32_t i = 0; i < 400; i++) {
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TEST, (enum demo_kind)(i % 4), 3, i, s);
        for (uint32_t v = 0; v < 8; v++) {
            mcs_demo_lesion_caption(&demo_data_atlas, &demo_data_config, s, 3, v, caption);
            if (v == 0) cr_assert_str_eq(caption, s->caption);
            if (count_words(caption) > longest) longest = count_words(caption);
            cr_assert(in_vocabulary(vocabulary, caption), "%s", caption);
        }
        for (int k = 0; k < s->n_lesions; k++)
            for (int p = 0; p < DEMO_PROMPT_LEVELS; p++) cr_assert(in_vocabulary(vocabulary, s->lesion[k].prompt[p]));
    }
    cr_assert_leq(longest, DEMO_CAPTION_WORDS);
    for (int i = 0; i < DEMO_NULL_PROMPTS; i++) cr_assert(in_vocabulary(vocabulary, mcs_demo_null_prompts[i]));
    if (getenv("MCS_SHOW")) fprintf(stderr, "%d words, longest caption %d\n%s\n", n_words, longest, vocabulary);
    free(vocabulary);
    free(s);
}

/* ---- baselines: simple methods without a model must not find the lesions ---- */

static int otsu(const uint8_t *image)
{
    double count[256] = {0}, best = -1;
    int at = 0;
    for (int i = 0; i < DEMO_PIXELS; i++) count[image[i]]++;
    for (int t = 0; t < 255; t++) {
        double n[2] = {0}, sum[2] = {0};
        for (int v = 0; v < 256; v++) {
            n[v > t] += count[v];
            sum[v > t] += v * count[v];
        }
        if (n[0] == 0 || n[1] == 0) continue;
        const double gap = sum[1] / n[1] - sum[0] / n[0], between = n[0] * n[1] * gap * gap;
        if (between > best) {
            best = between;
            at = t;
        }
    }
    return at;
}

/* 8-connected components of (image > t) == bright: Dice with the truth of the largest, of the one with the highest mean
 * distance from t, and of the one chosen by the truth. */
static void components(const uint8_t *image, const uint8_t *truth, int t, int bright, double dice[3])
{
    static uint8_t seen[DEMO_PIXELS];
    static int stack[DEMO_PIXELS];
    int n_truth = 0;
    double most = 0, furthest = -1;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < DEMO_PIXELS; i++) n_truth += truth[i];
    dice[0] = dice[1] = dice[2] = 0;
    for (int start = 0; start < DEMO_PIXELS; start++) {
        int top = 0, n = 0, both = 0;
        double away = 0;
        if (seen[start] || (image[start] > t) != bright) continue;
        stack[top++] = start;
        seen[start] = 1;
        while (top) {
            const int i = stack[--top], r = i / DEMO_SIZE, c = i % DEMO_SIZE;
            n++;
            both += truth[i];
            away += abs(image[i] - t);
            for (int k = 0; k < 9; k++) {
                const int y = r + k / 3 - 1, x = c + k % 3 - 1, j = y * DEMO_SIZE + x;
                if (y < 0 || x < 0 || y >= DEMO_SIZE || x >= DEMO_SIZE || seen[j] || (image[j] > t) != bright) continue;
                seen[j] = 1;
                stack[top++] = j;
            }
        }
        const double d = 2.0 * both / (n + n_truth);
        if (n < 20) continue; /* noise */
        if (n > most) {
            most = n;
            dice[0] = d;
        }
        if (away / n > furthest) {
            furthest = away / n;
            dice[1] = d;
        }
        if (d > dice[2]) dice[2] = d;
    }
}

Test(demo, lesions_are_not_found_without_a_model)
{
    struct demo_sample *s = malloc(sizeof *s);
    const int n = 150;
    double bright[3] = {0}, dark[3] = {0}, centre = 0, seen = 0;
    for (int i = 0; i < n; i++) {
        double d[3];
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TEST, DEMO_SOME, 1, (uint32_t)i, s);
        const int t = otsu(s->image);
        components(s->image, s->truth[0], t, 1, d);
        for (int k = 0; k < 3; k++) bright[k] += d[k] / n;
        components(s->image, s->truth[0], t, 0, d);
        for (int k = 0; k < 3; k++) dark[k] += d[k] / n;
        int both = 0, disc = 0;
        for (int p = 0; p < DEMO_PIXELS; p++) {
            const int in = hypot(p / DEMO_SIZE - 63.5, p % DEMO_SIZE - 63.5) < 20;
            disc += in;
            both += in && s->truth[0][p];
        }
        centre += 2.0 * both / (disc + s->lesion[0].area) / n;
        seen += fabs(s->lesion[0].contrast) > s->noise;
    }
    if (getenv("MCS_SHOW"))
        fprintf(
            stderr,
            "Otsu largest, furthest, by truth: bright %.3f %.3f %.3f, dark %.3f %.3f %.3f; centre %.3f; seen %.3f\n",
            bright[0], bright[1], bright[2], dark[0], dark[1], dark[2], centre, seen / n);
    cr_assert(bright[0] < 0.35 && bright[1] < 0.35 && bright[2] < 0.35);
    cr_assert(dark[0] < 0.35 && dark[1] < 0.35);
    cr_assert_lt(centre, 0.35);
    cr_assert_gt(seen / n, 0.85); /* nor is it noise: contrast above one sigma, but for lesions with a rim */
    free(s);
}

/* ---- two lesions, none ---- */

Test(demo, two_lesions_differ_in_look_and_side)
{
    struct demo_sample *s = malloc(sizeof *s);
    int opposite_sides = 0, n = 200;
    for (int i = 0; i < n; i++) {
        mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_VALIDATION, DEMO_TWO, 5, (uint32_t)i, s);
        cr_assert_eq(s->n_lesions, 2);
        cr_assert_neq(s->lesion[0].bright, s->lesion[1].bright);
        cr_assert_str_neq(s->lesion[0].prompt[DEMO_PROMPT_LOOK_PLACE], s->lesion[1].prompt[DEMO_PROMPT_LOOK_PLACE]);
        for (int p = 0; p < DEMO_PIXELS; p++)
            cr_assert(!(s->truth[0][p] && s->truth[1][p]), "sample %d: masks touch", i);
        opposite_sides += (s->lesion[0].side == DEMO_LEFT && s->lesion[1].side == DEMO_RIGHT) ||
                          (s->lesion[0].side == DEMO_RIGHT && s->lesion[1].side == DEMO_LEFT);
        /* a lesion called left in the prompt is on the left: column 0 is the patient's left */
        for (int k = 0; k < 2; k++) {
            const double middle = (s->lesion[k].box[0] + s->lesion[k].box[2]) / 2.0;
            if (s->lesion[k].side == DEMO_LEFT) cr_assert_lt(middle, 78);
            if (s->lesion[k].side == DEMO_RIGHT) cr_assert_gt(middle, 50);
        }
    }
    cr_assert_gt(opposite_sides, 8 * n / 10); /* the others are on the midline */
    mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_VALIDATION, DEMO_NONE, 5, 1, s);
    cr_assert_eq(s->n_lesions, 0);
    for (int p = 0; p < DEMO_PIXELS; p++) cr_assert(!s->truth[0][p] && !s->truth[1][p] && !s->truth[2][p]);
    free(s);
}

/* ---- starting data ---- */

Test(demo, clip_start)
{
    struct demo_clip_start *s = malloc(2 * sizeof *s);
    char *vocabulary, caption[DEMO_CAPTION_BYTES];
    int shapes[DEMO_BRAIN] = {0}, number[DEMO_OBJECTS + 1] = {0}, n = 400, lookalikes = 0;
    cr_assert_eq(mcs_demo_vocabulary(&demo_data_atlas, &vocabulary, NULL), MCS_OK);
    const double start = seconds();
    for (int i = 0; i < n; i++) {
        uint8_t taken[DEMO_PIXELS] = {0};
        mcs_demo_clip_start(&demo_data_atlas, &demo_data_config, 2, (uint32_t)i, s);
        cr_assert_eq(mcs_demo_slice_split(s->z), DEMO_TRAIN);
        cr_assert(in_vocabulary(vocabulary, s->caption), "%s", s->caption);
        cr_assert_leq(count_words(s->caption), DEMO_CAPTION_WORDS);
        number[s->n_objects]++;
        lookalikes += s->n_lookalikes;
        for (int k = 0; k < s->n_objects; k++) {
            const struct demo_start_object *o = &s->object[k];
            int area = 0, columns = 0;
            shapes[o->shape]++;
            for (int p = 0; p < DEMO_PIXELS; p++) {
                area += o->mask[p];
                cr_assert(!o->mask[p] || !(taken[p] || s->lookalike[p]), "sample %d", i);
                taken[p] |= o->mask[p];
            }
            for (int j = 0; j < DEMO_COL_RIM; j++) columns += o->column[j];
            cr_assert_eq(columns, 3);
            cr_assert_gt(area, 15, "sample %d: %d pixels", i, area);
        }
    }
    if (getenv("MCS_SHOW")) fprintf(stderr, "CLIP start %.3f ms a sample\n", 1e3 * (seconds() - start) / n);
    for (int k = 0; k < DEMO_SHAPES; k++) cr_assert_gt(shapes[k], n / 20);
    /* none in 0.12, three in 0.10 of the 0.68 with shapes (the others have a tinted region); four deviations */
    cr_assert(abs(number[0] - 48) < 27 && abs(number[3] - 27) < 21, "%d none, %d three", number[0], number[3]);
    cr_assert(number[2] > n / 10 && shapes[DEMO_REGION] > n / 10);
    cr_assert_gt(lookalikes, 2 * n);
    mcs_demo_clip_start(&demo_data_atlas, &demo_data_config, 2, 399, s + 1);
    cr_assert_eq(memcmp(s, s + 1, sizeof *s), 0);
    mcs_demo_clip_start_caption(&demo_data_atlas, &demo_data_config, s, 2, 0, caption);
    cr_assert_str_eq(caption, s->caption);
    free(vocabulary);
    free(s);
}

Test(demo, sam_start)
{
    struct demo_sam_start *s = malloc(2 * sizeof *s);
    int n = 300, targets = 0, little = 0, by_shape[DEMO_BRAIN + 1] = {0};
    const double start = seconds();
    for (int i = 0; i < n; i++) {
        mcs_demo_sam_start(&demo_data_atlas, &demo_data_config, 2, (uint32_t)i, s);
        cr_assert_eq(mcs_demo_slice_split(s->z), DEMO_TRAIN);
        cr_assert(s->n_targets >= 1 && s->n_targets <= DEMO_TARGETS);
        targets += s->n_targets;
        for (int t = 0; t < s->n_targets; t++) {
            const struct demo_sam_target *g = &s->target[t];
            int area = 0, row = 0, col = 0;
            by_shape[g->shape]++;
            little += g->area < 200;
            for (int p = 0; p < DEMO_PIXELS; p++) {
                if (!g->mask[p]) continue;
                const int x = p % DEMO_SIZE, y = p / DEMO_SIZE;
                area++;
                row |= y == g->box[1];
                col |= x == g->box[0];
                cr_assert(x >= g->box[0] && x <= g->box[2] && y >= g->box[1] && y <= g->box[3]);
            }
            cr_assert(area == g->area && row && col);
        }
    }
    if (getenv("MCS_SHOW"))
        fprintf(stderr, "SAM start %.3f ms a sample, %.2f targets, %.2f of them below 200 pixels\n",
                1e3 * (seconds() - start) / n, (double)targets / n, (double)little / targets);
    for (int k = 0; k < DEMO_SHAPES; k++) cr_assert_gt(by_shape[k], n / 10);
    cr_assert(by_shape[DEMO_REGION] > n / 10 && by_shape[DEMO_BRAIN] > n / 30);
    cr_assert_gt(3 * little, targets);
    mcs_demo_sam_start(&demo_data_atlas, &demo_data_config, 2, 299, s + 1);
    cr_assert_eq(memcmp(s, s + 1, sizeof *s), 0);
    free(s);
}
