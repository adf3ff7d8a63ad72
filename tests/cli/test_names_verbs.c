/* Whole verbs on images with arbitrary names: every case has its files under its name, a name that is too long costs
 * only its case. Limits of the process: files and memory. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "infer/cases.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_names.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

TestSuite(names, .init = names_open, .fini = shell_close, .timeout = 120);

/* ---- whole verbs ---- */

static void fill_folder(void)
{
    mkdir(names_path("%s", "in"), 0777);
    names_put_image("in/%s.png", "plain");
    names_put_image("in/%s.png", NAMES_ODD);
    names_put_image("in/%s.png", "=cmd");
    names_put_image("in/%s.png", "\xc3");
}

static int n_files(const char *name, const char *ending)
{
    struct file_list l;
    OK(mcs_folder_list(names_path("%s", name), ending, &l));
    const int n = l.n;
    mcs_file_list_free(&l);
    return n;
}

/* 255 bytes: STEM.h5; its mask STEM.png would have one more. */
static const char *long_h5(void)
{
    static char name[256];
    memset(name, 'n', 252);
    memcpy(name + 252, ".h5", 4);
    return name;
}

Test(names, coarse_and_sam)
{
    json_t *root;
    fill_folder();
    /* not an HDF5 file, but the name is checked first */
    OK(mcs_file_write(names_path("in/%s", long_h5()), "x", 1));
    expect("mcsam coarse -i in -o out", 3, "1 of 5 cases failed");
    cr_expect_eq(n_files("out", ".png"), 4);
    cr_expect(strstr(names_text("out/failures.csv"), "the name is too long"), "%s", names_text("out/failures.csv"));
    OK(mcs_json_read(names_path("%s", "out/boxes.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "cases")), 4);
    json_decref(root);
    cr_expect_not(names_raw_control(shell_output), "%s", shell_output);
}

Test(names, evaluate)
{
    fill_folder();
    expect("cp -r in ref && rm -- ref/=cmd.png && mcsam evaluate -i in -r ref -o out", 3, "");
    const char *csv = names_text("out/cases.csv");
    cr_expect(strstr(csv, "\n\"'-o\x1b[31m\n\"\",\x7f\xc2\x9b\\xff\\xfeé\","), "%s", csv);
    cr_expect(strstr(csv, "\n\\xc3,"), "%s", csv);
    cr_expect(strstr(names_text("out/failures.csv"), "\n'=cmd,"), "%s", names_text("out/failures.csv"));
    json_t *root;
    OK(mcs_json_read(names_path("%s", "out/summary.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "metric_per_case")), 3);
    cr_expect_eq(json_array_size(json_object_get(root, "failures")), 1);
    const json_t *last = json_array_get(json_object_get(root, "metric_per_case"), 2);
    cr_expect(strstr(json_string_value(json_object_get(last, "prediction_file")), "\\xc3.png"));
    json_decref(root);
}

/* The longest name of an image that the file system allows. */
static const char *long_png(void)
{
    static char name[256];
    memset(name, 'n', 251);
    memcpy(name + 251, ".png", 5);
    return name;
}

static void make_models(void)
{
    struct device d;
    struct sam_model m;
    const struct sam_config config = tiny_sam_config();
    OK(mcs_folder_make(names_path("%s", "clip")));
    tiny_clip_model(names_path("%s", "clip"));
    OK(mcs_cpu_open(1, &d));
    OK(mcs_sam_model_new(&config, 2, &d, &m));
    OK(mcs_sam_model_save(&m, names_path("%s", "sam"), 0, NULL));
    mcs_sam_model_close(&m);
    mcs_cpu_close(&d);
}

/* Saliency, coarse masks and SAM, one after the other and combined: every image has its mask, under its name. */
Test(names, from_text_to_mask)
{
    json_t *root;
    make_models();
    fill_folder();
    names_put_image("in/%.251s.png", long_png());
    expect("mcsam saliency -m clip -i in --text lesion --steps 2 -o sal && mcsam coarse -i sal -o coa --min-confidence "
           "0 && "
           "mcsam sam -m sam -i in --prompts-from coa/boxes.json -o msk",
           0, "5 masks");
    cr_expect_eq(n_files("coa", ".png"), 5);
    cr_expect_eq(n_files("msk", ".png"), 5);
    OK(mcs_json_read(names_path("%s", "msk/sam.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "cases")), 5);
    json_decref(root);
    expect("mcsam segment --clip clip --sam sam -i in --text lesion --steps 2 --min-confidence 0 --keep-stages -o seg",
           0, "5 cases");
    OK(mcs_json_read(names_path("%s", "seg/summary.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "cases")), 5);
    for (size_t i = 0; i < 5; i++) {
        struct arena a = {0};
        const json_t *one = json_array_get(json_object_get(root, "cases"), i);
        const char *image = mcs_json_name(&a, json_string_value(json_object_get(one, "image")));
        const char *mask = mcs_json_name(&a, json_string_value(json_object_get(one, "mask")));
        cr_assert(image && mask && json_is_string(json_object_get(one, "text")));
        cr_expect(mcs_file_exists(names_path("in/%s", image)) && mcs_file_exists(names_path("seg/%s", mask)));
        mcs_arena_free(&a);
    }
    json_decref(root);
    expect("mcsam embed -m clip --images in -o e.h5", 0, "5 images");
    cr_expect_not(names_raw_control(shell_output), "%s", shell_output);
}

/* A volume NAME.nii of 255 bytes, whose mask NAME.nii.gz would have 258: that case fails, the others are processed. */
Test(names, a_volume_with_a_long_name)
{
    make_models();
    fill_folder();
    expect("cp " MCS_SOURCE_DIR
           "/tests/cli/test_names.c in/$(printf '%0251d' 0).nii; mcsam segment --clip clip --sam sam -i in "
           "--text lesion --steps 2 --min-confidence 0 -o seg",
           3, "1 of 5 cases failed");
    cr_expect_eq(n_files("seg", ".png"), 4);
    cr_expect(strstr(names_text("seg/failures.csv"), "258 bytes with \"\".nii.gz\"\", 255 are allowed"), "%s",
              names_text("seg/failures.csv"));
}

/* With --uncertainty a case also has files STEM_entropy.png, whose name is too long for one case. */
Test(names, predict)
{
    tiny_masks(names_path("%s", "data"), 4);
    fill_folder();
    names_put_image("in/%.251s.png", long_png());
    expect(
        "mcsam train -i data/images -l data/labels -o run --patch 16x16 --stages 2 --features 4 --batch 2 --epochs 2 "
        "--iterations 1 --cycles 2 --checkpoints 1 --quiet && mcsam predict -m run -i in -o out",
        0, "5 cases");
    cr_expect_eq(n_files("out", ".png"), 5);
    expect("mcsam predict -m run -i in -o two --uncertainty", 3, "1 of 5 cases failed");
    cr_expect_eq(n_files("two", ".png"), 4);
    cr_expect_eq(n_files("two/uncertainty", ".png"), 4);
    cr_expect(strstr(names_text("two/failures.csv"), "the name is too long"), "%s", names_text("two/failures.csv"));
    cr_expect(strstr(names_text("two/uncertainty/uncertainty.csv"), "\n'=cmd,"), "%s",
              names_text("two/uncertainty/uncertainty.csv"));
}

Test(names, what_a_file_system_takes)
{
    static char deep[4000];
    OK(mcs_case_name_check(names_folder, long_png(), ""));
    cr_expect_eq(mcs_case_name_check(names_folder, long_png(), "x"), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "256 bytes with \"x\", 255 are allowed"), "%s", mcs_error_message());
    mcs_error_clear();
    memset(deep, '/', sizeof deep - 1);
    OK(mcs_case_name_check(deep, long_png() + 255 - 91, ".png")); /* 3999 + 1 + 91 + 4 = 4095 */
    cr_expect_eq(mcs_case_name_check(deep, long_png() + 255 - 92, ".png"), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "4096 bytes, 4095 are allowed"), "%s", mcs_error_message());
    mcs_error_clear();
}

/* ---- limits of the process ---- */

/* A limit on the size of files never fails silently: exit code 74, the reason, the old file unchanged. */
Test(names, limit_on_file_size)
{
    fill_folder();
    expect("cp -r in ref && mcsam evaluate -i in -r ref -o out && cp out/summary.json old", 0, "");
    /* ./run coverage: counts cut short must not be merged with the others */
    expect("export GCOV_PREFIX=$PWD; ulimit -f 1; mcsam evaluate -i in -r ref -o out", 74,
           "files may have 512 bytes here (ulimit -f)");
    expect("cmp out/summary.json old && ls -a out | grep -c mcsam", 1, "0");
}

#ifndef MCS_SANITIZE /* its shadow memory takes terabytes of address space */
Test(names, limit_on_memory)
{
    make_models();
    fill_folder();
    const char *line = MCS_BINARY " saliency -m clip -i in --text lesion --steps 2 -o sal";
    static char with[1024];
    snprintf(with, sizeof with, "ulimit -v 130000; %s --threads 1", line);
    expect(with, 1, "are needed to start; raise it");
    snprintf(with, sizeof with, "ulimit -v 190000; %s --threads 16", line);
    expect(with, 1, "or use --threads ");
    snprintf(with, sizeof with, "ulimit -v 190000; %s --threads 2", line);
    expect(with, 0, "4 maps");
    snprintf(with, sizeof with, "ulimit -d 20000; %s --threads 1", line);
    expect(with, 1, "ulimit -d");
}
#endif
