/* Bad input of every kind, through the program: the exit code, one line that names the problem, and continued work
 * where possible. These are tested closer to their code:
 *
 *     damaged NIfTI              test_volume.c (every header field, gzip), here by train and predict
 *     damaged PNG, JPEG          test_image.c, here by finetune
 *     damaged checkpoint         test_resume.c; weights test_safetensors.c, here by finetune
 *     image without a caption    test_pairs.c, here by finetune; without a mask test_evaluate.c, here by train
 *     two images with one stem   test_pairs.c, test_evaluate.c, here by finetune and train
 *     empty folder               test_coarse.c, test_evaluate.c, here by train, predict and embed
 *     captions                   test_tokenizer.c (not UTF-8, context, marks), here by finetune and embed
 *     mask of another size       test_evaluate.c, here by train and evaluate
 *     unknown key or verb        test_cli.c, test_config.c
 *     full disk, read-only       test_file.c, test_store.c, test_volume.c, test_evaluate.c, test_resume.c
 *     NaN                        test_coarse.c (maps), test_unet_train.c, here in a NIfTI by train and predict
 *     a batch of one             here; losses that refuse it: test_contrastive.c */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;

static void teardown(void)
{
    tiny_remove(folder);
}
static void setup(void)
{
    folder = tiny_folder("badinput");
}
TestSuite(badinput, .init = setup, .fini = teardown, .timeout = 60);

static const char *at(const char *name)
{
    return tiny_path(folder, "%s", name);
}

static void put(const char *name, const char *text)
{
    OK(mcs_file_write(at(name), text, (int64_t)strlen(text)));
}

/* Runs the program and expects this exit code and these words in its output. An error is one line. */
static void expect(int code, const char *says, const char *const *argv)
{
    const int got = tiny_wait(tiny_spawn(MCS_BINARY, folder, argv, NULL));
    const char *log = tiny_log(folder), *error = strstr(log, "mcsam: error: ");
    cr_expect_eq(got, code, "%s: exit %d, want %d: %s", argv[0], got, code, log);
    cr_expect(strstr(log, says), "want '%s' in: %s", says, log);
    if (code == 2 || code >= 64)
        cr_expect(error && strchr(error, '\n') && !strchr(error, '\n')[1], "want one line at the end: %s", log);
}
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define FINETUNE "finetune", "-m", "model", "--pairs", "pairs/pairs.csv", "-o", "run", "--threads", "1", "--quiet"
#define TRAIN                                                                                                          \
    "train", "-i", "data/images", "-l", "data/labels", "-o", "run", "--patch", "16x16", "--stages", "2", "--features", \
        "4", "--batch", "2", "--epochs", "3", "--iterations", "1", "--cycles", "3", "--checkpoints", "1", "--threads", \
        "1", "--quiet"

static void cut(const char *name, double share)
{
    char *bytes;
    int64_t n;
    OK(mcs_file_read(at(name), 1 << 26, &bytes, &n));
    free(bytes);
    cr_assert_eq(truncate(at(name), (off_t)((double)n * share)), 0);
}

/* No value in a run's log may be null, which is written for values that are not finite. */
static void all_finite(void)
{
    char *text;
    int64_t n;
    OK(mcs_file_read(at("run/metrics.jsonl"), 1 << 20, &text, &n));
    cr_expect(n > 0 && !strstr(text, "null"), "%s", text);
    free(text);
}

/* ---- captions ---- */

static char *many_words(void)
{
    static char text[10000 * 7 + 1];
    for (int i = 0; i < 10000; i++) memcpy(text + 7 * i, "lesion ", 8);
    return text;
}

Test(badinput, captions_of_every_kind_train)
{
    tiny_training_folder(TINY_CLIP, folder);
    FILE *f = fopen(at("pairs/pairs.csv"), "w");
    cr_assert(f);
    fprintf(f, "filename,Caption\n");
    fprintf(f, "p00.png,%s\n", many_words());
    fprintf(f, "p01.png,左侧有明亮的病灶\n");
    fprintf(f, "p02.png,a\x01 bright\x1b[31m \x7f lesion\t\x08 here\n");
    fprintf(f, "p03.png,\"two\nlines\r\nof text\"\n");
    fprintf(f, "p04.png,\xf0\x9f\xa7\xa0 ا ُ ֿ ︎ \xe2\x80\xae\n"); /* beyond the basic plane, right to left, marks
                                                                           alone */
    fprintf(f, "p05.png,\x01\x02\n");                                   /* cleaning removes all of it */
    fprintf(f, "p06.png,\n");
    fprintf(f, "p07.png,   \n");
    fprintf(f, "p08.png,a plain one\n");
    cr_assert_eq(fclose(f), 0);
    expect(0, "an image without a caption", ARGS(FINETUNE, "--batch", "4", "--steps", "3"));
    cr_expect(strstr(tiny_log(folder), "p06.png") && strstr(tiny_log(folder), "p07.png"), "%s", tiny_log(folder));
    all_finite();
}

Test(badinput, texts_of_every_kind_embed)
{
    tiny_training_folder(TINY_CLIP, folder);
    FILE *f = fopen(at("texts.txt"), "w");
    cr_assert(f);
    fprintf(f, "%s\n左侧有明亮的病灶\nan\x01 odd\x1b one\n\na plain one\n", many_words());
    cr_assert_eq(fclose(f), 0);
    expect(3, "4 texts", ARGS("embed", "-m", "model", "--texts", "texts.txt", "-o", "e.h5", "--threads", "1"));
    char *text;
    int64_t n;
    OK(mcs_file_read(at("failures.csv"), 1 << 20, &text, &n));
    cr_expect(strstr(text, "texts.txt:4,"), "the empty line is not named: %s", text);
    free(text);
    put("texts.txt", "good\nnot \xff UTF-8\n");
    expect(3, "1 texts", ARGS("embed", "-m", "model", "--texts", "texts.txt", "-o", "e.h5", "--threads", "1"));
    put("texts.txt", "");
    expect(65, "texts.txt: is empty", ARGS("embed", "-m", "model", "--texts", "texts.txt", "-o", "e.h5"));
    cr_assert_eq(tiny_shell("mkdir %s", at("nothing")), 0);
    expect(66, "nothing", ARGS("embed", "-m", "model", "--images", "nothing", "-o", "e.h5"));
}

/* ---- pairs ---- */

Test(badinput, pairs_without_a_partner_are_named_and_the_rest_goes_on)
{
    tiny_training_folder(TINY_CLIP, folder);
    put("pairs/pairs.csv", "filename,Caption\n"
                           "p00.png,one\np01.png,two\np02.png,three\np03.png,four\n"
                           "gone.png,a caption without its image\n");
    expect(0, "gone.png", ARGS(FINETUNE, "-i", "pairs", "--batch", "2", "--steps", "2"));
    cr_expect(strstr(tiny_log(folder), "no such image") && strstr(tiny_log(folder), "p04.png") &&
                  strstr(tiny_log(folder), "no row names this image"),
              "%s", tiny_log(folder));
}

Test(badinput, pairs_that_cannot_be)
{
    tiny_training_folder(TINY_CLIP, folder);
    expect(2, "a batch of at least 2", ARGS(FINETUNE, "--batch", "1", "--steps", "2"));
    expect(2, "batch", ARGS(FINETUNE, "--batch", "25", "--steps", "2")); /* there are 24 */
    expect(2, "did you mean --batch?", ARGS(FINETUNE, "--bach", "4"));
    expect(66, "nowhere", ARGS("finetune", "-m", "nowhere", "--pairs", "pairs/pairs.csv", "-o", "run"));

    cr_assert_eq(tiny_shell("mkdir %s && cp %s %s/", at("pairs/b"), at("pairs/p00.png"), at("pairs/b")), 0);
    /* one file name in two folders is two images: nothing is written for each */
    put("pairs/pairs.csv", "filename,Caption\np00.png,one\np01.png,two\nb/p00.png,three\n");
    expect(0, "3 pairs", ARGS(FINETUNE, "--batch", "2", "--steps", "2"));
    cr_assert_eq(tiny_shell("rm -r %s", at("run")), 0);
    expect(2, "--separator |: want", ARGS(FINETUNE, "--separator", "|"));

    put("pairs/pairs.csv", "filename,Caption\np00.png,one\np01.png,two\np02.png,three\n");
    cut("pairs/p01.png", 0.6);
    expect(65, "p01.png", ARGS(FINETUNE, "--batch", "2", "--steps", "2"));
    put("pairs/p01.png", "no image at all");
    expect(65, "p01.png", ARGS(FINETUNE, "--batch", "2", "--steps", "2"));
    put("pairs/p01.png", "");
    expect(65, "p01.png", ARGS(FINETUNE, "--batch", "2", "--steps", "2"));
}

Test(badinput, damaged_model_folders)
{
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_shell("cp -r %s %s", at("model"), at("good")), 0);
    static const char *const files[] = {"open_clip_model.safetensors", "open_clip_config.json", "vocab.txt"};
    for (int i = 0; i < 3; i++) {
        const char *name = tiny_path("model", "%s", files[i]);
        cut(name, 0.5);
        expect(65, i == 2 ? "model" : files[i], ARGS(FINETUNE, "--batch", "4", "--steps", "2"));
        cr_expect(!mcs_folder_exists(at("run")), "%s: a run's folder was begun", name);
        cr_assert_eq(unlink(at(name)), 0);
        expect(66, files[i], ARGS(FINETUNE, "--batch", "4", "--steps", "2"));
        cr_assert_eq(tiny_shell("cp %s/%s %s", at("good"), files[i], at(name)), 0);
    }
}

/* ---- masks and volumes ---- */

static void write_volume(const char *name, int n, float odd, int label)
{
    struct volume v;
    OK(mcs_volume_alloc(&v, n, n, 2, NULL));
    uint8_t *labels = calloc((size_t)(2 * n * n), 1);
    for (int i = 0; i < 2 * n * n; i++) {
        v.values[i] = (float)(i * 7 % 31);
        labels[i] = i % n > n / 2;
    }
    if (odd != 0) v.values[n + 3] = odd;
    OK(label ? mcs_volume_write_u8(at(name), labels, &v) : mcs_volume_write_f32(at(name), v.values, &v));
    free(labels);
    mcs_volume_free(&v);
}

Test(badinput, masks_that_do_not_fit)
{
    tiny_training_folder(TINY_UNET, folder);
    struct image small;
    OK(mcs_image_alloc(&small, 23, 24, 1));
    cr_assert_eq(tiny_shell("mv %s %s", at("data/labels/c03.png"), at("kept.png")), 0);
    expect(0, "have no label", ARGS(TRAIN)); /* an image without a mask: the others are used */
    cr_assert_eq(tiny_shell("rm -r %s && cp %s %s", at("run"), at("kept.png"), at("data/labels/stray.png")), 0);
    expect(0, "have no image", ARGS(TRAIN));
    OK(mcs_image_write_png(at("data/labels/c03.png"), &small));
    mcs_image_free(&small);
    expect(65, "c03.png is 23 x 24", ARGS(TRAIN));
    cr_expect(strstr(tiny_log(folder), "24 x 24"), "%s", tiny_log(folder));
    expect(3, "not a mask", ARGS("evaluate", "-i", "data/labels", "-r", "data/images", "-o", "out"));
    cr_assert_eq(tiny_shell("cp %s %s", at("kept.png"), at("data/labels/c03.png")), 0);
    cr_assert_eq(tiny_shell("cp %s %s", at("data/images/c03.png"), at("data/images/c03.jpg")), 0);
    expect(65, "c03.jpg and c03.png", ARGS(TRAIN));
    cr_assert_eq(tiny_shell("rm %s/*", at("data/labels")), 0);
    cr_assert_eq(tiny_shell("rm %s", at("data/images/c03.jpg")), 0);
    expect(66, "data/labels", ARGS(TRAIN));
    expect(66, "nowhere", ARGS("train", "-i", "nowhere", "-l", "data/labels", "-o", "run"));
}

Test(badinput, volumes)
{
    cr_assert_eq(tiny_shell("mkdir -p %s %s", at("data/images"), at("data/labels")), 0);
    write_volume("data/images/a.nii.gz", 20, 0, 0);
    write_volume("data/labels/a.nii.gz", 20, 0, 1);
    expect(0, "", ARGS(TRAIN));

    /* Prediction continues with the other cases. */
    cr_assert_eq(tiny_shell("mkdir %s", at("new")), 0);
    expect(66, "new", ARGS("predict", "-i", "new", "-o", "out", "-m", "run", "--threads", "1"));
    write_volume("new/good.nii.gz", 20, 0, 0);
    write_volume("new/nan.nii.gz", 20, NAN, 0);
    write_volume("new/inf.nii", 20, -INFINITY, 0);
    write_volume("new/short.nii", 20, 0, 0);
    cut("new/short.nii", 0.7);
    write_volume("new/zip.nii.gz", 20, 0, 0);
    cut("new/zip.nii.gz", 0.7);
    put("new/text.nii", "no volume");
    expect(3, "", ARGS("predict", "-i", "new", "-o", "out", "-m", "run", "--threads", "1"));
    char *text;
    int64_t n;
    OK(mcs_file_read(at("out/failures.csv"), 1 << 20, &text, &n));
    static const char *const bad[] = {"\nnan,", "\ninf,", "\nshort,", "\nzip,", "\ntext,"};
    for (int i = 0; i < 5; i++) cr_expect(strstr(text, bad[i]), "no '%s' in %s", bad[i] + 1, text);
    cr_expect(!strstr(text, "good"), "%s", text);
    free(text);
    cr_expect(mcs_file_exists(at("out/good.nii.gz")));
    cr_expect(!mcs_file_exists(at("out/nan.nii.gz")) && !mcs_file_exists(at("out/inf.nii.gz")));

    /* Training needs all of its cases. */
    cr_assert_eq(tiny_shell("rm -r %s", at("run")), 0);
    write_volume("data/images/b.nii.gz", 20, NAN, 0);
    write_volume("data/labels/b.nii.gz", 20, 0, 1);
    expect(65, "b.nii.gz", ARGS(TRAIN));
    write_volume("data/images/b.nii.gz", 21, 0, 0);
    expect(65, "b.nii.gz", ARGS(TRAIN));
    write_volume("data/images/b.nii.gz", 20, 0, 0);
    cut("data/images/b.nii.gz", 0.8);
    expect(65, "b.nii.gz", ARGS(TRAIN));
}

/* ---- images for inference ---- */

Test(badinput, saliency_goes_on_with_the_rest)
{
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_shell("cd %s && mkdir new empty && cp pairs/p00.png pairs/p01.png pairs/p02.png new", folder), 0);
    cut("new/p01.png", 0.5);
    put("new/p02.png", "");
#define SALIENCY "saliency", "-m", "model", "-o", "out", "--threads", "1"
    expect(3, "", ARGS(SALIENCY, "-i", "new", "--text", "a bright lesion"));
    char *text;
    int64_t n;
    OK(mcs_file_read(at("out/failures.csv"), 1 << 20, &text, &n));
    cr_expect(strstr(text, "\np01,") && strstr(text, "\np02,") && !strstr(text, "\np00,"), "%s", text);
    free(text);
    cr_expect(mcs_file_exists(at("out/p00.h5")) && !mcs_file_exists(at("out/p01.h5")));
    expect(66, "empty", ARGS(SALIENCY, "-i", "empty", "--text", "a bright lesion"));
    cr_assert_eq(unlink(at("new/p01.png")) + unlink(at("new/p02.png")), 0);
    expect(0, "", ARGS(SALIENCY, "-i", "new", "--text", many_words()));
    expect(0, "", ARGS(SALIENCY, "-i", "new", "--text", "左侧有明亮的病灶"));
    cr_assert_eq(tiny_shell("cp %s %s", at("new/p00.png"), at("new/p00.jpg")), 0);
    expect(65, "p00.jpg and p00.png", ARGS(SALIENCY, "-i", "new", "--text", "a bright lesion"));
}

/* Runs as nobody, who has no write permission. */
Test(badinput, outputs_that_cannot_be_written)
{
    static const struct tiny_limits nobody = {.as_nobody = 1};
    tiny_training_folder(TINY_CLIP, folder);
    tiny_masks(at("data"), 2);
    put("texts.txt", "one\n");
    cr_assert_eq(
        tiny_shell("cd %s && mkdir out && touch log && chmod -R a+rX . && chmod a+w log && chmod a-w out .", folder),
        0);
    const char *const *const commands[] = {
        ARGS("embed", "-m", "model", "--texts", "texts.txt", "-o", "out/e.h5"),
        ARGS("saliency", "-m", "model", "-i", "pairs", "--text", "a lesion", "-o", "out"),
        ARGS("evaluate", "-i", "data/labels", "-r", "data/labels", "-o", "out"),
        ARGS(TRAIN),
        ARGS(FINETUNE, "--batch", "4", "--steps", "2"),
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const int got = tiny_wait(tiny_spawn(MCS_BINARY, folder, commands[i], &nobody));
        cr_expect_eq(got, 74, "%s: exit %d: %s", commands[i][0], got, tiny_log(folder));
        cr_expect(strstr(tiny_log(folder), "Permission denied"), "%s: %s", commands[i][0], tiny_log(folder));
    }
    cr_expect_eq(tiny_shell("test -z \"$(ls %s)\"", at("out")), 0, "something was written");
}

/* A full disk: no file may be larger than 300 bytes. No partial file is left. */
Test(badinput, disks_that_are_full)
{
    static const struct tiny_limits full = {.file_bytes = 300};
    tiny_training_folder(TINY_CLIP, folder);
    tiny_masks(at("data"), 2);
    put("texts.txt", "one\n");
    const char *const *const commands[] = {
        ARGS("embed", "-m", "model", "--texts", "texts.txt", "-o", "out/e.h5"),
        ARGS("saliency", "-m", "model", "-i", "pairs", "--text", "a lesion", "-o", "out", "--quiet"),
        ARGS("evaluate", "-i", "data/labels", "-r", "data/labels", "-o", "out"),
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const int got = tiny_wait(tiny_spawn(MCS_BINARY, folder, commands[i], &full));
        cr_expect_eq(got, 74, "%s: exit %d: %s", commands[i][0], got, tiny_log(folder));
        cr_expect_neq(tiny_shell("find %s -size +0 -name '*.tmp.*' | grep .", folder), 0, "%s: a half file",
                      commands[i][0]);
    }
}
