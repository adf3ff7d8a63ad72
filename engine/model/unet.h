/* PlainConvUNet of dynamic-network-architectures, nnU-Net's default network, 2-D or 3-D, with the topology given by
 * nnU-Net's plans file. */
#ifndef MCS_UNET_H
#define MCS_UNET_H

#include "engine/tape/graph.h"

enum { UNET_MAX_STAGES = 10 };

struct unet_config {
    int nsp;                  /* 2 or 3 */
    int in_channels, classes; /* number of classes including the background */
    int n_stages;
    int features[UNET_MAX_STAGES], n_conv[UNET_MAX_STAGES], n_conv_decoder[UNET_MAX_STAGES - 1];
    int64_t kernel[UNET_MAX_STAGES][3], stride[UNET_MAX_STAGES][3]; /* by stage, nsp values each */
};
/* nnU-Net's default 2-D plan for a square patch: stages until the feature edge is 4, features 32 * 2^i up to 512. */
struct unet_config mcs_unet_2d(int in_channels, int classes, int n_stages, int base_features, int max_features);

/* x (N,sp...,in_channels) -> logits, full resolution first: out[0] (N,sp...,classes), out[1] at half the resolution,
 * ... n_stages-1 of them (deep supervision); only out[0] when deep == 0. Returns their number. */
int mcs_unet(struct graph *g, struct tensor *x, const struct unet_config *c, int deep,
             struct tensor *out[UNET_MAX_STAGES]);

/* nnU-Net's deep supervision weights for n outputs: 1/2^i, the last 0, normalised to sum 1 (one output: 1). */
void mcs_unet_deep_weights(int n, float *weight);

#endif
