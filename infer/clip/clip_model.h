/* A CLIP model in a folder; embeddings of images and texts.
 *
 * The folder holds a configuration, a tokenizer and the weights. A key of the configuration that asks for something
 * that mcsam does not compute is refused by name.
 *
 * - open_clip_config.json (model_cfg, preprocess_cfg), as open_clip's `local-dir:` reads it. Image tower: timm's ViT
 *   (timm_model_name) or OpenAI's (width, layers, ...). Text tower: a BERT (hf_model_name, whose config.json is read
 * where the folder or that path has one, else BERT base is assumed; tokenizer.json or vocab.txt) or OpenAI's
 * (tokenizer.json, merges.txt or bpe_simple_vocab_16e6.txt.gz). Sizes that timm's name does not tell are in
 * "mcsam_cfg": {"vision_cfg":
 *   {"width", "layers", "heads", "mlp_width", "patch_size"}, "text_cfg": {...}}, which open_clip does not read.
 * - The same file in mcsam's own layout, which states all sizes (vision_cfg.heads tells it from OpenAI's towers).
 * - config.json and preprocessor_config.json of transformers' CLIP, or of MedCLIP-SAMv2's port of BiomedCLIP.
 *
 * Weights: open_clip_model.safetensors, open_clip_pytorch_model.bin, or Hugging Face's names. */
#ifndef MCS_CLIP_MODEL_H
#define MCS_CLIP_MODEL_H

#include "data/image/image.h"
#include "data/text/tokenizer.h"
#include "engine/backend.h"
#include "engine/base/path.h"
#include "engine/model/clip.h"
#include "engine/tape/exec.h"

/* The configuration and tokenizer files of a model's folder, as they were read, and the configuration read from them.
 */
struct clip_files {
    struct clip_config config;
    int n;
    struct {
        const char *name;
        char *bytes;
        int64_t n_bytes;
    } v[12];
};

enum { CLIP_IMAGE_BATCH = 16 };
struct clip_model {
    struct clip_config config;
    struct params *params;
    struct tokenizer *tokenizer;
    struct device *device;
    char folder[MCS_PATH_BYTES];
    struct clip_files files; /* none for a new model */
    /* Images computed together: set before the first ones by a caller that has fewer in all; 0: CLIP_IMAGE_BATCH. */
    int image_batch;
    char sha256[65];           /* of the weights file; "" for random weights */
    struct weights_hash *hash; /* being taken still: mcs_clip_model_open_hashing */
    /* Compiled graphs, made at first use. */
    struct clip_session *image_session, *text_session[16];
    struct clip_batch *batch;  /* host memory that they share */
    struct exec_memory memory; /* shared by them */
};

/* Declares the parameters of a model of these sizes in p, which is empty and stays without memory. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_clip_params_declare(const struct clip_config *c, struct params *p);
/* Reads open_clip_config.json of a folder. E_NOINPUT; E_DATA: not JSON, no model_cfg, impossible sizes, or a key that
 * changes the result and asks for something that mcsam does not compute; the message names it. */
enum mcs_status mcs_clip_config_read(const char *folder, struct clip_config *c);
/* Reads config, vocabulary and weights. E_NOINPUT, E_DATA (a tensor missing or of another shape, by name), E_NOMEM.
 * Freed with mcs_clip_model_close. */
enum mcs_status mcs_clip_model_open(const char *folder, struct device *d, struct clip_model *m);
/* The same, without waiting for the weights' SHA-256, which a thread takes meanwhile: m->sha256 is set by
 * mcs_clip_model_hash, which waits for it (E_IO); later calls do nothing. */
enum mcs_status mcs_clip_model_open_hashing(const char *folder, struct device *d, struct clip_model *m);
enum mcs_status mcs_clip_model_hash(struct clip_model *m);
/* A model from a config with random weights drawn from `seed`. vocab_path: a vocab.txt; c->vocab 0: as many entries as
 * the file has. name_more, if not NULL, may declare further parameters ("start...."), which are trained with the model
 * but not saved. */
enum mcs_status mcs_clip_model_new(const struct clip_config *c, const char *vocab_path, uint64_t seed, struct device *d,
                                   void (*name_more)(struct graph *g, const struct clip_config *c),
                                   struct clip_model *m);
void mcs_clip_model_close(struct clip_model *m);
/* Writes the folder: weights (half: float16) and the configuration and tokenizer files that the model was read from,
 * byte for byte, so that open_clip loads it as it loaded the original, or transformers (then the weights are
 * model.safetensors in its names); for a new model its configuration and
 * vocabulary. Each file is written atomically. */
enum mcs_status mcs_clip_model_save(const struct clip_model *m, const char *folder, int half);

/* How an image is resized to the network's S x S input. CROP: shorter edge to S (Pillow's bicubic), then a centre crop,
 * as in open_clip. WHOLE: the whole image stretched to S x S. PROCESSOR: as CROP, by transformers' CLIPImageProcessor,
 * which the released saliency code uses: it rounds the crop's first row or column down, open_clip to the nearest even
 * number, so they differ where (longer edge - S) mod 4 = 3. */
enum clip_view { CLIP_VIEW_CROP, CLIP_VIEW_WHOLE, CLIP_VIEW_PROCESSOR };
/* 8-bit image -> dst (S,S,3) normalised. Grey images are repeated over the channels. */
enum mcs_status mcs_clip_prepare(const struct clip_config *c, const struct image *img, enum clip_view view, float *dst);
/* The same from an image as it is stored. CROP is open_clip's order: resize, crop, then the conversion to RGB, which
 * differs from mcs_clip_prepare for palettes, images of one bit and alpha. The others convert first. */
enum mcs_status mcs_clip_prepare_stored(const struct clip_config *c, const struct stored_image *src,
                                        enum clip_view view, float *dst);
/* The resized image as 8-bit pixels (S,S,channels of img), before normalisation. */
enum mcs_status mcs_clip_view(const struct clip_config *c, const struct image *img, enum clip_view view,
                              struct image *dst);

/* 8-bit square (S,S,1 or 3) -> dst (S,S,3): (v/255 - mean) / std in float32. */
void mcs_clip_normalise(const struct clip_config *c, const struct image *img, float *dst);

/* n prepared images (n,S,S,3) -> dst (n,embed); normalise: L2. */
enum mcs_status mcs_clip_embed_images(struct clip_model *m, const float *images, int n, int normalise, float *dst);
/* n texts -> dst (n,embed). */
enum mcs_status mcs_clip_embed_texts(struct clip_model *m, const char *const *texts, int n, int normalise, float *dst);

/* The ids of a text, at most c->context (ids has room for them), as the model's reference makes them. */
enum mcs_status mcs_clip_encode(const struct tokenizer *tokenizer, const struct clip_config *c, const char *text,
                                int32_t *ids, int *n_tokens);
/* Packs the tokens of n texts without padding; a [PAD] that a text holds literally has no row either, though its
 * position counts, since open_clip masks it. ids, position, key: capacity n*context rows; offset: n+1. key =
 * sample*1024 + position is a row's key for dropout; sample NULL: the text's index. OpenAI's tower: a text ends at its
 * first end token, and the first n keys are the texts' last rows. *n_rows: rows used. */
enum mcs_status mcs_clip_pack_texts(const struct clip_model *m, const char *const *texts, const int32_t *sample, int n,
                                    int32_t *ids, int32_t *position, int32_t *key, int32_t *offset, int64_t *n_rows);
/* n_rows rounded up to the row count of a text graph. */
int64_t mcs_clip_text_bucket(int64_t n_rows);

#endif
