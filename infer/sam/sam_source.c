/* The sizes of a SAM from its tensors, from which almost all of them follow, checked against the configuration that
 * lies beside them: mcsam's sam_config.json, or transformers' config.json (SamConfig). */
#include "data/io/file.h"
#include "data/weights/layout.h"
#include "engine/base/path.h"
#include "infer/json_keys.h"
#include "infer/sam/sam_plan.h"

#include <stdio.h>
#include <string.h>

/* Size d of a tensor; 0 where it is not there. */
static int size_of(const struct weight_file *model, const char *name, int d)
{
    const struct weight_tensor *t = mcs_weight_file_find(model, name);
    return t && d < t->nd && t->dims[d] <= 1 << 20 ? (int)t->dims[d] : 0;
}

/* a / b, or 0. */
static int quotient(int a, int b)
{
    return b ? a / b : 0;
}

/* Blocks with attention over the whole image have relative positions for the whole grid. */
static void read_blocks(const struct weight_file *model, struct sam_config *c)
{
    const int grid = quotient(c->image_size, c->patch);
    c->n_global = 0;
    c->window = 0;
    for (int k = 0; k < c->depth; k++) {
        char name[64];
        snprintf(name, sizeof name, "image_encoder.blocks.%d.attn.rel_pos_h", k);
        const int rows = size_of(model, name, 0);
        if (rows != 2 * grid - 1)
            c->window = (rows + 1) / 2;
        else if (c->n_global < SAM_MAX_GLOBAL)
            c->global[c->n_global++] = k;
    }
}

static struct sam_config sizes_of(const struct weight_file *model)
{
    struct sam_config c = mcs_sam_vit_b();
    c.width = size_of(model, "image_encoder.pos_embed", 3);
    c.patch = size_of(model, "image_encoder.patch_embed.proj.weight", 3);
    c.image_size = c.patch * size_of(model, "image_encoder.pos_embed", 1);
    c.depth = mcs_weight_file_blocks(model, "image_encoder.blocks.", ".norm1.weight");
    c.mlp = size_of(model, "image_encoder.blocks.0.mlp.lin1.weight", 0);
    c.heads = quotient(c.width, size_of(model, "image_encoder.blocks.0.attn.rel_pos_h", 1));
    c.embed = size_of(model, "image_encoder.neck.0.weight", 0);
    c.mask_in = size_of(model, "prompt_encoder.mask_downscaling.3.weight", 0);
    c.d_mlp = size_of(model, "mask_decoder.transformer.layers.0.mlp.lin1.weight", 0);
    c.d_downsample = quotient(
        c.embed, size_of(model, "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight", 0));
    read_blocks(model, &c);
    return c;
}

/* What transformers would compute differently from segment-anything, or with other sizes than the tensors'. */
static enum mcs_status check_hugging(const char *path, const json_t *root, struct sam_config *c)
{
    const json_t *v = json_object_get(root, "vision_config"), *p = json_object_get(root, "prompt_encoder_config"),
                 *d = json_object_get(root, "mask_decoder_config");
    MCS_REQUIRE(json_is_object(root), MCS_E_DATA, "%s: want a JSON object", path);
    MCS_TRY(mcs_json_key_only(path, "config", root, "model_type", "\"sam\""));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "hidden_size", c->width));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "num_hidden_layers", c->depth));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "num_attention_heads", c->heads));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "image_size", c->image_size));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "patch_size", c->patch));
    if (c->window) MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "window_size", c->window));
    MCS_TRY(mcs_json_key_only(path, "vision_config", v, "hidden_act", "\"gelu\""));
    MCS_TRY(mcs_json_key_only(path, "prompt_encoder_config", p, "hidden_act", "\"gelu\""));
    MCS_TRY(mcs_json_key_only(path, "mask_decoder_config", d, "hidden_act", "\"relu\""));
    const json_t *global = json_object_get(v, "global_attn_indexes");
    int same = !global || json_array_size(global) == (size_t)c->n_global;
    for (int i = 0; global && same && i < c->n_global; i++)
        same = json_integer_value(json_array_get(global, (size_t)i)) == c->global[i];
    MCS_REQUIRE(same, MCS_E_DATA,
                "%s: vision_config.global_attn_indexes are not the blocks whose tensors are for the whole image", path);
    return mcs_json_key_int(path, "mask_decoder_config", d, "num_attention_heads", &c->d_heads);
}

static enum mcs_status check_own(const char *path, struct sam_config *c)
{
    struct sam_config said;
    MCS_TRY(mcs_sam_config_read(path, &said));
    c->d_heads = said.d_heads;
    c->preprocess = said.preprocess;
    if (!c->window) c->window = said.window;
    MCS_REQUIRE(!memcmp(&said, c, sizeof said), MCS_E_DATA, "%s: its sizes are not those of the tensors", path);
    return MCS_OK;
}

static enum mcs_status read_hugging(const char *path, struct sam_config *c)
{
    json_t *root;
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    const enum mcs_status st = check_hugging(path, root, c);
    json_decref(root);
    return st;
}

enum mcs_status mcs_sam_config_source(const struct weight_file *model, int hugging_face, const char *folder,
                                      struct sam_config *c)
{
    char own[MCS_PATH_BYTES], hugging[MCS_PATH_BYTES];
    struct sam_config known;
    const int is_known = mcs_sam_config_known(model, &known);
    *c = sizes_of(model);
    MCS_TRY(mcs_path(own, "%s/sam_config.json", folder));
    MCS_TRY(mcs_path(hugging, "%s/config.json", folder));
    const int has_own = mcs_file_exists(own), has_hugging = mcs_file_exists(hugging) && (hugging_face || !is_known);
    MCS_REQUIRE(has_own || has_hugging || is_known, MCS_E_DATA,
                "%s: not SAM's ViT-B, -L or -H, so its sam_config.json, or the config.json of transformers, must lie "
                "beside it; `mcsam info` says which model it is",
                mcs_weight_file_path(model));
    MCS_REQUIRE(mcs_weight_file_blocks(model, "mask_decoder.transformer.layers.", ".norm1.weight") == 2 &&
                    size_of(model, "mask_decoder.mask_tokens.weight", 0) == SAM_MASKS,
                MCS_E_DATA, "%s: a mask decoder of 2 layers and %d masks is supported", mcs_weight_file_path(model),
                SAM_MASKS);
    if (has_own) return check_own(own, c);
    if (has_hugging) MCS_TRY(read_hugging(hugging, c));
    if (!c->window) c->window = mcs_sam_vit_b().window;
    return mcs_sam_config_check(mcs_weight_file_path(model), c);
}

enum mcs_status mcs_sam_config_guess(const char *path, struct sam_config *c)
{
    char folder[MCS_PATH_BYTES], config[MCS_PATH_BYTES];
    const char *name;
    struct weight_file *file, *model;
    MCS_TRY(mcs_path_split(path, folder, &name));
    MCS_TRY(mcs_path(config, "%s/config.json", folder));
    MCS_TRY(mcs_weight_file_open(path, &file));
    const enum weight_layout layout = mcs_weight_layout(file);
    enum mcs_status st = mcs_weight_view(file, mcs_layout_reference(layout), &model);
    if (st == MCS_OK) {
        const int hugging = layout == LAYOUT_HUGGINGFACE_SAM && mcs_file_exists(config);
        /* A published model is known by its width alone: one message tells later which tensors it lacks. */
        if (hugging || !mcs_sam_config_known(model, c)) st = mcs_sam_config_source(model, hugging, folder, c);
        mcs_weight_file_close(model);
    }
    mcs_weight_file_close(file);
    return st;
}
