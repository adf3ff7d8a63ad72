/* A preprocessed case on disk.
 *
 *  h5   STEM.h5: data (channels, z, y, x) F32; seg (z, y, x) I32, -1 outside; locations/CLASS or CLASS_CLASS... (n, 4)
 * I32; box I64 (3, 2), shape_before_cropping and shape_after_cropping I64 (3); notes spacing_z, _y, _x of the image npz
 * STEM.npz (data float32, seg int16) and STEM.pkl (nnU-Net's properties), which nnunetv2's nnUNetDatasetNumpy reads
 *
 * All shapes are after transposition. */
#ifndef MCS_PREPROCESSED_CASE_H
#define MCS_PREPROCESSED_CASE_H

#include "infer/nnunet/nnunet_preprocess.h"
#include "train/plan/foreground.h"

enum preprocessed_format { PREPROCESSED_H5, PREPROCESSED_NPZ };

/* stem: path without ending. image: geometry of the case. E_IO, E_NOMEM. */
enum mcs_status mcs_preprocessed_write(const char *stem, enum preprocessed_format format,
                                       const struct nnunet_configuration *c, const struct nnunet_image *image,
                                       const struct nnunet_preprocessed *p, const struct foreground_list *places);

#endif
