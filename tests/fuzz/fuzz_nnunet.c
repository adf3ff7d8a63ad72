#include "infer/nnunet/nnunet_plans.h"
#include "tests/fuzz/support_fuzz.h"
#include "train/plan/planner.h"

#include <string.h>

/* The input is dataset.json up to the first NUL, then nnUNetPlans.json, after another NUL dataset_fingerprint.json;
 * missing ones are empty. Data set and fingerprint together are planned. */
FUZZ(nnunet)
{
    const uint8_t *part[3] = {data, data + size, data + size};
    size_t bytes[3] = {size, 0, 0};
    struct nnunet_dataset d;
    struct nnunet_configuration c;
    struct fingerprint f;
    for (int i = 0; i < 2; i++) {
        const uint8_t *nul = bytes[i] ? memchr(part[i], 0, bytes[i]) : NULL;
        if (!nul) break;
        part[i + 1] = nul + 1;
        bytes[i + 1] = (size_t)(part[i] + bytes[i] - part[i + 1]);
        bytes[i] = (size_t)(nul - part[i]);
    }
    if (fuzz_ended(mcs_nnunet_configuration_read(fuzz_file(part[1], bytes[1], "plans.json"), "3d_fullres", &c)))
        FUZZ_REQUIRE((c.n_axes == 2 || c.n_axes == 3) && c.n_channels >= 1, "%d axes", c.n_axes);
    if (!fuzz_ended(mcs_nnunet_dataset_read(fuzz_file(part[0], bytes[0], "dataset.json"), &d))) return;
    FUZZ_REQUIRE(d.n_channels >= 1 && d.n_classes >= 2 && d.n_labels >= 2, "%d classes", d.n_classes);
    if (fuzz_ended(mcs_fingerprint_read(fuzz_file(part[2], bytes[2], "fingerprint.json"), &f))) {
        struct experiment_plan p;
        const struct planner_options o = {.planner = mcs_planner_find(""), .dataset_name = "x"};
        if (fuzz_ended(mcs_plan_experiment(&d, &f, &o, &p)))
            FUZZ_REQUIRE(p.configurations[PLAN_2D].batch >= 2, "batch %lld",
                         (long long)p.configurations[PLAN_2D].batch);
        mcs_fingerprint_free(&f);
    }
    mcs_nnunet_dataset_close(&d);
}
