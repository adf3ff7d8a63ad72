/* dataset.json in its forms, the cases of a raw data set, nnU-Net's variables; and what must be refused. */
#include "data/io/file.h"
#include "data/nnunet/nnunet_dataset.h"
#include "tests/support/support_folder.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    test_folder_open("nnunet");
    OK(mcs_folder_make(in_folder("imagesTr")));
    OK(mcs_folder_make(in_folder("labelsTr")));
}
TestSuite(nnunet_dataset, .init = setup, .fini = test_folder_close);

static void put(const char *name)
{
    OK(mcs_file_write(in_folder(name), "x", 1));
}

static enum mcs_status parse(const char *text, struct nnunet_dataset *d)
{
    OK(mcs_file_write(in_folder("dataset.json"), text, (int64_t)strlen(text)));
    return mcs_nnunet_dataset_read(in_folder("dataset.json"), d);
}

#define CT "\"channel_names\": {\"0\": \"CT\"}"
#define AB "\"labels\": {\"background\": 0, \"a\": 1, \"b\": 2}"
#define END "\"numTraining\": 2, \"file_ending\": \".nii.gz\""

Test(nnunet_dataset, channels_labels_and_reader)
{
    struct nnunet_dataset d;
    OK(parse("{\"channel_names\": {\"0\": \"T1\", \"1\": \"CT\"}, " AB ", " END ", \"name\": \"x\", \"other\": 1}",
             &d));
    cr_assert_eq(d.n_channels, 2);
    cr_assert_str_eq(d.channels[1], "CT");
    cr_assert(d.n_labels == 3 && d.n_classes == 3 && d.n_regions == 2 && d.ignore == -1 && !d.has_regions);
    cr_assert_str_eq(d.reader, "SimpleITKIO");
    cr_assert_str_eq(d.labels[2].name, "b");
    mcs_nnunet_dataset_close(&d);
    OK(parse("{\"modality\": {\"0\": \"CT\"}, \"labels\": {\"background\": 0, \"whole\": [1, 2], \"core\": 2, "
             "\"ignore\": 3}, "
             "\"regions_class_order\": [1, 2], \"overwrite_image_reader_writer\": \"NibabelIO\", " END "}",
             &d));
    cr_assert(d.has_regions && d.n_regions == 2 && d.n_classes == 3 && d.ignore == 3);
    cr_assert(d.labels[1].is_list && d.labels[1].n == 2 && d.labels[1].values[1] == 2);
    cr_assert_str_eq(d.reader, "NibabelIO");
    mcs_nnunet_dataset_close(&d);
}

Test(nnunet_dataset, readers_of_endings)
{
    static const char *const want[][2] = {
        {".png", "NaturalImage2DIO"}, {".nii", "NibabelIO"}, {".NRRD", "SimpleITKIO"}, {".tiff", "Tiff3DIO"}};
    for (int i = 0; i < 4; i++) {
        struct nnunet_dataset d;
        char text[512];
        snprintf(text, sizeof text,
                 "{" CT ", " AB ", \"numTraining\": 1, \"file_ending\": \"%s\", \"overwrite_image_reader_writer\": "
                 "\"None\"}",
                 want[i][0]);
        OK(parse(text, &d));
        cr_assert_str_eq(d.reader, want[i][1]);
        mcs_nnunet_dataset_close(&d);
    }
}

Test(nnunet_dataset, refused)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"[]", "no JSON object"},
        {"{" AB ", " END "}", "channel_names"},
        {"{\"channel_names\": {\"1\": \"CT\"}, " AB ", " END "}", "in this order"},
        {"{\"channel_names\": {\"0\": 5}, " AB ", " END "}", "has no name"},
        {"{" CT ", " END "}", "has no labels"},
        {"{" CT ", " AB ", \"numTraining\": 2}", "file_ending"},
        {"{" CT ", " AB ", \"file_ending\": \".nii.gz\"}", "numTraining"},
        {"{" CT ", " AB ", \"numTraining\": 2, \"file_ending\": \".jpg\"}", ".jpg"},
        {"{" CT ", " AB ", " END ", \"region_class_order\": [1]}", "did you mean \"regions_class_order\""},
        {"{" CT ", \"label\": {}, " AB ", " END "}", "did you mean \"labels\""},
        {"{" CT ", \"labels\": {\"background\": 0, \"a\": 1, \"b\": 3}, " END "}", "2 is missing"},
        {"{" CT ", \"labels\": {\"a\": 1}, " END "}", "\"background\": 0 is missing"},
        {"{" CT ", \"labels\": {\"background\": 1, \"a\": 0}, " END "}", "\"background\" must be 0"},
        {"{" CT ", \"labels\": {\"background\": 0}, " END "}", "no class besides"},
        {"{" CT ", \"labels\": {\"0\": \"background\", \"1\": \"a\"}, " END "}", "nnU-Net 1"},
        {"{" CT ", \"labels\": {\"background\": 0, \"a\": 1, \"ignore\": 1}, " END "}", "highest class"},
        {"{" CT ", \"labels\": {\"background\": 0, \"a\": 1, \"ignore\": [2]}, " END "}", "not a list"},
        {"{" CT ", \"labels\": {\"background\": 0, \"a\": -1}, " END "}", "cannot be -1"},
        {"{" CT ", \"labels\": {\"background\": 0, \"a\": []}, " END "}", "0 classes"},
        {"{" CT ", \"labels\": {\"background\": 0, \"w\": [1, 2], \"c\": 2}, " END "}", "list of 2 classes"},
        {"{" CT ", \"labels\": {\"background\": 0, \"w\": [1, 2]}, \"regions_class_order\": [\"a\"], " END "}",
         "no class"},
        {"{" CT ", " AB ", " END ", \"overwrite_image_reader_writer\": \"MyIO\"}", "MyIO"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct nnunet_dataset d;
        const enum mcs_status st = parse(bad[i].text, &d);
        cr_assert_eq(st, MCS_E_DATA, "%s was accepted", bad[i].text);
        fails_with(st, MCS_E_DATA, bad[i].word);
    }
}

/* ---- cases ---- */

#define TWO "{\"channel_names\": {\"0\": \"T1\", \"1\": \"T2\"}, " AB ", " END "}"

/* Sorted by the case's name, not by the file's: '-' comes before '_'. */
Test(nnunet_dataset, cases_by_channel_suffix)
{
    static const char *const files[] = {"a_0000", "a_0001", "a-1_0000", "a-1_0001"};
    struct nnunet_dataset d;
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "imagesTr/%s.nii.gz", files[i]);
        put(name);
    }
    put("labelsTr/a.nii.gz");
    put("labelsTr/a-1.nii.gz");
    put("imagesTr/notes.txt");
    OK(parse(TWO, &d));
    OK(mcs_nnunet_dataset_list(test_folder, &d));
    cr_assert_eq(d.n_cases, 2);
    cr_assert_str_eq(d.cases[0].name, "a");
    cr_assert_eq(d.cases[0].n_images, 2);
    cr_assert_str_eq(d.cases[1].images[1], in_folder("imagesTr/a-1_0001.nii.gz"));
    cr_assert_str_eq(d.cases[1].label, in_folder("labelsTr/a-1.nii.gz"));
    mcs_nnunet_dataset_close(&d);
}

Test(nnunet_dataset, incomplete_cases)
{
    struct nnunet_dataset d;
    OK(parse(TWO, &d));
    fails_with(mcs_nnunet_dataset_list(in_folder("none"), &d), MCS_E_NOINPUT, "imagesTr");
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "no training case");
    put("imagesTr/a_0000.nii.gz");
    put("imagesTr/a_0002.nii.gz");
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "case a has no channel 1 (T2)");
    put("imagesTr/a_0001.nii.gz");
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "a channel 2");
    cr_assert_eq(remove(in_folder("imagesTr/a_0002.nii.gz")), 0);
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "case a has no label");
    put("labelsTr/a.nii.gz");
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "numTraining is 2, but there are 1");
    put("labelsTr/b.nii.gz");
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "b.nii.gz: a label without images");
    put("imagesTr/b.nii.gz");
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "_CCCC");
    mcs_nnunet_dataset_close(&d);
}

#define NAMED(label)                                                                                                   \
    "{\"channel_names\": {\"0\": \"T1\", \"1\": \"T2\"}, " AB ", \"numTraining\": 1, \"file_ending\": \".nii.gz\", "   \
    "\"dataset\": {\"z\": {\"images\": [\"x/one.nii.gz\", \"${MCS_TEST_WHERE}/two.nii.gz\"], \"label\": " label "}}}"

Test(nnunet_dataset, named_files)
{
    struct nnunet_dataset d;
    OK(mcs_folder_make(in_folder("x")));
    put("x/one.nii.gz");
    put("x/two.nii.gz");
    setenv("MCS_TEST_WHERE", in_folder("x"), 1);
    OK(parse(NAMED("\"$MCS_TEST_WHERE/two.nii.gz\""), &d));
    OK(mcs_nnunet_dataset_list(test_folder, &d));
    cr_assert_eq(d.n_cases, 1);
    cr_assert_str_eq(d.cases[0].images[0], in_folder("x/one.nii.gz"));
    cr_assert_str_eq(d.cases[0].images[1], in_folder("x/two.nii.gz"));
    cr_assert_str_eq(d.cases[0].label, in_folder("x/two.nii.gz"));
    mcs_nnunet_dataset_close(&d);
    OK(parse(NAMED("\"$MCS_TEST_UNSET/l\""), &d));
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "$MCS_TEST_UNSET/l is missing");
    mcs_nnunet_dataset_close(&d);
    OK(parse(NAMED("3"), &d));
    fails_with(mcs_nnunet_dataset_list(test_folder, &d), MCS_E_DATA, "case z needs");
    mcs_nnunet_dataset_close(&d);
}

/* ---- roots ---- */

Test(nnunet_dataset, found_by_number)
{
    static char roots[3][MCS_PATH_BYTES], name[MCS_PATH_BYTES];
    OK(mcs_folder_make(in_folder("raw/Dataset005_Liver")));
    OK(mcs_folder_make(in_folder("pre/Dataset005_Liver")));
    OK(mcs_folder_make(in_folder("pre/Dataset006_A")));
    OK(mcs_folder_make(in_folder("raw/Dataset006_B")));
    setenv("nnUNet_raw", in_folder("raw"), 1);
    unsetenv("nnUNet_results");
    OK(mcs_nnunet_root(NNUNET_RAW, NULL, roots[0]));
    OK(mcs_nnunet_root(NNUNET_PREPROCESSED, in_folder("pre"), roots[1]));
    OK(mcs_nnunet_root(NNUNET_RESULTS, NULL, roots[2]));
    cr_assert_str_eq(roots[0], in_folder("raw"));
    cr_assert_str_eq(roots[2], "");
    OK(mcs_nnunet_find("5", (const char(*)[MCS_PATH_BYTES])roots, name));
    cr_assert_str_eq(name, "Dataset005_Liver");
    OK(mcs_nnunet_find("Dataset123_Any", (const char(*)[MCS_PATH_BYTES])roots, name));
    cr_assert_str_eq(name, "Dataset123_Any");
    fails_with(mcs_nnunet_find("006", (const char(*)[MCS_PATH_BYTES])roots, name), MCS_E_DATA, "two data sets");
    fails_with(mcs_nnunet_find("7", (const char(*)[MCS_PATH_BYTES])roots, name), MCS_E_NOINPUT, "Dataset007_");
    fails_with(mcs_nnunet_find("liver", (const char(*)[MCS_PATH_BYTES])roots, name), MCS_E_USAGE, "by its number");
}
