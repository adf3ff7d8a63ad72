/* Records in device memory that the host writes and a kernel reads, or the other way round. engine/device_ops.h, the
 * CPU backend and the pipelines use the same declarations. They stand here, where nothing but plain C types is known,
 * because kernels/ includes nothing from other folders. */
#ifndef MCS_RECORDS_H
#define MCS_RECORDS_H

#include <stdint.h>

/* ---- sliding windows ---- */

enum { FLIP_ROWS = 1, FLIP_COLUMNS = 2, FLIP_SLICES = 4 };
struct sliding_window {
    int32_t image;   /* below 0: no window */
    int32_t z, y, x; /* corner */
    int32_t flip;    /* axes along which the network sees it mirrored */
};

/* ---- masks ---- */

/* RELEASE: as the released code does it, on the map in 8 bits. */
enum threshold_kind {
    THRESHOLD_OTSU,
    THRESHOLD_KMEANS,
    THRESHOLD_KMEANS_RELEASE,
    THRESHOLD_FIXED,
    THRESHOLD_FIXED_RELEASE
};
struct threshold_result {
    float low, high;   /* range of the finite values; from kernels alone */
    float threshold;   /* as mcs_threshold returns it */
    int32_t cut;       /* last histogram bin of the lower class; from kernels alone, not for THRESHOLD_FIXED */
    uint32_t constant; /* 1: every value is the same, and the mask is empty */
    uint32_t set;      /* pixels of the mask */
    uint32_t bad;      /* values that are not finite: then no other result is valid */
};

/* A connected component of a mask; two dimensions: z is 0. */
struct component {
    int32_t label;                  /* 1 + its index in raster order of the components' first voxels */
    int32_t area;                   /* voxels */
    int32_t x0, y0, z0, x1, y1, z1; /* box, inclusive */
    float cx, cy, cz;               /* centroid */
    float confidence, peak;         /* mean and maximum of the map over its voxels; 0 without a map */
    int32_t peak_x, peak_y, peak_z; /* first voxel with the maximum; without a map the first voxel */
};

/* ---- augmentation ---- */

/* Parameters drawn for one patch; all 0: it is left as it is. */
enum { AUGMENT_MAX_CHANNELS = 8 };
struct augment_channel {
    double blur_y, blur_x, contrast, zoom, gamma_inverted, gamma; /* parameters of the transforms; 0: left out */
    float brightness;                                             /* factor; 0: left out */
};
struct augment_draw {
    int32_t moves; /* 1: sampled through the matrix, 0: centre crop */
    int32_t flip_rows, flip_columns;
    float
        noise; /* standard deviation; element i gets noise times element i of the key's normals (mcs_rng_fill_normal) */
    double matrix[2][2]; /* of mcs_augment_spatial */
    uint64_t noise_seed; /* the key: struct mcs_rng */
    uint32_t noise_site, noise_sample, noise_step;
    struct augment_channel channel[AUGMENT_MAX_CHANNELS];
};

#endif
