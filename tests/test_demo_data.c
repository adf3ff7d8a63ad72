/* The demo's data: the atlas, lesion images, captions, starting images. */
#include "data/demo_sample.h"
#include "data/volume.h"
#include "engine/log.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct demo_atlas atlas;
static struct demo_config config;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void setup(void)
{
    mcs_log_quiet(1);
    config = mcs_demo_config_default();
    cr_assert_eq(mcs_demo_atlas_load(NULL, &atlas), MCS_OK, "%s", mcs_error_message());
}

static void teardown(void)
{
    mcs_demo_atlas_free(&atlas);
}

TestSuite(demo, .init = setup, .fini = teardown);

Test(demo, committed_config_holds_the_defaults)
{
    struct demo_config file;
    cr_assert_eq(mcs_demo_config_read(MCS_SOURCE_DIR "/configs/demo.yaml", &file), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(memcmp(&file, &config, sizeof file), 0);
}

Test(demo, slabs_and_their_gaps)
{
    cr_assert_eq(atlas.n_slices[DEMO_TEST], 24);
    cr_assert_eq(atlas.n_slices[DEMO_VALIDATION], 12);
    cr_assert_eq(atlas.n_slices[DEMO_TRAIN], 37);
    for (int a = DEMO_Z_LOW; a <= DEMO_Z_HIGH; a++)
        for (int b = DEMO_Z_LOW; b <= DEMO_Z_HIGH; b++) {
            const int sa = mcs_demo_slice_split(a), sb = mcs_demo_slice_split(b);
            if (sa >= 0 && sb >= 0 && sa != sb) cr_assert_gt(abs(a - b), 3, "slices %d and %d", a, b);
        }
}

Test(demo, atlas_is_the_head_it_should_be)
{
    const int64_t plane = (int64_t)atlas.nx * atlas.ny;
    cr_assert_str_eq(atlas.region[5].words, "superior orbital frontal");
    cr_assert_str_eq(atlas.region[103].words, "cerebellum");
    cr_assert_eq(atlas.region[103].side, DEMO_LEFT);
    cr_assert_eq(atlas.region[109].side, DEMO_MIDLINE);
    cr_assert_eq(atlas.region[55].lobe, DEMO_TEMPORAL);
    cr_assert_eq(atlas.region[54].lobe, DEMO_OCCIPITAL);
    /* Every voxel of the brain has a region; left ones lie left. */
    int64_t brain = 0, left[2] = {0};
    for (int64_t i = 0; i < plane * atlas.nz; i++) {
        if (!atlas.brain[i]) continue;
        brain++;
        cr_assert(atlas.label[i] >= 1 && atlas.label[i] < DEMO_REGIONS);
        if (atlas.region[atlas.label[i]].side == DEMO_LEFT) left[i % atlas.nx > 90]++;
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
    const int reach = 15, nx = atlas.nx, ny = atlas.ny;
    for (int t = 0; t < 300; t++) {
        const int x = 20 + mcs_demo_below(&d, 141), y = 20 + mcs_demo_below(&d, 177), z = 45 + mcs_demo_below(&d, 75);
        const int given = atlas.label[((z - DEMO_Z_LOW) * ny + y) * nx + x];
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
    for (int k = DEMO_NONE; k <= DEMO_MIXED; k++) {
        memset(a, 1, sizeof *a);
        mcs_demo_lesion_sample(&atlas, &config, DEMO_TRAIN, (enum demo_kind)k, 7, 41, a);
        mcs_demo_lesion_sample(&atlas, &config, DEMO_TRAIN, (enum demo_kind)k, 7, 42, c);
        mcs_demo_lesion_sample(&atlas, &config, DEMO_TRAIN, (enum demo_kind)k, 7, 41, b);
        cr_assert_eq(memcmp(a, b, sizeof *a), 0);
        cr_assert_neq(memcmp(a->image, c->image, sizeof a->image), 0);
        mcs_demo_lesion_sample(&atlas, &config, DEMO_TEST, (enum demo_kind)k, 7, 41, c);
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
    cr_assert_eq(mcs_demo_vocabulary(&atlas, &vocabulary, &n_words), MCS_OK);
    cr_assert_eq(strncmp(vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", 32), 0);
    cr_assert(n_words > 80 && n_words < 140, "%d words", n_words);
    for (uint32_t i = 0; i < 200; i++) {
        mcs_demo_lesion_sample(&atlas, &config, DEMO_TRAIN, (enum demo_kind)(i % 3), 3, i, s);
        for (uint32_t v = 0; v < 8; v++) {
            mcs_demo_lesion_caption(&atlas, &config, s, 3, v, caption);
            if (v == 0) cr_assert_str_eq(caption, s->caption);
            if (count_words(caption) > longest) longest = count_words(caption);
            cr_assert(in_vocabulary(vocabulary, caption), "%s", caption);
        }
        for (int k = 0; k < s->n_lesions; k++) cr_assert(in_vocabulary(vocabulary, s->lesion[k].prompt4));
    }
    cr_assert_leq(longest, DEMO_CAPTION_WORDS);
    for (int i = 0; i < DEMO_NULL_PROMPTS; i++) cr_assert(in_vocabulary(vocabulary, mcs_demo_null_prompts[i]));
    if (getenv("MCS_SHOW")) fprintf(stderr, "%d words, longest caption %d\n%s\n", n_words, longest, vocabulary);
    free(vocabulary);
    free(s);
}

Test(demo, lesions_are_what_their_config_says)
{
    struct demo_sample *s = malloc(sizeof *s);
    double area = 0, bright = 0, contrast = 0, cnr = 0;
    int n = 400, small_large[2] = {0};
    const double start = seconds();
    for (int i = 0; i < n; i++) {
        mcs_demo_lesion_sample(&atlas, &config, DEMO_TEST, DEMO_ONE, 1, (uint32_t)i, s);
        const struct demo_lesion *l = &s->lesion[0];
        cr_assert_gt(l->area, 20);
        for (int p = 0; p < DEMO_PIXELS; p++) cr_assert(!s->truth[0][p] || s->brain[p]);
        area += l->area;
        bright += l->bright;
        contrast += fabs(l->contrast);
        cnr += fabs(l->contrast) / s->noise;
        small_large[l->large] += l->area;
        cr_assert_eq(mcs_demo_slice_split(s->z), DEMO_TEST);
        if (i < 12 && getenv("MCS_SHOW")) fprintf(stderr, "%s | %s\n", s->caption, l->prompt4);
    }
    if (getenv("MCS_SHOW"))
        fprintf(stderr, "%.3f ms a sample, mean area %.1f, bright %.3f, contrast %.3f, CNR %.1f\n",
                1e3 * (seconds() - start) / n, area / n, bright / n, contrast / n, cnr / n);
    /* The study's 390 pixels; a lesion's area has a deviation of about 270, so of a mean of 400 about 14. */
    cr_assert(area / n > 320 && area / n < 440, "mean area %.1f", area / n);
    cr_assert(fabs(bright / n - 0.5) < 0.1);
    free(s);
}
