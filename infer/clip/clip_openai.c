/* The keys of open_clip's own towers, OpenAI's: CLIPVisionCfg and CLIPTextCfg without timm_model_name and
 * hf_model_name. */
#include "infer/clip/clip_keys.h"
#include "infer/clip/clip_parts.h"

#include <string.h>

/* Of both towers. */
#define TOWER_KEYS                                                                                                     \
    {"width", NULL, NULL}, {"layers", NULL, NULL}, {"mlp_ratio", NULL, NULL}, {"ls_init_value", "null", NULL},         \
        {"act_kwargs", "null|{}", NULL}, {"norm_kwargs", NULL, NULL}, {"block_type", "null|\"default\"", NULL},        \
        {"qk_norm", "false", NULL}, {"scaled_cosine_attn", "false", NULL}, {"scale_heads", "false", NULL},             \
        {"scale_attn_inner", "false", NULL}, {"scale_attn", "false", NULL}, {"scale_fc", "false", NULL},               \
    {                                                                                                                  \
        "output_tokens", "false", NULL                                                                                 \
    }

static const struct clip_key vision_keys[] = {
    TOWER_KEYS,
    {"head_width", NULL, NULL},
    {"patch_size", NULL, NULL},
    {"image_size", NULL, NULL},
    {"patch_dropout", "0|0.0", NULL},
    {"attentional_pool", "false", NULL},
    {"attn_pooler_queries", NULL, NULL},
    {"attn_pooler_heads", NULL, NULL},
    {"no_ln_pre", "false", NULL},
    {"pos_embed_type", "\"learnable\"", NULL},
    {"final_ln_after_pool", "false", NULL},
    {"pool_type", "\"tok\"|\"avg\"", NULL},
    {"timm_model_name", "null|\"\"", NULL},
    {NULL, NULL, NULL},
};
/* Not read where no timm model is named. */
static const char *const timm_keys[] = {
    "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path", NULL};

static const struct clip_key text_keys[] = {
    TOWER_KEYS,
    {"heads", NULL, NULL},
    {"context_length", NULL, NULL},
    {"vocab_size", NULL, NULL},
    {"hf_tokenizer_name", "null|\"\"", NULL},
    {"tokenizer_mode", "null|\"\"", NULL},
    {"tokenizer_kwargs", "null|{}", NULL},
    {"embed_cls", "false", NULL},
    {"pad_id", NULL, NULL}, /* padding comes after the last token, which does not see it */
    {"eos_id", NULL, NULL},
    {"no_causal_mask", "false", NULL},
    {"final_ln_after_pool", NULL, NULL}, /* the norm is by token, so that its order does not matter */
    {"pool_type", "\"argmax\"|\"eos\"", NULL},
    {"proj_bias", "false", NULL},
    {"proj_type", "\"linear\"", NULL},
    {"hf_model_name", "null|\"\"", NULL},
    {NULL, NULL, NULL},
};
static const char *const hf_keys[] = {"hf_model_pretrained", "hf_proj_type", "hf_pooler_type", NULL};

/* norm_kwargs: {"eps": x} */
static enum mcs_status read_eps(const char *path, const char *group, const json_t *tower, float *eps)
{
    static const struct clip_key keys[] = {{"eps", NULL, NULL}, {NULL, NULL, NULL}};
    const json_t *norm = json_object_get(tower, "norm_kwargs");
    double value = 1e-5; /* torch's default */
    if (norm && !json_is_null(norm)) {
        MCS_TRY(mcs_clip_check_keys(path, group, norm, keys, NULL));
        MCS_TRY(mcs_clip_get_number(path, group, norm, "eps", &value));
    }
    *eps = (float)value;
    return MCS_OK;
}

/* Sizes of 1 to 2^20 only, so that products of two fit an int. */
static enum mcs_status read_tower(const char *path, const char *group, const json_t *tower, int *width, int *depth,
                                  int *mlp)
{
    double ratio = 4;
    MCS_REQUIRE(!json_is_array(json_object_get(tower, "layers")), MCS_E_DATA,
                "%s: %s.layers is a list: a ResNet with attention pooling; mcsam supports vision transformers, whose "
                "layers is a whole number",
                path, group);
    MCS_TRY(mcs_clip_get_size(path, group, tower, "width", width));
    MCS_TRY(mcs_clip_get_size(path, group, tower, "layers", depth));
    MCS_TRY(mcs_clip_get_number(path, group, tower, "mlp_ratio", &ratio));
    MCS_REQUIRE(*width > 0 && *width <= 1 << 20 && ratio > 0 && ratio * *width < 1 << 20, MCS_E_DATA,
                "%s: %s: a width of %d with an mlp_ratio of %g; want 1 to 1048576", path, group, *width, ratio);
    *mlp = (int)(*width * ratio);
    return MCS_OK;
}

enum mcs_status mcs_clip_openai_vision(const char *path, const json_t *v, int quick_gelu, struct clip_config *c)
{
    int head_width = 64;
    MCS_TRY(mcs_clip_check_keys(path, "vision_cfg", v, vision_keys, timm_keys));
    c->v_openai = 1;
    c->v_quick_gelu = quick_gelu;
    c->v_width = 768, c->v_depth = 12, c->patch = 16, c->image_size = 224;
    MCS_TRY(read_tower(path, "vision_cfg", v, &c->v_width, &c->v_depth, &c->v_mlp));
    MCS_TRY(mcs_clip_check_values(path, "vision_cfg", v, vision_keys));
    MCS_TRY(mcs_clip_get_size(path, "vision_cfg", v, "head_width", &head_width));
    MCS_TRY(mcs_clip_get_size(path, "vision_cfg", v, "patch_size", &c->patch));
    MCS_TRY(mcs_clip_get_size(path, "vision_cfg", v, "image_size", &c->image_size));
    MCS_TRY(read_eps(path, "vision_cfg.norm_kwargs", v, &c->v_eps));
    MCS_REQUIRE(head_width > 0 && c->v_width % head_width == 0, MCS_E_DATA,
                "%s: vision_cfg.width %d is not a multiple of head_width %d", path, c->v_width, head_width);
    c->v_heads = c->v_width / head_width;
    const char *pool = json_string_value(json_object_get(v, "pool_type"));
    c->v_pool = pool && !strcmp(pool, "avg") ? CLIP_POOL_MEAN : CLIP_POOL_FIRST;
    return MCS_OK;
}

enum mcs_status mcs_clip_openai_text(const char *path, const json_t *t, int quick_gelu, struct clip_config *c)
{
    int eos = 2;
    MCS_TRY(mcs_clip_check_keys(path, "text_cfg", t, text_keys, hf_keys));
    MCS_TRY(mcs_clip_check_values(path, "text_cfg", t, text_keys));
    c->t_openai = 1;
    c->t_quick_gelu = quick_gelu;
    c->t_width = 512, c->t_heads = 8, c->t_depth = 12, c->context = 77, c->vocab = 49408, c->dropout = 0;
    MCS_TRY(read_tower(path, "text_cfg", t, &c->t_width, &c->t_depth, &c->t_mlp));
    MCS_TRY(mcs_clip_get_size(path, "text_cfg", t, "heads", &c->t_heads));
    MCS_TRY(mcs_clip_get_size(path, "text_cfg", t, "context_length", &c->context));
    MCS_TRY(mcs_clip_get_size(path, "text_cfg", t, "vocab_size", &c->vocab));
    MCS_TRY(mcs_clip_get_size(path, "text_cfg", t, "eos_id", &eos));
    MCS_TRY(read_eps(path, "text_cfg.norm_kwargs", t, &c->t_eps));
    const char *pool = json_string_value(json_object_get(t, "pool_type"));
    MCS_REQUIRE(!pool || strcmp(pool, "eos") != 0 || eos == c->vocab - 1, MCS_E_DATA,
                "%s: text_cfg.pool_type is \"eos\" with an eos_id of %d; mcsam supports %d, the tokenizer's last", path,
                eos, c->vocab - 1);
    c->positions = c->context;
    return MCS_OK;
}
