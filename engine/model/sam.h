/* SAM (Kirillov et al., "Segment Anything", 2023): image encoder, prompt encoder, mask decoder, with the tensor names
 * and numerics of segment-anything, at any size. All maps are channels-last. */
#ifndef MCS_SAM_H
#define MCS_SAM_H

#include "engine/tape/graph.h"

/* How an image becomes the model's input, and a logit a mask: as segment-anything's SamPredictor or MedSAM's inference
 * script does it (infer/sam/sam_model.h). */
enum sam_preprocess { SAM_PREPROCESS_SAM, SAM_PREPROCESS_MEDSAM };

enum { SAM_MAX_GLOBAL = 8, SAM_MASKS = 4 /* mask tokens: one for a single mask, three for multimask output */ };

struct sam_config {
    int image_size, patch, width, depth, heads, window, mlp; /* encoder */
    int n_global, global[SAM_MAX_GLOBAL];                    /* blocks with attention over the whole image */
    int embed;                                               /* width of the image embedding and of the decoder */
    int d_heads, d_mlp, d_downsample; /* decoder (2 layers); its cross-attention has width embed / d_downsample */
    int mask_in;                      /* channels of the mask prompt before the last convolution */
    enum sam_preprocess preprocess;   /* no graph depends on it */
};
struct sam_config mcs_sam_vit_b(void);        /* 314 tensors, 93,735,728 values; also MedSAM's */
int mcs_sam_grid(const struct sam_config *c); /* side length of the embedding, image_size / patch */

/* image (B,S,S,3), normalised, zero-padded -> (B,grid,grid,embed). image_encoder.* */
struct tensor *mcs_sam_encode(struct graph *g, struct tensor *image, const struct sam_config *c);

/* Prompts for `n` masks, all with the same number of tokens: points, and the two corners of a box or, without a box,
 * segment-anything's padding point (label -1), which the caller adds (infer/sam/sam_model.h). */
struct sam_prompt {
    int64_t n, tokens;     /* sparse tokens per mask; may be 0 */
    struct tensor *coords; /* input (n*tokens,2): (x+0.5)/S, (y+0.5)/S; NULL when tokens is 0 */
    struct tensor *label;  /* input (n*tokens) int32: -1 for the padding point, else 0, 1 point, 2, 3 box corners */
    struct tensor *kind;   /* input (n*tokens) int32: label + 1, the row of the table of learned embeddings */
    struct tensor *mask;   /* input (n,4*grid,4*grid,1) logits, or NULL */
};
struct sam_prompt mcs_sam_prompt_inputs(struct graph *g, const struct sam_config *c, int64_t n, int64_t tokens,
                                        int with_mask);

struct sam_output {
    struct tensor *masks; /* (n,SAM_MASKS,(4 grid)^2) logits */
    struct tensor *iou;   /* (n,SAM_MASKS) */
};
/* embedding (I,grid,grid,embed); image_of (n) int32: the image of each mask. */
struct sam_output mcs_sam_decode(struct graph *g, struct tensor *embedding, struct tensor *image_of,
                                 const struct sam_prompt *p, const struct sam_config *c);

/* Parts of the decoder, for tests: sparse (n*tokens,embed) or NULL, dense (n,grid*grid,embed) or the (embed) no-mask
 * vector, position (grid*grid,embed). */
struct tensor *mcs_sam_sparse(struct graph *g, const struct sam_prompt *p, const struct sam_config *c);
struct tensor *mcs_sam_dense(struct graph *g, const struct sam_prompt *p, const struct sam_config *c);
struct tensor *mcs_sam_position(struct graph *g, const struct sam_config *c);

#endif
