/* The demo's data as files: the same bytes with any number of threads; missing and damaged atlases, bad configurations
 * and folders are refused by name. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/lesions/demo_write.h"
#include "tests/support/support_demo_data.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(demo, .init = demo_data_open, .fini = demo_data_close);

/* ---- files ---- */

static void empty(const char *folder)
{
    static const char *const subs[] = {"images", "masks", "masks_each", "."};
    for (int k = 0; k < 4; k++) {
        struct file_list list;
        char path[1024], sub[512];
        snprintf(sub, sizeof sub, "%s/%s", folder, subs[k]);
        if (mcs_folder_list(sub, NULL, &list) != MCS_OK) continue;
        for (int i = 0; i < list.n; i++) {
            snprintf(path, sizeof path, "%s/%s", sub, list.names[i]);
            unlink(path);
        }
        mcs_file_list_free(&list);
        if (k < 3) rmdir(sub);
    }
    rmdir(folder);
    mcs_error_clear();
}

Test(demo, written_twice_with_other_threads_is_the_same)
{
    static const char *const files[] = {"images/test_00003.png",
                                        "images/test_00011.png",
                                        "masks/test_00004.png",
                                        "pairs.csv",
                                        "prompts.json",
                                        "attributes.json",
                                        "vocab.txt",
                                        "demo.json"};
    char folder[2][64] = {"/tmp/mcs_demo_a_XXXXXX", "/tmp/mcs_demo_b_XXXXXX"}, path[256], hex[2][65];
    struct image img;
    const struct demo_write what = {.split = DEMO_TEST, .kind = DEMO_MIXED, .seed = 9, .first_id = 0, .n = 12};
    for (int k = 0; k < 2; k++) {
        cr_assert(mkdtemp(folder[k]));
        omp_set_num_threads(1 + k);
        cr_assert_eq(mcs_demo_write(folder[k], &demo_data_atlas, &demo_data_config, &what), MCS_OK, "%s",
                     mcs_error_message());
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/%s", folder[k], files[i]);
            cr_assert_eq(mcs_file_sha256(path, hex[k]), MCS_OK, "%s", path);
        }
        cr_assert_str_eq(hex[0], hex[1]);
    }
    struct demo_sample *s = malloc(sizeof *s);
    mcs_demo_lesion_sample(&demo_data_atlas, &demo_data_config, DEMO_TEST, DEMO_MIXED, 9, 4, s);
    snprintf(path, sizeof path, "%s/masks/test_00004.png", folder[0]);
    cr_assert_eq(mcs_image_read(path, 1, &img), MCS_OK);
    cr_assert(img.width == DEMO_SIZE && img.height == DEMO_SIZE);
    for (int i = 0; i < DEMO_PIXELS; i++)
        cr_assert_eq(img.pixels[i], s->truth[0][i] | s->truth[1][i] | s->truth[2][i] ? 255 : 0);
    mcs_image_free(&img);
    const struct demo_cell cell = {s->image, {s->truth[0], s->truth[1]}};
    snprintf(path, sizeof path, "%s/sheet.png", folder[0]);
    cr_assert_eq(mcs_demo_sheet(path, &cell, 1, 1), MCS_OK);
    free(s);
    empty(folder[0]);
    empty(folder[1]);
}

/* ---- bad input ---- */

Test(demo, what_is_missing_is_named)
{
    struct demo_atlas other;
    cr_assert_eq(mcs_demo_atlas_load("/nowhere", &other), MCS_E_NOINPUT);
    cr_assert(strstr(mcs_error_message(), "mricron-data") && strstr(mcs_error_message(), "/nowhere"));
}

Test(demo, damaged_atlas_is_refused)
{
    char folder[] = "/tmp/mcs_demo_bad_XXXXXX", path[256];
    struct demo_atlas other;
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/ch2.nii.gz", folder);
    cr_assert_eq(mcs_file_write(path, "no scan", 7), MCS_OK);
    cr_assert_eq(mcs_demo_atlas_load(folder, &other), MCS_E_NOINPUT, "no names there"); /* aal.nii.txt */
    mcs_error_clear();
    snprintf(path, sizeof path, "%s/aal.nii.txt", folder);
    cr_assert_eq(mcs_file_write(path, "1 Precentral_L 2001\n1 Precentral_R 2002\n", 40), MCS_OK);
    cr_assert_eq(mcs_demo_atlas_load(folder, &other), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "line 2"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_assert_eq(mcs_file_write(path, "Precentral_L\n", 13), MCS_OK);
    cr_assert_eq(mcs_demo_atlas_load(folder, &other), MCS_E_DATA);
    mcs_error_clear();
    char *names;
    int64_t n;
    cr_assert_eq(mcs_file_read("/usr/share/mricron/templates/aal.nii.txt", 1 << 20, &names, &n), MCS_OK);
    cr_assert_eq(mcs_file_write(path, names, n), MCS_OK);
    cr_assert_eq(mcs_demo_atlas_load(folder, &other), MCS_E_DATA); /* ch2.nii.gz is no volume */
    cr_assert(strstr(mcs_error_message(), "ch2.nii.gz"), "%s", mcs_error_message());
    free(names);
    empty(folder);
}

Test(demo, bad_config_is_refused)
{
    char path[] = "/tmp/mcs_demo_config_XXXXXX";
    struct demo_config c = demo_data_config;
    static const char *const bad[] = {"lesion:\n  small-lwo: 5\n", "lesion:\n  small-low: 9\n",
                                      "share:\n  without: 1.5\n", "share:\n  two: 0.7\n  three: 0.6\n",
                                      "image:\n  noise-low: many\n"};
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(mcs_file_write(path, bad[i], (int64_t)strlen(bad[i])), MCS_OK);
        cr_assert_eq(demo_data_read_config(path, &c), MCS_E_USAGE, "%s: %s", bad[i], mcs_error_message());
        if (i == 0) cr_assert(strstr(mcs_error_message(), "small-low"), "%s", mcs_error_message());
        cr_assert_eq(memcmp(&c, &demo_data_config, sizeof c), 0);
        mcs_error_clear();
    }
    unlink(path);
    cr_assert_eq(demo_data_read_config(path, &c), MCS_E_NOINPUT);
}

Test(demo, a_file_in_the_folders_place_is_an_error)
{
    char path[] = "/tmp/mcs_demo_file_XXXXXX";
    const struct demo_write what = {.split = DEMO_TEST, .kind = DEMO_SOME, .seed = 1, .n = 2};
    close(mkstemp(path));
    cr_assert_eq(mcs_demo_write(path, &demo_data_atlas, &demo_data_config, &what), MCS_E_IO);
    cr_assert(strstr(mcs_error_message(), path));
    unlink(path);
}

Test(demo, unseen_forms_are_refused_outside_the_test_split)
{
    const struct demo_write what = {.split = DEMO_VALIDATION, .kind = DEMO_UNSEEN, .seed = 1, .n = 1};
    cr_assert_eq(mcs_demo_write("/tmp/mcs_demo_never_made", &demo_data_atlas, &demo_data_config, &what), MCS_E_USAGE);
    cr_assert(strstr(mcs_error_message(), "validation"), "%s", mcs_error_message());
    cr_assert_neq(access("/tmp/mcs_demo_never_made", F_OK), 0);
}
