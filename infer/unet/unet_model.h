/* A trained segmentation network in a folder, with the checkpoints of its cycles.
 *
 * The folder holds plans.json and dataset.json with nnU-Net's own keys as far as they apply (the
 * configuration is "2d"), checkpoints.json, which lists the weights by cycle, and the weights themselves as
 * safetensors, named as the reference names them. */
#ifndef MCS_UNET_MODEL_H
#define MCS_UNET_MODEL_H

#include "engine/backend.h"
#include "engine/model/unet.h"
#include "engine/tape/exec.h"

struct unet_plans {
    struct unet_config net;
    int64_t patch[2], batch; /* height, width */
    int batch_dice;
};
/* Topology for a patch: nnU-Net's default in two dimensions, an axis being halved while it stays at 4 or above,
 * n_stages 0, or so many stages; channels of the first stage double up to max_features. E_USAGE: a patch that the
 * strides do not divide, sizes that cannot be. */
enum mcs_status mcs_unet_plans_make(int in_channels, int classes, int64_t height, int64_t width, int n_stages,
                                    int base_features, int max_features, struct unet_plans *p);

/* Writes plans.json and dataset.json. E_IO. */
enum mcs_status mcs_unet_plans_write(const char *folder, const struct unet_plans *p);
/* Reads them back, also nnU-Net's own files where their 2d configuration is a PlainConvUNet. E_NOINPUT; E_DATA: not
 * JSON, a key missing or of a size that cannot be, a network of another kind. */
enum mcs_status mcs_unet_plans_read(const char *folder, struct unet_plans *p);

struct unet_checkpoint {
    int64_t cycle, index; /* from 1 */
    int64_t step;         /* training steps done */
    char file[64];
};
enum { UNET_MAX_CHECKPOINTS = 256 };
/* checkpoints.json: written whole by training each time it keeps one. Order: by step. */
enum mcs_status mcs_unet_checkpoints_write(const char *folder, const struct unet_checkpoint *c, int n);
/* *n: how many; c has room for UNET_MAX_CHECKPOINTS. E_NOINPUT, E_DATA (file names with a folder in them too). */
enum mcs_status mcs_unet_checkpoints_read(const char *folder, struct unet_checkpoint *c, int *n);

/* A network with memory for its weights, drawn by `seed` or read later, and a planned graph for prediction. */
struct unet_model {
    struct unet_plans plans;
    struct params *params;
    struct device *device;
    struct graph *graph; /* forward only, made at first use */
    struct exec *exec;
    struct tensor *image, *logits; /* (B,patch,in_channels), (B,patch,classes) */
};
enum mcs_status mcs_unet_model_new(const struct unet_plans *plans, uint64_t seed, struct device *d,
                                   struct unet_model *m);
void mcs_unet_model_close(struct unet_model *m);
/* Plans the forward graph for `batch` patches; the same number again does nothing. */
enum mcs_status mcs_unet_model_plan(struct unet_model *m, int64_t batch);

#endif
