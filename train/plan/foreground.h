/* Places of foreground voxels, from which training draws its patches. nnU-Net 2.6.2,
 * DefaultPreprocessor._sample_foreground_locations. */
#ifndef MCS_FOREGROUND_H
#define MCS_FOREGROUND_H

#include "data/nnunet/nnunet_dataset.h"

/* The places of one class or region, or of all annotated voxels where there is an ignore label. */
struct foreground {
    int is_region, n_classes; /* is_region: nnU-Net's key is a tuple of the classes, else the class */
    int *classes;             /* (n_classes); owned */
    int64_t n;
    int64_t (*at)[4]; /* (n) channel 0, z, y, x; owned */
};
struct foreground_list {
    int n;
    struct foreground *items; /* owned; in nnU-Net's order */
};
/* Draws from labels (shape) with RandomState(1234): max(min(10000, n), ceil(n / 100)) of a class's n voxels. A voxel
 * that an earlier class or region could draw is not there for later ones. More than 1e7 voxels other than background
 * are thinned out first. E_NOMEM. */
enum mcs_status mcs_foreground_draw(const struct nnunet_dataset *d, const float *labels, const int64_t shape[3],
                                    struct foreground_list *list);
void mcs_foreground_free(struct foreground_list *list);

#endif
