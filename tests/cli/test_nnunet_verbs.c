/* mcsam plan and mcsam preprocess on the tiny data sets of tests/golden/nnunet. */
#include "tests/support/support_json.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>

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
