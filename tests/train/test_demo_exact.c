/* The demo's data must not change between versions, since the shipped starting weights were trained and the reported
 * numbers measured on them. tests/expected/demo_*.txt have checksums and texts of the atlas, of samples of every split
 * and kind (with configurations that reach rare branches), of the starting images and of the written lists. A single
 * test, since loading the atlas takes most of the time. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/lesions/demo_write.h"
#include "engine/base/log.h"
#include "tests/support/support_expected.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct demo_atlas atlas;

/* A growing text. */
struct report {
    FILE *f;
    char *text;
    size_t bytes;
};

static void report_open(struct report *r)
{
    r->f = open_memstream(&r->text, &r->bytes);
    cr_assert(r->f);
}

static void report_check(struct report *r, const char *name)
{
    fclose(r->f);
    expected_check(name, r->text);
    free(r->text);
}

/* Sum, first moments by column and row, sum of squares. */
static void put_moments(FILE *f, const char *name, const uint8_t *v, int width, int n)
{
    long long sum = 0, x = 0, y = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += v[i], x += v[i] * (i % width), y += v[i] * (i / width), squares += v[i] * v[i];
    fprintf(f, "  %s %lld %lld %lld %lld\n", name, sum, x, y, squares);
}

/* ---- the atlas ---- */

static void put_atlas(FILE *f)
{
    const int plane = atlas.nx * atlas.ny;
    fprintf(f, "size %d %d %d\n", atlas.nx, atlas.ny, atlas.nz);
    for (int z = DEMO_Z_LOW - 2; z <= DEMO_Z_HIGH + 2; z++)
        fprintf(f, "z %d split %d level %s\n", z, mcs_demo_slice_split(z),
                mcs_demo_level_word(mcs_demo_slice_level(z)));
    for (int s = 0; s < DEMO_SPLITS; s++) {
        fprintf(f, "%s %d slices:", mcs_demo_split_word((enum demo_split)s), atlas.n_slices[s]);
        for (int i = 0; i < atlas.n_slices[s]; i++) fprintf(f, " %d", atlas.slice[s][i]);
        fputc('\n', f);
    }
    for (int k = 1; k < DEMO_REGIONS; k++) {
        const struct demo_region *r = &atlas.region[k];
        fprintf(f, "%d %s: %s, %s, %s\n", k, r->label, r->words, mcs_demo_side_word(r->side),
                mcs_demo_lobe_words(r->lobe));
    }
    for (int z = 0; z < atlas.nz; z += 7) {
        double sum = 0, x = 0, y = 0;
        const float *v = atlas.value + (size_t)z * (size_t)plane;
        for (int i = 0; i < plane; i++)
            sum += (double)v[i], x += (double)v[i] * (i % atlas.nx), y += (double)v[i] * (i / atlas.nx);
        fprintf(f, "slice %d\n  value %.9g %.9g %.9g\n", z, sum, x, y);
        put_moments(f, "brain", atlas.brain + z * plane, atlas.nx, plane);
        put_moments(f, "label", atlas.label + z * plane, atlas.nx, plane);
    }
}

/* ---- samples ---- */

static void put_sample(FILE *f, const struct demo_config *c, enum demo_split split, enum demo_kind kind, uint64_t seed,
                       uint32_t id)
{
    static struct demo_sample s;
    char caption[DEMO_CAPTION_BYTES];
    mcs_demo_lesion_sample(&atlas, c, split, kind, seed, id, &s);
    fprintf(f, "%s kind %d seed %d id %u: kind %d level %d z %d lesions %d lookalikes %d noise %.9g\n",
            mcs_demo_split_word(split), (int)kind, (int)seed, s.id, (int)s.kind, (int)s.level, s.z, s.n_lesions,
            s.n_lookalikes, s.noise);
    put_moments(f, "image", s.image, DEMO_SIZE, DEMO_PIXELS);
    put_moments(f, "brain", s.brain, DEMO_SIZE, DEMO_PIXELS);
    put_moments(f, "label", s.label, DEMO_SIZE, DEMO_PIXELS);
    put_moments(f, "lookalike", s.lookalike, DEMO_SIZE, DEMO_PIXELS);
    for (int k = 0; k < s.n_lesions; k++) {
        const struct demo_lesion *l = &s.lesion[k];
        fprintf(f, "  form %d bright %d large %d blurred %d rim %d side %d lobe %d region %d\n", (int)l->form,
                l->bright, l->large, l->blurred, l->rim, (int)l->side, (int)l->lobe, l->region);
        fprintf(f, "  at %.9g %.9g radius %.9g grey %.9g contrast %.5g area %d box %d %d %d %d\n", l->row, l->col,
                l->radius, l->grey, l->contrast, l->area, l->box[0], l->box[1], l->box[2], l->box[3]);
        fprintf(f, "  %s\n  %s\n  %s\n", l->prompt[0], l->prompt[1], l->prompt[2]);
        put_moments(f, "truth", s.truth[k], DEMO_SIZE, DEMO_PIXELS);
    }
    for (uint32_t v = 0; v < 6; v++) {
        mcs_demo_lesion_caption(&atlas, c, &s, seed, v, caption);
        fprintf(f, "  %s\n", caption);
    }
}

static void put_samples(FILE *f)
{
    struct demo_config c = mcs_demo_config_default();
    for (uint32_t id = 0; id < 8; id++) put_sample(f, &c, DEMO_TRAIN, DEMO_SOME, 3, id);
    for (uint32_t id = 0; id < 12; id++) put_sample(f, &c, DEMO_TEST, DEMO_TWO, 5, id);
    for (uint32_t id = 0; id < 3; id++) put_sample(f, &c, DEMO_VALIDATION, DEMO_NONE, 7, id);
    for (uint32_t id = 0; id < 8; id++) put_sample(f, &c, DEMO_TEST, DEMO_UNSEEN, 8, id);
    c.without = 0.3, c.two = 0.3;
    for (uint32_t id = 0; id < 8; id++) put_sample(f, &c, DEMO_TRAIN, DEMO_MIXED, 11, id);
    c.large_low = 25, c.large_high = 30, c.large = 0.9; /* two of these hardly fit, so places are drawn repeatedly */
    for (uint32_t id = 0; id < 6; id++) put_sample(f, &c, DEMO_TEST, DEMO_TWO, 2, id);
    c.margin = 40; /* few or no slices have such a place */
    for (uint32_t id = 0; id < 6; id++) put_sample(f, &c, DEMO_TEST, DEMO_TWO, 4, id);
    for (uint32_t id = 0; id < 4; id++) put_sample(f, &c, DEMO_TEST, DEMO_SOME, 4, id);
    c.rim = 1, c.margin = 2, c.large = 0, c.lobe = 0, c.shift_mm = 20;
    for (uint32_t id = 0; id < 6; id++) put_sample(f, &c, DEMO_VALIDATION, DEMO_SOME, 6, id);
}

/* ---- starting images ---- */

static void put_clip_start(FILE *f, const struct demo_config *c, uint64_t seed, uint32_t id)
{
    static struct demo_clip_start s;
    char caption[DEMO_CAPTION_BYTES];
    mcs_demo_clip_start(&atlas, c, seed, id, &s);
    fprintf(f, "clip seed %d id %u z %d objects %d lookalikes %d\n", (int)seed, s.id, s.z, s.n_objects, s.n_lookalikes);
    put_moments(f, "image", s.image, DEMO_SIZE, DEMO_PIXELS);
    for (int k = 0; k < s.n_objects; k++) {
        const struct demo_start_object *o = &s.object[k];
        const struct demo_words *w = &o->words;
        fprintf(f, "  shape %d: %d %d %d %d side %d level %d lobe %d region %d object %d\n ", (int)o->shape, w->bright,
                w->large, w->blurred, w->rim, w->side, w->level, (int)w->lobe, w->region, w->object);
        for (int j = 0; j < DEMO_COLUMNS; j++) fprintf(f, " %d", o->column[j]);
        fputc('\n', f);
        put_moments(f, "mask", o->mask, DEMO_SIZE, DEMO_PIXELS);
    }
    for (uint32_t v = 0; v < 4; v++) {
        mcs_demo_clip_start_caption(&atlas, c, &s, seed, v, caption);
        fprintf(f, "  %s\n", caption);
    }
}

static void put_sam_start(FILE *f, const struct demo_config *c, uint64_t seed, uint32_t id)
{
    static struct demo_sam_start s;
    mcs_demo_sam_start(&atlas, c, seed, id, &s);
    fprintf(f, "sam seed %d id %u z %d targets %d\n", (int)seed, s.id, s.z, s.n_targets);
    put_moments(f, "image", s.image, DEMO_SIZE, DEMO_PIXELS);
    for (int t = 0; t < s.n_targets; t++) {
        const struct demo_sam_target *g = &s.target[t];
        fprintf(f, "  shape %d area %d box %d %d %d %d\n", (int)g->shape, g->area, g->box[0], g->box[1], g->box[2],
                g->box[3]);
        put_moments(f, "mask", g->mask, DEMO_SIZE, DEMO_PIXELS);
    }
}

static void put_starts(FILE *f)
{
    struct demo_config c = mcs_demo_config_default();
    for (uint32_t id = 0; id < 50; id++) put_clip_start(f, &c, 2, id);
    for (uint32_t id = 0; id < 60; id++) put_sam_start(f, &c, 2, id);
    c.margin = 40, c.small_low = 1, c.small_high = 2; /* no place for a shape, so none is painted */
    for (uint32_t id = 0; id < 4; id++) put_clip_start(f, &c, 9, id);
}

/* ---- files ---- */

/* Three cells in two columns: one with two masks, of which one touches the image's border on all sides; each row and
 * column of the sheet is counted. */
static void put_sheet(FILE *f, const char *folder)
{
    static uint8_t grey[DEMO_PIXELS], disc[DEMO_PIXELS], frame[DEMO_PIXELS];
    char path[256];
    struct image img;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const int x = i % DEMO_SIZE, y = i / DEMO_SIZE;
        grey[i] = (uint8_t)(x + y);
        disc[i] = (x - 50) * (x - 50) + (y - 70) * (y - 70) < 400;
        frame[i] = x < 3 || y < 5 || x > 120 || y > 122;
    }
    const struct demo_cell cells[3] = {{grey, {disc}}, {grey, {frame, disc}}, {grey, {NULL, NULL, NULL, NULL, disc}}};
    snprintf(path, sizeof path, "%s/sheet.png", folder);
    cr_assert_eq(mcs_demo_sheet(path, cells, 3, 2), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_image_read(path, 0, &img), MCS_OK, "%s", mcs_error_message());
    fprintf(f, "sheet %d %d %d\n", img.width, img.height, img.channels);
    for (int y = 0; y < img.height; y++)
        put_moments(f, "row", img.pixels + (size_t)y * (size_t)img.width * 3, 3, img.width * 3);
    mcs_image_free(&img);
    cr_expect_eq(mcs_demo_sheet(path, cells, 0, 2), MCS_E_USAGE);
    cr_expect_eq(mcs_demo_sheet(path, cells, 3, 0), MCS_E_USAGE);
    mcs_error_clear();
}

static void put_files(FILE *f)
{
    static const char *const names[] = {"attributes.json", "prompts.json", "pairs.csv", "demo.json", "vocab.txt"};
    char folder[] = "/tmp/mcs_demo_exact_XXXXXX", path[256], *text;
    int64_t n;
    struct demo_config c = mcs_demo_config_default();
    c.without = 0.4, c.two = 0.4;
    const struct demo_write what = {.split = DEMO_TEST, .kind = DEMO_MIXED, .seed = 9, .first_id = 3, .n = 5};
    cr_assert(mkdtemp(folder));
    cr_assert_eq(mcs_demo_write(folder, &atlas, &c, &what), MCS_OK, "%s", mcs_error_message());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        cr_assert_eq(mcs_file_read(path, 1 << 20, &text, &n), MCS_OK, "%s", mcs_error_message());
        fprintf(f, "---- %s ----\n%s\n", names[i], text);
        free(text);
    }
    static const char *const subs[] = {"images", "masks", "masks_each"};
    for (int k = 0; k < 3; k++) {
        struct file_list files;
        snprintf(path, sizeof path, "%s/%s", folder, subs[k]);
        cr_assert_eq(mcs_folder_list(path, NULL, &files), MCS_OK, "%s", mcs_error_message());
        for (int i = 0; i < files.n; i++) {
            struct image img;
            snprintf(path, sizeof path, "%s/%s/%s", folder, subs[k], files.names[i]);
            cr_assert_eq(mcs_image_read(path, 0, &img), MCS_OK, "%s", mcs_error_message());
            fprintf(f, "%s/%s %d %d %d\n", subs[k], files.names[i], img.width, img.height, img.channels);
            put_moments(f, "pixels", img.pixels, img.width, img.width * img.height * img.channels);
            mcs_image_free(&img);
        }
        mcs_file_list_free(&files);
    }
    put_sheet(f, folder);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_assert_eq(system(path), 0);
}

Test(demo_exact, data_are_the_same_as_ever)
{
    static const struct {
        const char *name;
        void (*put)(FILE *f);
    } parts[] = {{"demo_atlas.txt", put_atlas},
                 {"demo_samples.txt", put_samples},
                 {"demo_starts.txt", put_starts},
                 {"demo_files.txt", put_files}};
    mcs_log_quiet(1);
    cr_assert_eq(mcs_demo_atlas_load(NULL, &atlas), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < 4; i++) {
        struct report r;
        report_open(&r);
        parts[i].put(r.f);
        report_check(&r, parts[i].name);
    }
    mcs_demo_atlas_free(&atlas);
}
