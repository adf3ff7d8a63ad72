/* nnU-Net's preprocessing of one case: transposition, crop of zeros, normalisation, resampling. nnU-Net 2.6.2,
 * DefaultPreprocessor.run_case_npy and the classes of its normalisations. */
#ifndef MCS_NNUNET_PREPROCESS_H
#define MCS_NNUNET_PREPROCESS_H

#include "data/nnunet/nnunet_image.h"
#include "infer/nnunet/nnunet_crop.h"
#include "infer/nnunet/nnunet_plans.h"

/* All shapes and the box are z y x after transposition. */
struct nnunet_preprocessed {
    int channels;
    int64_t shape[3];
    float *data;   /* (channels, shape), owned */
    float *labels; /* (shape), owned: classes, -1 outside of the mask; without a label 0 and -1 */
    int64_t shape_before_crop[3], shape_after_crop[3];
    struct nnunet_box box;
};

/* Works on the values of images and label (NULL: none), which are changed. E_DATA: an image of zeros alone, other
 * channels than the plans', values outside of 0 to 255 for RGBTo01Normalization, a size that becomes 0; E_NOMEM. name
 * is used in messages. */
enum mcs_status mcs_nnunet_preprocess(const char *name, const struct nnunet_configuration *c,
                                      struct nnunet_image *images, struct nnunet_image *label,
                                      struct nnunet_preprocessed *p);
void mcs_nnunet_preprocessed_free(struct nnunet_preprocessed *p);

/* Normalises n values of one channel in place. inside (n): the mask. E_DATA as above. */
enum mcs_status mcs_nnunet_normalise(const char *name, const struct nnunet_channel *ch, float *v, const uint8_t *inside,
                                     int64_t n);

#endif
