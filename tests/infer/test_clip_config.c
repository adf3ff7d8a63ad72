/* CLIP's sizes in open_clip_config.json: BiomedCLIP's values are the defaults, each key has limits, and a saved model
 * reads back the same. */
#include "data/io/file.h"
#include "infer/clip/clip_parts.h"
#include "infer/weights.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(":", "");
    OK(mcs_folder_make(shell_path("m")));
}
TestSuite(clip_config, .init = setup, .fini = shell_close);

/* Every size with its group and key in the file, its value in microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224,
 * and another valid value. */
static const struct {
    const char *group, *key;
    size_t at;
    int biomed, other;
} sizes[] = {
#define SIZE(group, key, field, biomed, other)                                                                         \
    {                                                                                                                  \
        group, key, offsetof(struct clip_config, field), biomed, other                                                 \
    }
    SIZE("", "embed_dim", embed, 512, 24),
    SIZE("vision_cfg", "image_size", image_size, 224, 32),
    SIZE("vision_cfg", "patch_size", patch, 16, 4),
    SIZE("vision_cfg", "width", v_width, 768, 36),
    SIZE("vision_cfg", "layers", v_depth, 12, 5),
    SIZE("vision_cfg", "heads", v_heads, 12, 6),
    SIZE("vision_cfg", "mlp_width", v_mlp, 3072, 44),
    SIZE("text_cfg", "context_length", context, 256, 10),
    SIZE("text_cfg", "vocab_size", vocab, 30522, 99),
    SIZE("text_cfg", "positions", positions, 512, 11),
    SIZE("text_cfg", "types", types, 2, 3),
    SIZE("text_cfg", "width", t_width, 768, 40),
    SIZE("text_cfg", "layers", t_depth, 12, 7),
    SIZE("text_cfg", "heads", t_heads, 12, 8),
    SIZE("text_cfg", "mlp_width", t_mlp, 3072, 52),
    SIZE("text_cfg", "proj_width", t_proj, 640, 28),
};
enum { N = sizeof sizes / sizeof *sizes };

static int value(const struct clip_config *c, int i)
{
    int v;
    memcpy(&v, (const char *)c + sizes[i].at, sizeof v);
    return v;
}

static enum mcs_status read_text(const char *text, struct clip_config *c)
{
    mcs_error_clear();
    shell_write("m/open_clip_config.json", text);
    return mcs_clip_config_read(shell_path("m"), c);
}

/* Reads a file with a single size. */
static enum mcs_status read_one(int i, const char *number, struct clip_config *c)
{
    char text[256];
    if (*sizes[i].group)
        snprintf(text, sizeof text, "{\"model_cfg\": {\"%s\": {\"%s\": %s}}}", sizes[i].group, sizes[i].key, number);
    else
        snprintf(text, sizeof text, "{\"model_cfg\": {\"%s\": %s}}", sizes[i].key, number);
    return read_text(text, c);
}

Test(clip_config, missing_keys_get_biomedclips_sizes)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    struct clip_config c;
    OK(read_text("{\"model_cfg\": {}}", &c));
    for (int i = 0; i < N; i++) cr_expect_eq(value(&c, i), sizes[i].biomed, "%s %s", sizes[i].group, sizes[i].key);
    cr_expect(c.v_eps == 1e-6f && c.t_eps == 1e-12f && c.dropout == 0.1f);
    cr_expect(!memcmp(c.mean, mean, sizeof mean) && !memcmp(c.std, std, sizeof std));
    cr_expect_eq(mcs_clip_tokens(&c), 197);
    cr_expect_eq(read_text("{}", &c), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "has no model_cfg"));
    OK(read_text("{\"model_cfg\": {\"text_cfg\": {\"dropout\": 0.25}}, \"preprocess_cfg\": {\"mean\": [1, 2, 3.5], "
                 "\"std\": [4, 5, 6]}}",
                 &c));
    cr_expect_eq(c.dropout, 0.25f);
    for (int k = 0; k < 3; k++) cr_expect(c.mean[k] == (k < 2 ? (float)(k + 1) : 3.5f) && c.std[k] == (float)(k + 4));
}

static void refused(const char *text, const char *part)
{
    struct clip_config c;
    cr_expect_eq(read_text(text, &c), MCS_E_DATA, "%s", text);
    cr_expect(strstr(mcs_error_message(), part), "%s: %s", part, mcs_error_message());
    mcs_error_clear();
}

/* mcsam's own layout knows its keys and their types. */
Test(clip_config, other_types_and_keys_are_refused)
{
    refused("{\"model_cfg\": {\"text_cfg\": {\"dropout\": \"x\"}}}", "text_cfg.dropout");
    refused("{\"model_cfg\": {\"text_cfg\": {\"width\": 1.5}}}", "text_cfg.width is not a whole number");
    refused("{\"model_cfg\": {\"text_cfg\": {\"causal\": 1}}}", "text_cfg.causal: a key that mcsam does not support");
    refused("{\"model_cfg\": {\"logit_bias\": 1}}", "model_cfg.logit_bias: a key");
    refused("{\"model_cfg\": {}, \"preprocess_cfg\": {\"mean\": [1, 2]}}", "preprocess_cfg.mean is not three numbers");
    refused("{\"model_cfg\": {}, \"preprocess_cfg\": {\"std\": [1, 2, \"x\"]}}", "preprocess_cfg.std is not three");
    refused("{\"model_cfg\": 1}", "has no model_cfg");
}

/* open_clip_config.json of microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224, by its parts. */
#define BERT "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
#define VISION                                                                                                         \
    "\"timm_model_name\": \"vit_base_patch16_224\", \"timm_model_pretrained\": false, \"timm_pool\": \"\", "           \
    "\"timm_proj\": "                                                                                                  \
    "\"linear\", \"image_size\": 224"
#define TEXT                                                                                                           \
    "\"hf_model_name\": \"" BERT "\", \"hf_tokenizer_name\": \"" BERT "\", \"hf_proj_type\": \"mlp\", "                \
    "\"hf_pooler_type\": \"cls_last_hidden_state_pooler\", \"context_length\": 256"
#define CLIP_JSON(model, vision, text, preprocess, more)                                                               \
    "{\"model_cfg\": {\"embed_dim\": 512" model ", \"vision_cfg\": {" vision "}, \"text_cfg\": {" text                 \
    "}}, \"preprocess_cfg\": {" preprocess "}" more "}"

Test(clip_config, biomedclip_as_downloaded)
{
    struct clip_config c, want = mcs_clip_biomed();
    OK(read_text(
        CLIP_JSON("", VISION, TEXT,
                  "\"mean\": [0.48145466, 0.4578275, 0.40821073], \"std\": [0.26862954, 0.26130258, 0.27577711]", ""),
        &c));
    cr_expect_eq(memcmp(&c, &want, sizeof c), 0);
    /* keys without effect on these towers, and the defaults written out */
    OK(read_text(CLIP_JSON(", \"quick_gelu\": true, \"custom_text\": true",
                           VISION ", \"layers\": 3, \"timm_drop\": 0.0",
                           TEXT ", \"vocab_size\": 5, \"pool_type\": \"tok\", \"tokenizer_kwargs\": {}",
                           "\"size\": [224, 224], \"mode\": \"RGB\", \"interpolation\": \"bicubic\", \"resize_mode\": "
                           "\"shortest\", \"fill_color\": 0, \"mean\": null",
                           ""),
                 &c));
    cr_expect_eq(memcmp(&c, &want, sizeof c), 0);
    OK(read_text(CLIP_JSON("",
                           "\"timm_model_name\": \"vit_large_patch32_384.augreg\", \"timm_pool\": \"token\", "
                           "\"image_size\": 384",
                           TEXT, "", ""),
                 &c));
    cr_expect(c.v_width == 1024 && c.v_depth == 24 && c.v_heads == 16 && c.v_mlp == 4096 && c.patch == 32 &&
              c.image_size == 384);
}

Test(clip_config, what_open_clip_would_compute_otherwise_is_refused)
{
    refused(CLIP_JSON("", "\"timm_model_name\": \"vit_base_patch16_224\", \"timm_pool\": \"map\"", TEXT, "", ""),
            "vision_cfg.timm_pool is \"map\"; mcsam supports \"\"|\"token\"|\"avg\"");
    refused(CLIP_JSON("", "\"timm_model_name\": \"vit_base_patch16_clip_224\", \"timm_pool\": \"\"", TEXT, "", ""),
            "timm_model_name is \"vit_base_patch16_clip_224\"");
    refused(CLIP_JSON("", "\"timm_model_name\": \"vit_base_patch16_384\", \"timm_pool\": \"\", \"image_size\": 224",
                      TEXT, "", ""),
            "vision_cfg.image_size is 224, but vit_base_patch16_384 takes images of 384");
    refused(CLIP_JSON("", VISION ", \"timm_proj_bias\": true", TEXT, "", ""), "vision_cfg.timm_proj_bias is true");
    refused(CLIP_JSON("", VISION ", \"magic\": 1", TEXT, "", ""),
            "vision_cfg.magic: a key that mcsam does not support");
    refused(CLIP_JSON("", VISION, TEXT ", \"hf_pooler_type\": \"max_pooler\"", "", ""),
            "text_cfg.hf_pooler_type is \"max_pooler\"");
    refused(CLIP_JSON("", VISION, TEXT ", \"hf_proj_type\": \"none\"", "", ""), "text_cfg.hf_proj_type is \"none\"");
    refused(CLIP_JSON("", VISION, TEXT ", \"hf_proj_type\": null", "", ""),
            "text_cfg.hf_proj_type is null, but the text model's width is 768 and embed_dim 512");
    refused(CLIP_JSON("", VISION, TEXT ", \"hf_tokenizer_name\": \"\"", "", ""), "text_cfg.hf_tokenizer_name is empty");
    refused(CLIP_JSON("", VISION, TEXT ", \"hf_model_name\": \"roberta-base\"", "", ""),
            "text_cfg.hf_model_name is \"roberta-base\"");
    refused(CLIP_JSON("", VISION, TEXT ", \"tokenizer_kwargs\": {\"strip_sep_token\":true}", "", ""),
            "text_cfg.tokenizer_kwargs is {\"strip_sep_token\":true}");
    refused(CLIP_JSON("", VISION, TEXT ", \"tokenizer_mode\": \"clips\"", "", ""),
            "text_cfg.tokenizer_mode is \"clips\"");
    refused(CLIP_JSON("", VISION, TEXT, "\"interpolation\": \"bilinear\"", ""), "interpolation is \"bilinear\"");
    refused(CLIP_JSON("", VISION, TEXT, "\"resize_mode\": \"squash\"", ""), "resize_mode is \"squash\"");
    refused(CLIP_JSON("", VISION, TEXT, "\"size\": 256", ""), "preprocess_cfg.size is 256, the image tower takes 224");
    refused(CLIP_JSON(", \"init_logit_bias\": -10", VISION, TEXT, "", ""), "model_cfg.init_logit_bias is -10");
    refused(CLIP_JSON(", \"multimodal_cfg\": {}", VISION, TEXT, "", ""), "model_cfg.multimodal_cfg: a key");
}

/* Other poolings and projections of timm's and BERT's towers, and open_clip's defaults for them. */
Test(clip_config, poolings_and_projections)
{
    struct clip_config c;
    OK(read_text(CLIP_JSON("", "\"timm_model_name\": \"vit_base_patch16_224\"",
                           "\"hf_model_name\": \"" BERT "\", \"hf_tokenizer_name\": \"x\"", "", ""),
                 &c));
    cr_expect(c.v_pool == CLIP_POOL_MEAN && c.t_pool == CLIP_POOL_MEAN && c.t_proj == 640 && c.context == 77);
    OK(read_text(
        CLIP_JSON("", VISION, TEXT ", \"hf_proj_type\": \"linear\", \"hf_pooler_type\": \"cls_pooler\"", "", ""), &c));
    cr_expect(c.v_pool == CLIP_POOL_FIRST && c.t_pool == CLIP_POOL_TANH && c.t_proj == 0);
    OK(read_text("{\"model_cfg\": {\"embed_dim\": 768, \"vision_cfg\": {" VISION "}, \"text_cfg\": {" TEXT
                 ", \"hf_proj_type\": null}}}",
                 &c));
    cr_expect_eq(c.t_proj, -1);
}

#define OPENAI_VISION "\"image_size\": 224, \"layers\": 12, \"width\": 768, \"patch_size\": 32"
#define OPENAI_TEXT "\"context_length\": 77, \"vocab_size\": 49408, \"width\": 512, \"heads\": 8, \"layers\": 12"

/* open_clip's ViT-B-32-quickgelu and ViT-L-14; mixed towers. */
Test(clip_config, openais_towers)
{
    struct clip_config c;
    OK(read_text(CLIP_JSON(", \"quick_gelu\": true", OPENAI_VISION, OPENAI_TEXT, "", ""), &c));
    cr_expect(c.v_openai && c.t_openai && c.v_quick_gelu && c.t_quick_gelu && !c.custom_text && !c.hugging_face);
    cr_expect(c.v_width == 768 && c.v_depth == 12 && c.v_heads == 12 && c.v_mlp == 3072 && c.patch == 32);
    cr_expect(c.t_width == 512 && c.t_depth == 12 && c.t_heads == 8 && c.t_mlp == 2048 && c.context == 77 &&
              c.positions == 77 && c.vocab == 49408 && c.embed == 512 && c.dropout == 0);
    cr_expect(c.v_eps == 1e-5f && c.t_eps == 1e-5f && c.v_pool == CLIP_POOL_FIRST);
    OK(read_text(CLIP_JSON(", \"custom_text\": true",
                           OPENAI_VISION ", \"width\": 1024, \"layers\": 24, \"patch_size\": 14, \"mlp_ratio\": 2, "
                                         "\"pool_type\": \"avg\", \"norm_kwargs\": {\"eps\": 1e-6}",
                           OPENAI_TEXT ", \"pool_type\": \"eos\", \"eos_id\": 49407", "", ""),
                 &c));
    cr_expect(!c.v_quick_gelu && !c.t_quick_gelu && !c.custom_text && c.v_heads == 16 && c.v_mlp == 2048 &&
              c.v_eps == 1e-6f && c.v_pool == CLIP_POOL_MEAN);
    OK(read_text(CLIP_JSON(", \"custom_text\": true", VISION, OPENAI_TEXT, "", ""), &c));
    cr_expect(c.custom_text && !c.v_openai);
    OK(read_text(CLIP_JSON(", \"quick_gelu\": true", VISION, OPENAI_TEXT, "", ""), &c));
    cr_expect(!c.v_openai && c.t_openai && !c.v_quick_gelu && c.t_quick_gelu && c.v_eps == 1e-6f);
    OK(read_text(CLIP_JSON(", \"quick_gelu\": true", OPENAI_VISION, TEXT, "", ""), &c));
    cr_expect(c.v_openai && !c.t_openai && c.v_quick_gelu && !c.t_quick_gelu && c.t_eps == 1e-12f);

    static const char *const bad[][3] = {
        {"\"layers\": [3, 4, 6, 3]", "", "vision_cfg.layers is a list: a ResNet with attention pooling"},
        {"\"attentional_pool\": true", "", "vision_cfg.attentional_pool is true; mcsam supports false"},
        {"\"no_ln_pre\": true", "", "vision_cfg.no_ln_pre is true"},
        {"\"ls_init_value\": 1e-4", "", "vision_cfg.ls_init_value is"},
        {"\"act_kwargs\": {\"approximate\": \"tanh\"}", "", "vision_cfg.act_kwargs is {\"approximate\":\"tanh\"}"},
        {"\"norm_kwargs\": {\"bias\": false}", "", "vision_cfg.norm_kwargs.bias: a key"},
        {"\"head_width\": 100", "", "vision_cfg.width 768 is not a multiple of head_width 100"},
        {"\"width\": 0", "", "vision_cfg: a width of 0"},
        {"\"mlp_ratio\": 1e9", "", "vision_cfg: a width of 768 with an mlp_ratio of 1e+09"},
        {"\"magic\": 1", "", "vision_cfg.magic: a key that mcsam does not support"},
        {"", "\"no_causal_mask\": true", "text_cfg.no_causal_mask is true"},
        {"", "\"embed_cls\": true", "text_cfg.embed_cls is true"},
        {"", "\"pool_type\": \"last\"", "text_cfg.pool_type is \"last\"; mcsam supports \"argmax\"|\"eos\""},
        {"", "\"pool_type\": \"eos\"", "an eos_id of 2; mcsam supports 49407"},
        {"", "\"proj_bias\": true", "text_cfg.proj_bias is true"},
        {"", "\"hf_tokenizer_name\": \"xlm\"", "text_cfg.hf_tokenizer_name is \"xlm\""},
        {"", "\"heads\": 7", "a width is not a multiple of its heads"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"model_cfg\": {\"vision_cfg\": {" OPENAI_VISION "%s%s}, \"text_cfg\": {" OPENAI_TEXT "%s%s}}}",
                 *bad[i][0] ? ", " : "", bad[i][0], *bad[i][1] ? ", " : "", bad[i][1]);
        refused(text, bad[i][2]);
    }
    refused(CLIP_JSON(", \"quick_gelu\": 1", OPENAI_VISION, OPENAI_TEXT, "", ""),
            "model_cfg.quick_gelu is neither true nor false");
}

static void hf_refused(const char *config, const char *images, const char *part)
{
    struct clip_config c;
    shell_write("h/config.json", config);
    shell_write("h/preprocessor_config.json", images);
    cr_expect_eq(mcs_clip_config_read(shell_path("h"), &c), MCS_E_DATA, "%s %s", config, images);
    cr_expect(strstr(mcs_error_message(), part), "%s: %s", part, mcs_error_message());
    mcs_error_clear();
}

/* openai/clip-vit-large-patch14's files, by their keys that matter; MedCLIP-SAMv2's port of BiomedCLIP. */
Test(clip_config, hugging_faces_files)
{
    struct clip_config c;
    static const char images[] =
        "{\"crop_size\": 224, \"do_center_crop\": true, \"do_normalize\": true, \"do_resize\": true, \"image_mean\": "
        "[0.5, 0.25, 0.125], \"image_std\": [1, 2, 3], \"resample\": 3, \"size\": {\"shortest_edge\": 224}}";
    OK(mcs_folder_make(shell_path("h")));
    shell_write("h/config.json",
                "{\"model_type\": \"clip\", \"projection_dim\": 768, \"text_config\": {\"hidden_size\": 768, "
                "\"intermediate_size\": 3072, \"num_attention_heads\": 12, \"eos_token_id\": 2}, \"vision_config\": "
                "{\"hidden_size\": 1024, \"intermediate_size\": 4096, \"num_attention_heads\": 16, "
                "\"num_hidden_layers\": 24, \"patch_size\": 14, \"hidden_act\": \"gelu\"}}");
    shell_write("h/preprocessor_config.json", images);
    OK(mcs_clip_config_read(shell_path("h"), &c));
    cr_expect(c.hugging_face && c.v_openai && c.t_openai && !c.v_quick_gelu && c.t_quick_gelu && c.embed == 768);
    cr_expect(c.v_width == 1024 && c.v_depth == 24 && c.v_heads == 16 && c.v_mlp == 4096 && c.patch == 14);
    cr_expect(c.t_width == 768 && c.t_depth == 12 && c.t_heads == 12 && c.t_mlp == 3072 && c.context == 77);
    cr_expect(c.v_eps == 1e-5f && c.t_eps == 1e-5f && c.mean[1] == 0.25f && c.std[2] == 3 && c.vocab == 49408);
    shell_write(
        "h/config.json",
        "{\"model_type\": \"clip\", \"projection_dim\": 512, \"text_config\": {\"model_type\": \"bert\", "
        "\"hidden_act\": \"gelu\", \"hidden_size\": 768, \"layer_norm_eps\": 1e-12, \"vocab_size\": 30522, "
        "\"position_embedding_type\": \"absolute\", \"use_cache\": true, \"gradient_checkpointing\": false}, "
        "\"text_config_dict\": {\"vocab_size\": 30522}, \"text_projection_config\": {\"intermediate_size\": 640, "
        "\"hidden_act\": \"gelu\"}, \"text_projection_config_dict\": {}, \"auto_map\": {}, \"transformers_version\": "
        "null, \"vision_config\": {\"hidden_act\": \"gelu\", \"hidden_size\": 768, \"qkv_bias\": true, "
        "\"attention_probs_dropout_prob\": 0.0, \"layer_norm_eps\": 1e-12, \"patch_size\": 16}}");
    OK(mcs_clip_config_read(shell_path("h"), &c));
    cr_expect(c.hugging_face && !c.v_openai && !c.t_openai && c.v_eps == 1e-12f && c.t_eps == 1e-12f &&
              c.t_proj == 640);
    cr_expect(c.v_depth == 12 && c.t_depth == 12 && c.positions == 512 && c.vocab == 30522 && c.dropout == 0.1f);

    hf_refused("{\"model_type\": \"bert\"}", "{}", "has no vision_config and text_config");
    hf_refused("{\"model_type\": \"siglip\", \"text_config\": {}, \"vision_config\": {}}", "{}",
               "config.model_type is \"siglip\"");
    hf_refused("{\"text_config\": {\"hidden_act\": \"relu\"}, \"vision_config\": {}}", "{}",
               "text_config.hidden_act is \"relu\"; mcsam supports \"quick_gelu\"|\"gelu\"");
    hf_refused("{\"text_config\": {\"eos_token_id\": 5}, \"vision_config\": {}}", "{}",
               "text_config.eos_token_id is 5; mcsam supports 49407");
    hf_refused("{\"text_config\": {}, \"vision_config\": {\"num_channels\": 1}}", "{}",
               "vision_config.num_channels is 1");
    hf_refused("{\"text_config\": {\"model_type\": \"bert\", \"hidden_act\": \"relu\"}, \"vision_config\": "
               "{\"hidden_act\": \"gelu\"}}",
               "{}", "text_config.hidden_act is \"relu\"; mcsam supports \"gelu\"");
    hf_refused("{\"text_config\": {\"model_type\": \"bert\"}, \"vision_config\": {\"qkv_bias\": false}}", "{}",
               "vision_config.qkv_bias is false; mcsam supports true");
    hf_refused("{\"text_config\": {\"pruned_heads\": {\"0\": [1]}}, \"vision_config\": {}}", "{}",
               "text_config.pruned_heads is {\"0\":[1]}; mcsam supports {}");
    hf_refused("{\"text_config\": {}, \"vision_config\": {\"qkv_bias\": true}}", "{}",
               "vision_config.qkv_bias: a key that mcsam does not support");
    hf_refused("{\"text_config\": {}, \"vision_config\": {}, \"pooling\": \"mean\"}", "{}",
               "config.pooling: a key that mcsam does not support");
    hf_refused("{\"text_config\": {\"rope_theta\": 1}, \"vision_config\": {}}", "{}",
               "text_config.rope_theta: a key that mcsam does not support");
    static const char plain[] = "{\"text_config\": {}, \"vision_config\": {}}";
    hf_refused(plain, "{\"do_center_crop\": false}", "preprocessor.do_center_crop is false");
    hf_refused(plain, "{\"do_sharpen\": true}", "preprocessor.do_sharpen: a key that mcsam does not support");
    hf_refused(plain, "{\"do_pad\": true}", "preprocessor.do_pad is true; mcsam supports false");
    hf_refused(plain, "{\"resample\": 2}", "preprocessor.resample is 2; mcsam supports 3");
    hf_refused(plain, "{\"size\": 256}", "size: mcsam supports {\"shortest_edge\": 224}");
    hf_refused(plain, "{\"size\": {\"height\": 224, \"width\": 224}}", "size: mcsam supports {\"shortest_edge\": 224}");
    hf_refused(plain, "{\"crop_size\": {\"height\": 224, \"width\": 100}}", "crop_size: mcsam supports {\"height\"");
    hf_refused(plain, "{\"image_mean\": [1, 2]}", "image_mean is not three numbers");
    hf_refused(plain, "{\"image_std\": [0.5, 0, 0.5]}",
               "preprocessor_config.json: images are normalised by (value - 0.457828) / 0; want");
    shell_write("h/preprocessor_config.json", "{}");
    OK(mcs_clip_config_read(shell_path("h"), &c));
    cr_expect(c.patch == 32 && c.v_quick_gelu && c.t_width == 512 && c.t_heads == 8 && c.t_mlp == 2048 &&
              c.embed == 512);
}

/* The BERT's config.json in the folder, and the sizes of a ViT that timm's name does not tell. */
Test(clip_config, sizes_beside_open_clips_keys)
{
    struct clip_config c;
    const char *text =
        CLIP_JSON("", "\"timm_model_name\": \"vit_golden\", \"timm_pool\": \"\", \"image_size\": 32", TEXT, "",
                  ", \"mcsam_cfg\": {\"vision_cfg\": {\"width\": 32, \"layers\": 2, \"heads\": 2, "
                  "\"mlp_width\": 128, \"patch_size\": 8}}");
    shell_write("m/config.json",
                "{\"model_type\": \"bert\", \"hidden_size\": 64, \"num_hidden_layers\": 3, "
                "\"num_attention_heads\": 4, \"intermediate_size\": 96, \"max_position_embeddings\": 300, "
                "\"type_vocab_size\": 1, \"vocab_size\": 77, \"layer_norm_eps\": 1e-6, "
                "\"hidden_dropout_prob\": 0.25, \"attention_probs_dropout_prob\": 0.25}");
    OK(read_text(text, &c));
    cr_expect(c.v_width == 32 && c.v_depth == 2 && c.v_heads == 2 && c.v_mlp == 128 && c.patch == 8 &&
              c.image_size == 32);
    cr_expect(c.t_width == 64 && c.t_depth == 3 && c.t_heads == 4 && c.t_mlp == 96 && c.positions == 300 &&
              c.types == 1 && c.vocab == 77 && c.t_eps == 1e-6f && c.dropout == 0.25f && c.t_proj == (64 + 512) / 2);
    static const char *const bad[][2] = {{"{\"hidden_act\": \"relu\"}", "config.json: config.hidden_act is \"relu\""},
                                         {"{\"model_type\": \"roberta\"}", "config.model_type is \"roberta\""},
                                         {"{\"pad_token_id\": 1}", "config.pad_token_id is 1"},
                                         {"{\"hidden_size\": \"x\"}", "config.hidden_size is not a whole number"},
                                         {"{\"hidden_dropout_prob\": 0.1, \"attention_probs_dropout_prob\": 0}",
                                          "attention_probs_dropout_prob differs"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shell_write("m/config.json", bad[i][0]);
        refused(text, bad[i][1]);
    }
}

/* A model read from open_clip's layout is written with the files it was read from, byte for byte. */
Test(clip_config, open_clips_files_are_kept)
{
    struct clip_config c = tiny_clip_config();
    struct clip_model m, again;
    struct device d;
    c.t_proj = (c.t_width + c.embed) / 2;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 5, &d, NULL, &m));
    OK(mcs_clip_model_save(&m, shell_path("a"), 0));
    const int vocab = m.config.vocab;
    mcs_clip_model_close(&m);
    char text[1024];
    snprintf(
        text, sizeof text,
        "{\"model_cfg\": {\"embed_dim\": 8, \"vision_cfg\": {\"timm_model_name\": \"vit_tiny_x\", \"timm_pool\": \"\", "
        "\"image_size\": 16}, \"text_cfg\": {\"hf_model_name\": \"bert\", \"hf_tokenizer_name\": \"bert\", "
        "\"hf_pooler_type\": \"cls_last_hidden_state_pooler\", \"context_length\": 16}}, \"mcsam_cfg\": "
        "{\"vision_cfg\": "
        "{\"width\": 16, \"layers\": 3, \"heads\": 2, \"mlp_width\": 32, \"patch_size\": 8}, \"text_cfg\": {\"width\": "
        "16, "
        "\"layers\": 2, \"heads\": 2, \"mlp_width\": 32, \"positions\": 16, \"vocab_size\": %d}}}",
        vocab);
    shell_write("a/open_clip_config.json", text);
    shell_write("a/tokenizer_config.json", "{\"do_lower_case\": true, \"model_max_length\": 512}");
    shell_write("a/special_tokens_map.json", "{\"cls_token\": \"[CLS]\"}");
    OK(mcs_clip_model_open(shell_path("a"), &d, &m));
    OK(mcs_clip_model_save(&m, shell_path("b"), 0));
    OK(mcs_clip_model_open(shell_path("b"), &d, &again));
    cr_expect_eq(memcmp(again.params->data, m.params->data, (size_t)m.params->n_values * sizeof(float)), 0);
    mcs_clip_model_close(&again);
    mcs_clip_model_close(&m);
    expect("for f in open_clip_config.json vocab.txt tokenizer_config.json special_tokens_map.json; do cmp a/$f b/$f "
           "|| exit 1; "
           "done; ls a | wc -l; ls b | wc -l",
           0, "5\n5");
    shell_write("a/tokenizer_config.json", "{\"do_lower_case\": false}");
    cr_expect_eq(mcs_clip_model_open(shell_path("a"), &d, &m), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "tokenizer.do_lower_case is false"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_cpu_close(&d);
}

/* From 1 to 2^20, if the other sizes allow it. */
Test(clip_config, limits_of_every_size)
{
    static const char *const bad[] = {"0", "-1", "1048577", "4294967296", "-4294967295", "9223372036854775807"};
    static const struct {
        const char *text, *part; /* of the message; NULL: accepted */
    } rows[] = {
        {"{\"model_cfg\": {\"vision_cfg\": {\"image_size\": 225}}}",
         "image_size 225 is not a multiple of the patch size 16"},
        {"{\"model_cfg\": {\"vision_cfg\": {\"image_size\": 1048576}}}", NULL},
        {"{\"model_cfg\": {\"vision_cfg\": {\"heads\": 5}}}", "a width is not a multiple of its heads"},
        {"{\"model_cfg\": {\"text_cfg\": {\"heads\": 5}}}", "a width is not a multiple of its heads"},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 1}}}", "context_length 1: a text has at least its first"},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 2}}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 512}}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 513}}}",
         "context_length 513 is longer than the 512 positions"},
        {"{\"model_cfg\": {\"text_cfg\": {\"positions\": 256}}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"positions\": 255}}}",
         "context_length 256 is longer than the 255 positions"},
        {"{\"model_cfg\": {\"embed_dim\": 1048576}}", NULL},
        {"{\"model_cfg\": {\"embed_dim\": 1}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"vocab_size\": 1, \"types\": 1, \"layers\": 1, \"proj_width\": 1}}}", NULL},
    };
    struct clip_config c;
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            cr_expect_eq(read_one(i, bad[k], &c), MCS_E_DATA, "%s %s", sizes[i].key, bad[k]);
            cr_expect(strstr(mcs_error_message(), "m/open_clip_config.json: a size of "), "%s", mcs_error_message());
        }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_status st = read_text(rows[i].text, &c);
        cr_expect_eq(st, rows[i].part ? MCS_E_DATA : MCS_OK, "%s: %s", rows[i].text, mcs_error_message());
        if (rows[i].part)
            cr_expect(strstr(mcs_error_message(), rows[i].part), "%s: %s", rows[i].text, mcs_error_message());
    }
    mcs_error_clear();
    cr_expect_eq(mcs_clip_config_read(shell_path("none"), &c), MCS_E_NOINPUT);
    mcs_error_clear();
}

/* A model whose sizes all differ from the defaults has the same sizes, vocabulary and weights after saving and opening.
 */
Test(clip_config, a_saved_model_is_the_same)
{
    struct clip_config c = tiny_clip_config(), read;
    struct clip_model m, again;
    struct device d;
    char vocabulary[2048] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (int i = 5; i < 99; i++) sprintf(vocabulary + strlen(vocabulary), "w%d\n", i);
    shell_write("vocab", vocabulary);
    for (int i = 0; i < N; i++) memcpy((char *)&c + sizes[i].at, &sizes[i].other, sizeof(int));
    c.dropout = 0.375f;
    for (int k = 0; k < 3; k++) c.mean[k] = 0.25f * (float)(k + 1), c.std[k] = 0.5f * (float)(k + 1);
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&c, shell_path("vocab"), 3, &d, NULL, &m));
    OK(mcs_clip_model_save(&m, shell_path("saved"), 0));
    OK(mcs_clip_config_read(shell_path("saved"), &read));
    for (int i = 0; i < N; i++) cr_expect_eq(value(&read, i), sizes[i].other, "%s %s", sizes[i].group, sizes[i].key);
    cr_expect_eq(read.dropout, 0.375f);
    cr_expect(!memcmp(read.mean, c.mean, sizeof c.mean) && !memcmp(read.std, c.std, sizeof c.std));
    expect("cmp vocab saved/vocab.txt && ls saved | tr '\\n' ' '", 0,
           "open_clip_config.json open_clip_model.safetensors vocab.txt ");
    for (int way = 0; way < 2; way++) { /* by either name of the weights */
        OK(mcs_clip_model_open(shell_path("saved"), &d, &again));
        cr_assert_eq(again.params->n_values, m.params->n_values);
        cr_expect_eq(memcmp(again.params->data, m.params->data, (size_t)m.params->n_values * sizeof(float)), 0);
        cr_expect_eq(strlen(again.sha256), 64);
        mcs_clip_model_close(&again);
        expect("mv saved/open_clip_model.safetensors saved/model.safetensors || mv saved/model.safetensors saved/x", 0,
               "");
    }
    OK(mcs_weights_write(shell_path("saved/open_clip_pytorch_model.bin"), m.params, 0, NULL, NULL));
    OK(mcs_clip_model_open(shell_path("saved"), &d, &again)); /* PyTorch's file */
    cr_expect_eq(memcmp(again.params->data, m.params->data, (size_t)m.params->n_values * sizeof(float)), 0);
    mcs_clip_model_close(&again);
    expect("rm saved/open_clip_pytorch_model.bin", 0, "");
    cr_expect_eq(mcs_clip_model_open(shell_path("saved"), &d, &again), MCS_E_NOINPUT);
    cr_expect(
        strstr(mcs_error_message(), "saved: has no weights: want open_clip_model.safetensors, model.safetensors, "));
    mcs_error_clear();
    cr_expect_eq(mcs_clip_model_open(shell_path("none"), &d, &again), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "none: no such model folder"));
    mcs_error_clear();
    mcs_clip_model_close(&m);
    c.vocab = 98;
    cr_expect_eq(mcs_clip_model_new(&c, shell_path("vocab"), 3, &d, NULL, &m), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "vocab: has 99 pieces, the model wants 98"), "%s", mcs_error_message());
    mcs_error_clear();
    c.vocab = 0; /* any */
    OK(mcs_clip_model_new(&c, shell_path("vocab"), 3, &d, NULL, &m));
    cr_expect_eq(m.config.vocab, 99);
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
}

/* open_clip masks id 0 as a key, so a literal [PAD] changes nothing but the positions after it. */
Test(clip_config, a_literal_pad_has_no_row)
{
    const struct clip_config c = tiny_clip_config();
    static const char *const texts[] = {"lung [PAD][PAD] brain", "lung"};
    static const int32_t want_position[] = {0, 1, 4, 5, 0, 1, 2}, want_offset[] = {0, 4, 7};
    int32_t ids[32], position[32], key[32], offset[3];
    int64_t rows;
    struct clip_model m;
    struct device d;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 5, &d, NULL, &m));
    OK(mcs_clip_pack_texts(&m, texts, NULL, 2, ids, position, key, offset, &rows));
    cr_assert_eq(rows, 7);
    cr_expect_eq(memcmp(position, want_position, sizeof want_position), 0);
    cr_expect_eq(memcmp(offset, want_offset, sizeof want_offset), 0);
    const char *const want[] = {"[CLS]", "lung", "brain", "[SEP]", "[CLS]", "lung", "[SEP]"};
    for (int i = 0; i < 7; i++) cr_expect_str_eq(mcs_tokenizer_piece(m.tokenizer, ids[i]), want[i]);
    cr_expect(key[2] == 4 && key[4] == 1024);
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
}

/* A folder with OpenAI's towers of toy size and 512 + 700 + 2 ids; text: open_clip's or Hugging Face's configuration.
 */
static void openai_folder(const char *config)
{
    struct clip_config c;
    struct device d;
    OK(mcs_folder_make(shell_path("o")));
    expect("rm -f o/*; cp " MCS_SOURCE_DIR "/tests/golden/bpe_merges.txt o/merges.txt", 0, "");
    shell_write(config,
                strstr(config, "open_clip")
                    ? "{\"model_cfg\": {\"embed_dim\": 8, \"vision_cfg\": {\"image_size\": 16, \"patch_size\": 8, "
                      "\"width\": 16, \"head_width\": 8, \"layers\": 2}, \"text_cfg\": {\"width\": 16, "
                      "\"heads\": 2, \"layers\": 2, \"context_length\": 16, \"vocab_size\": 1214}}}"
                    : "{\"model_type\": \"clip\", \"projection_dim\": 8, \"vision_config\": {\"image_size\": 16, "
                      "\"patch_size\": 8, \"hidden_size\": 16, \"intermediate_size\": 64, "
                      "\"num_attention_heads\": 2, \"num_hidden_layers\": 2}, \"text_config\": {\"hidden_size\": 16, "
                      "\"intermediate_size\": 64, \"num_attention_heads\": 2, \"num_hidden_layers\": 2, "
                      "\"max_position_embeddings\": 16, \"vocab_size\": 1214}}");
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_config_read(shell_path("o"), &c));
    struct params *p = mcs_params_new();
    OK(mcs_clip_params_declare(&c, p));
    OK(mcs_params_alloc(p, &d));
    OK(mcs_params_init(p, 3));
    OK(mcs_weights_write(shell_path("o/open_clip_model.safetensors"), p, 0, NULL, NULL));
    mcs_params_free(p);
    mcs_cpu_close(&d);
}

/* OpenAI's captions end at the first end token, and the first keys are their last rows; id 0 is "!", not padding. A
 * saved model reads back the same; it has Hugging Face's names where the folder was theirs. */
Test(clip_config, openais_captions_and_folders)
{
    static const char *const texts[] = {"! <end_of_text> left", "<|endoftext|> <end_of_text>"};
    for (int hf = 0; hf < 2; hf++) {
        int32_t ids[64], position[64], key[64], offset[3];
        int64_t rows;
        struct clip_model m, again;
        struct device d;
        float embedding[2][16];
        openai_folder(hf ? "o/config.json" : "o/open_clip_config.json");
        OK(mcs_cpu_open(1, &d));
        OK(mcs_clip_model_open(shell_path("o"), &d, &m));
        OK(mcs_clip_pack_texts(&m, texts, NULL, 2, ids, position, key, offset, &rows));
        cr_expect(key[0] == offset[1] - 1 && key[1] == offset[2] - 1 && rows == offset[2]);
        cr_expect(ids[0] == 1212 && ids[key[0]] == 1213 && ids[key[1]] == 1213 && position[key[0]] == key[0]);
        if (!hf) cr_expect(offset[1] == 3 && mcs_tokenizer_id(m.tokenizer, "!</w>") == ids[1]);
        if (hf) cr_expect_eq(offset[2] - offset[1], 2); /* <|endoftext|> is the end here */
        OK(mcs_clip_embed_texts(&m, texts, 2, 1, embedding[0]));
        OK(mcs_clip_model_save(&m, shell_path("p"), 0));
        expect("ls p | tr '\\n' ' '", 0,
               hf ? "config.json merges.txt model.safetensors "
                  : "merges.txt open_clip_config.json open_clip_model.safetensors ");
        if (hf)
            expect("mcs=p/model.safetensors; grep -a -c text_model.encoder.layers.1.self_attn.q_proj.weight $mcs", 0,
                   "1");
        OK(mcs_clip_model_open(shell_path("p"), &d, &again));
        OK(mcs_clip_embed_texts(&again, texts, 2, 1, embedding[1]));
        cr_expect_arr_eq(embedding[0], embedding[1], sizeof embedding[0]);
        mcs_clip_model_close(&again);
        m.config.dropout = 0.5f; /* another configuration than the folder's files */
        cr_expect_eq(mcs_clip_model_save(&m, shell_path("q"), 0), MCS_E_USAGE);
        mcs_error_clear();
        mcs_clip_model_close(&m);
        mcs_cpu_close(&d);
        expect("rm -r p q", 0, "");
    }
    expect("rm o/merges.txt", 0, "");
    struct clip_model m;
    struct device d;
    OK(mcs_cpu_open(1, &d));
    cr_expect_eq(mcs_clip_model_open(shell_path("o"), &d, &m), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "o: no tokenizer: want tokenizer.json, merges.txt"), "%s",
              mcs_error_message());
    mcs_error_clear();
    mcs_cpu_close(&d);
}

/* A new model of BiomedCLIP's sizes gets open_clip's layout, without a key that open_clip does not know. */
Test(clip_config, biomedclips_sizes_are_written_as_open_clip_has_them)
{
    struct clip_config c = mcs_clip_biomed(), read;
    c.dropout = 0.25f;
    c.mean[1] = 0.5f;
    OK(mcs_clip_config_write(shell_path("m"), &c));
    OK(mcs_clip_config_read(shell_path("m"), &read));
    cr_expect_eq(memcmp(&read, &c, sizeof c), 0);
    expect("grep -c 'timm_model_name\\|hf_model_name\\|heads' m/open_clip_config.json", 0, "2");
}
