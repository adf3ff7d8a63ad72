/* Training cases of a segmentation network in memory, and the batches sampled from them.
 *
 * Each case is one slice: an image or a slice of a volume. Values are normalised with the mean and standard deviation
 * of their channel over the whole image or volume (nnU-Net's z-score); 8-bit images are stored as 8 bits and normalised
 * when a patch is read. */
#ifndef MCS_UNET_DATA_H
#define MCS_UNET_DATA_H

#include "data/image/image.h"
#include "data/image/labels.h"
#include "train/unet/augment.h"

enum { UNET_MAX_CHANNELS = 4, UNET_MAX_CLASSES = 16 };

struct unet_case {
    int height, width;
    uint8_t *bytes;  /* (height, width, channels), or NULL; owned */
    float *values;   /* the same as float32 before normalisation, or NULL; owned */
    uint8_t *labels; /* (height, width), less than classes, or MCS_LABEL_IGNORED; owned */
    float mean[UNET_MAX_CHANNELS], inverse_sd[UNET_MAX_CHANNELS];
    int64_t n_of_class[UNET_MAX_CLASSES]; /* pixels of each class */
};
struct unet_cases {
    int n, capacity, channels, classes;
    struct unet_case *items;
};

void mcs_unet_cases_init(struct unet_cases *c, int channels, int classes);
void mcs_unet_cases_free(struct unet_cases *c);
/* Copies an 8-bit image and its labels (image->height, image->width), which are class numbers. E_DATA: another number
 * of channels or a label that is not a class; messages contain `name`. E_NOMEM. */
enum mcs_status mcs_unet_cases_add_image(struct unet_cases *c, const char *name, const struct image *image,
                                         const uint8_t *labels);
/* Adds every slice of values (depth, height, width), one channel. Also E_DATA: a value that is not finite. */
enum mcs_status mcs_unet_cases_add_volume(struct unet_cases *c, const char *name, const float *values,
                                          const uint8_t *labels, int depth, int height, int width);
/* Labels are read by data/image/labels.h. resample: a label on another grid than its image is taken by the nearest
 * voxel; otherwise it is refused. */
struct unet_label_options {
    struct label_rule rule;
    int resample;
};
/* Initialises *c with all pairs of image and label files (PNG, JPEG, NIfTI) that have one stem. channels 0: as many as
 * the first image has. A label's voxels are those of its image in world coordinates: a volume stored with other axes is
 * turned, and said. E_NOINPUT: a folder is missing or empty; E_DATA: no pairs, a pair that does not match, or a JPEG
 * that EXIF turns. Files without a partner are warned about. options NULL: none. */
enum mcs_status mcs_unet_cases_read(struct unet_cases *c, const char *images, const char *labels, int channels,
                                    int classes, const struct unet_label_options *options);

/* Samples batches from the cases. */
struct unet_loader {
    const struct unet_cases *cases;
    struct augment_options augment;
    int batch, height, width; /* the network's patch */
    int first, n;             /* this rank's share of each batch: items first to first + n - 1; n 0: the whole batch */
    double foreground;        /* batch items from round(batch (1 - foreground)) on contain foreground: nnU-Net .33 */
    uint64_t seed;
    int loader_size[2]; /* this and the following fields are set by mcs_unet_loader_open */
    void *memory;
    struct augment_draw *draws; /* (n) */
    float *patches;             /* (n, loader_size, channels), before augmentation */
    int32_t *patch_labels;      /* (n, loader_size), -1 beyond the image and where the label is to be ignored */
};
/* The caller sets the fields up to seed; this allocates the buffers. E_USAGE: no cases, or a size below 1. E_NOMEM. */
enum mcs_status mcs_unet_loader_open(struct unet_loader *l);
void mcs_unet_loader_close(struct unet_loader *l);
/* This rank's share of the batch of `step` before augmentation, into the loader's patches, patch_labels and draws;
 * device_ops.h's `augment` applies the draws. Item i of the batch depends on (seed, i, step) only, so all ranks
 * together draw the same batch as a single one. No heap; items in parallel. */
void mcs_unet_loader_load(const struct unet_loader *l, int64_t step);

/* One item's patch before augmentation, of the loader's size: pixels outside of the image are 0 with label -1. corner,
 * if not NULL, receives its upper left corner (y, x), which may be negative; which, if not NULL, the index of its case.
 */
void mcs_unet_loader_patch(const struct unet_loader *l, int64_t step, int item, const struct augment_patch *patch,
                           int *which, int64_t corner[2]);

#endif
