/* Masks from saliency maps, and measurements of masks: thresholds, connected components, distances, non-maximum
 * suppression. General conventions: kernels.h; workspaces: inference.h. References: engine/image/threshold.c,
 * components.c and distance.c. k_NAME_run takes a struct k_NAME. */
#ifndef MCS_KERNELS_MASKS_H
#define MCS_KERNELS_MASKS_H

#include "kernels/common/kernels.h"
#include "kernels/image/records.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- thresholds: engine/image/threshold.c ---- */

enum { K_BINS = 256 };
/* map (height, width) -> mask (height, width), 0 or 1. THRESHOLD_FIXED: map > value; THRESHOLD_FIXED_RELEASE and
 * THRESHOLD_KMEANS_RELEASE: the same of the map in 8 bits and of its reduced copy, as mcs_threshold. 2-means sums
 * values rounded to integer multiples of at most 2^-31 of the range, so that the order of atomics does not matter;
 * class means are exact to 2^-32 of the range. counts (K_BINS): the histogram, with all pixels of a constant map in bin
 * 0, or NULL. Fewer than 2^31 pixels. */
struct k_threshold {
    enum threshold_kind kind;
    int height, width;
    float value;
    const float *map;
    uint8_t *mask;
    struct threshold_result *result; /* (1) */
    uint32_t *counts;
    void *workspace; /* k_threshold_bytes */
};
size_t k_threshold_bytes(int height, int width);
cudaError_t k_threshold_run(const struct k_threshold *a, cudaStream_t s);

/* ---- connected components: engine/image/components.c, and the same in three dimensions ---- */

/* mask (depth, height, width), nonzero inside -> labels: 0 outside, components 1.. numbered in order of their first
 * voxel; *n components, of which the first `capacity` are measured. 8-connectivity in 2-D, 26-connectivity in 3-D. map
 * (depth, height, width) finite, or NULL. Fewer than 2^31 voxels. */
struct k_components {
    int depth, height, width, capacity;
    const uint8_t *mask;
    const float *map;
    int32_t *labels;         /* (depth, height, width) */
    struct component *items; /* (capacity) */
    int32_t *n;              /* (1) */
    void *workspace;         /* k_components_bytes */
};
size_t k_components_bytes(int depth, int height, int width, int capacity);
cudaError_t k_components_run(const struct k_components *a, cudaStream_t s);

/* mask[i] = keep[labels[i]], 0 for labels above capacity. */
cudaError_t k_components_mask(const int32_t *labels, const uint8_t *keep, int capacity, int64_t n, uint8_t *mask,
                              cudaStream_t s);

/* ---- distances: infer/metrics/distance.c ---- */

/* distance (nz, ny, nx): exact Euclidean distance, in double, from each cell to the nearest cell where sites is not 0;
 * INFINITY if there is no site. spacing: x, y, z. Fewer than 2^31 cells. */
struct k_distance {
    int nx, ny, nz;
    double spacing[3];
    const uint8_t *sites;
    double *distance;
    void *workspace; /* k_distance_bytes */
};
size_t k_distance_bytes(int nx, int ny, int nz);
cudaError_t k_distance_run(const struct k_distance *a, cudaStream_t s);

/* ---- boxes ---- */

/* Non-maximum suppression as torchvision.ops.nms: boxes (n, 4) x0, y0, x1, y1. In order of descending score (ties by
 * index, NaN last) a box is kept unless its IoU with a kept box is above the threshold. keep (n): indices of the kept
 * boxes in that order; *n_keep of them. group (n) or NULL: only boxes of the same group suppress each other. n at most
 * K_NMS_MOST. */
enum { K_NMS_MOST = 65536 };
struct k_nms {
    int n;
    float threshold;
    const float *boxes, *scores;
    const int32_t *group;
    int32_t *keep, *n_keep;
    void *workspace; /* k_nms_bytes */
};
size_t k_nms_bytes(int n);
cudaError_t k_nms_run(const struct k_nms *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
