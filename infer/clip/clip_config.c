/* A CLIP model's open_clip_config.json. */
#include "data/io/bounds.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "infer/clip/clip_parts.h"

#include <stdio.h>

/* Keeps *dst if the key is missing. A number that does not fit an int becomes INT_MAX, which check_config refuses like
 * any size above 2^20. */
static void get_int(const json_t *o, const char *key, int *dst)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_integer(v) && !mcs_size_to_int(json_integer_value(v), INT_MIN, INT_MAX, dst)) *dst = INT_MAX;
}

static void get_real(const json_t *o, const char *key, float *dst)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_number(v)) *dst = (float)json_number_value(v);
}

static void get_three(const json_t *o, const char *key, float *dst)
{
    const json_t *v = json_object_get(o, key);
    for (size_t i = 0; i < 3 && json_is_array(v) && json_array_size(v) == 3; i++)
        dst[i] = (float)json_number_value(json_array_get(v, i));
}

static enum mcs_status check_config(const char *path, const struct clip_config *c)
{
    const int positive[] = {c->embed,   c->image_size, c->patch,   c->v_width,   c->v_depth, c->v_heads,
                            c->v_mlp,   c->vocab,      c->context, c->positions, c->t_width, c->t_depth,
                            c->t_heads, c->t_mlp,      c->t_proj,  c->types};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        MCS_REQUIRE(positive[i] > 0 && positive[i] <= 1 << 20, MCS_E_DATA, "%s: a size of %d; want 1 to 1048576", path,
                    positive[i]);
    MCS_REQUIRE(c->image_size % c->patch == 0, MCS_E_DATA, "%s: image_size %d is not a multiple of the patch size %d",
                path, c->image_size, c->patch);
    MCS_REQUIRE(c->v_width % c->v_heads == 0 && c->t_width % c->t_heads == 0, MCS_E_DATA,
                "%s: a width is not a multiple of its heads", path);
    MCS_REQUIRE(c->context >= 2, MCS_E_DATA, "%s: context_length %d: a text has at least its first and last token",
                path, c->context);
    MCS_REQUIRE(c->context <= c->positions, MCS_E_DATA, "%s: context_length %d is longer than the %d positions", path,
                c->context, c->positions);
    return MCS_OK;
}

enum mcs_status mcs_clip_config_read(const char *folder, struct clip_config *c)
{
    char path[MCS_PATH_BYTES];
    json_t *root;
    MCS_TRY(mcs_path(path, "%s/open_clip_config.json", folder));
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    const json_t *model = json_object_get(root, "model_cfg"), *pre = json_object_get(root, "preprocess_cfg");
    const json_t *v = json_object_get(model, "vision_cfg"), *t = json_object_get(model, "text_cfg");
    *c = mcs_clip_biomed();
    get_int(model, "embed_dim", &c->embed);
    get_int(v, "image_size", &c->image_size);
    get_int(v, "patch_size", &c->patch);
    get_int(v, "width", &c->v_width);
    get_int(v, "layers", &c->v_depth);
    get_int(v, "heads", &c->v_heads);
    get_int(v, "mlp_width", &c->v_mlp);
    get_int(t, "context_length", &c->context);
    get_int(t, "vocab_size", &c->vocab);
    get_int(t, "positions", &c->positions);
    get_int(t, "types", &c->types);
    get_int(t, "width", &c->t_width);
    get_int(t, "layers", &c->t_depth);
    get_int(t, "heads", &c->t_heads);
    get_int(t, "mlp_width", &c->t_mlp);
    get_int(t, "proj_width", &c->t_proj);
    get_real(t, "dropout", &c->dropout);
    get_three(pre, "mean", c->mean);
    get_three(pre, "std", c->std);
    const enum mcs_status st = model ? check_config(path, c) : MCS_FAIL(MCS_E_DATA, "%s: has no model_cfg", path);
    json_decref(root);
    return st;
}

enum mcs_status mcs_clip_config_write(const char *folder, const struct clip_config *c)
{
    json_t *root = json_pack(
        "{s:{s:i, s:{s:i,s:i,s:i,s:i,s:i,s:i}, s:{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f}}, s:{s:[f,f,f],s:[f,f,f]}}",
        "model_cfg", "embed_dim", c->embed, "vision_cfg", "image_size", c->image_size, "patch_size", c->patch, "width",
        c->v_width, "layers", c->v_depth, "heads", c->v_heads, "mlp_width", c->v_mlp, "text_cfg", "context_length",
        c->context, "vocab_size", c->vocab, "positions", c->positions, "types", c->types, "width", c->t_width, "layers",
        c->t_depth, "heads", c->t_heads, "mlp_width", c->t_mlp, "proj_width", c->t_proj, "dropout", (double)c->dropout,
        "preprocess_cfg", "mean", (double)c->mean[0], (double)c->mean[1], (double)c->mean[2], "std", (double)c->std[0],
        (double)c->std[1], (double)c->std[2]);
    return mcs_json_write(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9), "%s/open_clip_config.json", folder);
}
