/* nnUNetPlans.json: the keys of nnunetv2 2.6.2, in its order. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "train/plan/planner.h"

#include <string.h>
#include <strings.h>

enum { MAX_BYTES = 1 << 28 };
static const double MASK_BELOW = 3 / 4.0; /* of the images' size after the crop */

/* The channel names that choose another normalisation than z-score; upper and lower case are equal. */
static const char *const schemes[][2] = {{"ct", "CTNormalization"},
                                         {"nonorm", "NoNormalization"},
                                         {"zscore", "ZScoreNormalization"},
                                         {"rescale_to_0_1", "RescaleTo01Normalization"},
                                         {"rgb_to_0_1", "RGBTo01Normalization"}};

static const char *scheme_of(const char *channel)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (!strcasecmp(channel, schemes[i][0])) return schemes[i][1];
    return "ZScoreNormalization";
}

static json_t *ints(const int *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *wide(const int64_t *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *reals(const double *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

static json_t *rounded(const double *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer((json_int_t)v[i]));
    return a;
}

static json_t *rows(const int (*v)[3], int n, int n_axes)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, ints(v[i], n_axes));
    return a;
}

static json_t *repeated(int v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(v));
    return a;
}

static json_t *resampling(int is_seg, int order)
{
    return json_pack("{s:b, s:i, s:i, s:n}", "is_seg", is_seg, "order", order, "order_z", 0, "force_separate_z");
}

static json_t *architecture(const struct topology *t)
{
    char conv[64], norm[64];
    const int n = t->n_stages, axes = t->n_axes;
    snprintf(conv, sizeof conv, "torch.nn.modules.conv.Conv%dd", axes);
    snprintf(norm, sizeof norm, "torch.nn.modules.instancenorm.InstanceNorm%dd", axes);
    json_t *network =
        json_pack("{s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:b, s:s, s:{s:f, s:b}, s:n, s:n, s:s, s:{s:b}}", "n_stages", n,
                  "features_per_stage", ints(t->features, n), "conv_op", conv, "kernel_sizes", rows(t->kernel, n, axes),
                  "strides", rows(t->stride, n, axes), t->residual ? "n_blocks_per_stage" : "n_conv_per_stage",
                  ints(t->n_encoder, n), "n_conv_per_stage_decoder", repeated(t->n_decoder, n - 1), "conv_bias", 1,
                  "norm_op", norm, "norm_op_kwargs", "eps", 1e-5, "affine", 1, "dropout_op", "dropout_op_kwargs",
                  "nonlin", "torch.nn.LeakyReLU", "nonlin_kwargs", "inplace", 1);
    return json_pack("{s:s, s:o, s:[s,s,s,s]}", "network_class_name",
                     t->residual ? "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
                                 : "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                     "arch_kwargs", network, "_kw_requires_import", "conv_op", "norm_op", "dropout_op", "nonlin");
}

static json_t *configuration(const struct nnunet_dataset *d, const struct fingerprint *f, const struct planner *planner,
                             const char *plans_name, const struct experiment_plan *p, int which)
{
    static const char function[] = "resample_data_or_seg_to_shape";
    const struct plan_configuration *c = &p->configurations[which];
    const struct topology *t = &c->net;
    char identifier[256];
    json_t *norms = json_array(), *masks = json_array();
    for (int i = 0; i < d->n_channels; i++) {
        const char *scheme = scheme_of(d->channels[i]);
        json_array_append_new(norms, json_string(scheme));
        json_array_append_new(masks,
                              json_boolean(f->relative_size < MASK_BELOW && !strcmp(scheme, "ZScoreNormalization")));
    }
    /* The data of these two configurations are the same for every planner, so that they are shared. */
    snprintf(identifier, sizeof identifier, "%s_%s",
             planner->residual && which != PLAN_3D_LOWRES ? "nnUNetPlans" : plans_name, mcs_plan_names[which]);
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:b}", "data_identifier",
                  identifier, "preprocessor_name", "DefaultPreprocessor", "batch_size", (json_int_t)c->batch,
                  "patch_size", wide(t->patch, t->n_axes), "median_image_size_in_voxels",
                  which == PLAN_3D_LOWRES ? rounded(c->median, t->n_axes) : reals(c->median, t->n_axes), "spacing",
                  reals(c->spacing, t->n_axes), "normalization_schemes", norms, "use_mask_for_norm", masks,
                  "resampling_fn_data", function, "resampling_fn_seg", function, "resampling_fn_data_kwargs",
                  resampling(0, 3), "resampling_fn_seg_kwargs", resampling(1, 1), "resampling_fn_probabilities",
                  function, "resampling_fn_probabilities_kwargs", resampling(0, 1), "architecture", architecture(t),
                  "batch_dice", c->batch_dice);
    if (which == PLAN_3D_LOWRES) json_object_set_new(json, "next_stage", json_string("3d_cascade_fullres"));
    return json;
}

static json_t *intensities(const struct fingerprint *f)
{
    json_t *all = json_object();
    for (int i = 0; i < f->n_channels; i++) {
        const struct intensity *v = &f->intensities[i];
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        json_object_set_new(all, name,
                            json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "max", v->max, "mean", v->mean, "median",
                                      v->median, "min", v->min, "percentile_00_5", v->percentile_00_5,
                                      "percentile_99_5", v->percentile_99_5, "std", v->std));
    }
    return all;
}

json_t *mcs_plans_json(const struct nnunet_dataset *d, const struct fingerprint *f, const struct planner_options *o,
                       const struct experiment_plan *p)
{
    const char *plans_name = o->plans_name ? o->plans_name : o->planner->plans_name;
    json_t *configurations = json_object();
    for (int i = 0; i < N_PLANS; i++)
        if (p->configurations[i].exists)
            json_object_set_new(configurations, mcs_plan_names[i], configuration(d, f, o->planner, plans_name, p, i));
    if (p->configurations[PLAN_3D_LOWRES].exists)
        json_object_set_new(configurations, "3d_cascade_fullres",
                            json_pack("{s:s, s:s}", "inherits_from", "3d_fullres", "previous_stage", "3d_lowres"));
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:o}", "dataset_name", o->dataset_name,
                     "plans_name", plans_name, "original_median_spacing_after_transp", reals(p->median_spacing, 3),
                     "original_median_shape_after_transp", wide(p->median_shape, 3), "image_reader_writer", d->reader,
                     "transpose_forward", ints(p->transpose, 3), "transpose_backward", ints(p->back, 3),
                     "configurations", configurations, "experiment_planner_used", o->planner->name, "label_manager",
                     "LabelManager", "foreground_intensity_properties_per_channel", intensities(f));
}

/* Adds the configurations that a user has added to an older file; those that this program plans are planned again. */
static enum mcs_status keep_others(const char *path, json_t *configurations)
{
    json_t *old, *value;
    const char *name;
    if (!mcs_file_exists(path)) return MCS_OK;
    MCS_TRY(mcs_json_read(path, MAX_BYTES, 0, &old));
    json_object_foreach(json_object_get(old, "configurations"), name, value)
    {
        int planned = !strcmp(name, "3d_cascade_fullres");
        for (int i = 0; i < N_PLANS; i++) planned |= !strcmp(name, mcs_plan_names[i]);
        if (!planned) json_object_set(configurations, name, value);
    }
    json_decref(old);
    return MCS_OK;
}

enum mcs_status mcs_plans_write(const char *folder, const struct nnunet_dataset *d, const struct fingerprint *f,
                                const struct planner_options *o, const struct experiment_plan *p)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/%s.json", folder, o->plans_name ? o->plans_name : o->planner->plans_name));
    json_t *plans = mcs_plans_json(d, f, o, p);
    MCS_REQUIRE(plans, MCS_E_NOMEM, "%s: no memory to write it", path);
    const enum mcs_status st = keep_others(path, json_object_get(plans, "configurations"));
    if (st != MCS_OK) {
        json_decref(plans);
        return st;
    }
    return mcs_json_write(plans, JSON_INDENT(4) | JSON_REAL_PRECISION(17), "%s", path);
}
