/* M2IB saliency: which tokens of an image are relevant to a text. Wang, Rudner, Wilson 2023, as MedCLIP-SAMv2 uses it.
 *
 * An information bottleneck passes the share lambda = sigmoid(alpha) of each token and channel of block `layer`'s
 * output and replaces the rest by noise. Adam minimises beta * KL - cosine(image, text) over alpha; the map is the KL
 * of each token. The blocks below the bottleneck and the text encoder run once, `pairs` (image, prompt) pairs are
 * optimised together, and the last block is computed for the class token only. */
#ifndef MCS_SALIENCY_H
#define MCS_SALIENCY_H

#include "engine/device_ops.h"
#include "infer/cases.h"
#include "infer/clip/clip_model.h"

struct saliency_options {
    int layer;  /* 0-based block after which the bottleneck sits; -1 = the last but one */
    float beta; /* weight of the compression */
    int steps;  /* forward passes; alpha is updated steps - 1 times */
    int copies; /* noisy copies of each pair per step */
    float lr;   /* Adam's */
    uint64_t seed;
    enum clip_view view; /* WHOLE: paper, PROCESSOR: release (centre crop, map stretched over the image) */
    /* (steps, copies, tokens, channels), the same for every pair; NULL = drawn by (seed, case, step, copy) */
    const float *noise;
    int pairs;                     /* optimised together */
    const char *const *null_texts; /* prompts without a finding ("normal brain"), for the presence score */
    int n_null;
    /* NULL, or called after each step with the batch's alpha (pairs, tokens, channels), for tests */
    void (*on_alpha)(void *ctx, int step, const float *alpha);
    void *on_alpha_ctx;
};
struct saliency_options mcs_saliency_defaults(void);

/* One request: an image, a prompt and the case's key for the noise, which must not depend on the place in a batch. */
struct saliency_case {
    const struct image *image;
    const char *text, *stem; /* stem: for the list of failures */
    uint32_t key;
    enum mcs_status status; /* out: OK, or why the case failed */
    /* out: of the image's size, 0..1; a constant map is all 0. Freed by the caller with mcs_map_free */
    struct map2 map;
    /* out: cosine(image, text) - mean cosine(image, null texts); without null texts the cosine alone */
    float presence;
};

/* A session: graphs over one set of weights, planned once, and their memory.
 *
 *     struct saliency s;
 *     MCS_TRY(mcs_saliency_open(&s, &model, &options));
 *     MCS_TRY_GOTO(mcs_saliency_run(&s, cases, n, NULL, 0), st, done);   // as often as wanted, any n
 *     done: mcs_saliency_close(&s);
 *
 * Graphs: the image tower, which returns block `layer`'s output and the image's embedding; the bottleneck and the
 * blocks above it, with the gradient to alpha; and the bottleneck alone, which turns the last alpha into the map. */
struct saliency {
    struct clip_model *model;
    struct saliency_options o; /* layer resolved */
    int64_t tokens, width;
    int side;                              /* tokens = 1 + side * side */
    struct exec_memory memory, map_memory; /* of the image tower and the bottleneck; of the map */
    struct graph *image_graph, *graph, *map_graph;
    struct exec *image_exec, *exec, *map_exec;
    struct tensor *image, *x, *embedding; /* of image_graph */
    struct m2ib b;
    struct tensor *map_x, *map_alpha, *map;
    struct saliency_case **batch; /* (pairs) on the host, as the following */
    const char **texts;
    float *images, *alpha, *text, *image_embedding, *nulls;
    int n_batch, has_nulls;     /* cases in the batch; nulls holds the null texts' embeddings */
    float *moments;             /* Adam's, (2,pairs,tokens,channels), on the device */
    uint32_t *keys;             /* (pairs), of the noise, on the device */
    struct device_scratch maps; /* the batch's, one behind the other */
};
/* The model must outlive the session, which must not be moved in memory; its weights may change between runs (not if
 * there are null texts). E_USAGE: impossible options; E_NOMEM. After a failure the session is closed. */
enum mcs_status mcs_saliency_open(struct saliency *s, struct clip_model *m, const struct saliency_options *o);
/* Runs n cases, `pairs` at a time; an incomplete batch is padded. A case whose image cannot be prepared is left out of
 * its batch and added to `failures`; NULL: it ends the run. The texts must have passed mcs_text_check. progress: shows
 * a progress line. */
enum mcs_status mcs_saliency_run(struct saliency *s, struct saliency_case *cases, int n, struct failure_list *failures,
                                 int progress);
void mcs_saliency_close(struct saliency *s);

/* Memory, of the device and the host, that a session with these options needs in addition to images and weights. */
enum mcs_status mcs_saliency_bytes(struct clip_model *m, const struct saliency_options *o, int64_t *bytes);

#endif
