/* SAM's configuration for another program: mcsam's sam_config.json, and config.json and preprocessor_config.json of
 * transformers (SamConfig, SamImageProcessor). */
#include "infer/convert/convert_parts.h"
#include "infer/sam/sam_plan.h"

#include <string.h>

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
    MCS_TRY(mcs_sam_config_source(job->model, r->from == LAYOUT_HUGGINGFACE_SAM, job->src_folder, &c));
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
