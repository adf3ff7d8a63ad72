/* The configuration of a CLIP as transformers writes it: config.json (CLIPConfig) and preprocessor_config.json
 * (CLIPImageProcessor); and of MedCLIP-SAMv2's port of BiomedCLIP, whose text_config is a BERT's. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "infer/clip/clip_keys.h"
#include "infer/clip/clip_parts.h"

#include <string.h>

/* Keys that every configuration of transformers may have and that change no embedding: what its PretrainedConfig writes
 * (generation, labels, bookkeeping), up to versions that wrote all of it into each tower. */
static const char *const general_keys[] = {"_attn_implementation_autoset",
                                           "_name_or_path",
                                           "add_cross_attention",
                                           "architectures",
                                           "attn_implementation",
                                           "auto_map",
                                           "bad_words_ids",
                                           "begin_suppress_tokens",
                                           "bos_token_id",
                                           "chunk_size_feed_forward",
                                           "classifier_dropout",
                                           "cross_attention_hidden_size",
                                           "decoder_start_token_id",
                                           "diversity_penalty",
                                           "do_sample",
                                           "dtype",
                                           "early_stopping",
                                           "encoder_no_repeat_ngram_size",
                                           "eos_token_id",
                                           "exponential_decay_length_penalty",
                                           "finetuning_task",
                                           "forced_bos_token_id",
                                           "forced_eos_token_id",
                                           "gradient_checkpointing",
                                           "id2label",
                                           "initializer_factor",
                                           "initializer_range",
                                           "is_decoder",
                                           "is_encoder_decoder",
                                           "label2id",
                                           "length_penalty",
                                           "logit_scale_init_value",
                                           "max_length",
                                           "min_length",
                                           "no_repeat_ngram_size",
                                           "num_beam_groups",
                                           "num_beams",
                                           "num_return_sequences",
                                           "output_attentions",
                                           "output_hidden_states",
                                           "output_scores",
                                           "pad_token_id",
                                           "prefix",
                                           "problem_type",
                                           "projection_dim",
                                           "remove_invalid_values",
                                           "repetition_penalty",
                                           "return_dict",
                                           "return_dict_in_generate",
                                           "sep_token_id",
                                           "suppress_tokens",
                                           "task_specific_params",
                                           "temperature",
                                           "text_config_dict",
                                           "text_projection_config_dict",
                                           "tf_legacy_loss",
                                           "tie_encoder_decoder",
                                           "tie_word_embeddings",
                                           "tokenizer_class",
                                           "top_k",
                                           "top_p",
                                           "torch_dtype",
                                           "torchscript",
                                           "transformers_version",
                                           "typical_p",
                                           "use_bfloat16",
                                           "use_cache",
                                           "vision_config_dict",
                                           NULL};

/* Rules of the towers. Sizes are read elsewhere; dropout acts in training alone, where finetune has its own. */
#define TOWER_KEYS                                                                                                     \
    {"hidden_size", NULL, NULL}, {"num_hidden_layers", NULL, NULL}, {"num_attention_heads", NULL, NULL},               \
        {"intermediate_size", NULL, NULL}, {"layer_norm_eps", NULL, NULL}, {"dropout", NULL, NULL},                    \
        {"pruned_heads", "{}", NULL},                                                                                  \
    {                                                                                                                  \
        "model_type", NULL, NULL                                                                                       \
    }
#define VISION_KEYS                                                                                                    \
    TOWER_KEYS, {"image_size", NULL, NULL}, {"patch_size", NULL, NULL}, {"num_channels", "3", NULL},                   \
    {                                                                                                                  \
        "attention_dropout", "0|0.0", NULL                                                                             \
    }
static const struct clip_key model_keys[] = {{"model_type", "\"clip\"", NULL},
                                             {"vision_config", NULL, NULL},
                                             {"text_config", NULL, NULL},
                                             {"text_projection_config", NULL, NULL},
                                             {NULL, NULL, NULL}};
static const struct clip_key vision_keys[] = {
    VISION_KEYS, {"hidden_act", "\"quick_gelu\"|\"gelu\"", NULL}, {NULL, NULL, NULL}};
static const struct clip_key port_vision_keys[] = {VISION_KEYS,
                                                   {"hidden_act", "\"gelu\"", NULL},
                                                   {"attention_probs_dropout_prob", NULL, NULL},
                                                   {"hidden_dropout_prob", NULL, NULL},
                                                   {"qkv_bias", "true", NULL},
                                                   {NULL, NULL, NULL}};
static const struct clip_key text_keys[] = {TOWER_KEYS,
                                            {"hidden_act", "\"quick_gelu\"|\"gelu\"", NULL},
                                            {"max_position_embeddings", NULL, NULL},
                                            {"vocab_size", NULL, NULL},
                                            {"attention_dropout", "0|0.0", NULL},
                                            {NULL, NULL, NULL}};
static const struct clip_key bert_keys[] = {TOWER_KEYS,
                                            {"hidden_act", "\"gelu\"", NULL},
                                            {"max_position_embeddings", NULL, NULL},
                                            {"vocab_size", NULL, NULL},
                                            {"type_vocab_size", NULL, NULL},
                                            {"hidden_dropout_prob", NULL, NULL},
                                            {"attention_probs_dropout_prob", NULL, NULL},
                                            {"position_embedding_type", "\"absolute\"", NULL},
                                            {"is_decoder", "false", NULL},
                                            {"pad_token_id", "0", NULL},
                                            {NULL, NULL, NULL}};
static const struct clip_key projection_keys[] = {TOWER_KEYS, {"hidden_act", "\"gelu\"", NULL}, {NULL, NULL, NULL}};
static const struct clip_key image_keys[] = {{"do_resize", "true", NULL},
                                             {"do_center_crop", "true", NULL},
                                             {"do_rescale", "true", NULL},
                                             {"do_normalize", "true", NULL},
                                             {"do_convert_rgb", "true|null", NULL},
                                             {"rescale_factor", "0.00392156863", NULL},
                                             {"resample", "3", NULL},
                                             {"do_pad", "false|null", NULL},
                                             {"image_seq_length", "null", NULL},
                                             {NULL, NULL, NULL}};
/* Keys of an image processor that are read elsewhere or change no image. */
static const char *const image_more[] = {"_processor_class",  "_valid_processor_keys",
                                         "crop_size",         "data_format",
                                         "default_to_square", "device",
                                         "disable_grouping",  "feature_extractor_type",
                                         "image_mean",        "image_processor_type",
                                         "image_std",         "input_data_format",
                                         "pad_size",          "processor_class",
                                         "return_tensors",    "size",
                                         "size_divisor",      NULL};

/* Every key must have a rule or be a general one; the values must be supported. */
static enum mcs_status check(const char *path, const char *group, const json_t *o, const struct clip_key *rules)
{
    MCS_TRY(mcs_clip_check_keys(path, group, o, rules, general_keys));
    return mcs_clip_check_values(path, group, o, rules);
}

/* Keys of a tower, in transformers' names. */
struct sizes {
    int *width, *depth, *heads, *mlp;
};

static enum mcs_status read_tower(const char *path, const char *group, const json_t *o, const struct sizes *s,
                                  float *eps)
{
    double value = (double)*eps;
    MCS_TRY(mcs_clip_get_size(path, group, o, "hidden_size", s->width));
    MCS_TRY(mcs_clip_get_size(path, group, o, "num_hidden_layers", s->depth));
    MCS_TRY(mcs_clip_get_size(path, group, o, "num_attention_heads", s->heads));
    MCS_TRY(mcs_clip_get_size(path, group, o, "intermediate_size", s->mlp));
    MCS_TRY(mcs_clip_get_number(path, group, o, "layer_norm_eps", &value));
    *eps = (float)value;
    return MCS_OK;
}

/* transformers' default is QuickGELU. */
static int is_quick(const json_t *tower)
{
    const char *act = json_string_value(json_object_get(tower, "hidden_act"));
    return !act || !strcmp(act, "quick_gelu");
}

static enum mcs_status read_vision(const char *path, const json_t *v, int openai, struct clip_config *c)
{
    const struct sizes s = {&c->v_width, &c->v_depth, &c->v_heads, &c->v_mlp};
    c->v_openai = openai;
    c->patch = openai ? 32 : 16; /* other defaults are BiomedCLIP's sizes too */
    c->v_eps = openai ? 1e-5f : 1e-12f;
    MCS_TRY(check(path, "vision_config", v, openai ? vision_keys : port_vision_keys));
    c->v_quick_gelu = openai && is_quick(v);
    MCS_TRY(mcs_clip_get_size(path, "vision_config", v, "image_size", &c->image_size));
    MCS_TRY(mcs_clip_get_size(path, "vision_config", v, "patch_size", &c->patch));
    return read_tower(path, "vision_config", v, &s, &c->v_eps);
}

static enum mcs_status read_text(const char *path, const json_t *t, struct clip_config *c)
{
    const struct sizes s = {&c->t_width, &c->t_depth, &c->t_heads, &c->t_mlp};
    c->t_openai = 1;
    c->t_width = 512, c->t_heads = 8, c->t_mlp = 2048, c->positions = 77, c->vocab = 49408, c->dropout = 0;
    c->t_eps = 1e-5f;
    int eos = 2; /* stands for the largest id: files of the first versions have a wrong number */
    MCS_TRY(check(path, "text_config", t, text_keys));
    c->t_quick_gelu = is_quick(t);
    MCS_TRY(mcs_clip_get_size(path, "text_config", t, "max_position_embeddings", &c->positions));
    MCS_TRY(mcs_clip_get_size(path, "text_config", t, "vocab_size", &c->vocab));
    MCS_TRY(mcs_clip_get_size(path, "text_config", t, "eos_token_id", &eos));
    MCS_REQUIRE(eos == 2 || eos == c->vocab - 1, MCS_E_DATA,
                "%s: text_config.eos_token_id is %d; mcsam supports %d, the tokenizer's last, and 2", path, eos,
                c->vocab - 1);
    c->context = c->positions;
    return read_tower(path, "text_config", t, &s, &c->t_eps);
}

static enum mcs_status read_bert(const char *path, const json_t *root, const json_t *t, struct clip_config *c)
{
    const struct sizes s = {&c->t_width, &c->t_depth, &c->t_heads, &c->t_mlp};
    const json_t *projection = json_object_get(root, "text_projection_config");
    double dropout = (double)c->dropout;
    MCS_TRY(check(path, "text_config", t, bert_keys));
    MCS_TRY(check(path, "text_projection_config", projection, projection_keys));
    MCS_TRY(mcs_clip_get_size(path, "text_config", t, "max_position_embeddings", &c->positions));
    MCS_TRY(mcs_clip_get_size(path, "text_config", t, "vocab_size", &c->vocab));
    MCS_TRY(mcs_clip_get_size(path, "text_config", t, "type_vocab_size", &c->types));
    MCS_TRY(mcs_clip_get_number(path, "text_config", t, "hidden_dropout_prob", &dropout));
    MCS_TRY(mcs_clip_get_size(path, "text_projection_config", projection, "intermediate_size", &c->t_proj));
    c->dropout = (float)dropout;
    c->context = c->positions;
    return read_tower(path, "text_config", t, &s, &c->t_eps);
}

/* S, {"shortest_edge": S} or {"height": S, "width": S}, whichever `keys` (one or two, NULL at the end) allow. */
static enum mcs_status check_side(const char *path, const json_t *o, const char *key, const char *const *keys, int side)
{
    const json_t *v = json_object_get(o, key);
    int same = !v || (json_is_integer(v) && json_integer_value(v) == side);
    if (json_is_object(v)) {
        same = 1;
        for (const char *const *k = keys; *k; k++) same &= json_integer_value(json_object_get(v, *k)) == side;
        same &= json_object_size(v) == (keys[1] ? 2 : 1);
    }
    MCS_REQUIRE(same, MCS_E_DATA, "%s: %s: mcsam supports {%s: %d}, the image tower's size", path, key,
                keys[1] ? "\"height\", \"width\"" : "\"shortest_edge\"", side);
    return MCS_OK;
}

static enum mcs_status read_three(const char *path, const json_t *o, const char *key, float dst[3])
{
    const json_t *v = json_object_get(o, key);
    if (!v) return MCS_OK;
    for (size_t i = 0; i < 3; i++) {
        MCS_REQUIRE(json_array_size(v) == 3 && json_is_number(json_array_get(v, i)), MCS_E_DATA,
                    "%s: %s is not three numbers", path, key);
        dst[i] = (float)json_number_value(json_array_get(v, i));
    }
    return MCS_OK;
}

static enum mcs_status read_images(const char *path, const json_t *o, struct clip_config *c)
{
    static const char *const shortest[] = {"shortest_edge", NULL}, *const both[] = {"height", "width", NULL};
    MCS_TRY(mcs_clip_check_keys(path, "preprocessor", o, image_keys, image_more));
    MCS_TRY(mcs_clip_check_values(path, "preprocessor", o, image_keys));
    MCS_TRY(check_side(path, o, "size", shortest, c->image_size));
    MCS_TRY(check_side(path, o, "crop_size", both, c->image_size));
    MCS_TRY(read_three(path, o, "image_mean", c->mean));
    MCS_TRY(read_three(path, o, "image_std", c->std));
    return mcs_clip_check_normalisation(path, c->mean, c->std);
}

static enum mcs_status read_root(const char *path, const json_t *root, struct clip_config *c)
{
    const json_t *v = json_object_get(root, "vision_config"), *t = json_object_get(root, "text_config");
    const char *kind = json_string_value(json_object_get(t, "model_type"));
    const int bert = kind && !strcmp(kind, "bert");
    MCS_REQUIRE(json_is_object(v) && json_is_object(t), MCS_E_DATA,
                "%s: has no vision_config and text_config: not the configuration of a CLIP", path);
    MCS_TRY(check(path, "config", root, model_keys));
    MCS_TRY(mcs_clip_get_size(path, "config", root, "projection_dim", &c->embed));
    c->hugging_face = 1;
    MCS_TRY(read_vision(path, v, !bert, c));
    return bert ? read_bert(path, root, t, c) : read_text(path, t, c);
}

enum mcs_status mcs_clip_hugging_face_read(const char *folder, struct clip_config *c)
{
    char path[MCS_PATH_BYTES];
    json_t *root;
    MCS_TRY(mcs_path(path, "%s/config.json", folder));
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    enum mcs_status st = read_root(path, root, c);
    json_decref(root);
    MCS_TRY(st);
    MCS_TRY(mcs_path(path, "%s/preprocessor_config.json", folder));
    if (!mcs_file_exists(path)) return MCS_OK;
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    st = read_images(path, root, c);
    json_decref(root);
    return st;
}
