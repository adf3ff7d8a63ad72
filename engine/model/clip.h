/* CLIP: an image and a text tower, projected into one space, in open_clip's tensor names and numerics.
 *
 * Image tower: timm's ViT, as BiomedCLIP has it (visual.trunk.*, visual.head.proj.weight), or OpenAI's (visual.conv1,
 * visual.transformer.resblocks.*, visual.proj): no bias in the patch convolution, a norm before the blocks, q, k and v
 * in in_proj_weight, a projection that is not transposed.
 *
 * Text tower: a BERT (text.transformer.*, text.proj.*), or OpenAI's (transformer.resblocks.*, text_projection, under
 * "text." where custom_text is set): pre-norm blocks like the image tower's under a causal mask; the embedding is taken
 * at the token that ends the text. Later tokens do not change it, so a packed caption ends there. */
#ifndef MCS_CLIP_H
#define MCS_CLIP_H

#include "engine/tape/graph.h"

/* The embedding of a tower: its first token; the mean of its patches (of its tokens, for a BERT); the first token
 * through a BERT's pooler, tanh of a linear layer. */
enum clip_pool { CLIP_POOL_FIRST, CLIP_POOL_MEAN, CLIP_POOL_TANH };

struct clip_config { /* v_: image tower, t_: text tower */
    int embed;       /* width of the shared embedding space */
    int image_size, patch, v_width, v_depth, v_heads, v_mlp;
    float v_eps; /* 1e-6 */
    int vocab, context, positions, types, t_width, t_depth, t_heads, t_mlp;
    int t_proj;    /* BERT: hidden width of the projection MLP; 0: a linear projection, -1: none */
    float t_eps;   /* 1e-12 */
    float dropout; /* of the text tower, in training */
    float mean[3], std[3];
    int v_openai, t_openai;         /* OpenAI's towers instead of timm's and BERT */
    int custom_text;                /* OpenAI's text tower: its names begin with "text." */
    int v_quick_gelu, t_quick_gelu; /* QuickGELU instead of GELU */
    enum clip_pool v_pool, t_pool;
    int hugging_face; /* images and texts are prepared as by transformers, not as by open_clip */
};
/* BiomedCLIP-PubMedBERT_256-vit_base_patch16_224: 351 tensors, 195,902,721 values. */
struct clip_config mcs_clip_biomed(void);
int mcs_clip_tokens(const struct clip_config *c); /* 1 + patches */

/* image (B,S,S,3), normalised, channels last -> tokens (B,T,v_width), class token first, position embeddings added. */
struct tensor *mcs_clip_embed_image(struct graph *g, struct tensor *image, const struct clip_config *c);
/* Blocks [from, to) on x (B,T,v_width). qkv_of, if not NULL, receives the packed qkv of each of these blocks (for
 * attention guidance). */
struct tensor *mcs_clip_blocks(struct graph *g, struct tensor *x, const struct clip_config *c, int from, int to,
                               struct tensor **qkv_of);
/* The part of the last block that the class token needs, final norm and projection: x (B,T,v_width) after block depth-2
 * -> (B,embed), not normalised. frozen: the weights take no gradient here, so that even q is computed for the class
 * token only. *qkv, if qkv is not NULL and frozen is 0: the block's packed qkv. */
struct tensor *mcs_clip_finish(struct graph *g, struct tensor *x, const struct clip_config *c, int frozen,
                               struct tensor **qkv);
/* All of the image tower: (B,S,S,3) -> (B,embed), not normalised. */
struct tensor *mcs_clip_image(struct graph *g, struct tensor *image, const struct clip_config *c);

/* Packed text: n_tokens rows for n_texts captions, no padding between them. */
struct clip_text {
    struct tensor *ids;      /* (n_tokens) int32; -1 past the last caption */
    struct tensor *position; /* (n_tokens) int32, position in its caption */
    struct tensor *offset;   /* (n_texts+1) int32, first row of each caption */
    struct tensor *key;      /* (n_tokens) int32, identifies the row in the dropout's random numbers. OpenAI's tower has
                                no dropout: its first n_texts numbers are the captions' last rows */
    int first; /* number of the first text in the global batch, for the attention's dropout; not 0 on later ranks */
};
struct clip_text mcs_clip_text_inputs(struct graph *g, int64_t n_texts, int64_t n_tokens);
/* -> (n_texts,embed), not normalised. train: with dropout. */
struct tensor *mcs_clip_text(struct graph *g, const struct clip_text *text, const struct clip_config *c, int train);
/* The parameter logit_scale, shape (): the log of the inverse temperature. */
struct tensor *mcs_clip_logit_scale(struct graph *g);

/* M2IB (Wang, Rudner, Wilson, "Visual explanations of image-text representations via multi-modal information bottleneck
 * attribution", 2023): the blocks above block `layer` (0-based; the bottleneck is on that block's output), for `pairs`
 * (image, prompt) pairs of `copies` noisy copies each. */
struct m2ib {
    struct tensor *x;     /* input (pairs,T,v_width): output of block `layer` */
    struct tensor *alpha; /* input (pairs,T,v_width) with gradient */
    struct tensor *noise; /* input (pairs*copies,T,v_width) */
    struct tensor *text;  /* input (pairs,embed), raw text features */
    struct tensor *fit;   /* (pairs*copies) cosines; their seed gradient is -1/copies */
    struct tensor *kl;    /* (pairs) mean compression; its seed gradient is beta */
    struct tensor *map;   /* (pairs,T) compression per token, class token first */
};
struct m2ib mcs_clip_m2ib(struct graph *g, const struct clip_config *c, int layer, int64_t pairs, int64_t copies);

#endif
