#include "data/weights/layout_table.h"

#include <stddef.h>

#define BLOCK "visual.trunk.blocks.#."
#define BERT "text.transformer.encoder.layer.#."
#define VISION "vision_model.encoder.layers.#."
#define TEXT "text_model.encoder.layers.#."

/* BiomedCLIP's form. other: MedCLIP-SAMv2's. V, M: width and hidden width of the image tower, T, H: of the text tower,
 * E: embedding, J: hidden width of the text projection. */
static const struct layout_row clip_bert[] = {
    {"logit_scale", "", "logit_scale", HOW_SAME, 0},
    {"logit_bias", "", NULL, HOW_NONE, 0},
    {"visual.trunk.cls_token", "1 1 V", "vision_model.embeddings.class_embedding", HOW_LEAD2, 0},
    {"visual.trunk.pos_embed", "1 N V", "vision_model.embeddings.position_embedding.weight", HOW_LEAD1, 0},
    {"visual.trunk.patch_embed.proj.*", "V 3 P P", "vision_model.embeddings.patch_embedding.*", HOW_SAME, 0},
    {BLOCK "norm1.*", "V", VISION "layer_norm1.*", HOW_SAME, 0},
    {BLOCK "attn.qkv.*", "3V V", VISION "self_attn.{qkv}_proj.*", HOW_JOIN, 0},
    {BLOCK "attn.proj.*", "V V", VISION "self_attn.out_proj.*", HOW_SAME, 0},
    {BLOCK "norm2.*", "V", VISION "layer_norm2.*", HOW_SAME, 0},
    {BLOCK "mlp.fc1.*", "M V", VISION "mlp.fc1.*", HOW_SAME, 0},
    {BLOCK "mlp.fc2.*", "V M", VISION "mlp.fc2.*", HOW_SAME, 0},
    {"visual.trunk.norm.*", "V", "vision_model.post_layernorm.*", HOW_SAME, 0},
    {"visual.head.proj.weight", "E V", "visual_projection.weight", HOW_SAME, 0},
    {"text.transformer.embeddings.word_embeddings.weight", "? T", "text_model.embeddings.token_embedding.weight",
     HOW_SAME, 0},
    {"text.transformer.embeddings.position_embeddings.weight", "? T", "text_model.embeddings.position_embedding.weight",
     HOW_SAME, 0},
    {"text.transformer.embeddings.token_type_embeddings.weight", "? T",
     "text_model.embeddings.token_type_embedding.weight", HOW_SAME, 0},
    {"text.transformer.embeddings.LayerNorm.*", "T", "text_model.embeddings.layer_norm.*", HOW_SAME, 0},
    {BERT "attention.self.query.*", "T T", TEXT "self_attn.q_proj.*", HOW_SAME, 0},
    {BERT "attention.self.key.*", "T T", TEXT "self_attn.k_proj.*", HOW_SAME, 0},
    {BERT "attention.self.value.*", "T T", TEXT "self_attn.v_proj.*", HOW_SAME, 0},
    {BERT "attention.output.dense.*", "T T", TEXT "self_attn.out_proj.*", HOW_SAME, 0},
    {BERT "attention.output.LayerNorm.*", "T", TEXT "layer_norm1.*", HOW_SAME, 0},
    {BERT "intermediate.dense.*", "H T", TEXT "mlp.fc1.*", HOW_SAME, 0},
    {BERT "output.dense.*", "T H", TEXT "mlp.fc2.*", HOW_SAME, 0},
    {BERT "output.LayerNorm.*", "T", TEXT "layer_norm2.*", HOW_SAME, 0},
    {"text.proj.0.weight", "J T", "text_projection.fc1.weight", HOW_SAME, 0},
    {"text.proj.2.weight", "E J", "text_projection.fc2.weight", HOW_SAME, 0},
    {NULL, NULL, NULL, HOW_SAME, 0},
};

#define IMAGE "visual.transformer.resblocks.#."
#define WORDS "transformer.resblocks.#."

/* OpenAI's towers. other: transformers' CLIPModel ("pre_layrnorm" is its spelling). Letters as above. */
static const struct layout_row clip_openai[] = {
    {"logit_scale", "", "logit_scale", HOW_SAME, 0},
    {"logit_bias", "", NULL, HOW_NONE, 0},
    {"visual.class_embedding", "V", "vision_model.embeddings.class_embedding", HOW_SAME, 0},
    {"visual.positional_embedding", "N V", "vision_model.embeddings.position_embedding.weight", HOW_SAME, 0},
    {"visual.conv1.weight", "V 3 P P", "vision_model.embeddings.patch_embedding.weight", HOW_SAME, 0},
    {"visual.ln_pre.*", "V", "vision_model.pre_layrnorm.*", HOW_SAME, 0},
    {IMAGE "ln_1.*", "V", VISION "layer_norm1.*", HOW_SAME, 0},
    {IMAGE "attn.in_proj_weight", "3V V", VISION "self_attn.{qkv}_proj.weight", HOW_JOIN, 0},
    {IMAGE "attn.in_proj_bias", "3V", VISION "self_attn.{qkv}_proj.bias", HOW_JOIN, 0},
    {IMAGE "attn.out_proj.*", "V V", VISION "self_attn.out_proj.*", HOW_SAME, 0},
    {IMAGE "ln_2.*", "V", VISION "layer_norm2.*", HOW_SAME, 0},
    {IMAGE "mlp.c_fc.*", "M V", VISION "mlp.fc1.*", HOW_SAME, 0},
    {IMAGE "mlp.c_proj.*", "V M", VISION "mlp.fc2.*", HOW_SAME, 0},
    {"visual.ln_post.*", "V", "vision_model.post_layernorm.*", HOW_SAME, 0},
    {"visual.proj", "V E", "visual_projection.weight", HOW_TRANSPOSE, 0},
    {"token_embedding.weight", "? T", "text_model.embeddings.token_embedding.weight", HOW_SAME, 0},
    {"positional_embedding", "? T", "text_model.embeddings.position_embedding.weight", HOW_SAME, 0},
    {WORDS "ln_1.*", "T", TEXT "layer_norm1.*", HOW_SAME, 0},
    {WORDS "attn.in_proj_weight", "3T T", TEXT "self_attn.{qkv}_proj.weight", HOW_JOIN, 0},
    {WORDS "attn.in_proj_bias", "3T", TEXT "self_attn.{qkv}_proj.bias", HOW_JOIN, 0},
    {WORDS "attn.out_proj.*", "T T", TEXT "self_attn.out_proj.*", HOW_SAME, 0},
    {WORDS "ln_2.*", "T", TEXT "layer_norm2.*", HOW_SAME, 0},
    {WORDS "mlp.c_fc.*", "H T", TEXT "mlp.fc1.*", HOW_SAME, 0},
    {WORDS "mlp.c_proj.*", "T H", TEXT "mlp.fc2.*", HOW_SAME, 0},
    {"ln_final.*", "T", "text_model.final_layer_norm.*", HOW_SAME, 0},
    {"text_projection", "T E", "text_projection.weight", HOW_TRANSPOSE, 0},
    {NULL, NULL, NULL, HOW_SAME, 0},
};

#define ENCODER "image_encoder.blocks.#."
#define LAYERS "vision_encoder.layers.#."
#define TWO_WAY "mask_decoder.transformer.layers.#."
#define FINAL "mask_decoder.transformer.final_attn_token_to_image."
#define MASK_IN "prompt_encoder.mask_downscaling."
#define MASK_EMBED "prompt_encoder.mask_embed."
#define MLPS "mask_decoder.output_hypernetworks_mlps.#."
#define IOU "mask_decoder.iou_prediction_head."

/* SAM. other: transformers' SamModel. V, M: width and hidden width of the encoder, E: embedding, A: width of the cross
 * attention, L: hidden width of the decoder, Q, C: channels of the mask prompt, U, W: of the upscaling, J: hidden width
 * of the IoU head, K: number of masks. */
static const struct layout_row sam[] = {
    {"image_encoder.pos_embed", "1 G G V", "vision_encoder.pos_embed", HOW_SAME, 0},
    {"image_encoder.patch_embed.proj.*", "V 3 P P", "vision_encoder.patch_embed.projection.*", HOW_SAME, 0},
    {ENCODER "norm1.*", "V", LAYERS "layer_norm1.*", HOW_SAME, 0},
    {ENCODER "attn.rel_pos_h", "? D", LAYERS "attn.rel_pos_h", HOW_SAME, 0},
    {ENCODER "attn.rel_pos_w", "? D", LAYERS "attn.rel_pos_w", HOW_SAME, 0},
    {ENCODER "attn.qkv.*", "3V V", LAYERS "attn.qkv.*", HOW_SAME, 0},
    {ENCODER "attn.proj.*", "V V", LAYERS "attn.proj.*", HOW_SAME, 0},
    {ENCODER "norm2.*", "V", LAYERS "layer_norm2.*", HOW_SAME, 0},
    {ENCODER "mlp.lin1.*", "M V", LAYERS "mlp.lin1.*", HOW_SAME, 0},
    {ENCODER "mlp.lin2.*", "V M", LAYERS "mlp.lin2.*", HOW_SAME, 0},
    {"image_encoder.neck.0.weight", "E V 1 1", "vision_encoder.neck.conv1.weight", HOW_SAME, 0},
    {"image_encoder.neck.1.*", "E", "vision_encoder.neck.layer_norm1.*", HOW_SAME, 0},
    {"image_encoder.neck.2.weight", "E E 3 3", "vision_encoder.neck.conv2.weight", HOW_SAME, 0},
    {"image_encoder.neck.3.*", "E", "vision_encoder.neck.layer_norm2.*", HOW_SAME, 0},
    {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", "2 ?",
     "shared_image_embedding.positional_embedding|prompt_encoder.shared_embedding.positional_embedding", HOW_TWICE, 0},
    {"prompt_encoder.point_embeddings.#.weight", "1 E", "prompt_encoder.point_embed.#.weight", HOW_SAME, 4},
    {"prompt_encoder.not_a_point_embed.weight", "1 E", "prompt_encoder.not_a_point_embed.weight", HOW_SAME, 0},
    {MASK_IN "0.*", "Q 1 2 2", MASK_EMBED "conv1.*", HOW_SAME, 0},
    {MASK_IN "1.*", "Q", MASK_EMBED "layer_norm1.*", HOW_SAME, 0},
    {MASK_IN "3.*", "C Q 2 2", MASK_EMBED "conv2.*", HOW_SAME, 0},
    {MASK_IN "4.*", "C", MASK_EMBED "layer_norm2.*", HOW_SAME, 0},
    {MASK_IN "6.*", "E C 1 1", MASK_EMBED "conv3.*", HOW_SAME, 0},
    {"prompt_encoder.no_mask_embed.weight", "1 E", "prompt_encoder.no_mask_embed.weight", HOW_SAME, 0},
    {TWO_WAY "self_attn.q_proj.*", "E E", TWO_WAY "self_attn.q_proj.*", HOW_SAME, 0},
    {TWO_WAY "self_attn.k_proj.*", "E E", TWO_WAY "self_attn.k_proj.*", HOW_SAME, 0},
    {TWO_WAY "self_attn.v_proj.*", "E E", TWO_WAY "self_attn.v_proj.*", HOW_SAME, 0},
    {TWO_WAY "self_attn.out_proj.*", "E E", TWO_WAY "self_attn.out_proj.*", HOW_SAME, 0},
    {TWO_WAY "norm1.*", "E", TWO_WAY "layer_norm1.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_token_to_image.q_proj.*", "A E", TWO_WAY "cross_attn_token_to_image.q_proj.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_token_to_image.k_proj.*", "A E", TWO_WAY "cross_attn_token_to_image.k_proj.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_token_to_image.v_proj.*", "A E", TWO_WAY "cross_attn_token_to_image.v_proj.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_token_to_image.out_proj.*", "E A", TWO_WAY "cross_attn_token_to_image.out_proj.*", HOW_SAME,
     0},
    {TWO_WAY "norm2.*", "E", TWO_WAY "layer_norm2.*", HOW_SAME, 0},
    {TWO_WAY "mlp.lin1.*", "L E", TWO_WAY "mlp.lin1.*", HOW_SAME, 0},
    {TWO_WAY "mlp.lin2.*", "E L", TWO_WAY "mlp.lin2.*", HOW_SAME, 0},
    {TWO_WAY "norm3.*", "E", TWO_WAY "layer_norm3.*", HOW_SAME, 0},
    {TWO_WAY "norm4.*", "E", TWO_WAY "layer_norm4.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_image_to_token.q_proj.*", "A E", TWO_WAY "cross_attn_image_to_token.q_proj.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_image_to_token.k_proj.*", "A E", TWO_WAY "cross_attn_image_to_token.k_proj.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_image_to_token.v_proj.*", "A E", TWO_WAY "cross_attn_image_to_token.v_proj.*", HOW_SAME, 0},
    {TWO_WAY "cross_attn_image_to_token.out_proj.*", "E A", TWO_WAY "cross_attn_image_to_token.out_proj.*", HOW_SAME,
     0},
    {FINAL "q_proj.*", "A E", FINAL "q_proj.*", HOW_SAME, 0},
    {FINAL "k_proj.*", "A E", FINAL "k_proj.*", HOW_SAME, 0},
    {FINAL "v_proj.*", "A E", FINAL "v_proj.*", HOW_SAME, 0},
    {FINAL "out_proj.*", "E A", FINAL "out_proj.*", HOW_SAME, 0},
    {"mask_decoder.transformer.norm_final_attn.*", "E", "mask_decoder.transformer.layer_norm_final_attn.*", HOW_SAME,
     0},
    {"mask_decoder.iou_token.weight", "1 E", "mask_decoder.iou_token.weight", HOW_SAME, 0},
    {"mask_decoder.mask_tokens.weight", "K E", "mask_decoder.mask_tokens.weight", HOW_SAME, 0},
    {"mask_decoder.output_upscaling.0.weight", "E U 2 2", "mask_decoder.upscale_conv1.weight", HOW_SAME, 0},
    {"mask_decoder.output_upscaling.0.bias", "U", "mask_decoder.upscale_conv1.bias", HOW_SAME, 0},
    {"mask_decoder.output_upscaling.1.*", "U", "mask_decoder.upscale_layer_norm.*", HOW_SAME, 0},
    {"mask_decoder.output_upscaling.3.weight", "U W 2 2", "mask_decoder.upscale_conv2.weight", HOW_SAME, 0},
    {"mask_decoder.output_upscaling.3.bias", "W", "mask_decoder.upscale_conv2.bias", HOW_SAME, 0},
    {MLPS "layers.0.*", "E E", MLPS "proj_in.*", HOW_SAME, 4},
    {MLPS "layers.1.*", "E E", MLPS "layers.0.*", HOW_SAME, 4},
    {MLPS "layers.2.*", "W E", MLPS "proj_out.*", HOW_SAME, 4},
    {IOU "layers.0.*", "J E", IOU "proj_in.*", HOW_SAME, 0},
    {IOU "layers.1.*", "J J", IOU "layers.0.*", HOW_SAME, 0},
    {IOU "layers.2.*", "K J", IOU "proj_out.*", HOW_SAME, 0},
    {NULL, NULL, NULL, HOW_SAME, 0},
};

const char *const mcs_layout_buffers[] = {"text.transformer.embeddings.position_ids",
                                          "text.transformer.embeddings.token_type_ids",
                                          "text_model.embeddings.position_ids",
                                          "vision_model.embeddings.position_ids",
                                          "attn_mask", /* and NAME.attn_mask: mcs_layout_is_buffer */
                                          "input_resolution",
                                          "context_length",
                                          "vocab_size",
                                          "pixel_mean",
                                          "pixel_std",
                                          NULL};

const struct layout_row *mcs_layout_rows(enum weight_family family)
{
    static const struct layout_row none = {NULL, NULL, NULL, HOW_SAME, 0};
    switch (family) {
    case FAMILY_CLIP_BERT: return clip_bert;
    case FAMILY_CLIP_OPENAI: return clip_openai;
    case FAMILY_SAM: return sam;
    case FAMILY_N: break;
    }
    return &none;
}
