/* Verbs from the outside: the program on a tiny model and three small images. Outputs have the right shapes, the same
 * command writes the same bytes, and bad input gives its exit code without affecting the other cases. */
#include "data/image/volume.h"
#include "data/io/file.h"
#include "data/io/npy.h"
#include "data/io/store.h"
#include "infer/clip/clip_model.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WIDTH = 20, HEIGHT = 14, EMBED = 8 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* A bright disc on a dark ramp; grey or colour. */
static void write_image(const char *name, int channels, int cx, int cy)
{
    struct image img;
    OK(mcs_image_alloc(&img, WIDTH, HEIGHT, channels));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int k = 0; k < channels; k++) {
                const int inside = (x - cx) * (x - cx) + (y - cy) * (y - cy) < 12;
                img.pixels[(y * WIDTH + x) * channels + k] = (uint8_t)(inside ? 230 - 9 * k : 3 * x + 2 * y + k);
            }
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

static const char vocabulary[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nbright\ndark\nlesion\nbrain\nin\nthe\nnormal\n";

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
    OK(mcs_folder_make(shell_path("img")));
    shell_write("vocab", vocabulary);
    struct clip_config clip = tiny_clip_config();
    struct sam_config sam = tiny_sam_config();
    clip.embed = EMBED, clip.context = clip.positions = 12, clip.t_depth = 1, clip.dropout = 0;
    clip.std[0] = clip.std[1] = clip.std[2] = 0.3f;
    sam.window = 3, sam.d_mlp = 16, sam.mask_in = 16;
    struct device d;
    struct clip_model m;
    struct sam_model s;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&clip, shell_path("vocab"), 1, &d, NULL, &m));
    OK(mcs_clip_model_save(&m, shell_path("clip"), 0));
    mcs_clip_model_close(&m);
    OK(mcs_sam_model_new(&sam, 2, &d, &s));
    OK(mcs_sam_model_save(&s, shell_path("sam"), 0, NULL));
    mcs_sam_model_close(&s);
    mcs_cpu_close(&d);
    write_image("img/a.png", 1, 5, 5);
    write_image("img/b.png", 3, 14, 6);
    write_image("img/c.png", 1, 9, 9);
    shell_write("texts", "a bright lesion\nnormal brain\n");
    shell_write("pairs.csv",
                "filename,Caption\na.png,a bright lesion\nb.png,a dark lesion in the brain\nc.png,normal brain\n");
}
TestSuite(verbs, .init = setup, .fini = shell_close, .timeout = 60);

/* A damaged image among the good ones. */
static void add_truncated(void)
{
    cr_assert_eq(shell("head -c 60 img/a.png > img/bad.png"), 0);
}

static void expect_array(const char *file, const char *name, int nd, const int64_t *dims, float *values)
{
    struct store *s;
    struct store_info info;
    OK(mcs_store_open(shell_path(file), &s));
    OK(mcs_store_get_info(s, name, &info));
    cr_assert(mcs_array_same_shape(info.nd, info.dims, nd, dims), "%s of %s", name, file);
    OK(mcs_store_get(s, name, MCS_ARRAY_F32, nd, dims, values));
    for (int64_t i = 0; i < info.n_values; i++) cr_assert(isfinite(values[i]));
    mcs_store_close(s);
}

/* ---- finetune ---- */

Test(verbs, finetune_says_what_it_would_take)
{
    expect("mcsam finetune -m clip --pairs pairs.csv --images img --batch 2 --steps 7 --dry-run -o never; ls never", 2,
           "7 steps; at most ");
    expect("mcsam finetune -m clip --pairs pairs.csv --images img --batch 2 --steps 7 --dry-run --json -o never | "
           "grep -o '\"[a-z_]*\"' | tr -d '\"' | tr '\\n' ' '; ls never",
           2,
           "steps max_tokens weights_mib gradients_mib moments_mib activations_mib inputs_mib constants_mib "
           "workspace_mib all_mib bytes ");
}

/* ---- embed ---- */

Test(verbs, embed_writes_both_towers)
{
    float images[3 * EMBED], texts[2 * EMBED], raw[3 * EMBED];
    expect("mcsam embed -m clip --images img --texts texts -o out/e.h5", 0,
           "3 images, 2 texts, embeddings of 8 values");
    expect_array("out/e.h5", "image_embeddings", 2, (int64_t[]){3, EMBED}, images);
    expect_array("out/e.h5", "text_embeddings", 2, (int64_t[]){2, EMBED}, texts);
    struct store *s;
    char **names;
    double scale;
    int n;
    OK(mcs_store_open(shell_path("out/e.h5"), &s));
    OK(mcs_store_get_number(s, "logit_scale", &scale));
    cr_expect_float_eq(scale, log(1 / 0.07), 1e-5, "logit_scale %g", scale); /* the initial value, float32 */
    OK(mcs_store_get_texts(s, "image_names", &n, &names));
    cr_expect(n == 3 && !strcmp(names[1], "b.png"));
    mcs_store_texts_free(n, names);
    mcs_store_close(s);
    double sum = 0; /* e[0] - e[1] + e[2] - .. of the second text, printed last */
    char line[64];
    for (int k = 0; k < EMBED; k++) sum += k % 2 ? -(double)texts[EMBED + k] : (double)texts[EMBED + k];
    snprintf(line, sizeof line, "%+.5f normal brain", sum);
    expect("rm out/e.h5; mcsam embed -m clip --images img --texts texts -o out/e.h5 --checksum", 0, line);
    expect("mcsam embed -m clip --images img --raw -o raw.h5", 0, "3 images");
    expect_array("raw.h5", "image_embeddings", 2, (int64_t[]){3, EMBED}, raw);
    for (int i = 0; i < 3; i++) {
        double one = 0, length = 0;
        for (int k = 0; k < EMBED; k++) {
            one += pow((double)images[i * EMBED + k], 2);
            length += pow((double)raw[i * EMBED + k], 2);
        }
        cr_expect_float_eq(one, 1, 1e-5); /* 8 squares of float32 */
        for (int k = 0; k < EMBED; k++)   /* raw is the same direction */
            cr_expect_float_eq((double)raw[i * EMBED + k] / sqrt(length), (double)images[i * EMBED + k], 1e-6);
    }
    expect("mcsam embed -m clip --images img --texts texts -o again.h5 && cmp out/e.h5 again.h5 && echo same", 0,
           "same");
    expect("mcsam embed -m clip --images img --whole -o whole.h5; cmp whole.h5 out/e.h5", 1, "differ");
}

Test(verbs, embed_bad_input)
{
    expect("mcsam embed -m clip -o e.h5", 2, "--images, --texts or both");
    expect("mcsam embed -m none --images img -o e.h5", 66, "none");
    expect("mcsam embed -m clip --images none -o e.h5", 66, "none: no such folder");
    expect("mkdir empty; mcsam embed -m clip --images empty -o e.h5", 66, "no PNG or JPEG");
    expect("mcsam embed -m clip --texts none -o e.h5", 66, "none");
    expect(": > void; mcsam embed -m clip --texts void -o e.h5", 65, "is empty");
    expect("printf 'a lesion\\n\\n\\001\\002\\n\\344\\344\\n' > odd; mcsam embed -m clip --texts odd -o x/e.h5", 3,
           "3 of 4");
    expect("cat x/failures.csv", 0, "odd:2");
    expect("cat x/failures.csv", 0, "odd:4");
    expect("printf '\\346\\226\\260\\347\\227\\205\\347\\201\\266\\n' > chinese; mcsam embed -m clip --texts chinese "
           "-o y/e.h5",
           0, "1 texts");
    expect("yes lesion | head -10000 | tr '\\n' ' ' > long; mcsam embed -m clip --texts long -o y/long.h5", 0,
           "1 texts");
    add_truncated();
    expect("mcsam embed -m clip --images img -o z/e.h5", 3, "3 images");
    expect("cat z/failures.csv", 0, "bad.png");
}

/* ---- retrieve ---- */

Test(verbs, retrieve_prints_json)
{
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img > r.json 2> err; cat r.json", 0, "\"recall@1\"");
    expect("cat r.json", 0, "\"pairs\": 3");
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 2 --runs 5 > s.json; cat s.json", 0,
           "\"batches\": 5");
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 2 --runs 5 | cmp - s.json && echo same", 0,
           "same");
    expect("mcsam retrieve -m clip --pairs none.csv", 66, "none.csv");
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 1", 2, "batch");
    add_truncated();
    expect("echo 'bad.png,a dark brain' >> pairs.csv; mcsam retrieve -m clip --pairs pairs.csv --images img", 3,
           "\"pairs\": 3");
    expect("head -2 pairs.csv > one.csv; mcsam retrieve -m clip --pairs one.csv --images img", 65,
           "retrieval needs two");
}

/* ---- saliency ---- */

static double note(const char *file, const char *key)
{
    struct store *s;
    double v;
    OK(mcs_store_open(shell_path(file), &s));
    OK(mcs_store_get_number(s, key, &v));
    mcs_store_close(s);
    return v;
}

static void expect_png(const char *file, int only_mask)
{
    struct image img;
    OK(mcs_image_read(shell_path(file), 0, &img));
    cr_expect(img.width == WIDTH && img.height == HEIGHT && img.channels == 1, "%s", file);
    for (int i = 0; only_mask && i < WIDTH * HEIGHT; i++) cr_assert(img.pixels[i] == 0 || img.pixels[i] == 255);
    mcs_image_free(&img);
}

Test(verbs, saliency_writes_maps)
{
    float map[WIDTH * HEIGHT], single[WIDTH * HEIGHT];
    const int64_t dims[] = {HEIGHT, WIDTH};
    expect("mcsam saliency -m clip -i img --text 'a bright lesion' --null 'normal brain' -o s", 0, "3 maps");
    expect_array("s/a.h5", "saliency", 2, dims, map);
    float lo = 1, hi = 0;
    for (int i = 0; i < WIDTH * HEIGHT; i++) lo = fminf(lo, map[i]), hi = fmaxf(hi, map[i]);
    cr_expect(lo == 0 && hi == 1, "from %g to %g", (double)lo, (double)hi);
    expect_png("s/a.png", 0);
    cr_expect(fabs(note("s/a.h5", "presence")) <= 2);
    expect("mcsam saliency -m clip -i img --text 'a bright lesion' --null 'normal brain' -o t; for f in a.h5 b.h5 c.h5 "
           "a.png; do cmp s/$f t/$f || exit 9; done; echo same",
           0, "same");
    /* alone or with others: noise is keyed by case; batches of one and of three differ only by rounding, amplified by 9
     * steps of Adam, whose first steps have the size of the rate whatever the gradient's: 1e-3 of 0..1 */
    expect("mcsam saliency -m clip -i img/b.png --text 'a bright lesion' -o u", 0, "1 maps");
    expect_array("s/b.h5", "saliency", 2, dims, map);
    expect_array("u/b.h5", "saliency", 2, dims, single);
    for (int i = 0; i < WIDTH * HEIGHT; i++) cr_expect_float_eq((double)map[i], (double)single[i], 1e-3);
    expect("mcsam saliency -m clip -i img --text 'a bright lesion' --form saliency=release -o v; cmp s/a.png v/a.png",
           1, "differ");
    expect("mcsam saliency -m clip -i img --text lesion --dry-run --json -o never; ls never", 2, "\"bytes\": ");
}

Test(verbs, saliency_noise_from_a_file)
{
    enum { STEPS = 3, COPIES = 2, TOKENS = 5, CHANNELS = 16, N = STEPS * COPIES * TOKENS * CHANNELS };
    const int64_t dims[] = {STEPS, COPIES, TOKENS, CHANNELS};
    float noise[N];
    for (int i = 0; i < N; i++) noise[i] = (float)(i % 7) - 3;
    OK(mcs_npy_write(shell_path("noise.npy"), noise, 4, dims));
    expect("mcsam saliency -m clip -i img --text lesion --steps 3 --copies 2 --noise noise.npy -o s", 0, "3 maps");
    expect(
        "mcsam saliency -m clip -i img --text lesion --steps 3 --copies 2 --noise noise.npy --seed 9 -o t; cmp s/a.png "
        "t/a.png && echo same",
        0, "same");
    expect("mcsam saliency -m clip -i img --text lesion --steps 4 --copies 2 --noise noise.npy -o s", 65,
           "(4, 2, 5, 16)");
    noise[100] = NAN;
    OK(mcs_npy_write(shell_path("noise.npy"), noise, 4, dims));
    expect("mcsam saliency -m clip -i img --text lesion --steps 3 --copies 2 --noise noise.npy -o s", 65,
           "value 100 is not finite");
}

Test(verbs, saliency_bad_input)
{
    expect("mcsam saliency -m clip -i img -o s", 2, "one of --text and --prompts");
    expect("mcsam saliency -m clip -i none --text lesion -o s", 66, "none");
    expect("mkdir empty; mcsam saliency -m clip -i empty --text lesion -o s", 66, "empty");
    expect("mcsam saliency -m clip -i img --text '' -o s", 65, "no words");
    expect("mcsam saliency -m clip -i img --text \"$(printf '\\001\\002')\" -o s", 65, "no words");
    expect("mcsam saliency -m clip -i img --text lesion --layer 2 -o s", 2, "use 0 to 1");
    add_truncated();
    expect("mcsam saliency -m clip -i img --text lesion -o s; echo $?; cat s/failures.csv", 0, "bad,");
    cr_expect(strstr(shell_output, "\n3\n"), "%s", shell_output);
    expect("ls s", 0, "c.h5");
    expect("rm img/bad.png; echo '{\"a.png\": \"lesion\", \"c\": [\"a\", \"the\"]}' > p.json; mcsam saliency -m clip "
           "-i img "
           "--prompts p.json -o q",
           3, "no prompt for b.png");
    expect("ls q | tr '\\n' ' '", 0, "a.h5 a.png c.h5 c.png config.yaml failures.csv");
    expect("mcsam saliency -m clip -i img/a.png --text \"$(yes lesion | head -10000 | tr '\\n' ' ')\" -o long", 0,
           "1 maps");
    expect("mcsam saliency -m clip -i img/a.png --text \"$(printf '\\346\\226\\260\\347\\227\\205')\" -o chinese", 0,
           "1 maps");
    expect("head -c 60 img/b.png > img/a.png; mcsam saliency -m clip -i img/a.png --text lesion -o only", 65,
           "1 of 1 cases");
}

/* ---- segment ---- */

Test(verbs, segment_writes_masks)
{
    const char *line =
        "mcsam segment --clip clip --sam sam -i img --text 'a bright lesion' --keep-stages --min-confidence 0 -o ";
    char command[512];
    snprintf(command, sizeof command, "%s s", line);
    expect(command, 0, "3 cases, 0 empty");
    expect_png("s/b.png", 1);
    expect_png("s/coarse/b.png", 1);
    expect("cat s/summary.json", 0, "\"presence\": ");
    expect("ls s/saliency/a.h5 s/coarse/boxes.json && grep -c '\"iou\": [0-9-]' s/summary.json", 0, "3");
    snprintf(command, sizeof command,
             "%s t; for f in a.png b.png c.png summary.json saliency/a.h5 coarse/boxes.json; do "
             "cmp s/$f t/$f || exit 9; done; echo same",
             line);
    expect(command, 0, "same");
    /* segment gives the same as the steps one by one: both call the same code */
    expect("mcsam saliency -m clip -i img --text 'a bright lesion' -o sal && mcsam coarse -i sal -o coa "
           "--min-confidence 0 && "
           "cmp sal/a.h5 s/saliency/a.h5 && cmp coa/a.png s/coarse/a.png && mcsam sam -m sam -i img --prompts-from "
           "coa/boxes.json -o fin "
           "&& cmp fin/a.png s/a.png && cmp fin/b.png s/b.png && echo same",
           0, "same");
    expect("mcsam segment --clip clip --sam sam -i img --text lesion --min-confidence 1 -o e", 0, "3 cases, 3 empty");
    expect("cat e/summary.json", 0, "\"iou\": null");
    expect("mcsam segment --clip clip --sam sam -i img/a.png --text lesion --rank text --keep 0 --sam-prompts both "
           "--form release -o r",
           0, "1 cases");
    expect("mcsam segment --clip clip --sam sam -i img --text lesion --dry-run -o never", 0,
           "3 cases would be segmented");
}

Test(verbs, segment_volume_keeps_its_geometry)
{
    const float spacing[3] = {0.5f, 0.75f, 3};
    struct volume v, mask;
    OK(mcs_folder_make(shell_path("vol")));
    OK(mcs_volume_alloc(&v, WIDTH, HEIGHT, 3, spacing));
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++) v.values[i] = (float)(i % 37) * 40 - 500;
    v.values[5] = NAN;
    OK(mcs_volume_write_f32(shell_path("vol/v.nii.gz"), v.values, &v));
    expect("mcsam segment --clip clip --sam sam -i vol --text lesion --min-confidence 0 -o s", 0, "1 cases");
    OK(mcs_volume_read(shell_path("s/v.nii.gz"), &mask));
    cr_expect(mask.nx == WIDTH && mask.ny == HEIGHT && mask.nz == 3);
    for (int i = 0; i < 3; i++) cr_expect_eq(mask.spacing[i], spacing[i]);
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++) cr_assert(mask.values[i] == 0 || mask.values[i] == 1);
    expect("grep -c '\"slice\": ' s/summary.json", 0, "3");
    expect("mcsam segment --clip clip --sam sam -i vol --text lesion --min-confidence 0 -o t; cmp s/v.nii.gz "
           "t/v.nii.gz && echo same",
           0, "same");
    expect("head -c 99 vol/v.nii.gz > vol/w.nii.gz; mcsam segment --clip clip --sam sam -i vol --text lesion -o u; cat "
           "u/failures.csv",
           0, "w,");
    mcs_volume_free(&mask);
    mcs_volume_free(&v);
}

Test(verbs, segment_bad_input)
{
    expect("mcsam segment --clip clip --sam none -i img --text lesion -o s", 66, "none");
    expect("mcsam segment --clip none --sam sam -i img --text lesion -o s", 66, "none");
    expect("mcsam segment --clip clip --sam sam -i none --text lesion -o s", 66, "none");
    expect("mcsam segment --clip clip --sam sam -i img -o s", 2, "--prompts");
    expect("mcsam segment --clip clip --sam sam -i img --text lesion --threshold much -o s", 2, "much");
    add_truncated();
    expect("mcsam segment --clip clip --sam sam -i img --text lesion -o s", 3, "3 cases");
    expect("cat s/failures.csv", 0, "bad,");
}

/* ---- coarse, ranked by text ---- */

Test(verbs, coarse_asks_the_model)
{
    expect("mcsam saliency -m clip -i img --text lesion -o sal", 0, "3 maps");
    expect("mcsam coarse -i sal -o c --rank text --min-confidence 0", 2, "--model DIR");
    expect("mcsam coarse -i sal -o c --rank text --min-confidence 0 -m clip --images img --text lesion", 0,
           "3 masks, 0 of them empty");
    expect_png("c/a.png", 1);
    expect("mcsam coarse -i sal -o d --rank text --min-confidence 0 -m clip --images img --text lesion && cmp "
           "c/boxes.json d/boxes.json && "
           "echo same",
           0, "same");
    expect("echo '{\"a\": \"lesion\", \"b\": \"brain\"}' > p.json; mcsam coarse -i sal -o e --rank text "
           "--min-confidence 0 -m clip --images img "
           "--prompts p.json; cat e/failures.csv",
           0, "no prompt for c.png");
    expect("mkdir two; cp img/a.png img/b.png two; mcsam coarse -i sal -o f --rank text --min-confidence 0 -m clip "
           "--images two --text lesion",
           3, "there is no image c");
}

/* ---- diff and replay ---- */

Test(verbs, diff_tells_equal_from_different)
{
    float x[4] = {3, 0, 4, 0};
    const int64_t four[] = {4}, two[] = {2, 2};
    OK(mcs_npy_write(shell_path("a.npy"), x, 1, four));
    OK(mcs_npy_write(shell_path("d.npy"), x, 2, two));
    x[1] = 0.5f;
    OK(mcs_npy_write(shell_path("b.npy"), x, 1, four));
    x[1] = NAN;
    OK(mcs_npy_write(shell_path("c.npy"), x, 1, four));
    expect("mcsam diff a.npy a.npy", 0, "0 of 1 differ");
    expect("mcsam diff a.npy b.npy", 1, "0.5          0.1"); /* 0.5 of a length of 5 */
    expect("mcsam diff a.npy b.npy --tolerance 0.11", 0, "0 of 1 differ");
    expect("mcsam diff a.npy c.npy --tolerance 0.11", 1, "inf");
    expect("mcsam diff c.npy c.npy", 0, "0 of 1 differ");
    expect("mcsam diff a.npy d.npy --json", 1, "shape (4) against (2, 2)");
    expect("mcsam diff a.npy none.npy", 66, "none.npy");
    expect("mcsam diff a.npy img", 2, "a file and a folder");
    expect("mcsam diff texts texts", 65, "of no kind");
    expect("mcsam diff clip clip", 0, " differ");
    expect("cp -r clip other; head -c 1000 clip/open_clip_model.safetensors > other/open_clip_model.safetensors; mcsam "
           "diff clip other",
           1, "1 of 1 differ");
    expect("cp -r img two; rm two/b.png; mcsam diff img two", 1, "b.png: only in the first");
}

Test(verbs, diff_of_masks_is_their_dice)
{
    struct image m;
    OK(mcs_image_alloc(&m, 4, 1, 1));
    OK(mcs_image_write_png(shell_path("empty.png"), &m));
    m.pixels[0] = m.pixels[1] = 255;
    OK(mcs_image_write_png(shell_path("a.png"), &m));
    m.pixels[1] = 0;
    m.pixels[2] = 255;
    OK(mcs_image_write_png(shell_path("b.png"), &m));
    mcs_image_free(&m);
    expect("mcsam diff a.png b.png", 1, "0.5  a.png");
    expect("mcsam diff a.png b.png --tolerance 0.5", 0, "0 of 1");
    expect("mcsam diff a.png empty.png --tolerance 0.9", 1, "1 of 1");
    expect("mcsam diff empty.png empty.png", 0, "0 of 1");
}

Test(verbs, replay_compares_two_runs)
{
    expect("mcsam segment --clip clip --sam sam -i img --text lesion --min-confidence 0 --keep-stages -o run", 0,
           "3 cases");
    expect("MCSAM_SEED=7 mcsam replay run", 0, "the same");
    expect("mcsam replay run", 2, "run.replay exists");
    expect("cp run/a.png run/keep; cp run/saliency/b.h5 run/saliency/a.h5; mcsam replay run -o third", 1, "a.h5");
    expect("mcsam replay none", 66, "none");
    expect("mkdir empty; mcsam replay empty", 66, "config.yaml");
}
