/* M2IB saliency: which tokens of an image are relevant to a text. Wang, Rudner, Wilson 2023, as MedCLIP-SAMv2 uses it.
 *
 * An information bottleneck passes the share lambda = sigmoid(alpha) of each token and channel of block `layer`'s
 * output and replaces the rest by noise. Adam minimises beta * KL - cosine(image, text) over alpha; the map is the KL
 * of each token. The blocks below the bottleneck and the text encoder run once, `pairs` (image, prompt) pairs are
 * optimised together, and the last block is computed for the class token only. */
#ifndef MCS_SALIENCY_H
#define MCS_SALIENCY_H

#include "infer/clip/clip_model.h"

struct saliency_options {
    int layer;  /* 0-based block after which the bottleneck sits; -1 = the last but one */
    float beta; /* weight of the compression */
    int steps;  /* forward passes; alpha is updated steps - 1 times */
    int copies; /* noisy copies of each pair per step */
    float lr;   /* Adam's */
    uint64_t seed;
    enum clip_view view; /* WHOLE: paper, CROP: release (centre crop, map stretched over the image) */
    const float *noise;  /* (steps, copies, tokens, channels), the same for every pair; NULL = drawn by (seed, case,
                            step, copy) */
    int pairs;           /* optimised together */
};
struct saliency_options mcs_saliency_defaults(void);

/* One request: an image, a prompt and the case's key for the noise, which must not depend on the place in a batch. */
struct saliency_case {
    const struct image *image;
    const char *text;
    uint32_t key;
    struct map2
        map;        /* out: of the image's size, 0..1; a constant map is all 0. Freed by the caller with mcs_map_free */
    float presence; /* out: cosine(image, text) - mean cosine(image, null texts); without null texts the cosine alone */
};
/* Runs all cases. null_texts: prompts without a finding ("normal brain"); n_null may be 0. on_alpha, if not NULL, is
 * called after each step with the current batch's alpha (pairs,tokens,channels), for tests. progress: shows a progress
 * line. */
typedef void (*saliency_watch)(void *ctx, int step, const float *alpha);
enum mcs_status mcs_saliency_run(struct clip_model *m, const struct saliency_options *o, struct saliency_case *cases,
                                 int n, const char *const *null_texts, int n_null, saliency_watch on_alpha, void *ctx,
                                 int progress);

/* Host memory that a run with these options needs in addition to images and weights: graph arenas and buffers. */
enum mcs_status mcs_saliency_bytes(struct clip_model *m, const struct saliency_options *o, int64_t *bytes);

#endif
