/* SAM's configuration: mcsam's sam_config.json, and config.json and preprocessor_config.json of transformers
 * (SamConfig, SamImageProcessor). Almost all of it follows from the tensors. */
#include "data/io/file.h"
#include "infer/convert/convert_parts.h"
#include "infer/sam/sam_plan.h"

#include <string.h>

/* ---- source ---- */

/* a / b, or 0. */
static int quotient(int a, int b)
{
    return b ? a / b : 0;
}

/* Blocks with attention over the whole image have relative positions for the whole grid. */
static void read_blocks(const struct convert_job *job, struct sam_config *c)
{
    const int grid = quotient(c->image_size, c->patch);
    c->n_global = 0;
    c->window = 0;
    for (int k = 0; k < c->depth; k++) {
        const char *name = mcs_arena_printf(job->arena, "image_encoder.blocks.%d.attn.rel_pos_h", k);
        const int rows = mcs_convert_size(job, name, 0);
        if (rows != 2 * grid - 1)
            c->window = (rows + 1) / 2;
        else if (c->n_global < SAM_MAX_GLOBAL)
            c->global[c->n_global++] = k;
    }
}

static struct sam_config sizes_of(const struct convert_job *job)
{
    struct sam_config c = mcs_sam_vit_b();
    c.width = mcs_convert_size(job, "image_encoder.pos_embed", 3);
    c.patch = mcs_convert_size(job, "image_encoder.patch_embed.proj.weight", 3);
    c.image_size = c.patch * mcs_convert_size(job, "image_encoder.pos_embed", 1);
    c.depth = mcs_weight_file_blocks(job->model, "image_encoder.blocks.", ".norm1.weight");
    c.mlp = mcs_convert_size(job, "image_encoder.blocks.0.mlp.lin1.weight", 0);
    c.heads = quotient(c.width, mcs_convert_size(job, "image_encoder.blocks.0.attn.rel_pos_h", 1));
    c.embed = mcs_convert_size(job, "image_encoder.neck.0.weight", 0);
    c.mask_in = mcs_convert_size(job, "prompt_encoder.mask_downscaling.3.weight", 0);
    c.d_mlp = mcs_convert_size(job, "mask_decoder.transformer.layers.0.mlp.lin1.weight", 0);
    c.d_downsample = quotient(
        c.embed, mcs_convert_size(job, "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight", 0));
    read_blocks(job, &c);
    return c;
}

/* What transformers would compute differently from segment-anything, or with other sizes than the tensors'. */
static enum mcs_status check_hugging(const char *path, const json_t *root, struct sam_config *c)
{
    const json_t *v = json_object_get(root, "vision_config"), *p = json_object_get(root, "prompt_encoder_config"),
                 *d = json_object_get(root, "mask_decoder_config");
    MCS_TRY(mcs_convert_only(path, "config", root, "model_type", "\"sam\""));
    MCS_TRY(mcs_convert_agree(path, "vision_config", v, "hidden_size", c->width));
    MCS_TRY(mcs_convert_agree(path, "vision_config", v, "num_hidden_layers", c->depth));
    MCS_TRY(mcs_convert_agree(path, "vision_config", v, "num_attention_heads", c->heads));
    MCS_TRY(mcs_convert_agree(path, "vision_config", v, "image_size", c->image_size));
    MCS_TRY(mcs_convert_agree(path, "vision_config", v, "patch_size", c->patch));
    if (c->window) MCS_TRY(mcs_convert_agree(path, "vision_config", v, "window_size", c->window));
    MCS_TRY(mcs_convert_only(path, "vision_config", v, "hidden_act", "\"gelu\""));
    MCS_TRY(mcs_convert_only(path, "prompt_encoder_config", p, "hidden_act", "\"gelu\""));
    MCS_TRY(mcs_convert_only(path, "mask_decoder_config", d, "hidden_act", "\"relu\""));
    const json_t *global = json_object_get(v, "global_attn_indexes");
    int same = !global || json_array_size(global) == (size_t)c->n_global;
    for (int i = 0; global && same && i < c->n_global; i++)
        same = json_integer_value(json_array_get(global, (size_t)i)) == c->global[i];
    MCS_REQUIRE(same, MCS_E_DATA,
                "%s: vision_config.global_attn_indexes are not the blocks whose tensors are for the whole image", path);
    return mcs_convert_int(path, "mask_decoder_config", d, "num_attention_heads", &c->d_heads);
}

static enum mcs_status check_own(const char *path, struct sam_config *c)
{
    struct sam_config said;
    MCS_TRY(mcs_sam_config_read(path, &said));
    c->d_heads = said.d_heads;
    if (!c->window) c->window = said.window;
    MCS_REQUIRE(!memcmp(&said, c, sizeof said), MCS_E_DATA, "%s: its sizes are not those of the tensors", path);
    return MCS_OK;
}

static enum mcs_status read_source(const struct convert_job *job, struct sam_config *c)
{
    struct sam_config known;
    const char *path, *own = mcs_arena_printf(job->arena, "%s/sam_config.json", job->src_folder);
    json_t *root;
    *c = sizes_of(job);
    MCS_TRY(mcs_arena_status(job->arena));
    MCS_REQUIRE(mcs_weight_file_blocks(job->model, "mask_decoder.transformer.layers.", ".norm1.weight") == 2 &&
                    mcs_convert_size(job, "mask_decoder.mask_tokens.weight", 0) == SAM_MASKS,
                MCS_E_DATA, "%s: a mask decoder of 2 layers and %d masks is supported",
                mcs_weight_file_path(job->model), SAM_MASKS);
    if (mcs_file_exists(own)) return check_own(own, c);
    MCS_TRY(mcs_convert_json(job, "config.json", &path, &root));
    if (root) {
        const enum mcs_status st = check_hugging(path, root, c);
        json_decref(root);
        MCS_TRY(st);
    } else {
        MCS_REQUIRE(mcs_sam_config_known(job->model, &known), MCS_E_DATA,
                    "%s: not SAM's ViT-B, -L or -H, so its sam_config.json or config.json must lie beside it",
                    mcs_weight_file_path(job->model));
    }
    if (!c->window) c->window = mcs_sam_vit_b().window;
    return mcs_sam_config_check(mcs_weight_file_path(job->model), c);
}

/* ---- target ---- */

static json_t *vision_json(const struct convert_job *job, const struct sam_config *c)
{
    json_t *global = json_array();
    for (int i = 0; i < c->n_global; i++) json_array_append_new(global, json_integer(c->global[i]));
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:b, s:f, s:i, s:b, s:b, s:i, s:o, s:i}",
                     "model_type", "sam_vision_model", "hidden_size", c->width, "output_channels", c->embed,
                     "num_hidden_layers", c->depth, "num_attention_heads", c->heads, "num_channels", 3, "image_size",
                     c->image_size, "patch_size", c->patch, "hidden_act", "gelu", "layer_norm_eps", 1e-6, "qkv_bias", 1,
                     "mlp_ratio", (double)c->mlp / c->width, "mlp_dim", c->mlp, "use_abs_pos", 1, "use_rel_pos", 1,
                     "window_size", c->window, "global_attn_indexes", global, "num_pos_feats",
                     mcs_convert_size(job, "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", 1));
}

/* The decoder's layer_norm_eps is segment-anything's 1e-5; transformers' default of 1e-6 gives slightly other results.
 */
static json_t *config_json(const struct convert_job *job, const struct sam_config *c)
{
    json_t *prompt = json_pack("{s:i, s:i, s:i, s:i, s:i, s:s, s:f}", "hidden_size", c->embed, "image_size",
                               c->image_size, "patch_size", c->patch, "mask_input_channels", c->mask_in,
                               "num_point_embeddings", 4, "hidden_act", "gelu", "layer_norm_eps", 1e-6);
    json_t *decoder = json_pack(
        "{s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "hidden_size", c->embed, "hidden_act", "relu", "mlp_dim",
        c->d_mlp, "num_hidden_layers", 2, "num_attention_heads", c->d_heads, "attention_downsample_rate",
        c->d_downsample, "num_multimask_outputs", SAM_MASKS - 1, "iou_head_depth", 3, "iou_head_hidden_dim",
        mcs_convert_size(job, "mask_decoder.iou_prediction_head.layers.0.weight", 0), "layer_norm_eps", 1e-5);
    return json_pack("{s:[s], s:s, s:o, s:o, s:o}", "architectures", "SamModel", "model_type", "sam", "vision_config",
                     vision_json(job, c), "prompt_encoder_config", prompt, "mask_decoder_config", decoder);
}

static json_t *preprocessor_json(const struct sam_config *c)
{
    const int mask = 4 * mcs_sam_grid(c);
    return json_pack(
        "{s:s, s:s, s:b, s:b, s:i, s:{s:i}, s:{s:i}, s:b, s:f, s:b, s:[f,f,f], s:[f,f,f], s:b, s:{s:i,s:i},"
        "s:{s:i,s:i}}",
        "image_processor_type", "SamImageProcessor", "processor_class", "SamProcessor", "do_convert_rgb", 1,
        "do_resize", 1, "resample", 2, "size", "longest_edge", c->image_size, "mask_size", "longest_edge", mask,
        "do_rescale", 1, "rescale_factor", 1 / 255.0, "do_normalize", 1, "image_mean", 0.485, 0.456, 0.406, "image_std",
        0.229, 0.224, 0.225, "do_pad", 1, "pad_size", "height", c->image_size, "width", c->image_size, "mask_pad_size",
        "height", mask, "width", mask);
}

enum mcs_status mcs_convert_sam_config(struct convert_job *job)
{
    struct sam_config c, known;
    struct convert_result *r = job->result;
    MCS_TRY(read_source(job, &c));
    if (r->to == LAYOUT_HUGGINGFACE_SAM) {
        MCS_TRY(mcs_convert_put(job, config_json(job, &c), "config.json"));
        return mcs_convert_put(job, preprocessor_json(&c), "preprocessor_config.json");
    }
    if (mcs_sam_config_known(job->model, &known) && !memcmp(&known, &c, sizeof c)) return MCS_OK;
    r->files[r->n_files++] = "sam_config.json";
    if (job->options->dry_run) return MCS_OK;
    const char *path = mcs_arena_printf(job->arena, "%s/sam_config.json", job->dst_folder);
    MCS_TRY(mcs_arena_status(job->arena));
    return mcs_sam_config_write(path, &c);
}
