/* Pooling, kernels and patch of a U-Net by nnU-Net's rules, and the memory that nnU-Net expects it to need. Sources:
 * nnU-Net 2.6.2, get_pool_and_conv_props; dynamic-network-architectures, compute_conv_feature_map_size. */
#ifndef MCS_TOPOLOGY_H
#define MCS_TOPOLOGY_H

#include <stdint.h>

enum { TOPOLOGY_MAX_STAGES = 32 };

struct topology {
    int n_axes, n_stages;               /* stages: resolution levels */
    int stride[TOPOLOGY_MAX_STAGES][3]; /* (n_stages): 1 or 2 an axis; the first is 1 */
    int kernel[TOPOLOGY_MAX_STAGES][3]; /* (n_stages): 1 or 3 an axis */
    int64_t patch[3], divisor[3];       /* patch: a multiple of divisor, 2^(poolings of the axis) */
    int features[TOPOLOGY_MAX_STAGES];  /* channels of each stage: 32 2^i up to 512 (2-D) or 320 (3-D) */
    int n_encoder[TOPOLOGY_MAX_STAGES]; /* convolutions, or residual blocks, of each stage */
    int n_decoder;                      /* convolutions of each stage of the decoder */
    int residual;                       /* ResidualEncoderUNet, else PlainConvUNet */
};

/* Strides, kernels, patch and divisor for n_axes spacings (mm) and a wanted patch, of which nothing is an integer yet.
 * Features and numbers of convolutions follow. */
void mcs_topology_make(int n_axes, const double *spacing, const double *wanted_patch, int residual, struct topology *t);
/* Values in the outputs of all convolutions for one patch: the encoder's, the decoder's with its transposed ones, and
 * the last output of n_outputs channels. */
int64_t mcs_topology_values(const struct topology *t, int n_outputs);

#endif
