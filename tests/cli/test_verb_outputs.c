/* The whole output of info, convert, diff, evaluate, uncertainty and ensemble, against tests/expected/verbs. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "data/io/npy.h"
#include "data/io/store.h"
#include "data/weights/weight_write.h"
#include "infer/unet/probability.h"
#include "tests/support/support_expected.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(verb_outputs, .init = setup, .fini = shell_close, .timeout = 60);

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* Runs a line; compares its exit code and all its output. */
static void expect_text(const char *line, int code, const char *name)
{
    char path[128];
    const int got = shell(line);
    cr_expect_eq(got, code, "%s: exit %d, want %d:\n%s", line, got, code, shell_output);
    snprintf(path, sizeof path, "verbs/%s", name);
    expected_check_within(path, shell_output, 0);
}

static void put_picture(const char *name, int w, int h, int channels, const uint8_t *pixels)
{
    struct image img;
    OK(mcs_image_alloc(&img, w, h, channels));
    memcpy(img.pixels, pixels, (size_t)(w * h * channels));
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

/* ---- info ---- */

static void put_files(void)
{
    const uint8_t grey[6] = {7, 9, 200, 7, 8, 9}, colour[12] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};
    const float values[6] = {1.5f, -2, NAN, 4, INFINITY, 0.5f}, none[2] = {NAN, -INFINITY};
    struct weight_out out[] = {
        {.name = "head.bias", .type = MCS_ARRAY_F32, .nd = 1, .dims = {3}, .values = values},
        {.name = "head.weight", .type = MCS_ARRAY_F16, .nd = 2, .dims = {2, 3}, .values = values},
        {.name = "scale", .type = MCS_ARRAY_F32, .nd = 0, .dims = {0}, .values = values}};
    struct volume v = {.nx = 3, .ny = 1, .nz = 2, .spacing = {0.5f, 2, 3.25f}}, w = {.nx = 2, .ny = 1, .nz = 1};
    struct store *s;
    put_picture("grey.png", 3, 2, 1, grey);
    put_picture("colour.png", 2, 2, 3, colour);
    w.spacing[0] = w.spacing[1] = w.spacing[2] = 1;
    OK(mcs_volume_write_f32(shell_path("v.nii.gz"), values, &v));
    OK(mcs_volume_write_f32(shell_path("w.nii"), none, &w));
    OK(mcs_safetensors_write(shell_path("t.safetensors"), 3, out, 0, NULL));
    OK(mcs_store_create(shell_path("s.h5"), &s));
    OK(mcs_store_put(s, "x", MCS_ARRAY_F32, 1, (const int64_t[]){2}, values));
    OK(mcs_store_commit(s));
}

Test(verb_outputs, info)
{
    put_files();
    expect_text("mcsam info --tensors grey.png colour.png v.nii.gz w.nii t.safetensors s.h5", 0, "info.txt");
    expect_text("mcsam info --json --filter head grey.png colour.png v.nii.gz w.nii t.safetensors s.h5", 0,
                "info.json");
    expect_text("mcsam info --filter bias t.safetensors; mcsam info --json none.png grey.png", 3, "info_filter.txt");
}

/* ---- convert ---- */

Test(verb_outputs, convert)
{
    cr_assert_eq(shell("cp -r " MCS_SOURCE_DIR "/data/demo/sam " MCS_SOURCE_DIR "/data/demo/clip ."), 0);
    expect_text("mcsam convert sam -o hf --to huggingface && mcsam convert hf -o sam.pth --to segment-anything && "
                "mcsam convert clip -o port --to medclip-samv2 --format torch --dry-run && "
                "mcsam convert clip/open_clip_model.safetensors -o e.pt --to open_clip-checkpoint --half --json && "
                "rm clip/vocab.txt && mcsam convert clip -o port --to medclip-samv2 && ls hf port && "
                "mcsam diff sam/sam.safetensors sam.pth && mcsam info e.pt | tail -n +2 | head -3",
                0, "convert.txt");
    expect_text("mcsam convert sam -o sam/sam.safetensors; mcsam convert sam -o x --to medclip-samv2; "
                "mcsam convert clip/open_clip_config.json -o x; mcsam convert clip -o nowhere/x.pt",
                74, "convert_refused.txt");
}

/* ---- diff ---- */

static void put_arrays(const char *name, const float *x, const int64_t *labels, int n_labels)
{
    struct store *s;
    OK(mcs_store_create(shell_path(name), &s));
    OK(mcs_store_put(s, "x", MCS_ARRAY_F32, 2, (const int64_t[]){2, 2}, x));
    OK(mcs_store_put(s, n_labels == 2 ? "labels" : "others", MCS_ARRAY_I64, 1, (const int64_t[]){n_labels}, labels));
    OK(mcs_store_put_texts(s, "names", 2,
                           n_labels == 2 ? (const char *const[]){"a", "bc"} : (const char *const[]){"a", "bd"}));
    OK(mcs_store_commit(s));
}

static void put_pairs(void)
{
    const float x[4] = {1, 2, 3, NAN}, y[4] = {1, 2.5f, 3, NAN}, big[4] = {1, 2, 3, INFINITY}, zero[2] = {0, 0},
                one[2] = {0, 1};
    const int64_t labels[3] = {4, -5, 6};
    const uint8_t mask[4] = {0, 255, 255, 0}, other[4] = {0, 255, 0, 255}, picture[4] = {1, 2, 3, 4};
    struct volume v = {.nx = 2, .ny = 2, .nz = 1, .spacing = {1, 1, 1}};
    OK(mcs_folder_make(shell_path("a")));
    OK(mcs_folder_make(shell_path("b")));
    put_arrays("a/s.h5", x, labels, 2);
    put_arrays("b/s.h5", y, labels, 3);
    OK(mcs_npy_write(shell_path("a/n.npy"), zero, 1, (const int64_t[]){2}));
    OK(mcs_npy_write(shell_path("b/n.npy"), one, 1, (const int64_t[]){2}));
    OK(mcs_npy_write(shell_path("a/shape.npy"), zero, 1, (const int64_t[]){2}));
    OK(mcs_npy_write(shell_path("b/shape.npy"), zero, 2, (const int64_t[]){1, 2}));
    OK(mcs_npy_write(shell_path("a/same.npy"), x, 1, (const int64_t[]){4}));
    OK(mcs_npy_write(shell_path("b/same.npy"), x, 1, (const int64_t[]){4}));
    OK(mcs_npy_write(shell_path("a/inf.npy"), x, 1, (const int64_t[]){4}));
    OK(mcs_npy_write(shell_path("b/inf.npy"), big, 1, (const int64_t[]){4}));
    OK(mcs_npy_write(shell_path("a/first.npy"), x, 1, (const int64_t[]){4}));
    OK(mcs_npy_write(shell_path("b/second.npy"), x, 1, (const int64_t[]){4}));
    put_picture("a/mask.png", 2, 2, 1, mask);
    put_picture("b/mask.png", 2, 2, 1, other);
    put_picture("a/picture.png", 2, 2, 1, picture);
    put_picture("b/picture.png", 2, 2, 1, mask);
    OK(mcs_volume_write_u8(shell_path("a/v.nii.gz"), mask, &v));
    OK(mcs_volume_write_u8(shell_path("b/v.nii.gz"), mask, &v));
    shell_write("a/broken.png", "no picture");
    put_picture("b/broken.png", 2, 2, 1, mask);
}

Test(verb_outputs, diff)
{
    put_pairs();
    expect_text("mcsam diff a b", 1, "diff.txt");
    expect_text("mcsam diff --json a b 2> err | sed 's/\\([.][0-9]\\{8\\}\\)[0-9]*/\\1/'; cat err", 0, "diff.json");
    expect_text("mcsam diff a/mask.png b/mask.png --tolerance 0.5; mcsam diff a/mask.png b/mask.png --tolerance 0.49",
                1, "diff_mask.txt");
    expect_text("for f in same n inf; do mcsam diff --all a/$f.npy b/$f.npy; done", 1, "diff_files.txt");
    expect_text("mkdir c d; for i in 01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20; do cp a/same.npy "
                "c/$i.npy; cp a/same.npy d/$i.npy; done; mcsam diff c d | tail -3; cp a/n.npy c/21.npy; cp b/n.npy "
                "d/21.npy; mcsam diff c d; mcsam diff --all c d | tail -3",
                0, "diff_many.txt");
}

/* ---- evaluate ---- */

/* One pixel each: identical, three apart, both masks empty, one apart. */
static void put_masks(void)
{
    static const struct {
        const char *stem;
        int pred, ref; /* place, -1: none */
    } rows[] = {{"a", 9, 9}, {"b", 9, 12}, {"c", -1, -1}, {"d", 17, 18}};
    OK(mcs_folder_make(shell_path("pred")));
    OK(mcs_folder_make(shell_path("ref")));
    for (int i = 0; i < 4; i++)
        for (int side = 0; side < 2; side++) {
            uint8_t pixels[64] = {0};
            char name[32];
            const int at = side ? rows[i].ref : rows[i].pred;
            if (at >= 0) pixels[at] = 255;
            snprintf(name, sizeof name, "%s/%s.png", side ? "ref" : "pred", rows[i].stem);
            put_picture(name, 8, 8, 1, pixels);
        }
}

Test(verb_outputs, evaluate)
{
    put_masks();
    expect_text(
        "mcsam evaluate -i pred -r ref -o out 2> err && grep -v version out/summary.json && echo && cat out/cases.csv",
        0, "evaluate.txt");
    expect_text(
        "rm ref/c.png; mcsam evaluate -i pred -r ref -o more --json --tolerance 1 2> err; cat more/failures.csv; grep "
        "-A99 '\"failures\"' more/summary.json | head -8; grep tolerance more/summary.json",
        0, "evaluate_json.txt");
    expect_text("mcsam evaluate -i pred -r ref -o none --dry-run 2> err; ls none", 2, "evaluate_dry.txt");
}

/* ---- uncertainty ---- */

/* Three cases of two classes: certain, one bit of entropy everywhere, a mask with both; one case of three classes in
 * two slices. */
static void put_probabilities(void)
{
    static const float foreground[3][6] = {
        {0, 1, 1, 0, 0, 0}, {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f}, {0.25f, 0.75f, 0.9f, 0.125f, 0.25f, 0}};
    struct probability p;
    OK(mcs_folder_make(shell_path("prob")));
    for (int i = 0; i < 3; i++) {
        char name[32];
        OK(mcs_probability_alloc(&p, 2, 1, 2, 3));
        for (int k = 0; k < 6; k++) p.values[k] = 1 - foreground[i][k], p.values[6 + k] = foreground[i][k];
        snprintf(name, sizeof name, "prob/%c.h5", 'a' + i);
        OK(mcs_probability_write(shell_path(name), &p));
        mcs_probability_free(&p);
    }
    OK(mcs_probability_alloc(&p, 3, 2, 1, 2));
    for (int k = 0; k < 4; k++) p.values[k] = 0.5f, p.values[4 + k] = 0.25f, p.values[8 + k] = 0.25f;
    OK(mcs_probability_write(shell_path("prob/v.h5"), &p));
    mcs_probability_free(&p);
    shell_write("prob/x.h5", "no HDF5");
}

Test(verb_outputs, uncertainty)
{
    put_probabilities();
    expect_text("mcsam uncertainty -i prob -o u --dry-run --json 2> err; mcsam uncertainty -i prob -o u --dry-run 2> "
                "err; mcsam uncertainty -i prob -o u 2> err; cat u/uncertainty.csv; cut -c1-12 u/failures.csv; ls u",
                0, "uncertainty.txt");
    expect_text(
        "rm prob/x.h5; mcsam uncertainty -i prob -o r --json --form release 2> err && cat r/uncertainty.csv && mcsam "
        "info r/b_entropy.png r/c_entropy.png && mcsam uncertainty -i prob -o r --json --form release --threshold 0.8 "
        "2> err; mcsam uncertainty -i prob -o t --threshold 0.8 2> err && cat t/uncertainty.csv",
        0, "uncertainty_release.txt");
    expect_text("mcsam ensemble -i prob -i prob -o e 2> err && ls e && mcsam ensemble -i prob -i prob -o e2 --json "
                "--threshold 0.8 2> err && mcsam info e/c.png e2/c.png e/v.nii.gz",
                0, "ensemble.txt");
}
