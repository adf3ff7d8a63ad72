/* A CLIP model's open_clip_config.json as open_clip 3 writes it (CLIPVisionCfg, CLIPTextCfg, PreprocessCfg): a timm
 * image tower or OpenAI's, a BERT text tower or OpenAI's (clip_openai.c). A key that changes the result and asks for
 * something else than mcsam's towers is refused by name. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "infer/clip/clip_keys.h"
#include "infer/clip/clip_parts.h"

#include <stdio.h>
#include <string.h>

static const struct clip_key model_keys[] = {
    {"embed_dim", NULL, NULL},
    {"vision_cfg", NULL, NULL},
    {"text_cfg", NULL, NULL},
    {"quick_gelu", NULL, NULL}, /* timm's and BERT's towers have GELU whatever it says */
    {"custom_text", NULL, NULL},
    {"init_logit_scale", NULL, NULL},
    {"init_logit_bias", "null", NULL},
    {"cast_dtype", NULL, NULL},
    {"nonscalar_logit_scale", NULL, NULL},
    {"output_dict", NULL, NULL},
    {NULL, NULL, NULL},
};
static const struct clip_key vision_keys[] = {
    {"timm_model_name", NULL, NULL},
    {"timm_model_pretrained", NULL, NULL},
    {"timm_pool", "\"\"|\"token\"|\"avg\"", NULL},
    {"timm_proj", "\"linear\"", NULL},
    {"timm_proj_bias", "false", NULL},
    {"timm_drop", "0|0.0", NULL},
    {"timm_drop_path", "null|0|0.0", NULL},
    {"patch_dropout", "0|0.0", NULL},
    {"output_tokens", "false", NULL},
    {"image_size", NULL, NULL},
    {NULL, NULL, NULL},
};
static const struct clip_key text_keys[] = {
    {"hf_model_name", NULL, NULL},
    {"hf_model_pretrained", NULL, NULL},
    {"hf_tokenizer_name", NULL, "OpenAI's BPE tokenizer"},
    {"hf_proj_type", "\"mlp\"|\"linear\"|null", NULL},
    {"hf_pooler_type", "\"cls_last_hidden_state_pooler\"|\"mean_pooler\"|\"cls_pooler\"", NULL},
    {"tokenizer_mode", "null|\"\"", NULL},
    {"tokenizer_kwargs", "null|{}|{\"clean\":\"whitespace\"}", NULL},
    {"output_tokens", "false", NULL},
    {"context_length", NULL, NULL},
    {"vocab_size", NULL, NULL},
    {NULL, NULL, NULL},
};
static const struct clip_key preprocess_keys[] = {
    {"mode", "\"RGB\"", NULL},
    {"interpolation", "\"bicubic\"", NULL},
    {"resize_mode", "\"shortest\"", NULL},
    {NULL, NULL, NULL},
};
static const struct clip_key bert_keys[] = {
    {"model_type", "\"bert\"", NULL},
    {"hidden_act", "\"gelu\"", NULL},
    {"position_embedding_type", "\"absolute\"", NULL},
    {"is_decoder", "false", NULL},
    {"add_cross_attention", "false", NULL},
    {"pad_token_id", "0", NULL},
    {NULL, NULL, NULL},
};
/* Keys of open_clip's own towers, which it does not read where a timm model or a Hugging Face model is named. */
static const char *const other_towers[] = {
    "layers",
    "width",
    "heads",
    "head_width",
    "mlp_ratio",
    "patch_size",
    "ls_init_value",
    "attentional_pool",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "no_ln_pre",
    "pos_embed_type",
    "final_ln_after_pool",
    "pool_type",
    "act_kwargs",
    "norm_kwargs",
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
    "embed_cls",
    "pad_id",
    "eos_id",
    "no_causal_mask",
    "proj_bias",
    "proj_type",
    NULL,
};

/* The sizes of timm's vit_SIZE_patchP_S; a suffix ".weights" names pretrained weights. */
static enum mcs_status read_timm_name(const char *path, const json_t *vision, struct clip_config *c)
{
    static const struct {
        const char *name;
        int width, depth, heads;
    } sizes[] = {{"tiny", 192, 12, 3},
                 {"small", 384, 12, 6},
                 {"base", 768, 12, 12},
                 {"large", 1024, 24, 16},
                 {"huge", 1280, 32, 16}};
    const char *name = json_string_value(json_object_get(vision, "timm_model_name"));
    int end = 0;
    MCS_REQUIRE(name, MCS_E_DATA, "%s: vision_cfg.timm_model_name is not a text", path);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char form[64];
        snprintf(form, sizeof form, "vit_%s_patch%%5d_%%5d%%n", sizes[i].name);
        if (sscanf(name, form, &c->patch, &c->image_size, &end) != 2 || (name[end] && name[end] != '.')) continue;
        c->v_width = sizes[i].width;
        c->v_depth = sizes[i].depth;
        c->v_heads = sizes[i].heads;
        c->v_mlp = 4 * c->v_width;
        return MCS_OK;
    }
    return MCS_FAIL(MCS_E_DATA,
                    "%s: vision_cfg.timm_model_name is \"%s\"; mcsam supports timm's vit_{tiny,small,base,large,huge}_"
                    "patchP_S, and other plain ViTs whose sizes are in \"mcsam_cfg\": {\"vision_cfg\": {...}}",
                    path, name);
}

/* The sizes of the BERT model: from `file`, its config.json. */
static enum mcs_status read_bert(const char *file, struct clip_config *c)
{
    json_t *root;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_json_read(file, 1 << 20, 0, &root));
    MCS_TRY_GOTO(mcs_clip_check_values(file, "config", root, bert_keys), st, done);
    const struct {
        const char *key;
        int *dst;
    } sizes[] = {{"hidden_size", &c->t_width},
                 {"num_hidden_layers", &c->t_depth},
                 {"num_attention_heads", &c->t_heads},
                 {"intermediate_size", &c->t_mlp},
                 {"max_position_embeddings", &c->positions},
                 {"type_vocab_size", &c->types},
                 {"vocab_size", &c->vocab}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        MCS_TRY_GOTO(mcs_clip_get_size(file, "config", root, sizes[i].key, sizes[i].dst), st, done);
    const json_t *eps = json_object_get(root, "layer_norm_eps"), *p = json_object_get(root, "hidden_dropout_prob"),
                 *attention = json_object_get(root, "attention_probs_dropout_prob");
    if (json_is_number(eps)) c->t_eps = (float)json_number_value(eps);
    if (json_is_number(p)) c->dropout = (float)json_number_value(p);
    if (p && attention && json_number_value(p) != json_number_value(attention))
        st = MCS_FAIL(MCS_E_DATA, "%s: attention_probs_dropout_prob differs from hidden_dropout_prob; mcsam has one",
                      file);
done:
    json_decref(root);
    return st;
}

/* The BERT model that hf_model_name names: its config.json in the model's folder, else in the folder of that name, else
 * a BERT base. */
static enum mcs_status read_hf_name(const char *path, const char *folder, const json_t *text, struct clip_config *c)
{
    static const char *const others[] = {"roberta", "mt5", "m2m", "distil", "electra", "deberta", "albert", "mpnet"};
    const char *name = json_string_value(json_object_get(text, "hf_model_name"));
    char file[MCS_PATH_BYTES];
    MCS_REQUIRE(name, MCS_E_DATA, "%s: text_cfg.hf_model_name is not a text", path);
    MCS_TRY(mcs_path(file, "%s/config.json", folder));
    if (mcs_file_exists(file)) return read_bert(file, c);
    MCS_TRY(mcs_path(file, "%s/config.json", name));
    if (mcs_file_exists(file)) return read_bert(file, c);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        MCS_REQUIRE(!strstr(name, others[i]), MCS_E_DATA,
                    "%s: text_cfg.hf_model_name is \"%s\"; mcsam supports BERT models only", path, name);
    return MCS_OK;
}

static enum mcs_status read_preprocess(const char *path, const json_t *pre, struct clip_config *c)
{
    int size = c->image_size;
    MCS_TRY(mcs_clip_check_values(path, "preprocess_cfg", pre, preprocess_keys));
    MCS_TRY(mcs_clip_get_size(path, "preprocess_cfg", pre, "size", &size));
    MCS_REQUIRE(size == c->image_size, MCS_E_DATA, "%s: preprocess_cfg.size is %d, the image tower takes %d", path,
                size, c->image_size);
    return MCS_OK;
}

static int names(const json_t *tower, const char *key)
{
    const json_t *v = json_object_get(tower, key);
    return v && !json_is_null(v) && !(json_is_string(v) && !*json_string_value(v));
}

/* open_clip's own two towers: its configurations have vision_cfg.width and text_cfg.heads. mcsam's own layout has
 * vision_cfg.heads, which open_clip's has not. */
static int is_openai(const json_t *vision, const json_t *text)
{
    return json_object_get(vision, "width") && !json_object_get(vision, "heads") && json_object_get(text, "heads");
}

int mcs_clip_is_open_clip(const json_t *root)
{
    const json_t *model = json_object_get(root, "model_cfg");
    const json_t *v = json_object_get(model, "vision_cfg"), *t = json_object_get(model, "text_cfg");
    return names(v, "timm_model_name") || names(t, "hf_model_name") || is_openai(v, t);
}

static enum mcs_status read_timm(const char *path, const json_t *v, const json_t *own, struct clip_config *c)
{
    MCS_TRY(mcs_clip_check_keys(path, "vision_cfg", v, vision_keys, other_towers));
    MCS_TRY(mcs_clip_check_values(path, "vision_cfg", v, vision_keys));
    const json_t *pool = json_object_get(v, "timm_pool");
    c->v_pool = !pool || !strcmp(json_string_value(pool), "avg") ? CLIP_POOL_MEAN : CLIP_POOL_FIRST;
    const int given = json_object_get(own, "vision_cfg") != NULL;
    if (!given) MCS_TRY(read_timm_name(path, v, c));
    int size = c->image_size;
    MCS_TRY(mcs_clip_get_size(path, "vision_cfg", v, "image_size", &size));
    MCS_REQUIRE(given || size == c->image_size, MCS_E_DATA,
                "%s: vision_cfg.image_size is %d, but %s takes images of %d", path, size,
                json_string_value(json_object_get(v, "timm_model_name")), c->image_size);
    c->image_size = size;
    return MCS_OK;
}

static enum mcs_status read_hf(const char *path, const char *folder, const json_t *t, struct clip_config *c)
{
    MCS_TRY(mcs_clip_check_keys(path, "text_cfg", t, text_keys, other_towers));
    MCS_TRY(mcs_clip_check_values(path, "text_cfg", t, text_keys));
    const json_t *tokenizer = json_object_get(t, "hf_tokenizer_name"), *proj = json_object_get(t, "hf_proj_type");
    MCS_REQUIRE(json_is_string(tokenizer) && *json_string_value(tokenizer), MCS_E_DATA,
                "%s: text_cfg.hf_tokenizer_name is empty, for which open_clip takes OpenAI's BPE tokenizer; mcsam "
                "supports the BERT tokenizer of the folder",
                path);
    MCS_TRY(read_hf_name(path, folder, t, c));
    c->context = 77; /* open_clip's default */
    MCS_TRY(mcs_clip_get_size(path, "text_cfg", t, "context_length", &c->context));
    const char *pool = json_string_value(json_object_get(t, "hf_pooler_type"));
    c->t_pool = !pool || !strcmp(pool, "mean_pooler") ? CLIP_POOL_MEAN
                : !strcmp(pool, "cls_pooler")         ? CLIP_POOL_TANH
                                                      : CLIP_POOL_FIRST;
    c->t_proj = (c->t_width + c->embed) / 2;
    if (proj) c->t_proj = json_is_null(proj) ? -1 : !strcmp(json_string_value(proj), "linear") ? 0 : c->t_proj;
    MCS_REQUIRE(c->t_proj >= 0 || c->t_width == c->embed, MCS_E_DATA,
                "%s: text_cfg.hf_proj_type is null, but the text model's width is %d and embed_dim %d; open_clip takes "
                "equal ones only",
                path, c->t_width, c->embed);
    return MCS_OK;
}

enum mcs_status mcs_clip_open_clip_read(const char *path, const char *folder, const json_t *root, struct clip_config *c)
{
    const json_t *model = json_object_get(root, "model_cfg"), *pre = json_object_get(root, "preprocess_cfg"),
                 *own = json_object_get(root, "mcsam_cfg");
    const json_t *v = json_object_get(model, "vision_cfg"), *t = json_object_get(model, "text_cfg");
    const int timm = names(v, "timm_model_name"), hf = names(t, "hf_model_name");
    int quick_gelu;
    MCS_TRY(mcs_clip_check_keys(path, "model_cfg", model, model_keys, NULL));
    MCS_TRY(mcs_clip_check_values(path, "model_cfg", model, model_keys));
    MCS_TRY(mcs_clip_get_size(path, "model_cfg", model, "embed_dim", &c->embed));
    MCS_TRY(mcs_clip_get_flag(path, "model_cfg", model, "quick_gelu", &quick_gelu));
    MCS_TRY(mcs_clip_get_flag(path, "model_cfg", model, "custom_text", &c->custom_text));
    MCS_TRY(timm ? read_timm(path, v, own, c) : mcs_clip_openai_vision(path, v, quick_gelu, c));
    MCS_TRY(hf ? read_hf(path, folder, t, c) : mcs_clip_openai_text(path, t, quick_gelu, c));
    /* A BERT's names begin with "text." in any case; with both of OpenAI's towers, files are read in the other names
     * (data/weights/layout.h). */
    if (hf || !timm) c->custom_text = 0;
    if (own) {
        const int t_proj = c->t_proj;
        MCS_TRY(mcs_clip_sizes_read(path, timm ? json_object_get(own, "vision_cfg") : NULL,
                                    hf ? json_object_get(own, "text_cfg") : NULL, c));
        if (t_proj > 0 && !json_object_get(json_object_get(own, "text_cfg"), "proj_width"))
            c->t_proj = (c->t_width + c->embed) / 2;
    }
    return read_preprocess(path, pre, c);
}

/* The folder's tokenizer_config.json, where there is one. Its model_max_length may be 10^30, which is no 64-bit
 * integer. */
enum mcs_status mcs_clip_tokenizer_config_check(const char *folder)
{
    static const struct clip_key keys[] = {
        {"do_lower_case", "true", NULL},
        {"tokenize_chinese_chars", "true", NULL},
        {"strip_accents", "null|true", NULL},
        {"do_basic_tokenize", "true", NULL},
        {"never_split", "null|[]", NULL},
        {"tokenizer_class",
         "null|\"BertTokenizer\"|\"BertTokenizerFast\"|\"PreTrainedTokenizerFast\"|\"TokenizersBackend\"", NULL},
        {"padding_side", "\"right\"", NULL},
        {"truncation_side", "\"right\"", NULL},
        {"cls_token", "\"[CLS]\"", NULL},
        {"sep_token", "\"[SEP]\"", NULL},
        {"unk_token", "\"[UNK]\"", NULL},
        {"pad_token", "\"[PAD]\"", NULL},
        {NULL, NULL, NULL},
    };
    char path[MCS_PATH_BYTES];
    json_t *root;
    MCS_TRY(mcs_path(path, "%s/tokenizer_config.json", folder));
    if (!mcs_file_exists(path)) return MCS_OK;
    MCS_TRY(mcs_json_read(path, 4 << 20, JSON_DECODE_INT_AS_REAL, &root));
    const enum mcs_status st = mcs_clip_check_values(path, "tokenizer", root, keys);
    json_decref(root);
    return st;
}
