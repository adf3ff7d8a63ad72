/* Training of SAM on masks prompted by boxes, one box per mask: image encoder, prompt encoder and mask decoder
 * together.
 *
 * Loss: 2 BCE + Dice of mask 0, upscaled to the image as in prediction; plus 0.2 times the same loss of the best of the
 * three multimask outputs at low resolution (selected by this loss between forward and backward pass); plus 0.1 times
 * the squared error of the predicted IoU of all four masks. (The original SAM uses 20 focal instead of BCE, with which
 * training from scratch gives empty masks for longer; 10 focal + BCE + Dice was no better after 600 steps.) AdamW,
 * linear warm-up, cosine decay. All random numbers are keyed by (seed, step, index), so a resumed run is bit-identical.
 */
#ifndef MCS_SAM_TRAIN_H
#define MCS_SAM_TRAIN_H

#include "engine/dist/comm.h"
#include "infer/sam/sam_model.h"

enum { SAM_TRAIN_TARGETS = 5, SAM_TRAIN_JITTERS = 8 };

/* One image and its targets, filled by the source. S is the model's image_size. */
struct sam_train_sample {
    uint8_t *image;                /* (S,S) grey */
    uint8_t *mask;                 /* (SAM_TRAIN_TARGETS,S,S) 0/1 */
    int n;                         /* targets, 1..SAM_TRAIN_TARGETS */
    int box[SAM_TRAIN_TARGETS][4]; /* tight around each mask: x0 y0 x1 y1, inclusive */
};
/* draw: image `index` of a step; must depend on (seed, step, index) only. */
struct sam_train_source {
    enum mcs_status (*draw)(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s);
    void *context;
};

struct sam_train_options {
    int64_t steps, warmup, checkpoint_every; /* checkpoint_every 0: only at the end and when stopped */
    int images, boxes;                       /* images per step, boxes per image */
    double lr, weight_decay, clip_norm;
    int n_jitters;
    double jitter[SAM_TRAIN_JITTERS];    /* one is drawn per box: edges move by up to this fraction of the box's side */
    double scale;                        /* half of the boxes are enlarged or shrunk by up to this share */
    double flip, invert;                 /* probability of mirroring left to right, and of inverting grey values */
    float focal, dice, bce, focal_alpha; /* weights in a mask's loss; focal_alpha < 0: no class weights */
    float multimask, iou;                /* weights of the other two losses */
    uint64_t seed;
    const char *run;    /* folder: checkpoint.h5, metrics.jsonl, events; created if necessary */
    const char *config; /* resolved options as text, kept in the checkpoint; one of other options is refused */
    struct comm *comm;  /* the ranks that share each step's images, NULL: one; their number must divide images */
};
/* The demo's: 1000 steps of 10 images x 4 boxes, lr 1e-3, warm-up 50, jitter 0 .2 .4 .6 .8, scale .3. */
struct sam_train_options mcs_sam_train_defaults(void);

/* Trains m in place, resuming from RUN/checkpoint.h5 if there is one. Several ranks give the result of one rank on the
 * whole batch up to rounding: the gradients are summed. Only rank 0 reads and writes the run's folder. E_STOPPED after
 * SIGTERM / SIGUSR1, with a checkpoint written; E_DATA: the loss is not finite; E_USAGE impossible options. */
enum mcs_status mcs_sam_train(struct sam_model *m, const struct sam_train_options *o,
                              const struct sam_train_source *source);

/* Jitters a target's box as in training: `box` x0, y0, x1, y1 inclusive -> out within the image of size x size pixels,
 * at least 2 pixels wide and high. jitter, scale: as in sam_train_options. Random numbers are keyed by (seed, step,
 * index). */
void mcs_sam_jitter_box(const int box[4], int size, double jitter, double scale, uint64_t seed, uint32_t step,
                        uint32_t index, double out[4]);

#endif
