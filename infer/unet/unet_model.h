/* A trained segmentation network in a folder, with the checkpoints of its cycles.
 *
 * The folder holds plans.json and dataset.json with those of nnU-Net's keys that apply (configuration "2d"),
 * checkpoints.json, which lists the checkpoints of each cycle, and their weights as safetensors with the reference's
 * tensor names. */
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
/* Topology for a patch, nnU-Net's default in two dimensions. n_stages: number of resolution levels; 0: halved as
 * long as the shorter side is even and at least 4 afterwards. Channels start at base_features and double up to
 * max_features. E_USAGE: a patch that is not divisible by the strides, impossible sizes. */
enum mcs_status mcs_unet_plans_make(int in_channels, int classes, int64_t height, int64_t width, int n_stages,
                                    int base_features, int max_features, struct unet_plans *p);

/* Writes plans.json and dataset.json. E_IO. */
enum mcs_status mcs_unet_plans_write(const char *folder, const struct unet_plans *p);
/* Reads these files or nnU-Net's, if their 2d configuration is a PlainConvUNet. E_NOINPUT; E_DATA: not JSON, a key
 * missing or out of range, a network of another kind. */
enum mcs_status mcs_unet_plans_read(const char *folder, struct unet_plans *p);

struct unet_checkpoint {
    int64_t cycle, index; /* of the cycle; of the checkpoint within it; both from 1 */
    int64_t step;         /* training steps done */
    char file[64];
};
enum { UNET_MAX_CHECKPOINTS = 256 };
/* checkpoints.json, rewritten by training with each new checkpoint. Ordered by step. */
enum mcs_status mcs_unet_checkpoints_write(const char *folder, const struct unet_checkpoint *c, int n);
/* *n: number of checkpoints; c has capacity UNET_MAX_CHECKPOINTS. E_NOINPUT, E_DATA (also file names with a folder). */
enum mcs_status mcs_unet_checkpoints_read(const char *folder, struct unet_checkpoint *c, int *n);

/* Declares the network's parameters in p, which is empty and stays without memory. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_unet_params_declare(const struct unet_plans *plans, struct params *p);

/* A network: weights, random from `seed` until others are read, and the compiled graph for prediction. */
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
/* Compiles the forward graph for `batch` patches; does nothing if it already is. */
enum mcs_status mcs_unet_model_compile(struct unet_model *m, int64_t batch);

#endif
