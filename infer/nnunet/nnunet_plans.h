/* What preprocessing needs of a configuration in nnU-Net's plans (nnUNetPlans.json, plans.json of a model folder). */
#ifndef MCS_NNUNET_PLANS_H
#define MCS_NNUNET_PLANS_H

#include "data/nnunet/nnunet_dataset.h"

/*     name, nnU-Net's class */
#define NNUNET_NORM_LIST(X)                                                                                            \
    X(CT, "CTNormalization")                                                                                           \
    X(ZSCORE, "ZScoreNormalization")                                                                                   \
    X(NONE, "NoNormalization")                                                                                         \
    X(RESCALE, "RescaleTo01Normalization")                                                                             \
    X(RGB, "RGBTo01Normalization")
enum nnunet_norm {
#define X(name, text) NNUNET_NORM_##name,
    NNUNET_NORM_LIST(X)
#undef X
        NNUNET_N_NORMS
};

struct nnunet_channel {
    enum nnunet_norm norm;
    int use_mask;                                       /* z-score of the voxels inside the mask alone */
    double mean, std, percentile_00_5, percentile_99_5; /* of the data set's foreground, for CT */
};
/* Resampling of values or labels: order 1 or 3; force_separate: infer/nnunet/nnunet_resample.h. */
struct nnunet_resampling {
    int order, force_separate;
};
struct nnunet_configuration {
    char name[64], reader[64], data_identifier[128];
    int transpose[3], back[3];
    int n_axes;        /* 2: slices keep their distance */
    double spacing[3]; /* (n_axes) after transposition */
    int n_channels;
    struct nnunet_channel channels[NNUNET_MAX_CHANNELS];
    struct nnunet_resampling data, labels;
};

/* Reads a configuration of the plans in a file, inherited keys included. E_NOINPUT, E_IO; E_DATA: no such configuration
 * (those that there are are named), a key missing, or a value that is not supported: another preprocessor, resampling
 * function, order or normalisation, named with its key. */
enum mcs_status mcs_nnunet_configuration_read(const char *path, const char *name, struct nnunet_configuration *c);

#endif
