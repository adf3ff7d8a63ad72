/* A SAM model: embeddings of images; masks from points, boxes and mask prompts.
 *
 *     struct sam_model m;
 *     MCS_TRY(mcs_sam_model_open("sam_vit_b.safetensors", &device, &m));
 *     struct sam_frame frame;
 *     mcs_sam_prepare(&m.config, &image, pixels, &frame);                   // (S,S,3)
 *     mcs_sam_encode_images(&m, pixels, 1, embedding);                      // mcs_sam_embedding_values() floats
 *     struct sam_prompts prompt = {.has_box = 1, .box = {x0, y0, x1, y1}};  // pixels of the image
 *     mcs_sam_predict(&m, embedding, &frame, 1, &prompt, 1, low_res, iou);  // (4,side,side), (4)
 *     mcs_sam_upscale(&m.config, low_res, &frame, &logits);                 // the image's size; mask = logit > 0
 *
 * Every step follows segment-anything's SamPredictor. Mask 0 is the single-mask output, masks 1 to 3 are the multimask
 * output. A model is used by one thread at a time. */
#ifndef MCS_SAM_MODEL_H
#define MCS_SAM_MODEL_H

#include "data/image/image.h"
#include "engine/backend.h"
#include "engine/base/path.h"
#include "engine/device_ops.h"
#include "engine/model/sam.h"
#include "engine/tape/exec.h"

struct sam_plan;

struct sam_model {
    struct sam_config config;
    struct params *params;
    struct device *device;
    char path[MCS_PATH_BYTES];
    char sha256[65];           /* of the weights file; "" for random weights */
    struct weights_hash *hash; /* being taken still: mcs_sam_model_open_hashing */
    /* Compiled graphs, made at first use: encoders by batch size, decoders by prompts, tokens and mask prompt. */
    struct sam_plan *plans;
    struct exec_memory memory;         /* shared by them */
    struct device_scratch work, masks; /* of mcs_sam_segment and mcs_sam_masks, kept from call to call */
};

/* Declares the parameters of a model of these sizes in p, which is empty and stays without memory. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_sam_params_declare(const struct sam_config *c, struct params *p);
/* The sizes in a sam_config.json. E_NOINPUT; E_DATA: not JSON, or impossible sizes. */
enum mcs_status mcs_sam_config_read(const char *path, struct sam_config *c);
/* The sizes of a file of weights without sam_config.json: ViT-B, -L or -H by the width of its position table, or those
 * of its tensors where transformers' config.json lies beside it. E_NOINPUT; E_DATA: neither, or config.json contradicts
 * the tensors or asks for a function that is not SAM's. */
enum mcs_status mcs_sam_config_guess(const char *path, struct sam_config *c);
struct weight_file;
/* 1 and the sizes where the width of the position table is ViT-B's, -L's or -H's, else 0. */
int mcs_sam_config_known(const struct weight_file *file, struct sam_config *c);
/* The sizes of a model's tensors (in segment-anything's names), which the configuration in `folder` must agree with:
 * sam_config.json, else config.json where hugging_face (transformers wrote the weights) or the sizes are no published
 * model's. E_DATA: they do not, there is none, or impossible sizes. */
enum mcs_status mcs_sam_config_source(const struct weight_file *model, int hugging_face, const char *folder,
                                      struct sam_config *c);
/* path: a file of segment-anything's or MedSAM's tensors, of any kind of data/weights/weight_file.h, or a folder with
 * one (sam.safetensors, model.safetensors ..., or the only file of weights in it). The sizes come
 * from sam_config.json beside it; without one, as mcs_sam_config_guess finds them. E_NOINPUT,
 * E_DATA (a tensor missing or of another shape, by name; impossible sizes), E_NOMEM. Release with mcs_sam_model_close;
 * after a failure the model holds nothing and may still be closed. */
enum mcs_status mcs_sam_model_open(const char *path, struct device *d, struct sam_model *m);
/* The same, without waiting for the weights' SHA-256, which a thread takes meanwhile: m->sha256 is set by
 * mcs_sam_model_hash, which waits for it (E_IO); later calls do nothing. */
enum mcs_status mcs_sam_model_open_hashing(const char *path, struct device *d, struct sam_model *m);
enum mcs_status mcs_sam_model_hash(struct sam_model *m);
/* The lines "model_sha256: ..." and "preprocess: ..." of a run's options; for struct run_more, whose context is the
 * model. Owned by the arena. E_IO, E_NOMEM. */
enum mcs_status mcs_sam_model_lines(void *model, struct arena *arena, const char **lines);
/* A model of these sizes with random weights drawn from `seed`. */
enum mcs_status mcs_sam_model_new(const struct sam_config *c, uint64_t seed, struct device *d, struct sam_model *m);
void mcs_sam_model_close(struct sam_model *m);
/* Writes folder/sam.safetensors (half: float16) and folder/sam_config.json, each atomically. note: how the weights were
 * made, or NULL. */
enum mcs_status mcs_sam_model_save(const struct sam_model *m, const char *folder, int half, const char *note);

/* The demo's small SAM: 719,016 values, image 128, patch 8. */
struct sam_config mcs_sam_small(void);

/* "sam" or "medsam". */
const char *mcs_sam_preprocess_name(enum sam_preprocess p);
/* Sets m->config.preprocess by its name. NULL keeps it, with a warning where it is SAM's and the file's name begins
 * with "medsam". E_USAGE: another word. */
enum mcs_status mcs_sam_preprocess_set(struct sam_model *m, const char *word);

/* Placement of an image in the model's S x S frame: scaled to in_width x in_height in the upper left corner. */
struct sam_frame {
    int width, height;       /* of the image */
    int in_width, in_height; /* in the frame; the longer one is S, with MedSAM both are */
};

/* The frame of an image of this size, each side at least 1. */
struct sam_frame mcs_sam_frame_of(const struct sam_config *c, int width, int height);

/* 8-bit image -> dst (S,S,3), by c->preprocess. Grey is repeated over the channels.
 * SAM: resized so that the longer side is S (Pillow's bilinear), normalised by SA-1B's mean and standard deviation,
 * zero-padded to the right and below.
 * MedSAM: resized to S x S by mcs_image_resize_spline, then (x - min) / (max - min) of the whole image.
 * E_DATA an image without pixels, E_NOMEM. */
enum mcs_status mcs_sam_prepare(const struct sam_config *c, const struct image *img, float *dst,
                                struct sam_frame *frame);
int64_t mcs_sam_embedding_values(const struct sam_config *c); /* grid * grid * embed */
int mcs_sam_side(const struct sam_config *c);                 /* of the low resolution masks: 4 * grid */

/* n prepared images (n,S,S,3) -> dst (n,grid,grid,embed), on the host or in memory of the model's device. */
enum mcs_status mcs_sam_encode_images(struct sam_model *m, const float *images, int n, float *dst);
enum mcs_status mcs_sam_encode_on_device(struct sam_model *m, const float *images, int n, float *dst);

/* One mask's prompts, in pixels of the image. */
struct sam_prompts {
    int image; /* which of the embeddings */
    int n_points;
    const double (*points)[2]; /* x, y */
    const int *labels;         /* 1 inside, 0 outside */
    int has_box;
    double box[4];     /* x0, y0, x1, y1 */
    const float *mask; /* (side,side) logits in the frame, or NULL */
};

/* n prompts on n_images embeddings -> low_res (n,4,side,side) logits in the frame, iou (n,4). Prompts with the same
 * number of tokens are decoded together; points without a box get segment-anything's padding point. E_USAGE: an image
 * index out of range, a label that is not 0 or 1, more than 4096 points, a coordinate that is not finite. */
enum mcs_status mcs_sam_predict(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                int n_images, const struct sam_prompts *prompts, int n, float *low_res, float *iou);

/* The same with embeddings, and low_res (n + SAM_CHUNK,4,side,side) for mcs_sam_masks, in memory of the model's device;
 * prompt i's masks are number place[i] < n. */
enum { SAM_CHUNK = 8 }; /* prompts decoded in one batch, at most */
enum mcs_status mcs_sam_predict_on_device(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                          int n_images, const struct sam_prompts *prompts, int n, float *low_res,
                                          int *place, float *iou);

/* low_res (side,side) -> logits of the image's size: bilinear to S x S, cropped to in_height x in_width, bilinear to
 * the image's size. MedSAM: the probability, bilinear to the image's size, as tanh(logit / 2) / tanh(1 / 2), which is
 * above 0, 1 and -1 where the probability is above that of these logits. dst is allocated; release with mcs_map_free.
 */
enum mcs_status mcs_sam_upscale(const struct sam_config *c, const float *low_res, const struct sam_frame *frame,
                                struct map2 *dst);
/* Of the four masks: 0, or with multimask the one of 1..3 with the greatest predicted IoU (the first of equals). */
int mcs_sam_choose(const float iou[SAM_MASKS], int multimask);
/* Mask plane[i] of low_res (.., side, side) at the image's size, for i < n, computed on on->device, whose memory
 * low_res is. counts (n). united (height,width), or NULL: 1 where the weights of the masks with a logit above 0 add up
 * to more than .5. E_NOMEM. */
struct sam_counts {
    int64_t area;     /* pixels with a logit above 0 */
    double stability; /* pixels with a logit above 1 over those with one above -1; 1 where there are none */
};
enum mcs_status mcs_sam_masks(const struct sam_config *c, struct device_scratch *on, const float *low_res,
                              const int32_t *plane, int n, const struct sam_frame *frame, float weight, uint8_t *united,
                              struct sam_counts *counts);

/* A mask (0 = outside) as a mask prompt in logits: scaled into the frame, 10 inside, -10 outside. dst (side,side). */
enum mcs_status mcs_sam_mask_prompt(const struct sam_config *c, const struct image *mask, float *dst);

#endif
