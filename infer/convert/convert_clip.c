/* CLIP's configuration, from one reference's form to another's: open_clip's open_clip_config.json; config.json and
 * preprocessor_config.json of transformers (CLIPConfig, CLIPImageProcessor) and of MedCLIP-SAMv2 (BiomedCLIPConfig).
 * Sizes follow from the tensors; heads, activation, epsilons and the preparation of images do not. */
#include "infer/convert/convert_clip.h"

#include "data/io/file.h"
#include "infer/clip/clip_parts.h"

#include <math.h>
#include <string.h>

/* ---- sizes ---- */

static struct clip_facts bert_sizes(const struct convert_job *job)
{
    static const char word[] = "text.transformer.embeddings.word_embeddings.weight";
    struct clip_facts c = {.v_eps = 1e-6, .t_eps = 1e-12};
    c.embed = mcs_convert_size(job, "visual.head.proj.weight", 0);
    c.patch = mcs_convert_size(job, "visual.trunk.patch_embed.proj.weight", 3);
    c.v_tokens = mcs_convert_size(job, "visual.trunk.pos_embed", 1);
    c.v_width = mcs_convert_size(job, "visual.trunk.cls_token", 2);
    c.v_layers = mcs_weight_file_blocks(job->model, "visual.trunk.blocks.", ".norm1.weight");
    c.v_mlp = mcs_convert_size(job, "visual.trunk.blocks.0.mlp.fc1.weight", 0);
    c.vocab = mcs_convert_size(job, word, 0);
    c.t_width = mcs_convert_size(job, word, 1);
    c.positions = mcs_convert_size(job, "text.transformer.embeddings.position_embeddings.weight", 0);
    c.types = mcs_convert_size(job, "text.transformer.embeddings.token_type_embeddings.weight", 0);
    c.t_layers = mcs_weight_file_blocks(job->model, "text.transformer.encoder.layer.", ".output.dense.weight");
    c.t_mlp = mcs_convert_size(job, "text.transformer.encoder.layer.0.intermediate.dense.weight", 0);
    c.t_proj = mcs_convert_size(job, "text.proj.0.weight", 0);
    return c;
}

static struct clip_facts openai_sizes(const struct convert_job *job)
{
    struct clip_facts c = {.v_eps = 1e-5, .t_eps = 1e-5};
    c.embed = mcs_convert_size(job, "visual.proj", 1);
    c.patch = mcs_convert_size(job, "visual.conv1.weight", 3);
    c.v_tokens = mcs_convert_size(job, "visual.positional_embedding", 0);
    c.v_width = mcs_convert_size(job, "visual.class_embedding", 0);
    c.v_layers = mcs_weight_file_blocks(job->model, "visual.transformer.resblocks.", ".ln_1.weight");
    c.v_mlp = mcs_convert_size(job, "visual.transformer.resblocks.0.mlp.c_fc.weight", 0);
    c.vocab = mcs_convert_size(job, "token_embedding.weight", 0);
    c.t_width = mcs_convert_size(job, "token_embedding.weight", 1);
    c.positions = mcs_convert_size(job, "positional_embedding", 0);
    c.t_layers = mcs_weight_file_blocks(job->model, "transformer.resblocks.", ".ln_1.weight");
    c.t_mlp = mcs_convert_size(job, "transformer.resblocks.0.mlp.c_fc.weight", 0);
    return c;
}

/* E_DATA where the tensors are none of a square image and of heads of equal width. */
static enum mcs_status check_facts(const struct convert_job *job, struct clip_facts *c)
{
    const char *path = mcs_weight_file_path(job->model);
    const int grid = (int)lround(sqrt(c->v_tokens - 1.0));
    MCS_REQUIRE(grid >= 1 && grid * grid + 1 == c->v_tokens && c->patch >= 1, MCS_E_DATA,
                "%s: %d position embeddings of the image are not 1 + those of a square grid", path, c->v_tokens);
    c->image_size = grid * c->patch;
    MCS_REQUIRE(c->v_layers > 0 && c->t_layers > 0 && c->v_width > 0 && c->t_width > 0, MCS_E_DATA,
                "%s: a tower without blocks", path);
    return MCS_OK;
}

static enum mcs_status check_heads(const struct convert_job *job, const struct clip_facts *c)
{
    MCS_REQUIRE(c->v_heads > 0 && c->t_heads > 0 && c->v_width % c->v_heads == 0 && c->t_width % c->t_heads == 0,
                MCS_E_DATA, "%s: %d and %d heads do not divide the widths %d and %d", job->src_folder, c->v_heads,
                c->t_heads, c->v_width, c->t_width);
    return MCS_OK;
}

/* ---- sources ---- */

static enum mcs_status read_three(const char *path, const json_t *o, const char *key, double dst[3])
{
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return MCS_OK;
    for (size_t i = 0; i < 3; i++) {
        MCS_REQUIRE(json_is_array(v) && json_array_size(v) == 3 && json_is_number(json_array_get(v, i)), MCS_E_DATA,
                    "%s: %s is not three numbers", path, key);
        dst[i] = json_number_value(json_array_get(v, i));
    }
    return MCS_OK;
}

/* open_clip_config.json with a timm ViT and a BERT, or in mcsam's own form. */
static enum mcs_status read_open_clip_bert(struct convert_job *job, const char *path, struct clip_facts *c)
{
    struct clip_config k;
    MCS_TRY(mcs_clip_config_read(job->src_folder, &k));
    const int said[] = {k.embed, k.image_size, k.patch, k.v_width, k.v_depth, k.v_mlp, k.t_width, k.t_depth, k.t_mlp},
              have[] = {c->embed, c->image_size, c->patch,    c->v_width, c->v_layers,
                        c->v_mlp, c->t_width,    c->t_layers, c->t_mlp};
    static const char *const what[] = {"embed_dim", "image_size", "patch size",  "image width", "image blocks",
                                       "image MLP", "text width", "text layers", "text MLP"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        MCS_REQUIRE(said[i] == have[i], MCS_E_DATA, "%s: %s is %d, but the tensors have %d", path, what[i], said[i],
                    have[i]);
    c->v_heads = k.v_heads;
    c->t_heads = k.t_heads;
    c->context = k.context;
    for (int i = 0; i < 3; i++) {
        c->mean[i] = (double)k.mean[i];
        c->std[i] = (double)k.std[i];
    }
    return MCS_OK;
}

/* Refuses the first key that is not in the list (NULL-ended). */
static enum mcs_status only_keys(const char *path, const char *group, const json_t *o, const char *const *keys)
{
    for (void *it = json_object_iter((json_t *)o); it; it = json_object_iter_next((json_t *)o, it)) {
        int k = 0;
        while (keys[k] && strcmp(keys[k], json_object_iter_key(it)) != 0) k++;
        MCS_REQUIRE(keys[k], MCS_E_DATA, "%s: %s.%s: a key that the target's configuration cannot say", path, group,
                    json_object_iter_key(it));
    }
    return MCS_OK;
}

/* open_clip_config.json with OpenAI's towers. */
static enum mcs_status read_open_clip_openai(const char *path, const json_t *root, struct clip_facts *c)
{
    static const char *const model_keys[] = {"embed_dim",   "quick_gelu",       "vision_cfg", "text_cfg",
                                             "custom_text", "init_logit_scale", NULL},
                             *const vision_keys[] = {"image_size", "layers",    "width", "head_width",
                                                     "patch_size", "mlp_ratio", NULL},
                             *const text_keys[] = {"context_length", "vocab_size", "width", "heads",
                                                   "layers",         "mlp_ratio",  NULL};
    const json_t *model = json_object_get(root, "model_cfg"), *v = json_object_get(model, "vision_cfg"),
                 *t = json_object_get(model, "text_cfg"), *pre = json_object_get(root, "preprocess_cfg");
    int head_width = 64; /* open_clip's defaults */
    c->t_heads = 8;
    MCS_TRY(only_keys(path, "model_cfg", model, model_keys));
    MCS_TRY(only_keys(path, "vision_cfg", v, vision_keys));
    MCS_TRY(only_keys(path, "text_cfg", t, text_keys));
    MCS_TRY(mcs_json_key_int(path, "vision_cfg", v, "head_width", &head_width));
    MCS_TRY(mcs_json_key_int(path, "text_cfg", t, "heads", &c->t_heads));
    c->v_heads = c->v_width / head_width;
    c->quick_gelu = json_is_true(json_object_get(model, "quick_gelu"));
    const struct {
        const char *group, *key;
        int size;
    } rows[] = {{"model_cfg", "embed_dim", c->embed},   {"vision_cfg", "image_size", c->image_size},
                {"vision_cfg", "layers", c->v_layers},  {"vision_cfg", "width", c->v_width},
                {"vision_cfg", "patch_size", c->patch}, {"text_cfg", "context_length", c->positions},
                {"text_cfg", "vocab_size", c->vocab},   {"text_cfg", "width", c->t_width},
                {"text_cfg", "layers", c->t_layers}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *o = rows[i].group[0] == 'm' ? model : rows[i].group[0] == 'v' ? v : t;
        MCS_TRY(mcs_json_key_agree(path, rows[i].group, o, rows[i].key, rows[i].size));
    }
    MCS_TRY(mcs_json_key_only(path, "preprocess_cfg", pre, "interpolation", "\"bicubic\""));
    MCS_TRY(mcs_json_key_only(path, "preprocess_cfg", pre, "resize_mode", "\"shortest\""));
    MCS_TRY(mcs_json_key_only(path, "preprocess_cfg", pre, "mode", "\"RGB\""));
    MCS_TRY(read_three(path, pre, "mean", c->mean));
    return read_three(path, pre, "std", c->std);
}

/* One tower of config.json. */
static enum mcs_status read_tower(const char *path, const char *group, const json_t *o, int width, int layers, int mlp,
                                  int *heads, double *eps)
{
    MCS_REQUIRE(json_is_object(o), MCS_E_DATA, "%s: has no %s", path, group);
    MCS_TRY(mcs_json_key_agree(path, group, o, "hidden_size", width));
    MCS_TRY(mcs_json_key_agree(path, group, o, "num_hidden_layers", layers));
    MCS_TRY(mcs_json_key_agree(path, group, o, "intermediate_size", mlp));
    MCS_TRY(mcs_json_key_int(path, group, o, "num_attention_heads", heads));
    const json_t *e = json_object_get(o, "layer_norm_eps");
    MCS_REQUIRE(!e || json_is_number(e), MCS_E_DATA, "%s: %s.layer_norm_eps is not a number", path, group);
    if (e) *eps = json_number_value(e);
    return MCS_OK;
}

/* config.json of transformers' CLIPModel or of MedCLIP-SAMv2. */
static enum mcs_status read_hugging(const char *path, const json_t *root, int bert, struct clip_facts *c)
{
    const json_t *v = json_object_get(root, "vision_config"), *t = json_object_get(root, "text_config");
    const char *acts = bert ? "\"gelu\"" : "\"gelu\"|\"quick_gelu\"";
    double v_eps = c->v_eps, t_eps = c->t_eps;
    c->v_heads = 12; /* transformers' defaults */
    c->t_heads = bert ? 12 : 8;
    MCS_TRY(mcs_json_key_only(path, "config", root, "model_type", "\"clip\""));
    MCS_TRY(read_tower(path, "vision_config", v, c->v_width, c->v_layers, c->v_mlp, &c->v_heads, &v_eps));
    MCS_TRY(read_tower(path, "text_config", t, c->t_width, c->t_layers, c->t_mlp, &c->t_heads, &t_eps));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "image_size", c->image_size));
    MCS_TRY(mcs_json_key_agree(path, "vision_config", v, "patch_size", c->patch));
    MCS_TRY(mcs_json_key_agree(path, "text_config", t, "vocab_size", c->vocab));
    MCS_TRY(mcs_json_key_agree(path, "text_config", t, "max_position_embeddings", c->positions));
    MCS_TRY(mcs_json_key_agree(path, "config", root, "projection_dim", c->embed));
    MCS_TRY(mcs_json_key_only(path, "vision_config", v, "hidden_act", acts));
    MCS_TRY(mcs_json_key_only(path, "text_config", t, "hidden_act", acts));
    const char *act[2];
    for (int i = 0; i < 2; i++) act[i] = json_string_value(json_object_get(i ? t : v, "hidden_act"));
    const int quick[2] = {!act[0] || !strcmp(act[0], "quick_gelu"), !act[1] || !strcmp(act[1], "quick_gelu")};
    c->quick_gelu = !bert && quick[0];
    MCS_REQUIRE(bert || quick[0] == quick[1], MCS_E_DATA,
                "%s: the towers have different activations (hidden_act), which open_clip's configuration cannot say",
                path);
    /* MedCLIP-SAMv2's file says 1e-12 for an image tower that was trained with 1e-6: the port's, not the model's */
    const int same = bert || (fabs(v_eps - c->v_eps) < 1e-9 && fabs(t_eps - c->t_eps) < 1e-9);
    MCS_REQUIRE(same, MCS_E_DATA, "%s: layer_norm_eps is %g and %g; open_clip has %g", path, v_eps, t_eps, c->v_eps);
    return MCS_OK;
}

/* E_DATA where images are prepared otherwise than by open_clip. */
static enum mcs_status read_preprocessor(struct convert_job *job, struct clip_facts *c)
{
    const char *path;
    json_t *root;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_convert_json(job, "preprocessor_config.json", &path, &root));
    if (!root) return MCS_OK;
    const char *sides = mcs_arena_printf(job->arena, "%d|{\"shortest_edge\":%d}|{\"height\":%d,\"width\":%d}",
                                         c->image_size, c->image_size, c->image_size, c->image_size);
    const char *const rows[][2] = {{"do_resize", "true"},  {"do_center_crop", "true"}, {"do_normalize", "true"},
                                   {"do_rescale", "true"}, {"resample", "3"},          {"size", sides},
                                   {"crop_size", sides}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        MCS_TRY_GOTO(mcs_json_key_only(path, "preprocessor", root, rows[i][0], rows[i][1]), st, done);
    MCS_TRY_GOTO(read_three(path, root, "image_mean", c->mean), st, done);
    MCS_TRY_GOTO(read_three(path, root, "image_std", c->std), st, done);
done:
    json_decref(root);
    return st;
}

/* BiomedCLIP's sizes need no configuration. */
static int is_biomed(const struct clip_facts *c)
{
    const struct clip_config b = mcs_clip_biomed();
    return c->v_width == b.v_width && c->v_layers == b.v_depth && c->patch == b.patch &&
           c->image_size == b.image_size && c->t_width == b.t_width && c->t_layers == b.t_depth && c->vocab == b.vocab;
}

static enum mcs_status read_source(struct convert_job *job, int bert, struct clip_facts *c)
{
    const struct clip_config b = mcs_clip_biomed();
    const int hugging = job->result->from == LAYOUT_HUGGINGFACE_CLIP || job->result->from == LAYOUT_MEDCLIP_SAMV2;
    const char *name = hugging ? "config.json" : "open_clip_config.json", *path;
    json_t *root;
    *c = bert ? bert_sizes(job) : openai_sizes(job);
    c->context = bert && c->positions > b.context ? b.context : c->positions;
    for (int i = 0; i < 3; i++) {
        c->mean[i] = (double)b.mean[i]; /* those of OpenAI's CLIP, which all take by default */
        c->std[i] = (double)b.std[i];
    }
    MCS_TRY(check_facts(job, c));
    MCS_TRY(mcs_convert_json(job, name, &path, &root));
    if (root) {
        const enum mcs_status st = hugging ? read_hugging(path, root, bert, c)
                                   : bert  ? read_open_clip_bert(job, path, c)
                                           : read_open_clip_openai(path, root, c);
        json_decref(root);
        MCS_TRY(st);
        if (hugging) MCS_TRY(read_preprocessor(job, c));
        return check_heads(job, c);
    }
    MCS_REQUIRE(bert && is_biomed(c), MCS_E_NOINPUT,
                "%s: no such file, and the tensors do not tell the number of heads%s: put the model's %s there", path,
                bert ? "" : " and the activation", name);
    c->v_heads = b.v_heads;
    c->t_heads = b.t_heads;
    return MCS_OK;
}

enum mcs_status mcs_convert_clip_config(struct convert_job *job)
{
    struct clip_facts c;
    const int bert = mcs_layout_family(job->result->from) == FAMILY_CLIP_BERT;
    MCS_TRY(read_source(job, bert, &c));
    switch (job->result->to) {
    case LAYOUT_MEDCLIP_SAMV2:
        MCS_TRY(mcs_convert_put(job, mcs_convert_port_json(&c), "config.json"));
        return mcs_convert_put(job, mcs_convert_preprocessor_json(&c), "preprocessor_config.json");
    case LAYOUT_HUGGINGFACE_CLIP:
        MCS_TRY(mcs_convert_put(job, mcs_convert_clip_json(&c), "config.json"));
        return mcs_convert_put(job, mcs_convert_preprocessor_json(&c), "preprocessor_config.json");
    case LAYOUT_OPEN_CLIP_BERT:
        return mcs_convert_put(job, mcs_convert_open_clip_bert_json(&c), "open_clip_config.json");
    default:
        return mcs_convert_put(job, mcs_convert_open_clip_openai_json(&c, job->result->to == LAYOUT_OPEN_CLIP_CUSTOM),
                               "open_clip_config.json");
    }
}
