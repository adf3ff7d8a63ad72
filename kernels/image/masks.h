/* From saliency maps to masks, and measures of masks: thresholds, connected components, distances, boxes that
 * overlap. See kernels.h for the rules of all kernels, stages.h for workspaces; engine/image/threshold.c,
 * components.c and distance.c define the results. k_NAME_run takes a struct k_NAME. */
#ifndef MCS_KERNELS_MASKS_H
#define MCS_KERNELS_MASKS_H

#include "kernels/common/kernels.h"
#include "kernels/image/records.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- thresholds: engine/image/threshold.c ---- */

enum { K_BINS = 256 };
/* map (height, width) -> mask (height, width), 0 or 1. THRESHOLD_FIXED: map > value; THRESHOLD_FIXED_RELEASE: the same
 * of the map in 8 bits as mcs_threshold has it. 2-means adds values as integers of at most 2^-31 of the range, so
 * that their order cannot matter: class means are good to 2^-32 of it. counts: the histogram (K_BINS), all of a
 * constant map in bin 0, or NULL. Fewer than 2^31 pixels.
 */
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

/* mask (depth, height, width), not 0 is inside -> labels: 0 outside, 1.. components numbered in order of their first
 * voxel; *n of them, of which the first `capacity` are measured. Neighbours share a side, an edge or a corner: 8 in a
 * plane, 26 with depth. map (depth, height, width) finite, or NULL. Fewer than 2^31 voxels. */
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

/* distance (nz, ny, nx): Euclidean, from each cell to the nearest where sites is not 0, exact, in double; INFINITY
 * where there is no site. spacing: x, y, z. Fewer than 2^31 cells. */
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

/* Non-maximum suppression as torchvision.ops.nms: boxes (n, 4) x0, y0, x1, y1; in order of falling score (the first of
 * equal ones first, NaN last) a box stays unless its intersection over union with one that stayed is above the
 * threshold. keep (n): the indices of those that stay, by score; *n_keep of them. group (n) or NULL: only boxes of one
 * group suppress each other. n at most K_NMS_MOST. */
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
