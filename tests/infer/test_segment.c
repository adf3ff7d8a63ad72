/* The whole zero-shot pipeline: forms by stage, the mean of SAM's IoU, batches with one faulty image, and the released
 * multimask against its definition. Volumes: test_segment_volumes.c. */
#include "engine/base/rng.h"
#include "infer/segment.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_segment.h"
#include "tests/support/support_sessions.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

TestSuite(segment, .init = segment_open, .fini = segment_close, .timeout = 120);

/* ---- forms ---- */

/* The saliency stage sees the whole image in the paper's form and its centre in the released one, whatever the forms of
 * the other stages are. */
Test(segment, the_saliency_stage_follows_its_form)
{
    struct image img;
    float *maps[2];
    segment_paint(&img, 1);
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
        OK(segment_once(&segment_clip, NULL, &o, &c, 1));
        OK(saliency_once(&segment_clip, &s, &alone, 1));
        cr_expect_arr_eq(c.map.values, alone.map.values, SEGMENT_PIXELS * sizeof(float));
        maps[release] = alone.map.values;
        mcs_segment_case_free(&c);
    }
    cr_expect_arr_neq(maps[0], maps[1], SEGMENT_PIXELS * sizeof(float));
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
    golden_fill_params(segment_sam.params); /* masks that differ by prompt */
    OK(mcs_sam_model_save(&segment_sam, shell_path("sam"), 0, NULL));
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
    segment_paint(&img, 0);
    struct segment_case c = {.image = &img, .text = "brain", .stem = "a", .coarse = {.n_boxes = 2, .boxes = two}};
    const struct box_case boxes = {
        .image = "a", .width = SEGMENT_WIDTH, .height = SEGMENT_HEIGHT, .n_components = 2, .components = two};
    const struct sam_case one = {&img, &boxes};
    struct sam_result r;
    OK(mcs_segment_sam(&segment_sam, &o.sam, &c, 1, NULL, 0));
    OK(mcs_sam_segment(&segment_sam, &o.sam, &one, 1, &r));
    cr_assert_eq(r.n_prompts, 2);
    cr_expect_float_eq(c.iou, ((double)r.prompts[0].iou + (double)r.prompts[1].iou) / 2, 1e-6);
    cr_expect(fabsf(r.prompts[0].iou - r.prompts[1].iou) > 1e-4f, "this model scores both boxes alike");
    cr_expect_arr_eq(c.mask, r.mask, SEGMENT_PIXELS);
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
    const int side = mcs_sam_side(&segment_sam.config), size = segment_sam.config.image_size;
    float *pixels = malloc((size_t)(3 * size * size) * sizeof *pixels),
          *embedding = malloc((size_t)mcs_sam_embedding_values(&segment_sam.config) * sizeof *embedding),
          *low = malloc((size_t)(3 * SAM_MASKS * side * side) * sizeof *low), iou[3 * SAM_MASKS];
    struct image img;
    struct sam_frame frame;
    struct sam_prompts p[3] = {{0}};
    cr_assert(pixels && embedding && low);
    segment_paint(&img, 0);
    for (int i = 0; i < 3; i++)
        p[i] = (struct sam_prompts){.has_box = 1, .box = {three[i].x0, three[i].y0, three[i].x1, three[i].y1}};
    golden_fill_params(segment_sam.params); /* masks that differ */
    OK(mcs_sam_prepare(&segment_sam.config, &img, pixels, &frame));
    OK(mcs_sam_encode_images(&segment_sam, pixels, 1, embedding));
    OK(mcs_sam_predict(&segment_sam, embedding, &frame, 1, p, 3, low, iou));
    for (int n = 1; n <= 3; n++) {
        struct sam_options o = mcs_sam_defaults(MCS_RELEASE);
        const struct box_case boxes = {
            .image = "a", .width = SEGMENT_WIDTH, .height = SEGMENT_HEIGHT, .n_components = n, .components = three};
        struct sam_result r;
        int set[SEGMENT_PIXELS] = {0}, close[SEGMENT_PIXELS] = {0}, area = 0, any = 0;
        for (int i = 0; i < n; i++)
            for (int k = 1; k < SAM_MASKS; k++) {
                struct map2 map;
                OK(mcs_sam_upscale(&segment_sam.config, low + (i * SAM_MASKS + k) * side * side, &frame, &map));
                for (int q = 0; q < SEGMENT_PIXELS; q++) {
                    set[q] += map.values[q] > 0;
                    close[q] |= fabsf(map.values[q]) < 1e-4f; /* rounding may change its sign */
                }
                mcs_map_free(&map);
            }
        o.multimask = 1, o.keep = 1000; /* every component stays */
        OK(mcs_sam_segment(&segment_sam, &o, &(struct sam_case){&img, &boxes}, 1, &r));
        for (int q = 0; q < SEGMENT_PIXELS; q++) {
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
    struct box_case boxes = {.image = "a.png",
                             .width = SEGMENT_WIDTH,
                             .height = SEGMENT_HEIGHT,
                             .n_components = 2,
                             .components = components};
    golden_fill_params(segment_sam.params);
    OK(mcs_sam_model_save(&segment_sam, shell_path("sam"), 0, NULL));
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
        OK(mcs_sam_segment(&segment_sam, &rows[i].o, &(struct sam_case){&img, &boxes}, 1, &r));
        for (int q = 0; q < SEGMENT_PIXELS; q++) wrong += (got.pixels[q] != 0) != r.mask[q];
        cr_expect_eq(wrong, 0, "%s: %d pixels", rows[i].words, wrong);
        if (!plain) {
            plain = r.mask;
            r.mask = NULL;
        } else if (rows[i].o.keep) { /* against the same without it */
            struct sam_options all = rows[i].o;
            struct sam_result more;
            all.keep = 0;
            OK(mcs_sam_segment(&segment_sam, &all, &(struct sam_case){&img, &boxes}, 1, &more));
            moved = more.area > r.area;
            mcs_sam_result_free(&more);
        } else {
            for (int q = 0; q < SEGMENT_PIXELS; q++) moved += r.mask[q] != plain[q];
        }
        cr_expect(!i || moved, "%s changes nothing", rows[i].words);
        mcs_sam_result_free(&r);
        mcs_image_free(&got);
    }
    free(plain);
    mcs_image_free(&img);
}

/* ---- presence ---- */

/* The presence scores of two images; with the greater one as the least allowed, only the image that has it keeps its
 * masks, which are those of the run without a limit. */
Test(segment, an_image_below_the_least_presence_gets_an_empty_mask)
{
    static const char *const nulls[] = {"normal brain"};
    enum mcs_form form[MCS_FORM_STAGES] = {0};
    struct segment_options o = mcs_segment_defaults(form);
    struct image img[2];
    struct segment_case c[2][2];
    o.saliency.steps = 3;
    o.saliency.null_texts = nulls;
    o.saliency.n_null = 1;
    o.coarse.min_confidence = 0;
    for (int i = 0; i < 2; i++) segment_paint(&img[i], i);
    for (int limit = 0; limit < 2; limit++) {
        for (int i = 0; i < 2; i++)
            c[limit][i] = (struct segment_case){.image = &img[i], .text = "brain tumor", .stem = i ? "b" : "a"};
        OK(segment_once(&segment_clip, &segment_sam, &o, c[limit], 2));
        o.min_presence = fmaxf(c[0][0].presence, c[0][1].presence);
    }
    const int high = c[0][1].presence > c[0][0].presence, low = !high;
    cr_assert(c[0][0].presence != c[0][1].presence);
    cr_assert(c[0][low].coarse.state == MCS_MASK_OK && memchr(c[0][low].mask, 1, SEGMENT_PIXELS));
    cr_expect_arr_eq(c[1][high].mask, c[0][high].mask, SEGMENT_PIXELS);
    cr_expect_eq(c[1][high].coarse.state, MCS_MASK_OK);
    cr_expect(c[1][low].presence == c[0][low].presence && c[1][low].coarse.state == MCS_MASK_ABSENT);
    cr_expect(c[1][low].coarse.n_boxes == 0 && c[1][low].iou == 0);
    cr_expect(!memchr(c[1][low].mask, 1, SEGMENT_PIXELS) && !memchr(c[1][low].coarse_mask, 1, SEGMENT_PIXELS) &&
              !memchr(c[1][low].threshold_mask, 1, SEGMENT_PIXELS));
    for (int i = 0; i < 2; i++) {
        mcs_segment_case_free(&c[0][i]);
        mcs_segment_case_free(&c[1][i]);
        mcs_image_free(&img[i]);
    }
}

Test(segment, the_verb_says_that_presence_is_too_low)
{
    const char *line = "mcsam segment --clip clip --sam sam -i img --text tumor --null brain --steps 3 ";
    char all[512];
    snprintf(all, sizeof all, "%s -o plain; %s --min-presence 2 --keep-stages -o none", line, line);
    expect(all, 0, "3 cases, 3 empty coarse masks");
    expect("grep -c '\"empty\": \"the presence score is below the least one\"' none/summary.json", 0, "3");
    expect("grep -c '\"reason\": \"the presence score is below the least one\"' none/coarse/boxes.json", 0, "3");
    expect("grep '\"presence\"' plain/summary.json > p; grep '\"presence\"' none/summary.json > q; cmp p q", 0, "");
    expect("cmp none/a.png none/coarse/a.png && cmp none/a.png none/b.png && cmp plain/a.png none/a.png; echo $?", 0,
           "1");
    snprintf(all, sizeof all, "%s --min-presence 2.1 -o never", line);
    expect(all, 2, "");
}

/* ---- one image at fault ---- */

/* An image of 60000 x 1 pixels can be read, but cannot be resized to the model's input. It is left out of its batch,
 * and the others get the same result as without it. */
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

/* 31 images and a bad one in batches of 32 or 8. The trace tells how often each graph was planned and run: the
 * bottleneck steps - 1 = 2 times a batch, the image tower once. */
Test(segment, a_bad_image_does_not_run_its_batch_again)
{
    static const char *const lines[] = {"saliency -m clip --pairs 32", "saliency -m clip",
                                        "segment --clip clip --sam sam --pairs 32", "segment --clip clip --sam sam"};
    struct image thin;
    OK(mcs_image_alloc(&thin, 60000, 1, 1));
    expect("mkdir many; for i in $(seq 10 40); do cp img/b.png many/$i.png; done", 0, "");
    OK(mcs_image_write_png(shell_path("many/20b.png"), &thin));
    mcs_image_free(&thin);
    for (int i = 0; i < 4; i++) {
        const int batches = i % 2 ? 4 : 1;
        char line[512], want[64];
        snprintf(line, sizeof line,
                 "rm -rf r; mcsam %s -i many --text tumor --steps 3 --copies 2 --form release --trace t.json -o r",
                 lines[i]);
        expect(line, 3, "");
        expect("cut -d, -f1 r/failures.csv | tr '\\n' ' '", 0, "case 20b ");
        expect("ls r/??.png | wc -l", 0, "31");
        snprintf(want, sizeof want, "1 graph, %d runs\n1 graph, %d runs", 2 * batches, batches);
        expect("for s in 'cosine m2ib.fit\",\"cat\":\"forward' 'conv visual.trunk.patch_embed.proj'; do grep \"$s\" "
               "t.json "
               "> s; echo $(grep -c . s) graph, $(grep -o 'runs\":[0-9]*' s | cut -d: -f2) runs; done",
               0, want);
    }
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
        "mcsam evaluate --pred masks --ref masks -o never --dry-run",
    };
    expect("mkdir prob; mcsam saliency -m clip -i img --text tumor --steps 2 --copies 1 -o maps; cp maps/a.h5 prob", 0,
           "3 maps");
    expect("mcsam coarse -i maps -o masks --min-confidence 0", 0, "3 masks");
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
