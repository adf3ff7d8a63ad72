#include "infer/unet/unet_model.h"

#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"

#include <stdio.h>
#include <string.h>

enum { MAX_JSON = 1 << 22, MAX_SIDE = 1 << 14, MAX_FEATURES = 1 << 12 };

/* ---- topology ---- */

static enum mcs_status check_plans(const char *where, const struct unet_plans *p)
{
    const struct unet_config *c = &p->net;
    MCS_REQUIRE(c->n_stages >= 2 && c->n_stages <= UNET_MAX_STAGES, MCS_E_DATA, "%s: %d stages; 2 to %d are possible",
                where, c->n_stages, UNET_MAX_STAGES);
    MCS_REQUIRE(c->in_channels > 0 && c->in_channels <= 1024 && c->classes >= 2 && c->classes <= 256, MCS_E_DATA,
                "%s: %d channels and %d classes; want 1 to 1024 and 2 to 256", where, c->in_channels, c->classes);
    int64_t divisor[2] = {1, 1};
    for (int s = 0; s < c->n_stages; s++) {
        MCS_REQUIRE(c->features[s] > 0 && c->features[s] <= MAX_FEATURES && c->n_conv[s] > 0 && c->n_conv[s] <= 32,
                    MCS_E_DATA, "%s: stage %d has %d features in %d convolutions", where, s, c->features[s],
                    c->n_conv[s]);
        MCS_REQUIRE(s + 1 == c->n_stages || (c->n_conv_decoder[s] > 0 && c->n_conv_decoder[s] <= 32), MCS_E_DATA,
                    "%s: decoder stage %d has %d convolutions", where, s, c->n_conv_decoder[s]);
        for (int a = 0; a < 2; a++) {
            MCS_REQUIRE(c->kernel[s][a] >= 1 && c->kernel[s][a] <= 7 && c->kernel[s][a] % 2 && c->stride[s][a] >= 1 &&
                            c->stride[s][a] <= 4,
                        MCS_E_DATA, "%s: stage %d has a kernel of %lld and a stride of %lld", where, s,
                        (long long)c->kernel[s][a], (long long)c->stride[s][a]);
            divisor[a] *= c->stride[s][a];
        }
    }
    for (int a = 0; a < 2; a++)
        MCS_REQUIRE(p->patch[a] > 0 && p->patch[a] <= MAX_SIDE && p->patch[a] % divisor[a] == 0, MCS_E_DATA,
                    "%s: a patch of %lld x %lld does not divide by the strides' product %lld x %lld", where,
                    (long long)p->patch[0], (long long)p->patch[1], (long long)divisor[0], (long long)divisor[1]);
    return MCS_OK;
}

enum mcs_status mcs_unet_plans_make(int in_channels, int classes, int64_t height, int64_t width, int n_stages,
                                    int base_features, int max_features, struct unet_plans *p)
{
    const int64_t shorter = height < width ? height : width;
    MCS_REQUIRE(n_stages >= 0 && n_stages <= UNET_MAX_STAGES && n_stages != 1, MCS_E_USAGE,
                "%d stages; 2 to %d are possible, 0 chooses", n_stages, UNET_MAX_STAGES);
    int stages = 1;
    for (int64_t side = shorter; side >= 8 && side % 2 == 0 && stages < UNET_MAX_STAGES; side /= 2) stages++;
    *p = (struct unet_plans){.patch = {height, width}, .batch = 1, .batch_dice = 1};
    p->net = mcs_unet_2d(in_channels, classes, n_stages ? n_stages : stages, base_features, max_features);
    const enum mcs_status st = check_plans("the network", p);
    return st == MCS_E_DATA ? MCS_E_USAGE : st; /* the numbers are options, not the content of a file */
}

/* ---- JSON ---- */

static json_t *array_of(const int64_t *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *ints(const int *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *pairs(const int64_t (*v)[3], int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, array_of(v[i], 2));
    return a;
}

enum mcs_status mcs_unet_plans_write(const char *folder, const struct unet_plans *p)
{
    const struct unet_config *c = &p->net;
    const int n = c->n_stages;
    json_t *network =
        json_pack("{s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:b, s:s, s:{s:f, s:b}, s:n, s:n, s:s, s:{s:b}}", "n_stages", n,
                  "features_per_stage", ints(c->features, n), "conv_op", "torch.nn.modules.conv.Conv2d", "kernel_sizes",
                  pairs(c->kernel, n), "strides", pairs(c->stride, n), "n_conv_per_stage", ints(c->n_conv, n),
                  "n_conv_per_stage_decoder", ints(c->n_conv_decoder, n - 1), "conv_bias", 1, "norm_op",
                  "torch.nn.modules.instancenorm.InstanceNorm2d", "norm_op_kwargs", "eps", 1e-5, "affine", 1,
                  "dropout_op", "dropout_op_kwargs", "nonlin", "torch.nn.LeakyReLU", "nonlin_kwargs", "inplace", 1);
    json_t *norms = json_array(), *masks = json_array(), *names = json_object();
    for (int k = 0; k < c->in_channels; k++) {
        char key[16];
        snprintf(key, sizeof key, "%d", k);
        json_array_append_new(norms, json_string("ZScoreNormalization"));
        json_array_append_new(masks, json_false());
        json_object_set_new(names, key, json_string(c->in_channels == 3 ? k == 0 ? "R" : k == 1 ? "G" : "B" : "image"));
    }
    json_t *configuration =
        json_pack("{s:s, s:s, s:I, s:o, s:[f,f], s:o, s:o, s:b, s:{s:s, s:o, s:[s,s,s]}}", "data_identifier",
                  "mcsam_2d", "preprocessor_name", "DefaultPreprocessor", "batch_size", (json_int_t)p->batch,
                  "patch_size", array_of(p->patch, 2), "spacing", 1.0, 1.0, "normalization_schemes", norms,
                  "use_mask_for_norm", masks, "batch_dice", p->batch_dice, "architecture", "network_class_name",
                  "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arch_kwargs", network,
                  "_kw_requires_import", "conv_op", "norm_op", "nonlin");
    MCS_TRY(mcs_json_write(json_pack("{s:s, s:s, s:[i,i,i], s:[i,i,i], s:{s:o}}", "dataset_name", "mcsam", "plans_name",
                                     "nnUNetPlans", "transpose_forward", 0, 1, 2, "transpose_backward", 0, 1, 2,
                                     "configurations", "2d", configuration),
                           JSON_INDENT(4), "%s/plans.json", folder));
    json_t *labels = json_object();
    for (int k = 0; k < c->classes; k++) {
        char key[32];
        snprintf(key, sizeof key, c->classes == 2 ? "foreground" : "class_%d", k);
        json_object_set_new(labels, k ? key : "background", json_integer(k));
    }
    return mcs_json_write(json_pack("{s:o, s:o, s:s}", "channel_names", names, "labels", labels, "file_ending", ".png"),
                          JSON_INDENT(4), "%s/dataset.json", folder);
}

static enum mcs_status get_int(const char *path, const json_t *o, const char *key, int64_t *v)
{
    const json_t *j = json_object_get(o, key);
    MCS_REQUIRE(json_is_integer(j), MCS_E_DATA, "%s: has no number %s", path, key);
    *v = json_integer_value(j);
    MCS_REQUIRE(*v >= 0 && *v <= 1 << 20, MCS_E_DATA, "%s: %s cannot be %lld", path, key, (long long)*v);
    return MCS_OK;
}

/* v (n): the integers of a list, or n times a single integer, which nnU-Net allows. */
static enum mcs_status get_list(const char *path, const json_t *j, const char *key, int n, int64_t *v)
{
    const int one = json_is_integer(j);
    MCS_REQUIRE(one || (json_is_array(j) && json_array_size(j) == (size_t)n), MCS_E_DATA, "%s: %s is no list of %d",
                path, key, n);
    for (int i = 0; i < n; i++) {
        const json_t *e = one ? j : json_array_get(j, (size_t)i);
        MCS_REQUIRE(json_is_integer(e) && json_integer_value(e) > 0 && json_integer_value(e) <= 1 << 20, MCS_E_DATA,
                    "%s: %s has an element that is no size", path, key);
        v[i] = json_integer_value(e);
    }
    return MCS_OK;
}

static enum mcs_status get_ints(const char *path, const json_t *o, const char *key, int n, int *v)
{
    int64_t wide[UNET_MAX_STAGES];
    MCS_TRY(get_list(path, json_object_get(o, key), key, n, wide));
    for (int i = 0; i < n; i++) v[i] = (int)wide[i];
    return MCS_OK;
}

static enum mcs_status get_pairs(const char *path, const json_t *o, const char *key, int n, int64_t (*v)[3])
{
    const json_t *list = json_object_get(o, key);
    MCS_REQUIRE(json_is_array(list) && json_array_size(list) == (size_t)n, MCS_E_DATA, "%s: %s is no list of %d", path,
                key, n);
    for (int i = 0; i < n; i++) MCS_TRY(get_list(path, json_array_get(list, (size_t)i), key, 2, v[i]));
    return MCS_OK;
}

static enum mcs_status parse_plans(const char *path, const json_t *root, struct unet_plans *p)
{
    const json_t *plan_2d = json_object_get(json_object_get(root, "configurations"), "2d");
    MCS_REQUIRE(json_is_object(plan_2d), MCS_E_DATA, "%s: has no configuration 2d", path);
    const json_t *architecture = json_object_get(plan_2d, "architecture"),
                 *network = json_object_get(architecture, "arch_kwargs");
    const char *class_name = json_string_value(json_object_get(architecture, "network_class_name"));
    MCS_REQUIRE(class_name && json_is_object(network), MCS_E_DATA, "%s: has no architecture", path);
    const char *dot = strrchr(class_name, '.');
    MCS_REQUIRE(!strcmp(dot ? dot + 1 : class_name, "PlainConvUNet"), MCS_E_DATA,
                "%s: the network is a %s; this program knows PlainConvUNet", path, class_name);
    struct unet_config *c = &p->net;
    int64_t n;
    MCS_TRY(get_int(path, network, "n_stages", &n));
    MCS_REQUIRE(n >= 2 && n <= UNET_MAX_STAGES, MCS_E_DATA, "%s: %lld stages; 2 to %d are possible", path, (long long)n,
                UNET_MAX_STAGES);
    c->nsp = 2;
    c->n_stages = (int)n;
    MCS_TRY(get_ints(path, network, "features_per_stage", (int)n, c->features));
    MCS_TRY(get_ints(path, network, "n_conv_per_stage", (int)n, c->n_conv));
    MCS_TRY(get_ints(path, network, "n_conv_per_stage_decoder", (int)n - 1, c->n_conv_decoder));
    MCS_TRY(get_pairs(path, network, "kernel_sizes", (int)n, c->kernel));
    MCS_TRY(get_pairs(path, network, "strides", (int)n, c->stride));
    MCS_TRY(get_int(path, plan_2d, "batch_size", &p->batch));
    MCS_TRY(get_list(path, json_object_get(plan_2d, "patch_size"), "patch_size", 2, p->patch));
    p->batch_dice = json_is_true(json_object_get(plan_2d, "batch_dice"));
    const json_t *norm, *norms = json_object_get(plan_2d, "normalization_schemes");
    size_t i;
    json_array_foreach(norms, i, norm)
        MCS_REQUIRE(json_is_string(norm) && !strcmp(json_string_value(norm), "ZScoreNormalization"), MCS_E_DATA,
                    "%s: channel %zu is normalised by another rule than ZScoreNormalization", path, i);
    return MCS_OK;
}

enum mcs_status mcs_unet_plans_read(const char *folder, struct unet_plans *p)
{
    char path[MCS_PATH_BYTES];
    json_t *root;
    *p = (struct unet_plans){0};
    MCS_TRY(mcs_path(path, "%s/plans.json", folder));
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such model folder", folder);
    MCS_TRY(mcs_json_read(path, MAX_JSON, 0, &root));
    enum mcs_status st = parse_plans(path, root, p);
    json_decref(root);
    MCS_TRY(st);
    MCS_TRY(mcs_path(path, "%s/dataset.json", folder));
    MCS_TRY(mcs_json_read(path, MAX_JSON, 0, &root));
    const json_t *labels = json_object_get(root, "labels");
    p->net.in_channels = (int)json_object_size(json_object_get(root, "channel_names"));
    p->net.classes = (int)json_object_size(labels) - (json_object_get(labels, "ignore") != NULL);
    json_decref(root);
    return check_plans(path, p);
}

enum mcs_status mcs_unet_checkpoints_write(const char *folder, const struct unet_checkpoint *c, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:I}", "file", c[i].file, "cycle", (json_int_t)c[i].cycle,
                                        "index", (json_int_t)c[i].index, "step", (json_int_t)c[i].step));
    return mcs_json_write(json_pack("{s:o}", "checkpoints", list), JSON_INDENT(4), "%s/checkpoints.json", folder);
}

static enum mcs_status parse_checkpoint(const char *path, const json_t *o, struct unet_checkpoint *c)
{
    const char *file = json_string_value(json_object_get(o, "file"));
    MCS_REQUIRE(file && *file && !strchr(file, '/') && strlen(file) < sizeof c->file, MCS_E_DATA,
                "%s: a checkpoint's file must be a name in this folder", path);
    snprintf(c->file, sizeof c->file, "%s", file);
    MCS_TRY(get_int(path, o, "cycle", &c->cycle));
    MCS_TRY(get_int(path, o, "index", &c->index));
    c->step = json_integer_value(json_object_get(o, "step"));
    return MCS_OK;
}

enum mcs_status mcs_unet_checkpoints_read(const char *folder, struct unet_checkpoint *c, int *n)
{
    char path[MCS_PATH_BYTES];
    json_t *root;
    enum mcs_status st = MCS_OK;
    *n = 0;
    MCS_TRY(mcs_path(path, "%s/checkpoints.json", folder));
    MCS_TRY(mcs_json_read(path, MAX_JSON, 0, &root));
    const json_t *list = json_object_get(root, "checkpoints");
    const size_t count = json_array_size(list);
    MCS_REQUIRE_GOTO(count > 0 && count <= UNET_MAX_CHECKPOINTS, MCS_E_DATA, st, done,
                     "%s: lists %zu checkpoints; 1 to %d are possible", path, count, UNET_MAX_CHECKPOINTS);
    for (size_t i = 0; i < count; i++) MCS_TRY_GOTO(parse_checkpoint(path, json_array_get(list, i), &c[i]), st, done);
    *n = (int)count;
done:
    json_decref(root);
    return st;
}

/* ---- the network ---- */

static enum mcs_status record(struct unet_model *m, int64_t batch)
{
    const int64_t dim[] = {batch, m->plans.patch[0], m->plans.patch[1], m->plans.net.in_channels};
    struct tensor *out[UNET_MAX_STAGES];
    m->graph = mcs_graph_new(m->params, m->device->activations);
    m->image = mcs_input(m->graph, "image", MCS_F32, 4, dim);
    mcs_unet(m->graph, m->image, &m->plans.net, 0, out);
    m->logits = out[0];
    MCS_TRY(mcs_graph_status(m->graph));
    mcs_keep(m->logits);
    return MCS_OK;
}

enum mcs_status mcs_unet_params_declare(const struct unet_plans *plans, struct params *p)
{
    const int64_t dim[] = {1, plans->patch[0], plans->patch[1], plans->net.in_channels};
    struct tensor *out[UNET_MAX_STAGES];
    struct graph *g = mcs_graph_new(p, MCS_F32);
    mcs_unet(g, mcs_input(g, "image", MCS_F32, 4, dim), &plans->net, 0, out);
    const enum mcs_status st = mcs_graph_status(g);
    mcs_graph_free(g);
    return st;
}

enum mcs_status mcs_unet_model_new(const struct unet_plans *plans, uint64_t seed, struct device *d,
                                   struct unet_model *m)
{
    *m = (struct unet_model){.plans = *plans, .device = d, .params = mcs_params_new()};
    enum mcs_status st;
    MCS_TRY_GOTO(record(m, 1), st, done); /* declares the parameters */
    MCS_TRY_GOTO(mcs_params_alloc(m->params, d), st, done);
    MCS_TRY_GOTO(mcs_params_init(m->params, seed), st, done);
done:
    if (st != MCS_OK) mcs_unet_model_close(m);
    return st;
}

void mcs_unet_model_close(struct unet_model *m)
{
    mcs_exec_free(m->exec);
    mcs_graph_free(m->graph);
    mcs_params_free(m->params);
    *m = (struct unet_model){0};
}

enum mcs_status mcs_unet_model_compile(struct unet_model *m, int64_t batch)
{
    if (m->exec && m->image->dim[0] == batch) return MCS_OK;
    mcs_exec_free(m->exec);
    m->exec = NULL;
    mcs_graph_free(m->graph);
    m->graph = NULL;
    MCS_TRY(record(m, batch));
    return mcs_exec_new(m->graph, m->device, &m->exec);
}
