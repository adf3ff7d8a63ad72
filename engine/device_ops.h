/* Operations on tensors between two graphs of a pipeline, on the device that holds them: only results are copied to
 * the host. Each backend offers all of them (d->backend->device_ops).
 *
 * Pointers are device memory (backend's alloc, a tensor's data) unless said otherwise. Calls are enqueued behind
 * earlier work of the device and don't wait; a failure there is found by the next download or sync.
 * engine/cpu/device_ops_cpu.c defines the results; other backends agree to rounding. Structures in device memory are
 * declared in kernels/image/records.h. */
#ifndef MCS_DEVICE_OPS_H
#define MCS_DEVICE_OPS_H

#include "engine/backend.h"
#include "kernels/image/records.h"

/* y (n_keys, copies, n): standard normals, [k][c] those of mcs_rng_fill_normal by {seed, site + c, keys[k], step}. */
struct noise_args {
    uint64_t seed;
    uint32_t site, step;
    int64_t n_keys, copies, n;
    const uint32_t *keys; /* (n_keys) */
    float *y;
};

/* One step of torch's Adam (betas .9, .999, eps 1e-8, no decay) on w (n) with gradient g. */
struct adam_args {
    int64_t n;
    float *w, *m, *v;
    const float *g;
    float lr;
    int step; /* counts from 1 */
};

/* tokens (side, side) -> map (height, width), scaled to 0..1 by its minimum and maximum; a constant map becomes 0.
 * view_side 0 (form paper): bilinear to the size. Else (form release): bilinear to a square of view_side, scaled,
 * rounded to 8 bits (half to even), nearest to the size by OpenCV's index (mcs_nearest_index). */
struct saliency_map_args {
    int side, view_side, height, width;
    const float *tokens;
    float *map;
};

/* A batch of `count` windows that are cut from 2-D images or pasted into them. */
struct windows_args {
    int count, channels, height, width, window_height, window_width;
    const struct sliding_window *list; /* (count), z 0 */
    const struct tensor *values;       /* of the network: (>= count, window_height, window_width, channels) */
    float *images;                     /* (n, height, width, channels), padded so that each window lies inside */
    const float *weight;               /* (window_height, window_width), for pasting */
};
/* Mean of pasted windows, without the padding: sums (n, padded, channels) / (weights (padded) * flips) -> logits (n,
 * height, width, channels). padded: height and width with the padding; before: rows and columns of padding before the
 * image. flips: mirrored copies of each window, 1 without mirroring. *bad becomes 1 if a logit is not finite. */
struct windows_mean_args {
    int n, channels, padded[2], before[2], height, width;
    float flips;
    const float *sums, *weights;
    float *logits;
    uint32_t *bad;
};
/* prob (n, classes, pixels) += share * softmax of logits (n, pixels, classes); `first`: prob holds no values yet and is
 * overwritten. */
struct softmax_args {
    int n, classes, first;
    int64_t pixels;
    float share;
    const float *logits;
    float *prob;
};
/* prob (n, classes, pixels) -> mcs_entropy_map and mcs_prob_labels (engine/image/prob_maps.h) of each image; NULL: not
 * wanted. *bad becomes 1 where a value is no probability. */
struct prob_maps_args {
    int n, classes;
    int64_t pixels;
    double threshold;
    const float *prob;
    float *bits;     /* (n, pixels) */
    uint8_t *labels; /* (n, pixels) */
    uint32_t *bad;
};

/* Coarse masks (engine/image/threshold.h, components.h): map (height, width) -> pixels above a threshold, their
 * 8-connected components and, in a second call, the mask of the components that the host keeps. */
struct coarse_found {
    struct threshold_result level;
    int32_t n; /* components */
};
struct coarse_args {
    enum threshold_kind cut;
    int height, width;
    float value; /* of the fixed thresholds; of THRESHOLD_KMEANS_RELEASE the cut, which the host finds */
    const float *map;
    uint8_t *above;             /* (height, width) 0 or 1 */
    int32_t *labels;            /* (height, width) 0; 1 .. n */
    struct component *items;    /* ((height + 1) / 2 * ((width + 1) / 2)), of which n are set */
    struct coarse_found *found; /* (1) */
    const uint8_t *keep;        /* (n + 1) by label: 1 keeps the component; keep[0] is 0 */
    int most_label;             /* n */
    uint8_t *mask;              /* (height, width) 0 or 1 */
};

/* SAM's masks at the size of an image: mask i is plane[i] of low_res (.., side, side), bilinear to (frame, frame),
 * cropped to (in_height, in_width), bilinear to (height, width). */
struct masks_args {
    int n, side, frame, in_height, in_width, height, width;
    float weight; /* of each mask in `united` */
    const float *low_res;
    const int32_t *plane; /* (n) */
    uint8_t *united;  /* or NULL; (height, width): 1 where the weights of the masks above 0 add up to more than .5 */
    uint32_t *counts; /* (n, 3): pixels above 0, above 1, above -1 */
};

/* A batch of training patches as the loader cuts them, augmented into a network's inputs
 * (engine/image/augment_apply.h): mcs_augment_apply, and mcs_augment_target for the smaller labels. Patches and draws
 * are host memory and may change when the call returns; a device copies them while earlier steps, which may read the
 * previous batch, still run. */
struct augment_args {
    int n, channels, src_height, src_width;
    const float *src;         /* (n, src_height, src_width, channels) */
    const int32_t *src_label; /* (n, src_height, src_width) */
    const struct augment_draw *draws;
    const struct tensor *image; /* (n, height, width, channels) */
    int n_labels;
    struct tensor *const *labels; /* (n, height, width), then smaller ones of it */
};

struct device_ops {
    /* The values of a tensor as floats, whatever its type. */
    enum mcs_status (*copy)(struct device *d, const struct tensor *from, float *to);
    enum mcs_status (*noise)(struct device *d, const struct noise_args *a);
    enum mcs_status (*adam)(struct device *d, const struct adam_args *a);
    enum mcs_status (*saliency_map)(struct device *d, const struct saliency_map_args *a);
    enum mcs_status (*windows_cut)(struct device *d, const struct windows_args *a);   /* values = images, mirrored */
    enum mcs_status (*windows_paste)(struct device *d, const struct windows_args *a); /* images += weight * values */
    enum mcs_status (*windows_mean)(struct device *d, const struct windows_mean_args *a);
    enum mcs_status (*softmax)(struct device *d, const struct softmax_args *a);
    enum mcs_status (*prob_maps)(struct device *d, const struct prob_maps_args *a);
    enum mcs_status (*coarse)(struct device *d, const struct coarse_args *a);      /* above, labels, items, found */
    enum mcs_status (*coarse_keep)(struct device *d, const struct coarse_args *a); /* mask = keep[labels] */
    enum mcs_status (*masks)(struct device *d, const struct masks_args *a);
    enum mcs_status (*augment)(struct device *d, const struct augment_args *a);
};
/* A backend's table, from static functions of the members' names. */
#define MCS_DEVICE_OPS_TABLE                                                                                           \
    {                                                                                                                  \
        .copy = copy, .noise = noise, .adam = adam, .saliency_map = saliency_map, .windows_cut = windows_cut,          \
        .windows_paste = windows_paste, .windows_mean = windows_mean, .softmax = softmax, .prob_maps = prob_maps,      \
        .coarse = coarse, .coarse_keep = coarse_keep, .masks = masks, .augment = augment,                              \
    }

/* Allocates device memory and stores its address in the pointer at `to`, of any object type; not cleared. Released by
 * the backend's free. E_NOMEM: *to is unchanged. */
enum mcs_status mcs_device_alloc(struct device *d, int64_t bytes, void *to);

/* Scratch memory of a device that a caller keeps from call to call. mcs_device_scratch makes it at least `bytes` large;
 * if it has to grow, its contents are lost. New memory is not cleared. {.device = d} holds none. E_NOMEM. */
struct device_scratch {
    struct device *device;
    void *p;
    int64_t bytes;
};
enum mcs_status mcs_device_scratch(struct device_scratch *r, int64_t bytes);
void mcs_device_scratch_free(struct device_scratch *r);

#endif
