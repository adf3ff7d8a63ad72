/* Training SAM from boxes: image encoder, prompt encoder and mask decoder together, a box a mask.
 *
 * Loss: mask 0, upscaled to the image as predictions are, 2 BCE + Dice; the best of multimask's three on the low
 * resolution (chosen by that loss between the forward and the backward pass), the same with weight 0.2; the predicted
 * IoU of all four masks against their true one, squared, with weight 0.1 (SAM's own training has focal x 20
 * instead of BCE: from scratch it gives empty masks for longer; 10 focal + BCE + Dice was no better after 600
 * steps). AdamW, linear warm-up and half a cosine. Everything a step draws is keyed by (seed, step, place), so a
 * resumed run goes on to the same bits. */
#ifndef MCS_SAM_TRAIN_H
#define MCS_SAM_TRAIN_H

#include "infer/sam/sam_model.h"

enum { SAM_TRAIN_TARGETS = 5, SAM_TRAIN_JITTERS = 8 };

/* One image and what a box may ask for in it; filled by the source. S is the model's image_size. */
struct sam_train_sample {
    uint8_t *image;                /* (S,S) grey */
    uint8_t *mask;                 /* (SAM_TRAIN_TARGETS,S,S) 0/1 */
    int n;                         /* targets, 1..SAM_TRAIN_TARGETS */
    int box[SAM_TRAIN_TARGETS][4]; /* tight around each mask: x0 y0 x1 y1, inclusive */
};
/* Image `index` of a step: must depend on (seed, step, index) alone. */
struct sam_train_source {
    enum mcs_status (*draw)(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s);
    void *context;
};

struct sam_train_options {
    int64_t steps, warmup, checkpoint_every; /* checkpoint_every 0: only at the end and when stopped */
    int images, boxes;                       /* images a step, boxes an image */
    double lr, weight_decay, clip_norm;
    int n_jitters;
    double jitter[SAM_TRAIN_JITTERS];    /* one is drawn a box: each edge moves by up to so many sides of the box */
    double scale;                        /* half of the boxes are too large or too small by up to this share */
    double flip, invert;                 /* shares of images mirrored left to right, and with grey values turned over */
    float focal, dice, bce, focal_alpha; /* of a mask's loss; focal_alpha < 0: classes weigh the same */
    float multimask, iou;                /* weights of the other two losses */
    uint64_t seed;
    const char *run;    /* folder: checkpoint.h5, metrics.jsonl, events; made here */
    const char *config; /* resolved options as text, kept in the checkpoint; one of other options is refused */
};
/* The demo's: 1000 steps of 10 images x 4 boxes, lr 1e-3, warm-up 50, jitter 0 .2 .4 .6 .8, scale .3. */
struct sam_train_options mcs_sam_train_defaults(void);

/* Trains m in place, resuming from RUN/checkpoint.h5 where there is one. E_STOPPED after SIGTERM / SIGUSR1, with a
 * checkpoint; E_DATA when the loss is not finite; E_USAGE impossible options. */
enum mcs_status mcs_sam_train(struct sam_model *m, const struct sam_train_options *o,
                              const struct sam_train_source *source);

/* A box around a target, jittered as in training: `box` inclusive -> out x0, y0, x1, y1 within the image, at least 2
 * pixels wide and high. Keyed by (seed, step, index). */
void mcs_sam_jitter_box(const int box[4], int size, double jitter, double scale, uint64_t seed, uint32_t step,
                        uint32_t index, double out[4]);

#endif
