/* Preprocessed cases and foreground locations of tests/golden/nnunet; every normalisation; plans that are refused. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "infer/nnunet/nnunet_preprocess.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_json.h"
#include "train/plan/foreground.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define SETS MCS_SOURCE_DIR "/tests/golden/nnunet/"

static json_t *golden;

static void setup(void)
{
    test_folder_open("preprocess");
    golden = golden_json("nnunet/cases.json");
}
static void teardown(void)
{
    json_decref(golden);
    test_folder_close();
}
TestSuite(nnunet_preprocess, .init = setup, .fini = teardown);

/* The golden plans of a data set as a file. */
static const char *plans_of(const char *set)
{
    OK(mcs_json_write(json_incref(json_object_get(json_object_get(golden, set), "plans")), JSON_REAL_PRECISION(17),
                      "%s", in_folder("plans.json")));
    return in_folder("plans.json");
}

static void same_locations(const struct weight_file *file, const char *prefix, const struct foreground_list *list)
{
    char key[256];
    for (int i = 0; i < list->n; i++) {
        const struct foreground *f = &list->items[i];
        int n = snprintf(key, sizeof key, "%slocations/", prefix);
        for (int k = 0; k < f->n_classes; k++)
            n += snprintf(key + n, sizeof key - (size_t)n, "%s%d", k ? "_" : "", f->classes[k]);
        int64_t n_want;
        float *want = golden_values(file, key, &n_want);
        cr_assert_eq(f->n * 4, n_want, "%s: %lld places, want %lld", key, (long long)f->n, (long long)n_want / 4);
        for (int64_t v = 0; v < n_want; v++)
            cr_assert_eq((float)f->at[v / 4][v % 4], want[v], "%s: place %lld", key, (long long)v / 4);
        free(want);
    }
}

static void compare_case(const struct weight_file *file, const struct nnunet_dataset *d, const char *set,
                         const struct nnunet_configuration *c, const struct nnunet_case *one)
{
    struct nnunet_image images, label;
    struct nnunet_preprocessed p;
    struct foreground_list list;
    char prefix[128], key[160];
    int64_t n;
    OK(mcs_nnunet_case_read(d, c->reader, one, &images, &label));
    OK(mcs_nnunet_preprocess(one->name, c, &images, &label, &p));
    snprintf(prefix, sizeof prefix, "%s/%s/%s/", set, c->name, one->name);
    snprintf(key, sizeof key, "%sdata", prefix);
    const struct weight_tensor *t = mcs_weight_file_find(file, key);
    cr_assert(t && t->nd == 4);
    cr_assert(t->dims[0] == p.channels && !memcmp(t->dims + 1, p.shape, sizeof p.shape), "%s: another shape", key);
    float *want = golden_values(file, key, &n);
    for (int64_t i = 0; i < n; i++) /* float32 means of nnU-Net, each off by some units of 6e-8 */
        cr_assert(fabsf(p.data[i] - want[i]) <= 2e-6f * fmaxf(1, fabsf(want[i])), "%s: voxel %lld: %.9g, want %.9g",
                  key, (long long)i, (double)p.data[i], (double)want[i]);
    free(want);
    snprintf(key, sizeof key, "%sseg", prefix);
    want = golden_values(file, key, &n);
    for (int64_t i = 0; i < n; i++)
        cr_assert_eq(p.labels[i], want[i], "%s: voxel %lld: %g, want %g", key, (long long)i, (double)p.labels[i],
                     (double)want[i]);
    free(want);
    OK(mcs_foreground_draw(d, p.labels, p.shape, &list));
    same_locations(file, prefix, &list);
    mcs_foreground_free(&list);
    mcs_nnunet_preprocessed_free(&p);
    mcs_nnunet_image_free(&images);
    mcs_nnunet_image_free(&label);
}

Test(nnunet_preprocess, cases_equal_nnunetv2)
{
    static const char *const sets[] = {"Dataset001_Flat", "Dataset002_Thin", "Dataset003_Axis"};
    struct weight_file *file = golden_open("nnunet/cases.safetensors");
    for (int s = 0; s < 3; s++) {
        struct nnunet_dataset d;
        struct nnunet_configuration c;
        char path[512];
        snprintf(path, sizeof path, SETS "%s/dataset.json", sets[s]);
        OK(mcs_nnunet_dataset_read(path, &d));
        snprintf(path, sizeof path, SETS "%s", sets[s]);
        OK(mcs_nnunet_dataset_list(path, &d));
        for (int k = 0; k < 2 - (s == 0); k++) {
            OK(mcs_nnunet_configuration_read(plans_of(sets[s]), k ? "3d_fullres" : "2d", &c));
            for (int i = 0; i < d.n_cases; i++) compare_case(file, &d, sets[s], &c, &d.cases[i]);
        }
        mcs_nnunet_dataset_close(&d);
    }
    mcs_weight_file_close(file);
}

/* More than 10000 voxels: 1 % where that is more, and voxels of an earlier region are gone for later ones. */
Test(nnunet_preprocess, many_places)
{
    enum { SIDE = 128 };
    const int64_t shape[3] = {SIDE, SIDE, SIDE}, n = (int64_t)SIDE * SIDE * SIDE;
    float *labels = calloc((size_t)n, sizeof *labels);
    int one = 1, two = 2, both[2] = {1, 2};
    struct nnunet_label l[3] = {{"background", 0, 1, &(int){0}}, {"all", 1, 2, both}, {"two", 0, 1, &two}};
    struct nnunet_dataset d = {.n_labels = 3, .labels = l, .n_classes = 3, .ignore = -1, .has_regions = 1};
    struct foreground_list list;
    for (int64_t i = 0; i < n; i++) labels[i] = i < n - 20000 ? 1 : i < n - 5000 ? 2 : 0;
    OK(mcs_foreground_draw(&d, labels, shape, &list));
    cr_assert_eq(list.n, 2);
    cr_assert_eq(list.items[0].n, (n - 5000 + 99) / 100);
    cr_assert_eq(list.items[1].n, 0);
    mcs_foreground_free(&list);
    l[1] = (struct nnunet_label){"one", 0, 1, &one};
    d.has_regions = 0;
    OK(mcs_foreground_draw(&d, labels, shape, &list));
    cr_assert_eq(list.items[1].n, 10000);
    for (int64_t i = 0; i < 10000; i++) {
        const int64_t *at = list.items[1].at[i];
        cr_assert_eq(labels[(at[1] * SIDE + at[2]) * SIDE + at[3]], 2);
    }
    mcs_foreground_free(&list);
    free(labels);
}

Test(nnunet_preprocess, normalisations)
{
    const uint8_t inside[4] = {1, 0, 1, 1};
    struct nnunet_channel ch = {
        .norm = NNUNET_NORM_CT, .mean = 10, .std = 0, .percentile_00_5 = 0, .percentile_99_5 = 20};
    float ct[4] = {-5, 30, 10, 12}, z[4] = {2, 100, 4, 6}, rescale[4] = {-1, 3, 1, 0}, rgb[4] = {0, 255, 51, 102},
          flat[4] = {7, 7, 7, 7}, bad[4] = {0, 256, 1, 2};
    OK(mcs_nnunet_normalise("x", &ch, ct, inside, 4));
    cr_assert_float_eq(ct[0], -1e9, 1e3); /* a deviation of 0 becomes 1e-8 */
    cr_assert_float_eq(ct[1], 1e9, 1e3);
    ch = (struct nnunet_channel){.norm = NNUNET_NORM_ZSCORE, .use_mask = 1};
    OK(mcs_nnunet_normalise("x", &ch, z, inside, 4));
    cr_assert(z[1] == 100 && z[2] == 0 && fabsf(z[3] - sqrtf(1.5f)) < 1e-6f);
    ch.use_mask = 0;
    OK(mcs_nnunet_normalise("x", &ch, flat, inside, 4));
    cr_assert_eq(flat[0], 0);
    ch.norm = NNUNET_NORM_RESCALE;
    OK(mcs_nnunet_normalise("x", &ch, rescale, inside, 4));
    cr_assert(rescale[0] == 0 && rescale[1] == 1 && rescale[2] == 0.5f && rescale[3] == 0.25f);
    ch.norm = NNUNET_NORM_RGB;
    OK(mcs_nnunet_normalise("x", &ch, rgb, inside, 4));
    cr_assert(rgb[1] == 1 && rgb[2] == 0.2f);
    fails_with(mcs_nnunet_normalise("case7", &ch, bad, inside, 4), MCS_E_DATA, "case7: values from 0 to 256");
    ch.norm = NNUNET_NORM_NONE;
    OK(mcs_nnunet_normalise("x", &ch, bad, inside, 4));
    cr_assert_eq(bad[1], 256);
}

/* ---- plans ---- */

static void refused(const char *key, json_t *value, const char *word)
{
    struct nnunet_configuration c;
    json_t *plans = json_deep_copy(json_object_get(json_object_get(golden, "Dataset002_Thin"), "plans")),
           *one = json_object_get(json_object_get(plans, "configurations"), "3d_fullres");
    json_object_set_new(json_object_get(one, key) ? one : plans, key, value);
    OK(mcs_json_write(plans, 0, "%s", in_folder("plans.json")));
    fails_with(mcs_nnunet_configuration_read(in_folder("plans.json"), "3d_fullres", &c), MCS_E_DATA, word);
}

Test(nnunet_preprocess, plans_that_are_refused)
{
    struct nnunet_configuration c;
    const char *path = plans_of("Dataset002_Thin");
    fails_with(mcs_nnunet_configuration_read(path, "3d_lowres", &c), MCS_E_DATA, "it has 2d, 3d_fullres");
    refused("preprocessor_name", json_string("Mine"), "preprocessor_name is Mine");
    refused("resampling_fn_data", json_string("resample_torch_fornnunet"), "resample_torch_fornnunet");
    refused("resampling_fn_seg_kwargs", json_pack("{s:i}", "order", 0), "order is 0");
    refused("resampling_fn_data_kwargs", json_pack("{s:i, s:i}", "order", 3, "order_z", 1), "order_z");
    refused("normalization_schemes", json_pack("[s,s]", "CTNormalization", "Own"), "channel 1 has Own");
    refused("use_mask_for_norm", json_pack("[b]", 1), "channel 1 has no truth value");
    refused("spacing", json_pack("[f]", 1.0), "spacing");
    refused("spacing", json_pack("[f,f,f]", 1.0, 0.0, 1.0), "not above 0");
    refused("transpose_forward", json_pack("[i,i,i]", 0, 1, 1), "transpose_forward");
    refused("data_identifier", json_string("../x"), "data_identifier");
    refused("image_reader_writer", json_null(), "image_reader_writer");
    refused("foreground_intensity_properties_per_channel", json_object(), "has no mean");
}

Test(nnunet_preprocess, inherited_keys)
{
    struct nnunet_configuration c;
    json_t *plans = json_deep_copy(json_object_get(json_object_get(golden, "Dataset002_Thin"), "plans")),
           *all = json_object_get(plans, "configurations");
    json_object_set_new(all, "mine", json_pack("{s:s, s:s}", "inherits_from", "3d_fullres", "data_identifier", "own"));
    json_object_set_new(all, "loop", json_pack("{s:s}", "inherits_from", "loop"));
    OK(mcs_json_write(plans, 0, "%s", in_folder("plans.json")));
    OK(mcs_nnunet_configuration_read(in_folder("plans.json"), "mine", &c));
    cr_assert_str_eq(c.data_identifier, "own");
    cr_assert(c.n_axes == 3 && c.n_channels == 2 && c.data.order == 3 && c.labels.order == 1);
    fails_with(mcs_nnunet_configuration_read(in_folder("plans.json"), "loop", &c), MCS_E_DATA, "inherits from itself");
}
