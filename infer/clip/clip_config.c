/* A CLIP model's open_clip_config.json: mcsam's own layout, which states every size, and open_clip's (clip_layout.c).
 */
#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "infer/clip/clip_keys.h"
#include "infer/clip/clip_parts.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The sizes of mcsam's own layout, by object and key. */
static const struct size_key {
    const char *object, *key;
    size_t at;
} size_keys[] = {
#define SIZE(object, key, field)                                                                                       \
    {                                                                                                                  \
        object, key, offsetof(struct clip_config, field)                                                               \
    }
    SIZE("model_cfg", "embed_dim", embed),   SIZE("vision_cfg", "image_size", image_size),
    SIZE("vision_cfg", "patch_size", patch), SIZE("vision_cfg", "width", v_width),
    SIZE("vision_cfg", "layers", v_depth),   SIZE("vision_cfg", "heads", v_heads),
    SIZE("vision_cfg", "mlp_width", v_mlp),  SIZE("text_cfg", "context_length", context),
    SIZE("text_cfg", "vocab_size", vocab),   SIZE("text_cfg", "positions", positions),
    SIZE("text_cfg", "types", types),        SIZE("text_cfg", "width", t_width),
    SIZE("text_cfg", "layers", t_depth),     SIZE("text_cfg", "heads", t_heads),
    SIZE("text_cfg", "mlp_width", t_mlp),    SIZE("text_cfg", "proj_width", t_proj),
};

static int is_object_key(const char *key)
{
    return !strcmp(key, "vision_cfg") || !strcmp(key, "text_cfg");
}

/* Reads one object; a key that it does not have keeps its value. A number that does not fit an int becomes INT_MAX,
 * which check_config refuses like any size above 2^20. */
static enum mcs_status read_sizes(const char *path, const char *object, const json_t *o, struct clip_config *c)
{
    for (void *it = json_object_iter((json_t *)o); it; it = json_object_iter_next((json_t *)o, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *v = json_object_iter_value(it);
        const struct size_key *k = size_keys, *end = size_keys + sizeof size_keys / sizeof *size_keys;
        if (!strcmp(object, "text_cfg") && !strcmp(key, "dropout") && json_is_number(v)) {
            c->dropout = (float)json_number_value(v);
            continue;
        }
        if (!strcmp(object, "model_cfg") && is_object_key(key)) continue;
        while (k < end && (strcmp(k->object, object) != 0 || strcmp(k->key, key) != 0)) k++;
        MCS_REQUIRE(k < end, MCS_E_DATA, "%s: %s.%s: a key that mcsam does not support", path, object, key);
        MCS_REQUIRE(json_is_integer(v), MCS_E_DATA, "%s: %s.%s is not a whole number", path, object, key);
        int *dst = (int *)(void *)((char *)c + k->at);
        if (!mcs_size_to_int(json_integer_value(v), INT_MIN, INT_MAX, dst)) *dst = INT_MAX;
    }
    return MCS_OK;
}

enum mcs_status mcs_clip_sizes_read(const char *path, const json_t *vision, const json_t *text, struct clip_config *c)
{
    MCS_TRY(read_sizes(path, "vision_cfg", vision, c));
    return read_sizes(path, "text_cfg", text, c);
}

static enum mcs_status get_three(const char *path, const json_t *o, const char *key, float *dst)
{
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return MCS_OK;
    MCS_REQUIRE(json_is_array(v) && json_array_size(v) == 3, MCS_E_DATA, "%s: preprocess_cfg.%s is not three numbers",
                path, key);
    for (size_t i = 0; i < 3; i++) {
        MCS_REQUIRE(json_is_number(json_array_get(v, i)), MCS_E_DATA, "%s: preprocess_cfg.%s is not three numbers",
                    path, key);
        dst[i] = (float)json_number_value(json_array_get(v, i));
    }
    return MCS_OK;
}

static enum mcs_status check_config(const char *path, const struct clip_config *c)
{
    const struct {
        const char *what;
        int size;
    } positive[] = {
        {"width of embeddings", c->embed},
        {"image", c->image_size},
        {"patch", c->patch},
        {"image tower's width", c->v_width},
        {"image tower's number of blocks", c->v_depth},
        {"image tower's number of heads", c->v_heads},
        {"image tower's MLP", c->v_mlp},
        {"vocabulary", c->vocab},
        {"text's length", c->context},
        {"number of positions", c->positions},
        {"text tower's width", c->t_width},
        {"text tower's number of layers", c->t_depth},
        {"text tower's number of heads", c->t_heads},
        {"text tower's MLP", c->t_mlp},
        {"number of token types", c->types},
        {"text projection", c->t_proj > 0 ? c->t_proj : 1},
    };
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        MCS_REQUIRE(positive[i].size > 0 && positive[i].size <= 1 << 20, MCS_E_DATA,
                    "%s: a size of %d (%s); want 1 to 1048576", path, positive[i].size, positive[i].what);
    MCS_REQUIRE(c->image_size % c->patch == 0, MCS_E_DATA, "%s: image_size %d is not a multiple of the patch size %d",
                path, c->image_size, c->patch);
    MCS_REQUIRE(c->v_width % c->v_heads == 0 && c->t_width % c->t_heads == 0, MCS_E_DATA,
                "%s: a width is not a multiple of its heads", path);
    MCS_REQUIRE(c->t_proj >= 0 || c->t_openai || c->t_width == c->embed, MCS_E_DATA,
                "%s: no projection, but the text model's width is %d and embed_dim %d", path, c->t_width, c->embed);
    MCS_REQUIRE(c->context >= 2, MCS_E_DATA, "%s: context_length %d: a text has at least its first and last token",
                path, c->context);
    MCS_REQUIRE(c->context <= c->positions, MCS_E_DATA, "%s: context_length %d is longer than the %d positions", path,
                c->context, c->positions);
    return MCS_OK;
}

static enum mcs_status read_root(const char *path, const char *folder, const json_t *root, struct clip_config *c)
{
    const json_t *model = json_object_get(root, "model_cfg"), *pre = json_object_get(root, "preprocess_cfg");
    MCS_REQUIRE(json_is_object(model), MCS_E_DATA, "%s: has no model_cfg", path);
    if (mcs_clip_is_open_clip(root)) {
        MCS_TRY(mcs_clip_open_clip_read(path, folder, root, c));
    } else {
        MCS_TRY(read_sizes(path, "model_cfg", model, c));
        MCS_TRY(mcs_clip_sizes_read(path, json_object_get(model, "vision_cfg"), json_object_get(model, "text_cfg"), c));
        MCS_REQUIRE(c->t_proj > 0, MCS_E_DATA, "%s: a size of %d; want 1 to 1048576", path, c->t_proj);
    }
    MCS_TRY(get_three(path, pre, "mean", c->mean));
    MCS_TRY(get_three(path, pre, "std", c->std));
    return mcs_clip_check_normalisation(path, c->mean, c->std);
}

enum mcs_status mcs_clip_config_read(const char *folder, struct clip_config *c)
{
    char path[MCS_PATH_BYTES], other[MCS_PATH_BYTES];
    json_t *root;
    MCS_TRY(mcs_path(path, "%s/open_clip_config.json", folder));
    MCS_TRY(mcs_path(other, "%s/config.json", folder));
    *c = mcs_clip_biomed();
    if (!mcs_file_exists(path) && mcs_file_exists(other)) {
        MCS_TRY(mcs_clip_hugging_face_read(folder, c));
        return check_config(other, c);
    }
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    const enum mcs_status st = read_root(path, folder, root, c);
    json_decref(root);
    return st == MCS_OK ? check_config(path, c) : st;
}

/* BiomedCLIP's towers: the model that open_clip knows by its names. */
static int is_biomed(const struct clip_config *c)
{
    struct clip_config b = mcs_clip_biomed();
    b.dropout = c->dropout;
    memcpy(b.mean, c->mean, sizeof b.mean);
    memcpy(b.std, c->std, sizeof b.std);
    return !memcmp(&b, c, sizeof b);
}

static json_t *three(const float *v)
{
    return json_pack("[f,f,f]", (double)v[0], (double)v[1], (double)v[2]);
}

/* open_clip's layout, with the dropout beside it. */
static json_t *biomed_json(const struct clip_config *c)
{
    static const char *const bert = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract";
    return json_pack("{s:{s:i, s:{s:s,s:b,s:s,s:s,s:i}, s:{s:s,s:s,s:s,s:s,s:i}}, s:{s:o,s:o}, s:{s:{s:f}}}",
                     "model_cfg", "embed_dim", c->embed, "vision_cfg", "timm_model_name", "vit_base_patch16_224",
                     "timm_model_pretrained", 0, "timm_pool", "", "timm_proj", "linear", "image_size", c->image_size,
                     "text_cfg", "hf_model_name", bert, "hf_tokenizer_name", bert, "hf_proj_type", "mlp",
                     "hf_pooler_type", "cls_last_hidden_state_pooler", "context_length", c->context, "preprocess_cfg",
                     "mean", three(c->mean), "std", three(c->std), "mcsam_cfg", "text_cfg", "dropout",
                     (double)c->dropout);
}

enum mcs_status mcs_clip_config_write(const char *folder, const struct clip_config *c)
{
    if (is_biomed(c))
        return mcs_json_write(biomed_json(c), JSON_INDENT(2) | JSON_REAL_PRECISION(9), "%s/open_clip_config.json",
                              folder);
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
