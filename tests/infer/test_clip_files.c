/* CLIP model folders and prompt files: the values of open_clip_config.json are used, impossible ones refused, and each
 * image gets the right prompt.
 */
#include "data/io/file.h"
#include "data/io/store.h"
#include "data/text/prompts.h"
#include "infer/clip/clip_model.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMBED = 8 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1 --quiet");
    tiny_clip_model(shell_path("clip"));
}
TestSuite(clip_files, .init = setup, .fini = shell_close, .timeout = 60);

/* folder/img/a.png: 16 x 16 pixels of one colour. */
static void write_colour(const char *name, const uint8_t colour[3])
{
    struct image img;
    OK(mcs_image_alloc(&img, 16, 16, 3));
    for (int i = 0; i < 16 * 16; i++) memcpy(img.pixels + 3 * i, colour, 3);
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

/* The folder `name`: the tiny model with another mean and standard deviation. */
static void copy_model(const char *name, const double mean[3], const double std[3])
{
    char line[1024];
    struct device d;
    struct clip_model m;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_open(shell_path("clip"), &d, &m));
    for (int k = 0; k < 3; k++) m.config.mean[k] = (float)mean[k], m.config.std[k] = (float)std[k];
    OK(mcs_clip_model_save(&m, shell_path(name), 0));
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
    snprintf(line, sizeof line, "cmp clip/open_clip_model.safetensors %s/open_clip_model.safetensors", name);
    expect(line, 0, "");
}

static void embedding_of(const char *model, const char *images, float *values)
{
    char line[256];
    const int64_t dims[] = {1, EMBED};
    struct store *s;
    snprintf(line, sizeof line, "mcsam embed -m %s --images %s --raw -o e.h5", model, images);
    expect(line, 0, "1 images");
    OK(mcs_store_open(shell_path("e.h5"), &s));
    OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, dims, values));
    mcs_store_close(s);
}

static double furthest(const float *a, const float *b)
{
    double d = 0;
    for (int i = 0; i < EMBED; i++) d = fmax(d, fabs((double)a[i] - (double)b[i]));
    return d;
}

/* CLIP's input is (v / 255 - mean) / std for each channel. Two pictures of different colours have one embedding in two
 * folders whose mean and standard deviation map both to the same values, and different ones with the folders exchanged.
 * Rounding: the values agree to a few units of the last place, each network value to 1e-5. */
Test(clip_files, mean_and_deviation_are_the_folders)
{
    static const uint8_t colour[2][3] = {{100, 40, 220}, {180, 90, 30}};
    static const double mean[3] = {0.2, 0.45, 0.7}, std[3] = {0.5, 0.2, 0.3}, other_std[3] = {0.25, 0.4, 0.6};
    double other_mean[3];
    float a[EMBED], b[EMBED], crossed[EMBED], plain[EMBED];
    for (int k = 0; k < 3; k++)
        other_mean[k] = colour[1][k] / 255.0 - other_std[k] * (colour[0][k] / 255.0 - mean[k]) / std[k];
    copy_model("one", mean, std);
    copy_model("two", other_mean, other_std);
    expect("mkdir x y", 0, "");
    write_colour("x/a.png", colour[0]);
    write_colour("y/a.png", colour[1]);
    embedding_of("one", "x", a);
    embedding_of("two", "y", b);
    embedding_of("one", "y", crossed);
    embedding_of("clip", "x", plain);
    cr_expect(furthest(a, b) < 1e-4, "off by %g", furthest(a, b));
    cr_expect(furthest(a, crossed) > 1e-2 && furthest(a, plain) > 1e-2);
}

/* Impossible sizes are refused with the file's name before weights are read. */
Test(clip_files, impossible_sizes)
{
    static const char *const edits[] = {
        "s/\"patch_size\": 8/\"patch_size\": 7/",           /* the image is no multiple of it */
        "s/\"heads\": 2/\"heads\": 3/",                     /* nor the width of the heads */
        "s/\"context_length\": 16/\"context_length\": 17/", /* more than there are positions */
        "s/\"embed_dim\": 8/\"embed_dim\": 0/",
        "s/\"layers\": 3/\"layers\": -1/",
        "s/\"image_size\": 16/\"image_size\": 16777216/",
        "s/model_cfg/model/",
        "s/\"std\": [^,]*,/\"std\": [0,/", /* images would be divided by it */
        "s/\"std\": [^,]*,/\"std\": [-0.5,/",
        "s/\"mean\": [^,]*,/\"mean\": [1e300,/", /* infinite as float32 */
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char line[512];
        snprintf(line, sizeof line,
                 "rm -rf bad; cp -r clip bad; sed -zi '%s' bad/open_clip_config.json; cmp -s bad/open_clip_config.json "
                 "clip/open_clip_config.json && exit 9; echo x > t; mcsam embed -m bad --texts t -o e.h5",
                 edits[i]);
        expect(line, 65, "bad/open_clip_config.json");
    }
    expect("rm -rf bad; cp -r clip bad; sed -i 's/\"positions\": 16/\"positions\": 17/' bad/open_clip_config.json; "
           "echo x > "
           "t; mcsam embed -m bad --texts t -o e.h5",
           65, "position_embeddings"); /* possible, but of another shape than the weights */
}

/* ---- prompts ---- */

static void write_prompts(const char *text, int64_t n)
{
    OK(mcs_file_write(shell_path("p.json"), text, n));
}

static void expect_prompt(const struct prompts *p, const char *image, const char *want)
{
    const struct prompt *got = mcs_prompts_find(p, image);
    cr_expect(got ? want && !strcmp(got->texts[0], want) : !want, "%s: %s", image, got ? got->texts[0] : "none");
}

/* An image's name takes precedence over its stem, and the stem over "*", in any order in the file. */
Test(clip_files, the_most_specific_prompt_is_used)
{
    struct prompts p;
    static const char text[] = "\xEF\xBB\xBF{\"*\": \"all\", \"b\": \"stem\", \"a.png\": \"name\", "
                               "\"c.jpg\": [\"first\", \"second\"]}";
    write_prompts(text, sizeof text - 1);
    OK(mcs_prompts_read(shell_path("p.json"), &p));
    expect_prompt(&p, "a.png", "name");
    expect_prompt(&p, "folder/a.png", "name");
    expect_prompt(&p, "b.png", "stem");
    expect_prompt(&p, "c.png", "first");
    expect_prompt(&p, "d.png", "all");
    mcs_prompts_free(&p);
    static const char no_star[] = "{\"b\": \"stem\"}";
    write_prompts(no_star, sizeof no_star - 1);
    OK(mcs_prompts_read(shell_path("p.json"), &p));
    expect_prompt(&p, "d.png", NULL);
    mcs_prompts_free(&p);
    static const char *const bad[] = {"",
                                      "\xEF\xBB",
                                      "\xEF\xBB\xBF",
                                      "[]",
                                      "{}",
                                      "{\"a\": 1}",
                                      "{\"a\": \" \"}",
                                      "{\"a\": []}",
                                      "{\"a\": \"x\", \"a\": \"y\"}",
                                      "{\"a\": \"x\"} {"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_prompts(bad[i], (int64_t)strlen(bad[i]));
        cr_expect_eq(mcs_prompts_read(shell_path("p.json"), &p), MCS_E_DATA, "%s", bad[i]);
        mcs_error_clear();
    }
}

/* Writing and reading again: one text, several texts, names that JSON must escape. */
Test(clip_files, prompts_there_and_back)
{
    struct prompts p = {0}, q;
    const char *one[] = {"a \"small\" lesion\n"}, *three[] = {"x", "y \xC3\xA9", "z"}, *blank[] = {"  "};
    OK(mcs_prompts_add(&p, "a \\ b.png", one, 1));
    OK(mcs_prompts_add(&p, "*", three, 3));
    cr_expect_eq(mcs_prompts_add(&p, "*", one, 1), MCS_E_DATA);
    cr_expect_eq(mcs_prompts_add(&p, "c", blank, 1), MCS_E_DATA);
    mcs_error_clear();
    OK(mcs_prompts_write(shell_path("q.json"), &p));
    OK(mcs_prompts_read(shell_path("q.json"), &q));
    cr_assert_eq(q.n, 2);
    for (int i = 0; i < 2; i++) {
        const struct prompt *a = &p.v[i], *b = NULL;
        for (int k = 0; k < 2; k++)
            if (!strcmp(q.v[k].name, a->name)) b = &q.v[k];
        cr_assert(b && b->n == a->n, "%s", a->name);
        for (int k = 0; k < a->n; k++) cr_expect_str_eq(b->texts[k], a->texts[k]);
    }
    mcs_prompts_free(&p);
    mcs_prompts_free(&q);
}

/* Three files of the same picture with three prompts get the maps of their prompts. */
Test(clip_files, each_image_gets_its_own_prompt)
{
    static const uint8_t colour[3] = {10, 90, 200};
    expect("mkdir img", 0, "");
    write_colour("img/a.png", colour);
    expect("cp img/a.png img/b.png; cp img/a.png img/c.png; echo '{\"c.png\": \"brain tumor\", \"a\": \"lung nodule\", "
           "\"*\": \"left breast\"}' > p.json",
           0, "");
    expect("mcsam saliency -m clip -i img --prompts p.json --steps 3 --pairs 1 -o s", 0, "3 maps");
    expect(
        "for q in 'a:lung nodule' 'b:left breast' 'c:brain tumor'; do f=${q%%:*}; mcsam saliency -m clip -i img/$f.png "
        "--text \"${q#*:}\" --steps 3 --pairs 1 -o t_$f && cmp s/$f.h5 t_$f/$f.h5 || exit 9; done; mcsam saliency -m "
        "clip "
        "-i img/a.png --text 'brain tumor' --steps 3 --pairs 1 -o u; cmp s/a.h5 u/a.h5",
        1, "differ");
}
