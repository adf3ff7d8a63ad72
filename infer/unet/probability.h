/* Class probabilities of a case in a file, and the mask, entropy map and uncertainty score computed from them.
 *
 * The file is STEM.h5: dataset probabilities, float32 (classes, slices, rows, columns) as in nnU-Net's .npz, softmax
 * over the classes; attributes spacing_x, spacing_y, spacing_z in mm and is_volume, from which masks get the input's
 * format and geometry. */
#ifndef MCS_PROBABILITY_H
#define MCS_PROBABILITY_H

#include "data/image/volume.h"
#include "engine/base/arena.h"
#include "engine/base/form.h"

struct probability {
    int classes, nz, ny, nx;
    int is_volume;    /* masks are NIfTI, not PNG; always 1 where nz > 1 */
    float spacing[3]; /* mm, x y z */
    float *values;    /* (classes, nz, ny, nx); owned */
};
enum mcs_status mcs_probability_alloc(struct probability *p, int classes, int nz, int ny, int nx); /* zeroed */
void mcs_probability_free(struct probability *p);
enum mcs_status mcs_probability_write(const char *path, const struct probability *p);
/* E_NOINPUT; E_DATA: dataset missing, fewer than two classes, more than 2^34 values or a dimension above INT_MAX, a
 * spacing that is not above 0, a value outside 0..1 or a sum that is not 1 (to 1e-3). A file of several slices is a
 * volume even where its is_volume is 0. */
enum mcs_status mcs_probability_read(const char *path, struct probability *p);

/* labels (nz, ny, nx): the class with the greatest probability; with two classes and a threshold above 0, 1 where the
 * foreground's probability exceeds the threshold. */
void mcs_probability_labels(const struct probability *p, double threshold, uint8_t *labels);
/* Writes OUT/STEM.png (one slice; 0 and 255 for two classes, else class numbers) or OUT/STEM.nii.gz (class numbers).
 * like: the volume of the same size whose geometry the mask gets, or NULL. */
enum mcs_status mcs_probability_write_mask(const char *out, const char *stem, const struct probability *p,
                                           const uint8_t *labels, const struct volume *like);

/* A row of uncertainty.csv. */
struct uncertainty_row {
    const char *stem;
    double score;       /* mcs_uncertainty_score; NaN for a volume of several slices */
    double score_area;  /* 100 sum(entropy) / max(foreground, 1) */
    double mean;        /* bits a pixel */
    int64_t foreground; /* voxels */
};
/* Writes OUT/STEM_entropy.h5 (dataset entropy (nz, ny, nx)) and, for one slice, OUT/STEM_entropy.png (255 is
 * log2(classes)). bits: the entropy (nz, ny, nx) of mcs_entropy_map, or NULL: computed here. Fills *row except for its
 * stem. */
enum mcs_status mcs_probability_write_entropy(const char *out, const char *stem, const struct probability *p,
                                              const float *bits, const uint8_t *labels, enum mcs_form form,
                                              struct uncertainty_row *row);
/* OUT/uncertainty.csv: image_name,uncertainty_score,score_by_area,mean_entropy,foreground. */
enum mcs_status mcs_uncertainty_write_csv(const char *out, const struct uncertainty_row *rows, int n);

#endif
