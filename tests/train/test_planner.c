/* Experiment planning: every plan of tests/golden/make_nnunet_plans.py, key by key; files; what cannot be planned. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_json.h"
#include "train/plan/planner.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* Spacings come from the same sums in the same order; what differs are pow and the decimal text: a few units of 2^-53.
 */
static const double TOLERANCE = 1e-12;

static json_t *golden;

static void setup(void)
{
    test_folder_open("planner");
    golden = golden_json("nnunet_plans.json.gz");
}
static void teardown(void)
{
    json_decref(golden);
    test_folder_close();
}
TestSuite(planner, .init = setup, .fini = teardown, .timeout = 60);

/* dataset.json and fingerprint of the golden data set `name`, through files. */
static void read_data(const char *name, struct nnunet_dataset *d, struct fingerprint *f)
{
    const json_t *data = json_object_get(json_object_get(golden, "data"), name);
    cr_assert(data, "no data %s", name);
    OK(mcs_json_write(json_incref(json_object_get(data, "dataset")), 0, "%s", in_folder("dataset.json")));
    OK(mcs_json_write(json_incref(json_object_get(data, "fingerprint")), JSON_REAL_PRECISION(17), "%s",
                      in_folder("fingerprint.json")));
    OK(mcs_nnunet_dataset_read(in_folder("dataset.json"), d));
    OK(mcs_fingerprint_read(in_folder("fingerprint.json"), f));
}

static void close_data(struct nnunet_dataset *d, struct fingerprint *f)
{
    mcs_nnunet_dataset_close(d);
    mcs_fingerprint_free(f);
}

static struct planner_options options_of(const json_t *run, double spacing[3])
{
    const json_t *o = json_object_get(run, "options"), *wanted = json_object_get(o, "overwrite_target_spacing");
    struct planner_options options = {.planner = mcs_planner_find(json_string_value(json_object_get(run, "planner"))),
                                      .plans_name = json_string_value(json_object_get(o, "plans_name")),
                                      .gpu_memory = json_number_value(json_object_get(o, "gpu_memory_target_in_gb")),
                                      .dataset_name = "Dataset001_Made"};
    for (int i = 0; wanted && i < 3; i++) spacing[i] = json_number_value(json_array_get(wanted, (size_t)i));
    if (wanted) options.spacing = spacing;
    cr_assert(options.planner);
    return options;
}

Test(planner, plans_equal_nnunetv2)
{
    const json_t *run, *runs = json_object_get(golden, "runs");
    size_t i;
    cr_assert_gt(json_array_size(runs), 40);
    json_array_foreach(runs, i, run)
    {
        const char *name = json_string_value(json_object_get(run, "data"));
        char where[128];
        double spacing[3];
        struct nnunet_dataset d;
        struct fingerprint f;
        struct experiment_plan p;
        const struct planner_options o = options_of(run, spacing);
        read_data(name, &d, &f);
        OK(mcs_plan_experiment(&d, &f, &o, &p));
        json_t *plans = mcs_plans_json(&d, &f, &o, &p),
               *want = json_object_get(json_object_get(json_object_get(golden, "data"), name), "fingerprint");
        cr_assert(plans);
        snprintf(where, sizeof where, "%s by %s", name, o.planner->name);
        same_json(where, json_object_get(plans, "foreground_intensity_properties_per_channel"),
                  json_object_get(want, "foreground_intensity_properties_per_channel"), 0);
        json_object_del(plans, "foreground_intensity_properties_per_channel");
        same_json(where, plans, json_object_get(run, "plans"), TOLERANCE);
        json_decref(plans);
        close_data(&d, &f);
    }
}

/* dynamic-network-architectures counts 452,796,416 values for the default 3-D network at 128^3 with three outputs. */
Test(planner, values_of_the_default_network)
{
    const double spacing[3] = {1, 1, 1}, patch[3] = {128, 128, 128};
    struct topology t;
    mcs_topology_make(3, spacing, patch, 0, &t);
    cr_assert_eq(t.n_stages, 6);
    cr_assert_eq(mcs_topology_values(&t, 3), 452796416);
}

Test(planner, fingerprint_round_trip)
{
    struct nnunet_dataset d;
    struct fingerprint f, g;
    read_data("regions", &d, &f);
    OK(mcs_fingerprint_write(in_folder("again.json"), &f));
    OK(mcs_fingerprint_read(in_folder("again.json"), &g));
    cr_assert_eq(g.n_cases, f.n_cases);
    cr_assert_eq(g.n_channels, f.n_channels);
    cr_assert_eq(g.relative_size, f.relative_size);
    cr_assert_eq(memcmp(g.spacings, f.spacings, (size_t)f.n_cases * sizeof *f.spacings), 0);
    cr_assert_eq(memcmp(g.shapes, f.shapes, (size_t)f.n_cases * sizeof *f.shapes), 0);
    cr_assert_eq(memcmp(g.intensities, f.intensities, (size_t)f.n_channels * sizeof *f.intensities), 0);
    mcs_fingerprint_free(&g);
    close_data(&d, &f);
}

/* A user's configuration survives, one that the planner makes does not. */
Test(planner, planning_again_keeps_other_configurations)
{
    struct nnunet_dataset d;
    struct fingerprint f;
    struct experiment_plan p;
    struct planner_options o = {.planner = mcs_planner_find(""), .dataset_name = "Dataset001_Made"};
    read_data("anisotropic", &d, &f);
    OK(mcs_plan_experiment(&d, &f, &o, &p));
    static const char older[] = "{\"configurations\": {\"mine\": {\"batch_size\": 3}, \"3d_lowres\": {}}}";
    OK(mcs_file_write(in_folder("nnUNetPlans.json"), older, (int64_t)strlen(older)));
    OK(mcs_plans_write(test_folder, &d, &f, &o, &p));
    json_t *plans, *all;
    OK(mcs_json_read(in_folder("nnUNetPlans.json"), 1 << 20, 0, &plans));
    all = json_object_get(plans, "configurations");
    cr_assert(json_object_get(all, "mine") && json_object_get(all, "2d") && !json_object_get(all, "3d_lowres"));
    json_decref(plans);
    OK(mcs_file_write(in_folder("nnUNetPlans.json"), "{", 1));
    fails_with(mcs_plans_write(test_folder, &d, &f, &o, &p), MCS_E_DATA, "nnUNetPlans.json");
    close_data(&d, &f);
}

Test(planner, too_little_memory_and_other_channels)
{
    struct nnunet_dataset d;
    struct fingerprint f;
    struct experiment_plan p;
    struct planner_options o = {.planner = mcs_planner_find(""), .gpu_memory = 1e-6};
    read_data("anisotropic", &d, &f);
    fails_with(mcs_plan_experiment(&d, &f, &o, &p), MCS_E_USAGE, "--gpu-memory");
    o.gpu_memory = 0;
    o.spacing = (const double[]){1, 0, 1};
    fails_with(mcs_plan_experiment(&d, &f, &o, &p), MCS_E_USAGE, "spacing");
    o.spacing = (const double[]){1000, 1, 1};
    fails_with(mcs_plan_experiment(&d, &f, &o, &p), MCS_E_DATA, "0 voxels along an axis");
    o.spacing = NULL;
    d.n_channels = 2;
    fails_with(mcs_plan_experiment(&d, &f, &o, &p), MCS_E_DATA, "2 channels, but the fingerprint has 1");
    cr_assert_null(mcs_planner_find("nnUNetPlannerResEncS"));
    close_data(&d, &f);
}

Test(planner, damaged_fingerprints)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"{}", "spacings"},
        {"{\"spacings\": [[1,1,1]], \"shapes_after_crop\": []}", "same cases"},
        {"{\"spacings\": [[1,1,1]], \"shapes_after_crop\": [[1,1,1]]}", "foreground_intensity"},
        {"{\"spacings\": [[1,1,1]], \"shapes_after_crop\": [[1,1,1]], \"median_relative_size_after_cropping\": 1, "
         "\"foreground_intensity_properties_per_channel\": {\"0\": {\"mean\": 1}}}",
         "median"},
        {"{\"spacings\": [[1,0,1]], \"shapes_after_crop\": [[1,1,1]], \"median_relative_size_after_cropping\": 1, "
         "\"foreground_intensity_properties_per_channel\": {\"0\": {}}}",
         "not from 1e-06 to"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fingerprint f;
        OK(mcs_file_write(in_folder("f.json"), bad[i].text, (int64_t)strlen(bad[i].text)));
        fails_with(mcs_fingerprint_read(in_folder("f.json"), &f), MCS_E_DATA, bad[i].word);
    }
}
