/* The configuration files of CLIP models, in each reference's form. */
#include "infer/convert/convert_clip.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *three(const double v[3])
{
    return json_pack("[f,f,f]", v[0], v[1], v[2]);
}

static json_t *preprocess(const struct clip_facts *c)
{
    return json_pack("{s:o, s:o}", "mean", three(c->mean), "std", three(c->std));
}

/* timm's names of ViTs; open_clip takes every size from them. */
static const char *timm_name(const struct clip_facts *c)
{
    static const struct {
        const char *name;
        int patch, width, layers, heads, image;
    } known[] = {{"vit_tiny_patch16_224", 16, 192, 12, 3, 224},   {"vit_small_patch16_224", 16, 384, 12, 6, 224},
                 {"vit_small_patch32_224", 32, 384, 12, 6, 224},  {"vit_base_patch16_224", 16, 768, 12, 12, 224},
                 {"vit_base_patch32_224", 32, 768, 12, 12, 224},  {"vit_base_patch16_384", 16, 768, 12, 12, 384},
                 {"vit_base_patch8_224", 8, 768, 12, 12, 224},    {"vit_large_patch16_224", 16, 1024, 24, 16, 224},
                 {"vit_large_patch14_224", 14, 1024, 24, 16, 224}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].patch == c->patch && known[i].width == c->v_width && known[i].layers == c->v_layers &&
            known[i].heads == c->v_heads && known[i].image == c->image_size && c->v_mlp == 4 * c->v_width)
            return known[i].name;
    return NULL;
}

/* open_clip's form for BERT base and a ViT that timm names; else mcsam's, which says every size. */
json_t *mcs_convert_open_clip_bert_json(const struct clip_facts *c)
{
    static const char bert[] = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract";
    const int base = c->t_width == 768 && c->t_layers == 12 && c->t_heads == 12 && c->t_mlp == 3072 &&
                     c->positions == 512 && c->types == 2 && c->vocab == 30522 && c->t_proj == (768 + c->embed) / 2;
    json_t *vision, *text;
    if (base && timm_name(c)) {
        vision = json_pack("{s:s, s:b, s:s, s:s, s:i}", "timm_model_name", timm_name(c), "timm_model_pretrained", 0,
                           "timm_pool", "", "timm_proj", "linear", "image_size", c->image_size);
        text = json_pack("{s:s, s:s, s:s, s:s, s:i}", "hf_model_name", bert, "hf_tokenizer_name", bert, "hf_proj_type",
                         "mlp", "hf_pooler_type", "cls_last_hidden_state_pooler", "context_length", c->context);
    } else {
        vision = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "image_size", c->image_size, "patch_size", c->patch,
                           "width", c->v_width, "layers", c->v_layers, "heads", c->v_heads, "mlp_width", c->v_mlp);
        text = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "context_length", c->context, "vocab_size",
                         c->vocab, "positions", c->positions, "types", c->types, "width", c->t_width, "layers",
                         c->t_layers, "heads", c->t_heads, "mlp_width", c->t_mlp, "proj_width", c->t_proj);
    }
    return json_pack("{s:{s:i, s:o, s:o}, s:o}", "model_cfg", "embed_dim", c->embed, "vision_cfg", vision, "text_cfg",
                     text, "preprocess_cfg", preprocess(c));
}

/* open_clip's mlp_ratio, of which it takes (int)(width * mlp_ratio): the file has nine digits of it. */
static double ratio(int mlp, int width)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.9g", (double)mlp / width);
    return (int)(width * strtod(digits, NULL)) == mlp ? (double)mlp / width : (mlp + 0.5) / width;
}

json_t *mcs_convert_open_clip_openai_json(const struct clip_facts *c, int custom_text)
{
    json_t *vision = json_pack("{s:i, s:i, s:i, s:i, s:i, s:f}", "image_size", c->image_size, "layers", c->v_layers,
                               "width", c->v_width, "head_width", c->v_width / c->v_heads, "patch_size", c->patch,
                               "mlp_ratio", ratio(c->v_mlp, c->v_width));
    json_t *text =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:f}", "context_length", c->positions, "vocab_size", c->vocab, "width",
                  c->t_width, "heads", c->t_heads, "layers", c->t_layers, "mlp_ratio", (double)c->t_mlp / c->t_width);
    json_t *model = json_pack("{s:i, s:b, s:o, s:o}", "embed_dim", c->embed, "quick_gelu", c->quick_gelu, "vision_cfg",
                              vision, "text_cfg", text);
    if (custom_text) json_object_set_new(model, "custom_text", json_true());
    return json_pack("{s:o, s:o}", "model_cfg", model, "preprocess_cfg", preprocess(c));
}

/* A tower as transformers describes it. */
static json_t *tower(const char *type, const char *act, double eps, int width, int layers, int heads, int mlp)
{
    return json_pack("{s:s, s:s, s:f, s:i, s:i, s:i, s:i}", "model_type", type, "hidden_act", act, "layer_norm_eps",
                     eps, "hidden_size", width, "num_hidden_layers", layers, "num_attention_heads", heads,
                     "intermediate_size", mlp);
}

static void put_vision(json_t *o, const struct clip_facts *c)
{
    json_object_set_new(o, "image_size", json_integer(c->image_size));
    json_object_set_new(o, "patch_size", json_integer(c->patch));
    json_object_set_new(o, "num_channels", json_integer(3));
    json_object_set_new(o, "projection_dim", json_integer(c->embed));
}

/* The two last pieces of the vocabulary begin and end a text. */
json_t *mcs_convert_clip_json(const struct clip_facts *c)
{
    const char *act = c->quick_gelu ? "quick_gelu" : "gelu";
    json_t *v = tower("clip_vision_model", act, c->v_eps, c->v_width, c->v_layers, c->v_heads, c->v_mlp);
    json_t *t = tower("clip_text_model", act, c->t_eps, c->t_width, c->t_layers, c->t_heads, c->t_mlp);
    put_vision(v, c);
    const struct {
        const char *key;
        int value;
    } rows[] = {{"vocab_size", c->vocab},       {"max_position_embeddings", c->positions},
                {"projection_dim", c->embed},   {"bos_token_id", c->vocab - 2},
                {"eos_token_id", c->vocab - 1}, {"pad_token_id", c->vocab - 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_object_set_new(t, rows[i].key, json_integer(rows[i].value));
    return json_pack("{s:[s], s:s, s:i, s:f, s:o, s:o}", "architectures", "CLIPModel", "model_type", "clip",
                     "projection_dim", c->embed, "logit_scale_init_value", 2.6592, "vision_config", v, "text_config",
                     t);
}

json_t *mcs_convert_port_json(const struct clip_facts *c)
{
    json_t *v = tower("vit", "gelu", c->v_eps, c->v_width, c->v_layers, c->v_heads, c->v_mlp);
    json_t *t = tower("bert", "gelu", c->t_eps, c->t_width, c->t_layers, c->t_heads, c->t_mlp);
    put_vision(v, c);
    json_object_set_new(v, "attention_dropout", json_real(0));
    const struct {
        const char *key;
        int value;
    } rows[] = {{"vocab_size", c->vocab},
                {"max_position_embeddings", c->positions},
                {"type_vocab_size", c->types},
                {"projection_dim", c->embed},
                {"pad_token_id", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_object_set_new(t, rows[i].key, json_integer(rows[i].value));
    json_object_set_new(t, "position_embedding_type", json_string("absolute"));
    json_object_set_new(t, "hidden_dropout_prob", json_real(0.1));
    json_object_set_new(t, "attention_probs_dropout_prob", json_real(0.1));
    json_t *map = json_pack("{s:s, s:s, s:s}", "AutoConfig", "configuration_biomed_clip.BiomedCLIPConfig", "AutoModel",
                            "modeling_biomed_clip.BiomedCLIPModel", "AutoProcessor",
                            "processing_biomed_clip.BiomedCLIPProcessor");
    json_t *projection = json_pack("{s:i, s:i, s:i, s:s, s:i}", "hidden_size", c->t_width, "intermediate_size",
                                   c->t_proj, "projection_dim", c->embed, "hidden_act", "gelu", "num_hidden_layers", 2);
    return json_pack("{s:[s], s:o, s:s, s:i, s:f, s:f, s:o, s:o, s:o, s:s}", "architectures", "BiomedCLIPModel",
                     "auto_map", map, "model_type", "clip", "projection_dim", c->embed, "initializer_factor", 1.0,
                     "logit_scale_init_value", 4.4454, "vision_config", v, "text_config", t, "text_projection_config",
                     projection, "torch_dtype", "float32");
}

json_t *mcs_convert_preprocessor_json(const struct clip_facts *c)
{
    return json_pack("{s:s, s:b, s:b, s:{s:i}, s:i, s:b, s:{s:i,s:i}, s:b, s:f, s:b, s:o, s:o}", "image_processor_type",
                     "CLIPImageProcessor", "do_convert_rgb", 1, "do_resize", 1, "size", "shortest_edge", c->image_size,
                     "resample", 3, "do_center_crop", 1, "crop_size", "height", c->image_size, "width", c->image_size,
                     "do_rescale", 1, "rescale_factor", 1 / 255.0, "do_normalize", 1, "image_mean", three(c->mean),
                     "image_std", three(c->std));
}
