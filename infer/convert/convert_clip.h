/* A CLIP's configuration between the references' forms, for convert_clip.c and convert_clip_json.c. */
#ifndef MCS_CONVERT_CLIP_H
#define MCS_CONVERT_CLIP_H

#include "infer/convert/convert_parts.h"

struct clip_facts { /* v_: image tower, t_: text tower */
    int embed, image_size, patch, v_tokens, v_width, v_layers, v_heads, v_mlp;
    int vocab, context, positions, t_width, t_layers, t_heads, t_mlp;
    int types, t_proj; /* BERT */
    int quick_gelu;    /* OpenAI's towers: QuickGELU instead of GELU */
    double v_eps, t_eps, mean[3], std[3];
};

/* Each is owned by the caller; NULL: no memory. */
json_t *mcs_convert_open_clip_bert_json(const struct clip_facts *c);
json_t *mcs_convert_open_clip_openai_json(const struct clip_facts *c, int custom_text);
json_t *mcs_convert_clip_json(const struct clip_facts *c); /* config.json of transformers' CLIPModel */
json_t *mcs_convert_port_json(const struct clip_facts *c); /* config.json of MedCLIP-SAMv2 */
json_t *mcs_convert_preprocessor_json(const struct clip_facts *c);

#endif
