/* The whole zero-shot pipeline: forms by stage, the mean of SAM's IoU, batches with one faulty image, and the released
 * multimask against its definition. */
#include "data/image/volume.h"
#include "data/io/npy.h"
#include "data/io/store.h"
#include "engine/base/rng.h"
#include "infer/segment.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 36, HEIGHT = 24, PIXELS = WIDTH * HEIGHT };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device device;
static struct clip_model clip;
static struct sam_model sam;

static void paint(struct image *img, int i)
{
    const struct mcs_rng r = {.seed = 8, .site = mcs_rng_site("tests.segment"), .sample = (uint32_t)i};
    OK(mcs_image_alloc(img, WIDTH, HEIGHT, 1));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            const int dx = x - 8 - 6 * i, dy = y - 10 - i, in = dx * dx + dy * dy < 30;
            img->pixels[y * WIDTH + x] = (uint8_t)((in ? 180 : 30) + mcs_rng_below(r, (uint32_t)(y * WIDTH + x), 60));
        }
}

static void setup(void)
{
    const struct sam_config s = tiny_sam_config();
    shell_open(MCS_BINARY, "--threads 1 --quiet");
    struct clip_config c = tiny_clip_config();
    c.image_size = 48; /* 6 x 6 tokens: maps of several components */
    OK(mcs_cpu_open(1, &device));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11, &device, NULL, &clip));
    OK(mcs_clip_model_save(&clip, shell_path("clip"), 0));
    OK(mcs_sam_model_new(&s, 2, &device, &sam));
    OK(mcs_sam_model_save(&sam, shell_path("sam"), 0, NULL));
    expect("mkdir img", 0, "");
    for (int i = 0; i < 3; i++) {
        struct image img;
        char name[32];
        paint(&img, i);
        snprintf(name, sizeof name, "img/%c.png", 'a' + i);
        OK(mcs_image_write_png(shell_path(name), &img));
        mcs_image_free(&img);
    }
}

static void teardown(void)
{
    mcs_clip_model_close(&clip);
    mcs_sam_model_close(&sam);
    mcs_cpu_close(&device);
    shell_close();
}
TestSuite(segment, .init = setup, .fini = teardown, .timeout = 120);

/* ---- forms ---- */

/* The saliency stage sees the whole image in the paper's form and its centre in the released one, whatever the forms of
 * the other stages are. */
Test(segment, the_saliency_stage_follows_its_form)
{
    struct image img;
    float *maps[2];
    paint(&img, 1);
    for (int release = 0; release < 2; release++) {
        enum mcs_form form[MCS_FORM_STAGES];
        for (int i = 0; i < MCS_FORM_STAGES; i++) form[i] = release ? MCS_PAPER : MCS_RELEASE;
        form[MCS_FORM_SALIENCY] = release ? MCS_RELEASE : MCS_PAPER;
        struct segment_options o = mcs_segment_defaults(form);
        struct segment_case c = {.image = &img, .text = "brain tumor", .stem = "b"};
        struct saliency_options s = mcs_saliency_defaults();
        struct saliency_case alone = {.image = &img, .text = "brain tumor", .key = mcs_rng_site("b")};
        s.view = release ? CLIP_VIEW_CROP : CLIP_VIEW_WHOLE;
        s.steps = o.saliency.steps = 3;
        cr_expect(o.coarse.form == form[MCS_FORM_COARSE] && o.sam.form == form[MCS_FORM_SAM]);
        OK(mcs_segment_run(&clip, NULL, &o, &c, 1, 0));
        OK(mcs_saliency_run(&clip, &s, &alone, 1, NULL, 0, NULL, NULL, 0));
        cr_expect_arr_eq(c.map.values, alone.map.values, PIXELS * sizeof(float));
        maps[release] = alone.map.values;
        mcs_segment_case_free(&c);
    }
    cr_expect_arr_neq(maps[0], maps[1], PIXELS * sizeof(float));
    free(maps[0]);
    free(maps[1]);
    mcs_image_free(&img);
}

Test(segment, the_verbs_forms_are_those_of_its_stages)
{
    static const char *const forms[] = {"paper", "saliency=release", "release"};
    for (int i = 0; i < 3; i++) {
        char line[512];
        snprintf(
            line, sizeof line,
            "rm -rf out sal coa; mcsam segment --clip clip --sam sam -i img --text 'brain tumor' --steps 3 "
            "--min-confidence 0 --keep-stages --form %s -o out && mcsam saliency -m clip -i img --text 'brain tumor' "
            "--steps 3 --form %s -o sal && mcsam coarse -i sal --min-confidence 0 --form %s -o coa && for f in a b c; "
            "do cmp out/saliency/$f.h5 sal/$f.h5 && cmp out/coarse/$f.png coa/$f.png || exit 9; done; mkdir -p "
            "kept/%d; cp sal/*.png kept/%d",
            forms[i], forms[i], forms[i], i, i);
        expect(line, 0, "");
    }
    expect("cmp kept/1/b.png kept/2/b.png && echo same", 0, "same"); /* both with the released saliency */
    expect("cmp kept/0/b.png kept/1/b.png", 1, "differ");
}

/* Each option of segment is that of its stage: the pipeline with it equals the three verbs in sequence with it, and
 * differs from the run without it. */
Test(segment, options_are_those_of_the_stages)
{
    static const struct {
        const char *segment, *saliency, *coarse, *sam, *differs; /* options, and a file that they change */
    } options[] = {
        {"--keep 0", "", "--keep 0", "", "coarse/boxes.json"},
        {"--keep 0 --grow 3", "", "--keep 0 --grow 3", "", "coarse/boxes.json"},
        {"--threshold kmeans", "", "--threshold kmeans", "", "coarse/a.png"},
        {"--rank text", "", "--rank text -m clip --images img --text tumor", "", "coarse/boxes.json"},
        {"--min-confidence 0.85", "", "--min-confidence 0.85", "", "coarse/boxes.json"},
        {"--seed 9", "--seed 9", "--seed 9", "", "saliency/a.h5"},
        {"--null lung --null 'breast mass'", "--null lung --null 'breast mass'", "", "", "saliency/a.h5"},
        {"--beta 3 --lr 0.5 --copies 2 --layer 0", "--beta 3 --lr 0.5 --copies 2 --layer 0", "", "", "saliency/a.h5"},
        {"--sam-prompts points", "", "", "--prompts points", "summary.json"},
        {"--sam-prompts both", "", "", "--prompts both", "summary.json"},
        {"--multimask", "", "", "--multimask", "summary.json"},
    };
    golden_fill_params(sam.params); /* masks that differ by prompt */
    OK(mcs_sam_model_save(&sam, shell_path("sam"), 0, NULL));
    expect("mcsam segment --clip clip --sam sam -i img --text tumor --steps 3 --keep-stages --min-confidence 0 "
           "--threshold 0.7 -o plain",
           0, "3 cases");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char least[64] = "";
        if (!strstr(options[i].segment, "--min-confidence")) strcat(least, "--min-confidence 0 ");
        if (!strstr(options[i].segment, "--threshold")) strcat(least, "--threshold 0.7");
        char line[2048];
        snprintf(
            line, sizeof line,
            "rm -rf out sal coa fin; mcsam segment --clip clip --sam sam -i img --text tumor --steps 3 --keep-stages "
            "%s %s -o out && mcsam saliency -m clip -i img --text tumor --steps 3 %s -o sal && mcsam coarse -i sal %s "
            "%s -o coa && mcsam sam -m sam -i img --prompts-from coa/boxes.json %s -o fin && for f in a b c; do cmp "
            "sal/$f.h5 out/saliency/$f.h5 && cmp coa/$f.png out/coarse/$f.png && cmp fin/$f.png out/$f.png || exit 9; "
            "done",
            least, options[i].segment, options[i].saliency, least, options[i].coarse, options[i].sam);
        expect(line, 0, "");
        snprintf(line, sizeof line, "cmp -s out/%s plain/%s && echo the same", options[i].differs, options[i].differs);
        cr_expect_neq(shell(line), 0, "%s changes nothing in %s", options[i].segment, options[i].differs);
    }
}

/* ---- SAM's part ---- */

static struct box_component two[] = {{.x0 = 3, .y0 = 2, .x1 = 14, .y1 = 12}, {.x0 = 20, .y0 = 8, .x1 = 33, .y1 = 22}};

Test(segment, iou_is_the_mean_over_the_boxes)
{
    struct image img;
    enum mcs_form form[MCS_FORM_STAGES] = {MCS_PAPER};
    const struct segment_options o = mcs_segment_defaults(form);
    paint(&img, 0);
    struct segment_case c = {.image = &img, .text = "brain", .stem = "a", .coarse = {.n_boxes = 2, .boxes = two}};
    const struct box_case boxes = {
        .image = "a", .width = WIDTH, .height = HEIGHT, .n_components = 2, .components = two};
    const struct sam_case one = {&img, &boxes};
    struct sam_result r;
    OK(mcs_segment_sam(&sam, &o, &c, 1, 0));
    OK(mcs_sam_segment(&sam, &o.sam, &one, 1, &r));
    cr_assert_eq(r.n_prompts, 2);
    cr_expect_float_eq(c.iou, ((double)r.prompts[0].iou + (double)r.prompts[1].iou) / 2, 1e-6);
    cr_expect(fabsf(r.prompts[0].iou - r.prompts[1].iou) > 1e-4f, "this model scores both boxes alike");
    cr_expect_arr_eq(c.mask, r.mask, PIXELS);
    mcs_sam_result_free(&r);
    free(c.mask);
    mcs_image_free(&img);
}

/* The released multimask: each of the three masks is averaged over the boxes; the sum of the averages is thresholded at
 * one half. A pixel needs one of three masks with one box, two of six with two boxes, two of nine with three boxes. */
Test(segment, released_multimask_averages_over_the_boxes)
{
    static struct box_component three[] = {{.x0 = 3, .y0 = 2, .x1 = 14, .y1 = 12},
                                           {.x0 = 20, .y0 = 8, .x1 = 33, .y1 = 22},
                                           {.x0 = 8, .y0 = 5, .x1 = 25, .y1 = 20}};
    const int side = mcs_sam_side(&sam.config), size = sam.config.image_size;
    float *pixels = malloc((size_t)(3 * size * size) * sizeof *pixels),
          *embedding = malloc((size_t)mcs_sam_embedding_values(&sam.config) * sizeof *embedding),
          *low = malloc((size_t)(3 * SAM_MASKS * side * side) * sizeof *low), iou[3 * SAM_MASKS];
    struct image img;
    struct sam_frame frame;
    struct sam_prompts p[3] = {{0}};
    cr_assert(pixels && embedding && low);
    paint(&img, 0);
    for (int i = 0; i < 3; i++)
        p[i] = (struct sam_prompts){.has_box = 1, .box = {three[i].x0, three[i].y0, three[i].x1, three[i].y1}};
    golden_fill_params(sam.params); /* masks that differ */
    OK(mcs_sam_prepare(&sam.config, &img, pixels, &frame));
    OK(mcs_sam_encode_images(&sam, pixels, 1, embedding));
    OK(mcs_sam_predict(&sam, embedding, &frame, 1, p, 3, low, iou));
    for (int n = 1; n <= 3; n++) {
        struct sam_options o = mcs_sam_defaults(MCS_RELEASE);
        const struct box_case boxes = {
            .image = "a", .width = WIDTH, .height = HEIGHT, .n_components = n, .components = three};
        struct sam_result r;
        int set[PIXELS] = {0}, close[PIXELS] = {0}, area = 0, any = 0;
        for (int i = 0; i < n; i++)
            for (int k = 1; k < SAM_MASKS; k++) {
                struct map2 map;
                OK(mcs_sam_upscale(&sam.config, low + (i * SAM_MASKS + k) * side * side, &frame, &map));
                for (int q = 0; q < PIXELS; q++) {
                    set[q] += map.values[q] > 0;
                    close[q] |= fabsf(map.values[q]) < 1e-4f; /* rounding may change its sign */
                }
                mcs_map_free(&map);
            }
        o.multimask = 1, o.keep = 1000; /* every component stays */
        OK(mcs_sam_segment(&sam, &o, &(struct sam_case){&img, &boxes}, 1, &r));
        for (int q = 0; q < PIXELS; q++) {
            cr_assert(close[q] || r.mask[q] == ((double)set[q] / n > 0.5), "%d boxes, pixel %d: %d masks", n, q,
                      set[q]);
            area += r.mask[q], any += set[q] > 0;
        }
        cr_expect(area > 0 && (n == 1 ? area <= any : area < any), "%d boxes: %d pixels, %d of any mask", n, area, any);
        mcs_sam_result_free(&r);
    }
    free(pixels);
    free(embedding);
    free(low);
    mcs_image_free(&img);
}

/* Each option of the verb sam on a folder equals the option of mcs_sam_segment: the same mask, which differs from the
 * mask without the option. */
Test(segment, options_of_sam_on_a_folder)
{
    static struct box_point first[] = {{5, 5, 1}, {9, 8, 1}}, second[] = {{25, 15, 1}};
    struct box_component components[] = {two[0], two[1]};
    struct row {
        const char *words;
        struct sam_options o;
    } rows[] = {{"", mcs_sam_defaults(MCS_PAPER)},
                {"--prompts points", {.kind = SAM_POINTS}},
                {"--prompts both", {.kind = SAM_BOTH}},
                {"--boxes merged", {.merge_boxes = 1}},
                {"--grow 4", {.grow_px = 4}},
                {"--multimask", {.multimask = 1}},
                {"--keep 1 --multimask", {.multimask = 1, .keep = 1}},
                {"--form release --prompts both", {.form = MCS_RELEASE, .kind = SAM_BOTH}}};
    struct image img;
    uint8_t *plain = NULL;
    components[0].points = first, components[0].n_points = 2;
    components[1].points = second, components[1].n_points = 1;
    struct box_case boxes = {
        .image = "a.png", .width = WIDTH, .height = HEIGHT, .n_components = 2, .components = components};
    golden_fill_params(sam.params);
    OK(mcs_sam_model_save(&sam, shell_path("sam"), 0, NULL));
    expect("mkdir one; cp img/a.png one", 0, "");
    OK(mcs_boxes_write(shell_path("boxes.json"), &(struct box_list){.n = 1, .cases = &boxes}));
    OK(mcs_image_read(shell_path("one/a.png"), 3, &img));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char line[256];
        struct image got;
        struct sam_result r;
        int wrong = 0, moved = 0;
        snprintf(line, sizeof line, "rm -rf out; mcsam sam -m sam -i one --prompts-from boxes.json %s -o out",
                 rows[i].words);
        expect(line, 0, "1 masks");
        OK(mcs_image_read(shell_path("out/a.png"), 0, &got));
        OK(mcs_sam_segment(&sam, &rows[i].o, &(struct sam_case){&img, &boxes}, 1, &r));
        for (int q = 0; q < PIXELS; q++) wrong += (got.pixels[q] != 0) != r.mask[q];
        cr_expect_eq(wrong, 0, "%s: %d pixels", rows[i].words, wrong);
        if (!plain) {
            plain = r.mask;
            r.mask = NULL;
        } else if (rows[i].o.keep) { /* against the same without it */
            struct sam_options all = rows[i].o;
            struct sam_result more;
            all.keep = 0;
            OK(mcs_sam_segment(&sam, &all, &(struct sam_case){&img, &boxes}, 1, &more));
            moved = more.area > r.area;
            mcs_sam_result_free(&more);
        } else {
            for (int q = 0; q < PIXELS; q++) moved += r.mask[q] != plain[q];
        }
        cr_expect(!i || moved, "%s changes nothing", rows[i].words);
        mcs_sam_result_free(&r);
        mcs_image_free(&got);
    }
    free(plain);
    mcs_image_free(&img);
}

/* ---- one image at fault ---- */

/* An image of 60000 x 1 pixels can be read, but cannot be resized to the model's input, which fails the whole batch.
 * Each other image is then done alone, with the same result as without the faulty one. */
Test(segment, a_batch_with_one_bad_image_loses_that_one_only)
{
    struct image thin;
    OK(mcs_image_alloc(&thin, 60000, 1, 1));
    expect("cp -r img bad", 0, "");
    OK(mcs_image_write_png(shell_path("bad/b2.png"), &thin));
    mcs_image_free(&thin);
    expect("mcsam saliency -m clip -i img --text tumor --steps 3 --pairs 1 --form release -o s", 0, "3 maps");
    expect("mcsam saliency -m clip -i bad --text tumor --steps 3 --pairs 1 --form release -o t; echo exit $?", 0,
           "exit 3");
    expect("cut -d, -f1 t/failures.csv | tr '\\n' ' '", 0, "case b2 ");
    expect("for f in a b c; do cmp s/$f.h5 t/$f.h5 && cmp s/$f.png t/$f.png || exit 9; done; ls t/b2.*", 2, "");
    expect("mcsam segment --clip clip --sam sam -i img --text tumor --steps 3 --pairs 1 --form release -o u", 0,
           "3 cases");
    expect(
        "mcsam segment --clip clip --sam sam -i bad --text tumor --steps 3 --pairs 1 --form release -o v; echo exit $?",
        0, "exit 3");
    expect("cut -d, -f1 v/failures.csv | tr '\\n' ' '", 0, "case b2 ");
    expect("for f in a b c; do cmp u/$f.png v/$f.png || exit 9; done; ls v/b2.*", 2, "");
    expect("mkdir only; cp bad/b2.png only; mcsam saliency -m clip -i only --text tumor --form release -o w", 65,
           "1 of 1");
}

/* ---- volumes ---- */

/* Slice z of the volume: a disc of unique place and size on a ramp. */
static void paint_slice(float *values, int z, int n)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            const int dx = x - 4 - z % 28, dy = y - 5 - z / 3, in = dx * dx + dy * dy < 12 + z;
            values[y * WIDTH + x] = (float)(in ? 700 : -300 + 5 * x + 3 * y + 100 * z / n);
        }
}

static void write_volume(const char *name, int n, int reversed)
{
    struct volume v;
    OK(mcs_volume_alloc(&v, WIDTH, HEIGHT, n, (const float[]){0.5f, 0.75f, 2}));
    for (int z = 0; z < n; z++) paint_slice(v.values + (reversed ? n - 1 - z : z) * PIXELS, z, n);
    OK(mcs_volume_write_f32(shell_path(name), v.values, &v));
    mcs_volume_free(&v);
}

/* Both volumes hold the same slices, the second one in reverse. */
static void check_reversed(const char *a, const char *b, int n, int least)
{
    struct volume v, w;
    int n_apart = 0;
    OK(mcs_volume_read(shell_path(a), &v));
    OK(mcs_volume_read(shell_path(b), &w));
    cr_assert(v.nz == n && w.nz == n && v.nx == WIDTH && w.ny == HEIGHT);
    for (int z = 0; z < n; z++) {
        const float *p = v.values + z * PIXELS, *q = w.values + (n - 1 - z) * PIXELS;
        cr_expect_arr_eq(p, q, PIXELS * sizeof *p, "%s: slice %d", a, z);
        n_apart += z && memcmp(p, p - PIXELS, PIXELS * sizeof *p) != 0;
    }
    cr_expect(n_apart >= least, "%s: only %d slices differ from the one before", a, n_apart);
    mcs_volume_free(&v);
    mcs_volume_free(&w);
}

/* More slices than are in memory at once: if the slices' order is reversed, so are masks and maps. The noise is read
 * from a file, since drawn noise depends on the slice's number. */
Test(segment, every_slice_of_a_volume_gets_its_own_mask)
{
    enum { SLICES = 34, TOKENS = 37, CHANNELS = 16, N = 2 * TOKENS * CHANNELS };
    float noise[N];
    mcs_rng_fill_normal((struct mcs_rng){.seed = 4}, noise, N);
    OK(mcs_npy_write(shell_path("noise.npy"), noise, 4, (const int64_t[]){2, 1, TOKENS, CHANNELS}));
    expect("mkdir v", 0, "");
    write_volume("v/a.nii.gz", SLICES, 0);
    write_volume("v/b.nii.gz", SLICES, 1);
    expect("mcsam segment --clip clip --sam sam -i v --text tumor --steps 2 --copies 1 --pairs 1 --noise noise.npy "
           "--min-confidence 0 --keep-stages -o o",
           0, "2 cases");
    check_reversed("o/saliency/a.nii.gz", "o/saliency/b.nii.gz", SLICES, 25);
    check_reversed("o/coarse/a.nii.gz", "o/coarse/b.nii.gz", SLICES, 20);
    check_reversed("o/a.nii.gz", "o/b.nii.gz", SLICES, 15);
    expect("grep -c '\"slice\": ' o/summary.json", 0, "68");
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* A volume is segmented like images of its slices, windowed to 0 and 255 by the volume's 0.5 and 99.5 percentiles
 * (nearest rank). One percent of the voxels are outliers, so other percentiles would give other images. */
Test(segment, a_volume_is_the_pictures_of_its_slices)
{
    enum { SLICES = 3, N = SLICES * PIXELS };
    float *sorted = malloc(N * sizeof *sorted);
    struct volume v, mask;
    cr_assert(sorted);
    OK(mcs_volume_alloc(&v, WIDTH, HEIGHT, SLICES, NULL));
    for (int z = 0; z < SLICES; z++) paint_slice(v.values + z * PIXELS, 5 * z, 15);
    for (int i = 0; i < N; i++) v.values[i] += (float)mcs_rng_below((struct mcs_rng){.seed = 3}, (uint32_t)i, 100);
    for (int i = 0; i + 200 < N; i += 400) v.values[i] = (float)(9000 + i), v.values[i + 200] = (float)(-9000 - i);
    memcpy(sorted, v.values, N * sizeof *sorted);
    qsort(sorted, N, sizeof *sorted, ascending);
    const double low = sorted[(int)(0.005 * (N - 1))], high = sorted[(int)ceil(0.995 * (N - 1))];
    cr_assert(high < 9000 && low > -9000 && high - low < 2000, "from %g to %g", low, high);
    expect("mkdir v slices", 0, "");
    OK(mcs_volume_write_f32(shell_path("v/v.nii.gz"), v.values, &v));
    for (int z = 0; z < SLICES; z++) {
        struct image img;
        char name[32];
        OK(mcs_image_alloc(&img, WIDTH, HEIGHT, 1));
        for (int i = 0; i < PIXELS; i++) {
            const double share = ((double)v.values[z * PIXELS + i] - low) / (high - low);
            img.pixels[i] = (uint8_t)lrint(255 * fmin(fmax(share, 0), 1));
        }
        snprintf(name, sizeof name, "slices/v_z%04d.png", z);
        OK(mcs_image_write_png(shell_path(name), &img));
        mcs_image_free(&img);
    }
    expect("for i in v slices; do mcsam segment --clip clip --sam sam -i $i --text tumor --steps 3 --pairs 1 "
           "--min-confidence 0 --keep-stages -o out_$i || exit 1; done",
           0, "1 cases");
    OK(mcs_volume_read(shell_path("out_v/coarse/v.nii.gz"), &mask));
    for (int z = 0; z < SLICES; z++) {
        struct image want;
        char name[64];
        int wrong = 0;
        snprintf(name, sizeof name, "out_slices/coarse/v_z%04d.png", z);
        OK(mcs_image_read(shell_path(name), 0, &want));
        for (int i = 0; i < PIXELS; i++) wrong += (mask.values[z * PIXELS + i] != 0) != (want.pixels[i] != 0);
        cr_expect(wrong <= PIXELS / 100, "slice %d: %d pixels", z, wrong); /* rounding of values between grey levels */
        mcs_image_free(&want);
    }
    mcs_volume_free(&mask);
    mcs_volume_free(&v);
    free(sorted);
}

/* ---- dry runs ---- */

Test(segment, dry_runs_write_nothing)
{
    static const char *const lines[] = {
        "mcsam saliency -m clip -i img --text tumor -o never --dry-run",
        "mcsam segment --clip clip --sam sam -i img --text tumor -o never --dry-run",
        "mcsam embed -m clip --images img -o never/e.h5 --dry-run",
        "mcsam coarse -i maps -o never --dry-run",
        "mcsam sam -m sam -i img/a.png --box 1,2,9,9 -o never --dry-run",
        "mcsam ensemble -i prob -o never --dry-run",
        "mcsam uncertainty -i prob -o never --dry-run",
        "mcsam evaluate --pred maps --ref maps -o never --dry-run",
    };
    expect("mkdir prob; mcsam saliency -m clip -i img --text tumor --steps 2 --copies 1 -o maps; cp maps/a.h5 prob", 0,
           "3 maps");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char line[512];
        snprintf(line, sizeof line, "%s && test ! -e never && %s --json && test ! -e never", lines[i], lines[i]);
        expect(line, 0, "");
    }
    expect("mcsam saliency -m clip -i img --text tumor -o never --dry-run --json", 0, "{\"cases\": 3, \"pairs\": 3, ");
    expect("mcsam segment --clip clip --sam sam -i img --text tumor -o never --dry-run --json", 0, "{\"cases\": 3, ");
    expect("mcsam coarse -i maps -o never --dry-run --json", 0, "{\"cases\": 3}");
    expect("mcsam embed -m clip --images img -o never/e.h5 --dry-run --json", 0, "{\"images\": 3, \"dimensions\": 8}");
    expect("mcsam ensemble -i prob -o never --dry-run --json", 0, "{\"cases\": 1}");
    expect("mcsam uncertainty -i prob -o never --dry-run --json", 0, "{\"cases\": 1}");
}
