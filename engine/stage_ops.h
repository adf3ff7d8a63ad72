/* What a pipeline does with tensors between two graphs, on the device that holds them, so that nothing but results
 * travels to the host. A backend offers all of it (backend.h's `stages`) or, as the CPU's does, nothing: then infer/
 * and train/ compute the same on the host's memory. Who asks which is mcs_stages_of, and nobody falls back from one to
 * the other.
 *
 * Pointers are device memory (backend's alloc, a tensor's data) unless said. Everything is enqueued behind what the
 * device was asked for before and nothing waits; what went wrong there is found by the next download or sync. Results
 * are the host's to rounding. */
#ifndef MCS_STAGE_OPS_H
#define MCS_STAGE_OPS_H

#include "engine/backend.h"
#include "engine/base/rng.h"

/* y (n_keys, copies, n): standard normals, [k][c] those of mcs_rng_fill_normal by {seed, site + c, keys[k], step}. */
struct stage_noise {
    uint64_t seed;
    uint32_t site, step;
    int64_t n_keys, copies, n;
    const uint32_t *keys; /* (n_keys) */
    float *y;
};

/* One step of torch's Adam (betas .9, .999, eps 1e-8, no decay) on w (n) with gradient g. */
struct stage_adam {
    int64_t n;
    float *w, *m, *v;
    const float *g;
    float lr;
    int step; /* counts from 1 */
};

/* mcs_saliency_upscale: tokens (side, side) -> map (height, width), 0..1. view_side 0: bilinear, min-max; else the
 * release's way, by a square of view_side in 8 bits. */
struct stage_saliency_map {
    int side, view_side, height, width;
    const float *tokens;
    float *map;
};

/* A batch of windows of images (n, height, width, channels) as in infer/unet/sliding.c. list (count): image, z (0), y,
 * x, mirroring (1: rows, 2: columns). values: the network's tensor, whose first `count` rows they are. */
typedef int32_t stage_window[5];
struct stage_windows {
    int count, channels, height, width, window_height, window_width;
    const stage_window *list;
    const struct tensor *values;
    float *images;
    const float *weight; /* (window_height, window_width), for pasting */
};
/* Sums of pasted windows (n, padded, channels) / (weights (padded) * flips) -> logits (n, height, width, channels).
 * *bad becomes 1 where one is not finite. */
struct stage_windows_mean {
    int n, channels, padded[2], before[2], height, width;
    float flips;
    const float *sums, *weights;
    float *logits;
    uint32_t *bad;
};
/* prob (n, classes, pixels) += share * softmax of logits (n, pixels, classes); what was there does not count where
 * `first`. */
struct stage_softmax {
    int n, classes, first;
    int64_t pixels;
    float share;
    const float *logits;
    float *prob;
};
/* prob (n, classes, pixels) -> mcs_entropy_map and mcs_ensemble_labels of each image; NULL: not wanted. *bad becomes 1
 * where a value is no probability. */
struct stage_prob_maps {
    int n, classes;
    int64_t pixels;
    double threshold;
    const float *prob;
    float *bits;     /* (n, pixels) */
    uint8_t *labels; /* (n, pixels) */
    uint32_t *bad;
};

/* Coarse masks (infer/coarse/threshold.c, components.c): map (height, width) -> what lies above a cut, its 8-connected
 * components and, in a second step, those of them that stay. */
enum stage_cut { STAGE_OTSU, STAGE_KMEANS, STAGE_KMEANS_RELEASE, STAGE_FIXED, STAGE_FIXED_RELEASE };
struct stage_component { /* struct component, in three dimensions */
    int32_t label, area, x0, y0, z0, x1, y1, z1;
    float cx, cy, cz, confidence, peak;
    int32_t peak_x, peak_y, peak_z;
};
struct stage_found {
    float low, high, threshold; /* of the map; as mcs_coarse_threshold returns it */
    int32_t cut;
    uint32_t constant, set, bad; /* 1 or 0; pixels above; values that are not finite: the rest is worth nothing */
    int32_t n;                   /* components */
};
struct stage_coarse {
    enum stage_cut cut;
    int height, width;
    float value; /* of the fixed cuts */
    const float *map;
    uint8_t *above;                /* (height, width) 0 or 1 */
    int32_t *labels;               /* (height, width) 0; 1 .. n */
    struct stage_component *items; /* room for a component in each 2 x 2 pixels */
    struct stage_found *found;     /* (1) */
    const uint8_t *keep;           /* (n + 1) by label: 1 stays, else 0; of label 0: 0 */
    int most_label;                /* n */
    uint8_t *mask;                 /* (height, width) 0 or 1 */
};

/* SAM's masks at the size of an image (mcs_sam_upscale): mask i is plane[i] of low_res (.., side, side), scaled to the
 * frame, of it the part that the image fills, scaled to the image. */
struct stage_masks {
    int n, side, frame, in_height, in_width, height, width;
    float weight; /* of each mask in `united` */
    const float *low_res;
    const int32_t *plane; /* (n) */
    uint8_t *united;      /* or NULL; (height, width): 1 where masks of over half the weight are above 0 */
    uint32_t *counts;     /* (n, 3): pixels above 0, above 1, above -1 */
};

/* What is drawn for one patch (train/unet/augment.h); 0 everywhere: nothing is done to it. */
enum { AUGMENT_MAX_CHANNELS = 8 };
struct augment_channel {
    double blur_y, blur_x, contrast, zoom, gamma_inverted, gamma; /* as the transforms take them; 0: left out */
    float brightness;                                             /* a factor; 0: left out */
};
struct augment_draw {
    int moves; /* by the matrix; else the centre is cut out */
    int flip_rows, flip_columns;
    float noise; /* its standard deviation; element i of the patch gets noise times element i of the key's normals
                  * (mcs_rng_fill_normal) */
    double matrix[2][2]; /* of mcs_augment_spatial */
    struct mcs_rng noise_key;
    struct augment_channel channel[AUGMENT_MAX_CHANNELS];
};
/* A batch of training patches as the loader cuts them, augmented into a network's inputs: mcs_augment_apply, and
 * mcs_unet_target for the smaller labels. Patches and draws are the host's and may change when the call returns; they
 * travel while what was enqueued before, which may read the batch before, still runs. */
struct stage_augment {
    int n, channels, src_height, src_width;
    const float *src;         /* (n, src_height, src_width, channels) */
    const int32_t *src_label; /* (n, src_height, src_width) */
    const struct augment_draw *draws;
    const struct tensor *image; /* (n, height, width, channels) */
    int n_labels;
    struct tensor *const *labels; /* (n, height, width), then smaller ones of it */
};

struct stage_ops {
    /* The values of a tensor as floats, whatever the device keeps them in. */
    enum mcs_status (*copy)(struct device *d, const struct tensor *from, float *to);
    enum mcs_status (*noise)(struct device *d, const struct stage_noise *a);
    enum mcs_status (*adam)(struct device *d, const struct stage_adam *a);
    enum mcs_status (*saliency_map)(struct device *d, const struct stage_saliency_map *a);
    enum mcs_status (*windows_cut)(struct device *d, const struct stage_windows *a);   /* values = images, mirrored */
    enum mcs_status (*windows_paste)(struct device *d, const struct stage_windows *a); /* images += weight * values */
    enum mcs_status (*windows_mean)(struct device *d, const struct stage_windows_mean *a);
    enum mcs_status (*softmax)(struct device *d, const struct stage_softmax *a);
    enum mcs_status (*prob_maps)(struct device *d, const struct stage_prob_maps *a);
    enum mcs_status (*coarse)(struct device *d, const struct stage_coarse *a);      /* above, labels, items, found */
    enum mcs_status (*coarse_keep)(struct device *d, const struct stage_coarse *a); /* mask = keep[labels] */
    enum mcs_status (*masks)(struct device *d, const struct stage_masks *a);
    enum mcs_status (*augment)(struct device *d, const struct stage_augment *a);
};

static inline const struct stage_ops *mcs_stages_of(const struct device *d)
{
    return d->backend->stages;
}

/* Memory of a device that a caller keeps from call to call: at least `bytes` of it, not cleared and, where it had to
 * grow, without what was in it. {.device = d} holds none. E_NOMEM. */
struct stage_room {
    struct device *device;
    void *p;
    int64_t bytes;
};
enum mcs_status mcs_stage_room(struct stage_room *r, int64_t bytes);
void mcs_stage_room_free(struct stage_room *r);

#endif
