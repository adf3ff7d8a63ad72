/* Metrics of a mask against a reference: counts, Dice, IoU and surface distances. Masks are uint8, nonzero is
 * foreground.
 *
 * Empty masks                  both empty    one empty
 *   Dice, IoU                  NaN           0            (nnU-Net's rule: NaN is left out of means)
 *   sensitivity, precision     NaN           NaN or 0     (undefined without reference, without prediction)
 *   NSD, nsd_slice             NaN           0            (no surface lies within any distance)
 *   HD95, ASSD                 NaN           infinity     (surface-distance's rule; left out of means, and counted)
 *
 * Surface distances follow S. Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and
 * neck anatomy", 2018, and its library surface-distance: each corner between 2 x 2 pixels that are not all equal is a
 * surface element; its size is the length of the marching-squares contour through it. The outside of the image is
 * background, so a mask that touches the image's edge has a surface there. */
#ifndef MCS_METRICS_H
#define MCS_METRICS_H

#include "engine/base/status.h"
#include "infer/metrics/lesions.h"

#include <stdint.h>

struct mask_counts {
    int64_t tp, fp, fn, tn, n_pred, n_ref;
};
struct mask_counts mcs_metrics_count(const uint8_t *pred, const uint8_t *ref, int64_t n);
double mcs_metrics_dice(const struct mask_counts *c); /* 2 TP / (2 TP + FP + FN) */
double mcs_metrics_iou(const struct mask_counts *c);  /* TP / (TP + FP + FN) */

/* The surface elements of one mask: size, and distance to the nearest element of the other mask (INFINITY if that has
 * none); sorted by distance. */
struct surface_element {
    double distance, size;
};
struct surface {
    int64_t n;
    double total; /* sum of sizes */
    struct surface_element *elements;
};
struct surface_pair {
    struct surface pred, ref;
};
enum mcs_surface_kind {
    MCS_SURFACE_2D,   /* contour lengths */
    MCS_SURFACE_SLICE /* as in the released evaluation: the mask as a volume of one slice between background, sizes are
                         marching-cubes areas. All inner pixels are surface too, so its NSD resembles a Dice with
                         tolerance rather than a boundary metric. */
};
/* spacing {x, y} in mm or pixels (MCS_SURFACE_SLICE: thickness 1; spacing other than {1, 1} is E_USAGE).
 * pred, ref (height, width). Release with mcs_surface_free. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_surface_measure(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                    const double spacing[2], enum mcs_surface_kind kind, struct surface_pair *s);
/* The same in a volume (nz, ny, nx) of sizes n {x, y, z}: each corner between 2 x 2 x 2 voxels that are not all equal
 * is an element, its size the area of the marching-cubes triangles in it (infer/metrics/surface_size.h). A volume of
 * one slice has surfaces above and below it. */
enum mcs_status mcs_surface_measure_volume(const uint8_t *pred, const uint8_t *ref, const int n[3],
                                           const double spacing[3], struct surface_pair *s);
void mcs_surface_free(struct surface_pair *s);
/* NSD of MCS_SURFACE_SLICE in memory of 2 bytes a pixel: no list of elements. NaN if both masks are empty. */
enum mcs_status mcs_surface_slice_nsd(const uint8_t *pred, const uint8_t *ref, int width, int height, double tolerance,
                                      double *nsd);
/* Normalised surface distance (NSD), also called surface Dice at a tolerance: the share of both surfaces that is within
 * `tolerance` of the other one. */
double mcs_surface_nsd(const struct surface_pair *s, double tolerance);
/* Hausdorff distance at a percentile (95: HD95): the greater of the two directions' `percent` percentiles of the
 * distance, weighted by element size. */
double mcs_surface_hausdorff(const struct surface_pair *s, double percent);
/* Average symmetric surface distance, weighted by size: (sum over pred + sum over ref) / (total pred + total ref). */
double mcs_surface_assd(const struct surface_pair *s);
/* The mean distance of each direction, as surface-distance returns them. */
void mcs_surface_average(const struct surface_pair *s, double *ref_to_pred, double *pred_to_ref);

/* Metrics of one region (a class, or several together) of one case. Which of them exist for which masks: evaluate.h. */
struct mask_metrics {
    struct mask_counts counts;
    double dice, iou, sensitivity, precision;
    double nsd, nsd_slice, hd95, assd;
    double volume_pred, volume_ref, volume_difference; /* mm3 (pixels without a spacing); (pred - ref) / ref */
    double lesion_sensitivity, lesion_precision, lesion_fp, lesion_dice;
    struct lesion_counts lesions;
};
/* From the counts: Dice to precision and the volumes; all others NaN. */
void mcs_metrics_overlap(const struct mask_counts *counts, double voxel_volume, struct mask_metrics *m);
/* Overlap and surface metrics of 2-D masks; the lesions are NaN. */
enum mcs_status mcs_metrics_measure(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                    const double spacing[2], double tolerance, struct mask_metrics *m);
/* All metrics of masks (nz, ny, nx) of values 0 and 1, whose counts are known (the masks may be a part of the image in
 * which all foreground lies). Planes have NSD_slice, volumes have not. min_iou: of matched lesions (lesions.h). */
enum mcs_status mcs_metrics_measure_all(const uint8_t *pred, const uint8_t *ref, const int n[3],
                                        const double spacing[3], double tolerance, double min_iou,
                                        const struct mask_counts *counts, struct mask_metrics *m);

#endif
