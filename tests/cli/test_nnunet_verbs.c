/* mcsam plan and mcsam preprocess on the tiny data sets of tests/golden/nnunet. */
#include "data/io/store.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_json.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SETS MCS_SOURCE_DIR "/tests/golden/nnunet"

static void setup(void)
{
    shell_open(MCS_BINARY, "");
}
TestSuite(nnunet_verbs, .init = setup, .fini = shell_close, .timeout = 300);

/* Everything of the plans but the intensities, which are means of float32 in nnU-Net (test_fingerprint), is exact; with
 * them within 1e-6. */
Test(nnunet_verbs, plan_equals_nnunetv2)
{
    json_t *golden = golden_json("nnunet/cases.json"), *plans;
    expect("nnUNet_raw=" SETS " nnUNet_preprocessed=p mcsam plan -d 2", 0,
           "nnUNetPlans 3d_fullres: batch 2, patch 5x10x10, 2 levels");
    plans = golden_json(shell_path("p/Dataset002_Thin/nnUNetPlans.json"));
    same_json("plans", plans, json_object_get(json_object_get(golden, "Dataset002_Thin"), "plans"), 1e-6);
    json_decref(plans);
    json_decref(golden);
    expect("cmp " SETS "/Dataset002_Thin/dataset.json p/Dataset002_Thin/dataset.json", 0, "");
    /* The fingerprint is there: no image is read. */
    expect("mkdir raw && cp -r " SETS "/Dataset002_Thin raw && for f in raw/*/*/*.gz; do : >$f; done", 0, "");
    expect("mcsam plan -d 002 --raw raw --preprocessed p -pl nnUNetPlannerResEncL --json", 0,
           "{\"dataset\": \"Dataset002_Thin\", \"plans\": \"nnUNetResEncUNetLPlans\", \"configurations\": [\"2d\", "
           "\"3d_fullres\"]}");
    expect("mcsam plan -d 002 --raw raw --preprocessed p --clean", 65, "c0_0000.nii.gz");
    expect("mcsam plan -d 2 --raw raw --preprocessed p -overwrite_target_spacing 4,1,0.5 --plans-name mine", 0,
           "mine 2d: batch");
    expect("grep -c mine_3d_fullres p/Dataset002_Thin/mine.json", 0, "1");
}

Test(nnunet_verbs, plan_refuses)
{
    expect("unset nnUNet_raw; mcsam plan -d 2 --preprocessed p", 2, "nnUNet_raw");
    expect("unset nnUNet_preprocessed; mcsam plan -d 2 --raw " SETS, 2, "nnUNet_preprocessed");
    expect("mcsam plan -d 9 --raw " SETS " --preprocessed p", 66, "Dataset009_");
    expect("mcsam plan -d 2 --raw " SETS " --preprocessed p --planner Mine", 2, "nnUNetPlannerResEncXL");
    expect("mcsam plan -d 2 --raw " SETS " --preprocessed p --spacing 1,2", 2, "three numbers");
    expect("mcsam plan -d 2 --raw " SETS " --preprocessed p --plans-name a/b", 2, "cannot name a file");
    expect("mkdir -p p/Dataset002_Thin && echo '{}' >p/Dataset002_Thin/dataset_fingerprint.json && "
           "mcsam plan -d 2 --raw " SETS " --preprocessed p",
           65, "dataset_fingerprint.json: want spacings");
}

/* ---- preprocess ---- */

/* A fingerprint takes seconds: the golden one, and its plans. */
static void planned(const char *set)
{
    char line[512];
    json_t *golden = golden_json("nnunet/cases.json"), *one = json_object_get(golden, set);
    static const char *const names[][2] = {{"fingerprint", "dataset_fingerprint"}, {"plans", "nnUNetPlans"}};
    snprintf(line, sizeof line, "mkdir -p p/%s && cp " SETS "/%s/dataset.json p/%s", set, set, set);
    expect(line, 0, "");
    for (int i = 0; i < 2; i++) {
        snprintf(line, sizeof line, "p/%s/%s.json", set, names[i][1]);
        cr_assert_eq(json_dump_file(json_object_get(one, names[i][0]), shell_path(line), JSON_REAL_PRECISION(17)), 0);
    }
    json_decref(golden);
}

#define PREPROCESS "mcsam preprocess --raw " SETS " --preprocessed p "

Test(nnunet_verbs, preprocess_to_hdf5)
{
    struct weight_file *golden = golden_open("nnunet/cases.safetensors");
    struct store *s;
    struct store_info info;
    int64_t n;
    float *want = golden_values(golden, "Dataset002_Thin/3d_fullres/c2/data", &n), *got = malloc((size_t)n * 4);
    planned("Dataset002_Thin");
    expect(PREPROCESS "-d 2", 0, "3 cases of 2 configurations: 6 made, 0 were there");
    cr_assert_eq(mcs_store_open(shell_path("p/Dataset002_Thin/nnUNetPlans_3d_fullres/c2.h5"), &s), MCS_OK, "%s",
                 mcs_error_message());
    cr_assert_eq(mcs_store_get_info(s, "data", &info), MCS_OK);
    cr_assert_eq(info.n_values, n);
    cr_assert_eq(mcs_store_get(s, "data", MCS_ARRAY_F32, info.nd, info.dims, got), MCS_OK);
    /* as test_nnunet_preprocess */
    for (int64_t i = 0; i < n; i++) cr_assert(fabsf(got[i] - want[i]) <= 2e-6f * fmaxf(1, fabsf(want[i])));
    cr_assert_eq(mcs_store_get_info(s, "locations/-1_0_1_2", &info), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_get_info(s, "box", &info), MCS_OK);
    mcs_store_close(s);
    mcs_weight_file_close(golden);
    free(want);
    free(got);
    expect("cmp " SETS "/Dataset002_Thin/labelsTr/c1.nii.gz p/Dataset002_Thin/gt_segmentations/c1.nii.gz", 0, "");
    expect("rm p/Dataset002_Thin/nnUNetPlans_2d/c1.h5", 0, "");
    expect(PREPROCESS "-d Dataset002_Thin -c 2d --threads 1", 0, "2 were there");
    expect("rm p/Dataset002_Thin/nnUNetPlans_2d/c1.h5", 0, "");
    expect(PREPROCESS "-d 2 --json", 0, "{\"cases\": 3, \"configurations\": 2, \"made\": 1, \"there\": 5}");
    /* Other plans of the same name: the cases are made again. */
    expect("sed -i 's/\"order\": 3/\"order\": 1/' p/Dataset002_Thin/nnUNetPlans.json", 0, "");
    expect(PREPROCESS "-d 2 -c 2d", 0, "3 made");
}

Test(nnunet_verbs, preprocess_for_nnunetv2)
{
    planned("Dataset001_Flat");
    expect(PREPROCESS "-d 1 -c 2d --format npz", 0, "1 configurations: 3 made");
    expect("ls -A p/Dataset001_Flat/nnUNetPlans_2d | tr '\\n' ' '", 0, "c0.npz c0.pkl c1.npz c1.pkl c2.npz c2.pkl ");
    expect(PREPROCESS "-d 1 -c 2d --format npz", 0, "0 made, 3 were there");
    expect(PREPROCESS "-d 1 -c 2d", 65, "another format");
}

Test(nnunet_verbs, preprocess_refuses)
{
    expect(PREPROCESS "-d 2", 66, "mcsam plan -d 2");
    planned("Dataset002_Thin");
    expect(PREPROCESS "-d 2 -p mine", 66, "mine.json: no such plans");
    expect(PREPROCESS "-d 2 -c 3d_lowres", 65, "has no configuration 3d_lowres; it has 2d, 3d_fullres");
    expect(PREPROCESS "-d 2 --dry-run", 0, "3d_fullres: 3 cases to p/Dataset002_Thin/nnUNetPlans_3d_fullres");
    expect("test -e p/Dataset002_Thin/nnUNetPlans_2d", 1, "");
    expect("mkdir p/Dataset002_Thin/nnUNetPlans_2d && touch p/Dataset002_Thin/nnUNetPlans_2d/old.h5", 0, "");
    expect(PREPROCESS "-d 2", 65, "old.h5 is no case of the data set any more");
    expect("rm -r p/Dataset002_Thin/nnUNetPlans_2d && mv p/Dataset002_Thin/dataset.json x && "
           "sed 's/whole/all/' x >p/Dataset002_Thin/dataset.json",
           0, "");
    expect(PREPROCESS "-d 2", 65, "changed after planning");
    expect("mv x p/Dataset002_Thin/dataset.json && mkdir raw && cp -r " SETS "/Dataset002_Thin raw && cd raw/* && "
           "for f in imagesTr/c0_0000 imagesTr/c0_0001 labelsTr/c0; do cp $(echo $f | sed s/c0/c1/).nii.gz $f.nii.gz; "
           "done",
           0, "");
    expect("mcsam preprocess --raw raw --preprocessed p -d 2", 65, "case c0 has another size or spacing");
    expect("cd raw/* && rm */c2* && sed -i 's/numTraining\": 3/numTraining\": 2/' dataset.json && cp dataset.json "
           "../../p/Dataset002_Thin",
           0, "");
    expect("mcsam preprocess --raw raw --preprocessed p -d 2", 65, "has 3 cases, the data set 2");
}

/* Killed at ten moments, the same command ends with the same files. */
Test(nnunet_verbs, preprocess_killed)
{
    planned("Dataset003_Axis");
    expect("cp -r p q", 0, "");
    expect(PREPROCESS "-d 3", 0, "6 made");
    expect("for i in 01 03 05 07 09 11 13 15 17 20; do timeout -s KILL 0.$i " MCS_BINARY " preprocess --raw " SETS
           " --preprocessed q -d 3; done; true",
           0, "");
    expect("mcsam preprocess --raw " SETS " --preprocessed q -d 3", 0, "2 configurations");
    expect("diff -r -x .mcsam.record p q", 0, "");
}

/* A file that cannot be written whole is not there, and the run goes on where it stopped. */
Test(nnunet_verbs, preprocess_on_a_full_disk)
{
    static const char *const formats[][2] = {{"npz", "c0.pkl"}, {"h5", "c0.h5"}};
    planned("Dataset002_Thin");
    for (int i = 0; i < 2; i++) {
        char line[512];
        snprintf(line, sizeof line,
                 "(ulimit -f 3; mcsam preprocess --raw " SETS " --preprocessed p -d 2 -c 2d --format %s)",
                 formats[i][0]);
        expect(line, 74, formats[i][1]);
        snprintf(line, sizeof line, "test -e p/Dataset002_Thin/nnUNetPlans_2d/%s", formats[i][1]);
        expect(line, 1, "");
        snprintf(line, sizeof line,
                 "mcsam preprocess --raw " SETS " --preprocessed p -d 2 -c 2d --format %s && rm -r p/*/nnUNetPlans_2d",
                 formats[i][0]);
        expect(line, 0, "3 made");
    }
}
