/* Fingerprints of the tiny data sets of tests/golden/nnunet, and numpy's random numbers. */
#include "data/io/file.h"
#include "data/nnunet/nnunet_image.h"
#include "engine/base/log.h"
#include "infer/nnunet/nnunet_crop.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_json.h"
#include "train/plan/fingerprint.h"
#include "train/plan/numpy_random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define SETS MCS_SOURCE_DIR "/tests/golden/nnunet/"

static const char *const sets[] = {"Dataset001_Flat", "Dataset002_Thin", "Dataset003_Axis"};

static void setup(void)
{
    test_folder_open("fingerprint");
    mcs_log_quiet(1);
}
TestSuite(fingerprint, .init = setup, .fini = test_folder_close, .timeout = 120);

static void open_set(const char *name, struct nnunet_dataset *d)
{
    char path[512];
    snprintf(path, sizeof path, SETS "%s/dataset.json", name);
    OK(mcs_nnunet_dataset_read(path, d));
    snprintf(path, sizeof path, SETS "%s", name);
    OK(mcs_nnunet_dataset_list(path, d));
}

/* nnU-Net's mean and deviation are float32 sums in pairs of 1e8 values, each off by up to log2(1e8) / 2 roundings on
 * average: 1e-6. */
Test(fingerprint, equal_nnunetv2)
{
    json_t *golden = golden_json("nnunet/cases.json");
    for (int i = 0; i < 3; i++) {
        struct nnunet_dataset d;
        struct fingerprint f;
        json_t *got;
        open_set(sets[i], &d);
        OK(mcs_fingerprint_make(&d, &f));
        OK(mcs_fingerprint_write(in_folder("f.json"), &f));
        got = golden_json(in_folder("f.json"));
        same_json(sets[i], got, json_object_get(json_object_get(golden, sets[i]), "fingerprint"), 1e-6);
        json_decref(got);
        mcs_fingerprint_free(&f);
        mcs_nnunet_dataset_close(&d);
    }
    json_decref(golden);
}

Test(fingerprint, numpy_random_numbers)
{
    static const int64_t below[] = {1, 2, 7, 1000, ((int64_t)1 << 31) - 1};
    struct weight_file *golden = golden_open("nnunet_resample.safetensors");
    struct numpy_random r;
    int64_t n, permutation[700];
    float *want = golden_values(golden, "random.below", &n);
    mcs_numpy_seed(&r, 1234);
    for (int i = 0; i < 25; i++) cr_assert_eq((float)mcs_numpy_below(&r, below[i / 5] - 1), want[i], "draw %d", i);
    free(want);
    want = golden_values(golden, "random.choice", &n);
    mcs_numpy_permutation(&r, permutation, 700);
    for (int i = 0; i < 700; i++) cr_assert_eq(permutation[i], (int64_t)want[i], "element %d", i);
    free(want);
    want = golden_values(golden, "random.bits", &n);
    for (int i = 0; i < 4; i++)
        cr_assert_eq((float)mcs_numpy_below(&r, ((int64_t)1 << 40) - 1), want[i], "wide draw %d", i);
    free(want);
    mcs_weight_file_close(golden);
    /* Counting draws the same numbers, and leaves the same state. */
    struct numpy_random a, b;
    uint32_t counts[100] = {0};
    mcs_numpy_seed(&a, 7);
    mcs_numpy_seed(&b, 7);
    for (int i = 0; i < 5; i++) cr_assert_eq(mcs_numpy_bits(&a), mcs_numpy_bits(&b));
    mcs_numpy_count(&a, 3000, 99, counts);
    for (int i = 0; i < 3000; i++) counts[mcs_numpy_below(&b, 99)]--;
    for (int i = 0; i < 100; i++) cr_assert_eq(counts[i], 0);
    cr_assert_eq(mcs_numpy_bits(&a), mcs_numpy_bits(&b));
    mcs_numpy_count(&a, 3, 0, counts);
    cr_assert_eq(counts[0], 3);
}

/* A ring of ones in a plane of zeros of a 3-D image: the hole of 3 x 3 in the middle slice is closed above and below.
 */
Test(fingerprint, crop_and_holes)
{
    enum { Z = 5, Y = 7, X = 8, N = Z * Y * X };
    static float v[2 * N];
    static uint8_t inside[N];
    const int64_t shape[3] = {Z, Y, X};
    struct nnunet_box box;
    cr_assert_eq(mcs_nnunet_box(v, 2, shape, &box), 0);
    for (int z = 1; z < 4; z++)
        for (int y = 1; y < 6; y++)
            for (int x = 2; x < 7; x++)
                if (z != 2 || y == 1 || y == 5 || x == 2 || x == 6) v[(y % 2) * N + (z * Y + y) * X + x] = -1;
    cr_assert_eq(mcs_nnunet_box(v, 2, shape, &box), 1);
    cr_assert_eq(memcmp(&box, &(struct nnunet_box){{1, 1, 2}, {4, 6, 7}}, sizeof box), 0);
    OK(mcs_nnunet_inside(v, 2, shape, inside));
    int n = 0;
    for (int i = 0; i < N; i++) n += inside[i];
    cr_assert_eq(n, 75, "a closed box of 3 x 5 x 5 has %d voxels", n);
    v[(1 * Y + 3) * X + 4] = v[N + (1 * Y + 3) * X + 4] = 0; /* opened */
    OK(mcs_nnunet_inside(v, 2, shape, inside));
    n = 0;
    for (int i = 0; i < N; i++) n += inside[i];
    cr_assert_eq(n, 65);
    mcs_nnunet_crop(v, 2, shape, &box, v);
    cr_assert_eq(v[1], 0);   /* channel 0 has even rows: row 1 is of channel 1 */
    cr_assert_eq(v[75], -1); /* the first voxel of channel 1 */
}

/* ---- refused ---- */

static void put_set(const char *line)
{
    char text[1024];
    snprintf(text, sizeof text, "cd %s && rm -rf d && cp -r " SETS "Dataset002_Thin d && %s", test_folder, line);
    cr_assert_eq(system(text), 0, "%s", text);
}

static void refused(const char *line, const char *word)
{
    struct nnunet_dataset d;
    struct fingerprint f;
    put_set(line);
    OK(mcs_nnunet_dataset_read(in_folder("d/dataset.json"), &d));
    OK(mcs_nnunet_dataset_list(in_folder("d"), &d));
    fails_with(mcs_fingerprint_make(&d, &f), MCS_E_DATA, word);
    mcs_nnunet_dataset_close(&d);
}

Test(fingerprint, cases_that_do_not_fit)
{
    refused("cp d/imagesTr/c1_0000.nii.gz d/imagesTr/c0_0001.nii.gz", "c0_0001.nii.gz is");
    refused("cp d/labelsTr/c1.nii.gz d/labelsTr/c0.nii.gz", "but its image");
    refused("cp d/imagesTr/c0_0000.nii.gz d/labelsTr/c0.nii.gz", "names the classes 0 to 3");
    refused("head -c 200 d/imagesTr/c0_0000.nii.gz >x; mv x d/imagesTr/c0_0000.nii.gz", "c0_0000.nii.gz");
    refused("rm d/imagesTr/c0_0001.nii.gz", "1 channels, but");
    refused("sed -i 's/\"ignore\": 3/\"ignore\": 3, \"more\": [0]/; s/1, *$/1,/' d/dataset.json && "
            "sed -i 's/\"file_ending\"/\"overwrite_image_reader_writer\": \"NibabelIOWithReorient\", \"file_ending\"/' "
            "d/dataset.json",
            "NibabelIOWithReorient is not supported");
}
