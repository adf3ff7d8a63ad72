/* Shared by the verbs on nnU-Net's folders: the data set's option, the roots, and the places that they name. */
#ifndef MCS_NNUNET_COMMAND_H
#define MCS_NNUNET_COMMAND_H

#include "data/nnunet/nnunet_dataset.h"

struct nnunet_roots {
    const char *dataset, *raw, *preprocessed;
};
#define MCS_NNUNET_OPTIONS(command)                                                                                    \
    {"dataset",     'd',           MCS_FIELD(command, roots.dataset),                                                  \
     .value = "ID", .required = 1, .help = "number or name of the data set: 5, Dataset005_Prostate"},                  \
        {"raw", 0, MCS_FIELD(command, roots.raw), .value = "DIR",                                                      \
         .help = "folder of the raw data sets; default: the variable nnUNet_raw"},                                     \
    {                                                                                                                  \
        "preprocessed", 0, MCS_FIELD(command, roots.preprocessed),                                                     \
            .value = "DIR",                                                                                            \
            .help = "folder of plans and preprocessed cases; default: the variable nnUNet_preprocessed"                \
    }

struct nnunet_place {
    char name[MCS_PATH_BYTES];                              /* "Dataset005_Prostate" */
    char raw[MCS_PATH_BYTES], preprocessed[MCS_PATH_BYTES]; /* the data set's folders in both roots */
    char description[MCS_PATH_BYTES];                       /* RAW/dataset.json */
};
/* E_USAGE: a root is not given; E_NOINPUT: no such data set. */
enum mcs_status mcs_nnunet_place_find(const struct nnunet_roots *roots, struct nnunet_place *place);
/* Makes the data set's folder of preprocessed data, and copies dataset.json into it, and splits_final.json where the
 * raw data set has one and it does not exist yet. */
enum mcs_status mcs_nnunet_place_begin(const struct nnunet_place *place);

#endif
