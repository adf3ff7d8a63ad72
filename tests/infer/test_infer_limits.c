/* Limits of the inference stages that need a model: accepted and default options of saliency, lists of texts, folders
 * that diff compares, and masks as evaluate reads them. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/npy.h"
#include "data/io/store.h"
#include "infer/clip/saliency.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_sessions.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 5, CHANNELS = 16, ALL = TOKENS * CHANNELS, WIDTH = 12, HEIGHT = 10, PIXELS = WIDTH * HEIGHT };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device device;
static struct clip_model model;
static struct image image;

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
    tiny_clip_model(shell_path("clip"));
    OK(mcs_cpu_open(1, &device));
    OK(mcs_clip_model_open(shell_path("clip"), &device, &model));
    OK(mcs_image_alloc(&image, WIDTH, HEIGHT, 1));
    for (int i = 0; i < PIXELS; i++) image.pixels[i] = (uint8_t)(i * 11 % 251);
}

static void teardown(void)
{
    mcs_image_free(&image);
    mcs_clip_model_close(&model);
    mcs_cpu_close(&device);
    shell_close();
}
TestSuite(infer_limits, .init = setup, .fini = teardown, .timeout = 60);

static void refused(enum mcs_status st, enum mcs_status want, const char *part)
{
    cr_expect_eq(st, want, "status %d, want %d: %s", (int)st, (int)want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in %s", part, mcs_error_message());
    mcs_error_clear();
}

/* ---- saliency ---- */

struct watched {
    int n, last;
    float alpha[ALL];
};

static void watch(void *ctx, int step, const float *alpha)
{
    struct watched *w = ctx;
    cr_expect_eq(step, w->n++);
    w->last = step;
    memcpy(w->alpha, alpha, sizeof w->alpha);
}

/* One run; its map is the caller's. */
static struct saliency_case run(const struct saliency_options *given, const char *const *nulls, int n_null,
                                struct watched *w)
{
    struct saliency_options o = *given;
    o.null_texts = nulls, o.n_null = n_null, o.on_alpha = watch, o.on_alpha_ctx = w;
    struct saliency_case c = {.image = &image, .text = "brain tumor", .key = 7};
    *w = (struct watched){0};
    OK(saliency_once(&model, &o, &c, 1));
    return c;
}

Test(infer_limits, options_of_the_saliency)
{
    const struct saliency_options d = mcs_saliency_defaults();
    struct saliency_case c = {.image = &image, .text = "lung", .key = 1};
    struct saliency_options o;
    int64_t bytes;
    cr_expect(d.layer == -1 && d.beta == 1 && d.steps == 10 && d.copies == 10 && d.lr == 1 && d.pairs == 8);
    cr_expect(d.view == CLIP_VIEW_WHOLE && !d.noise && d.seed == 0);
    o = d, o.steps = 1;
    refused(saliency_once(&model, &o, &c, 1), MCS_E_USAGE, "at least 2 steps");
    o = d, o.copies = 0;
    refused(saliency_once(&model, &o, &c, 1), MCS_E_USAGE, "1 copy");
    o = d, o.pairs = 0;
    refused(mcs_saliency_bytes(&model, &o, &bytes), MCS_E_USAGE, "1 pair");
    o = d, o.layer = 2;
    refused(saliency_once(&model, &o, &c, 1), MCS_E_USAGE,
            "layer 2: the bottleneck must lie below the last of 3 blocks; use 0 to 1");
}

/* Layer -1 is the second to last block; pairs, copies and steps have effect. With lr 0 alpha stays at its initial value
 * 5; Adam's first step has size lr for any gradient much larger than its eps of 1e-8. */
Test(infer_limits, steps_of_the_saliency)
{
    struct saliency_options o = mcs_saliency_defaults();
    struct watched w, other;
    struct saliency_case c, again;
    o.pairs = 1, o.copies = 2, o.steps = 4;
    c = run(&o, NULL, 0, &w);
    cr_expect(w.n == 3 && w.last == 2);
    cr_expect(c.map.width == WIDTH && c.map.height == HEIGHT);
    o.layer = 1;
    again = run(&o, NULL, 0, &other);
    cr_expect_arr_eq(again.map.values, c.map.values, PIXELS * sizeof(float));
    cr_expect_arr_eq(other.alpha, w.alpha, sizeof w.alpha);
    mcs_map_free(&again.map);
    o.layer = 0;
    again = run(&o, NULL, 0, &other);
    cr_expect_arr_neq(other.alpha, w.alpha, sizeof w.alpha);
    mcs_map_free(&again.map);
    mcs_map_free(&c.map);
    o.layer = -1, o.lr = 0;
    c = run(&o, NULL, 0, &w);
    for (int i = 0; i < ALL; i++) cr_assert_eq(w.alpha[i], 5);
    mcs_map_free(&c.map);
    o.steps = 2, o.lr = 0.25f;
    c = run(&o, NULL, 0, &w);
    int n_whole = 0;
    for (int i = 0; i < ALL; i++) {
        const double moved = fabs((double)w.alpha[i] - 5);
        cr_assert_leq(moved, 0.25 * (1 + 1e-5));
        n_whole += moved > 0.25 * (1 - 1e-3);
    }
    cr_expect_gt(n_whole, ALL / 2, "%d of %d", n_whole, ALL);
    mcs_map_free(&c.map);
}

static double cosine(const float *a, const float *b, int n)
{
    double dot = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return dot / sqrt(aa * bb);
}

/* The presence score: the image's cosine with the text minus its mean cosine with the null prompts, or the cosine if
 * there are none. The view selects the whole image or its centre. */
Test(infer_limits, presence)
{
    static const char *const texts[] = {"brain tumor", "lung", "breast"};
    const int embed = model.config.embed, side = model.config.image_size;
    float *pixels = malloc((size_t)(side * side * 3) * sizeof *pixels), text[3 * 64], picture[64];
    struct saliency_options o = mcs_saliency_defaults();
    struct watched w;
    cr_assert(pixels && embed <= 64);
    o.pairs = 1, o.copies = 1, o.steps = 2;
    OK(mcs_clip_embed_texts(&model, texts, 3, 0, text));
    for (int crop = 0; crop < 2; crop++) {
        o.view = crop ? CLIP_VIEW_CROP : CLIP_VIEW_WHOLE;
        OK(mcs_clip_prepare(&model.config, &image, o.view, pixels));
        OK(mcs_clip_embed_images(&model, pixels, 1, 0, picture));
        for (int n = 0; n < 3; n++) {
            double want = cosine(picture, text, embed);
            for (int k = 0; k < n; k++) want -= cosine(picture, text + (k + 1) * embed, embed) / n;
            struct saliency_case c = run(&o, texts + 1, n, &w);
            /* texts in other batches: some roundings of embeddings and cosines of at most 1 */
            cr_expect_float_eq((double)c.presence, want, 2e-6, "%d null texts: %.9g, want %.9g", n, (double)c.presence,
                               want);
            mcs_map_free(&c.map);
        }
    }
    free(pixels);
}

/* ---- texts of embed ---- */

static void expect_texts(const char *bytes, const char *const *want, int n_want)
{
    struct store *s;
    char **texts, line[256];
    int n;
    shell_write("texts", bytes);
    expect("rm -f e.h5; mcsam embed -m clip --texts texts -o e.h5 2> err; true", 0, "");
    snprintf(line, sizeof line, "%d texts, embeddings of 8 values", n_want);
    cr_expect(strstr(shell_output, line), "want '%s' in %s", line, shell_output);
    OK(mcs_store_open(shell_path("e.h5"), &s));
    OK(mcs_store_get_texts(s, "texts", &n, &texts));
    cr_assert_eq(n, n_want);
    for (int i = 0; i < n; i++) cr_expect_str_eq(texts[i], want[i]);
    mcs_store_texts_free(n, texts);
    mcs_store_close(s);
}

Test(infer_limits, lines_of_texts)
{
    static const char *const two[] = {"lung", "brain"}, *const one[] = {"lung"};
    expect_texts("lung\nbrain\n", two, 2);
    expect_texts("lung\r\nbrain", two, 2);
    expect_texts("\xEF\xBB\xBFlung\nbrain\n", two, 2);
    expect_texts("\xEF\xBB\xBFlung", one, 1);
    expect_texts("lung\r\n", one, 1);
    expect("printf '\\357\\273\\277' > texts; mcsam embed -m clip --texts texts -o f.h5", 65, "texts: is empty");
    expect_texts("lung\nbrain\n\xFF\xFEl\n", two, 2); /* a line that is not UTF-8 fails alone */
    expect("printf 'lung\\na\\0b\\nbrain\\n' > texts; rm -f f.h5; mcsam embed -m clip --texts texts -o f.h5", 3,
           "line 2 has a NUL byte, as UTF-16 has; save it as UTF-8");
    expect("printf '\\377\\376l\\0\\n\\0b\\0' > texts; rm -f f.h5; mcsam embed -m clip --texts texts -o f.h5", 65,
           "NUL byte");
}

/* ---- diff ---- */

Test(infer_limits, folders_that_are_compared)
{
    const float x[2] = {1, 2}, y[2] = {1, 3};
    expect("mkdir a b", 0, "");
    expect("mcsam diff a b", 66, "a and b: no file in them ends in .h5");
    shell_write("a/notes.txt", "x");
    expect("mcsam diff a b", 66, "a and b: no file in them ends in .h5");
    OK(mcs_npy_write(shell_path("a/m.npy"), x, 1, (const int64_t[]){2}));
    expect("mcsam diff a b; mcsam diff b a --json", 1, "m.npy: only in the first");
    cr_expect(strstr(shell_output, "\"fault\": \"only in the second\""), "%s", shell_output);
    OK(mcs_npy_write(shell_path("b/l.npy"), x, 1, (const int64_t[]){2}));
    OK(mcs_npy_write(shell_path("b/m.npy"), y, 1, (const int64_t[]){2}));
    OK(mcs_npy_write(shell_path("b/n.npy"), x, 1, (const int64_t[]){2}));
    expect("mcsam diff a b", 1, "l.npy: only in the second");
    cr_expect(strstr(shell_output, "n.npy: only in the second"), "%s", shell_output);
    cr_expect(strstr(shell_output, "           1     0.447214            -  m.npy"), "%s",
              shell_output); /* 1 of sqrt 5 */
    cr_expect(strstr(shell_output, "3 of 3 differ"), "%s", shell_output);
    expect("mcsam diff a/m.npy b/m.npy --tolerance 0.448", 0, "0 of 1 differ");
    expect("mcsam diff a/m.npy b/m.npy --tolerance 0.447", 1, "1 of 1 differ");
    expect("mcsam diff none b", 66, "none: no such file or folder");
    expect("mcsam diff a none", 66, "none: no such file or folder");
    expect("mcsam diff a b/m.npy", 2, "a and b/m.npy: a file and a folder");
    expect("mcsam diff a/notes.txt a/notes.txt", 65, "a/notes.txt: of no kind that is compared");
}

/* ---- evaluate ---- */

/* Foreground is above 0 in a PNG and above 127 in a JPEG. The released form counts above 200 and first resizes the mask
 * to the reference's size, each pixel from index floor(i * n_mask / n_reference). */
Test(infer_limits, masks_of_an_evaluation)
{
    static const uint8_t levels[4] = {0, 1, 200, 201}, shrunk[4] = {255, 0, 255, 255},
                         wide[8] = {255, 9, 0, 0, 255, 9, 255, 9};
    struct image img;
    expect("mkdir pred ref p2 r2", 0, "");
    OK(mcs_image_alloc(&img, 4, 1, 1));
    memcpy(img.pixels, levels, 4);
    OK(mcs_image_write_png(shell_path("pred/a.png"), &img));
    memset(img.pixels, 255, 4);
    OK(mcs_image_write_png(shell_path("ref/a.png"), &img));
    memcpy(img.pixels, shrunk, 4);
    OK(mcs_image_write_png(shell_path("r2/a.png"), &img));
    mcs_image_free(&img);
    OK(mcs_image_alloc(&img, 8, 1, 1));
    memcpy(img.pixels, wide, 8);
    OK(mcs_image_write_png(shell_path("p2/a.png"), &img));
    mcs_image_free(&img);
    expect("mcsam evaluate -i pred -r ref -o out --merge-labels > log 2>&1; grep -o '\"n_pred\": [0-9]*' "
           "out/summary.json | tail -1",
           0, "\"n_pred\": 3\n");
    expect("mcsam evaluate -i pred -r ref -o rel --form release > log 2>&1; grep -o '\"n_pred\": [0-9]*' "
           "rel/summary.json | tail -1",
           0, "\"n_pred\": 1\n");
    expect("mcsam evaluate -i p2 -r r2 -o small --form release > log 2>&1; grep -o '\"[TF][PN]\": [0-9]*' "
           "small/summary.json | tail -4 | sort | tr '\\n' ' '",
           0, "\"FN\": 0 \"FP\": 0 \"TN\": 1 \"TP\": 3 ");
    expect("mcsam evaluate -i p2 -r r2 -o paper", 3, "is 8 x 1, but r2/a.png is 4 x 1: masks must have one size");
    expect("mcsam evaluate -i pred -r p2/none -o x", 66, "none");
    expect("mkdir odd; cp pred/a.png odd/b.png; mcsam evaluate -i odd -r ref -o x", 65, "nothing to compare");
    expect("mcsam evaluate -i pred -r ref -o out", 65, "predictions and references have no label in common");
    expect("mcsam evaluate -i pred -r ref -o out --merge-labels --json", 0, "{\"cases\": 1, ");
    expect("mkdir mine; echo '{}' > mine/summary.json; mcsam evaluate -i pred -r ref -o mine", 2,
           "mine/summary.json: is not of an evaluation and would be overwritten");
}
