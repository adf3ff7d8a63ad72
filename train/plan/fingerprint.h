/* The fingerprint of a data set: what nnU-Net's planner knows of it. nnU-Net, DatasetFingerprintExtractor (2.6.2);
 * dataset_fingerprint.json is read and written key by key as nnU-Net's. */
#ifndef MCS_FINGERPRINT_H
#define MCS_FINGERPRINT_H

#include "data/nnunet/nnunet_dataset.h"

/* Of the foreground voxels (label above 0) of one channel, sampled from all cases. */
struct intensity {
    double mean, median, std, min, max, percentile_00_5, percentile_99_5;
};
/* Release with mcs_fingerprint_free. */
struct fingerprint {
    int n_cases, n_channels;
    double (*spacings)[3];         /* (n_cases) z y x, mm */
    int64_t (*shapes)[3];          /* (n_cases) z y x, after the crop to voxels that are not 0 */
    struct intensity *intensities; /* (n_channels) */
    double relative_size;          /* median over the cases of voxels after the crop / before */
};

/* Allocates zeroed tables. E_NOMEM. */
enum mcs_status mcs_fingerprint_alloc(struct fingerprint *f, int n_cases, int n_channels);
void mcs_fingerprint_free(struct fingerprint *f);
/* dataset_fingerprint.json. E_NOINPUT, E_IO; E_DATA: not JSON, a key missing, no cases, an implausible spacing or size.
 */
enum mcs_status mcs_fingerprint_read(const char *path, struct fingerprint *f);
enum mcs_status mcs_fingerprint_write(const char *path, const struct fingerprint *f);

/* Reads all cases of the data set, which is listed. For each, from each channel with replacement, floor(1e8 / cases)
 * foreground voxels are drawn by RandomState(1234), the channels one after the other; the draws of all cases together
 * have the statistics. E_DATA: a case that cannot be read, or without any voxel that is not 0 or NaN; no foreground. */
enum mcs_status mcs_fingerprint_make(const struct nnunet_dataset *d, struct fingerprint *f);

/* numpy.percentile (linear, q from 0 to 1) and numpy.median of n sorted numbers. */
double mcs_percentile(const double *sorted, int n, double q);
double mcs_median(const double *sorted, int n);
/* For qsort of double. */
int mcs_double_compare(const void *a, const void *b);

#endif
