/* The demo's only subject: a T1 MRI of a head (ch2), the same without skull (ch2bet) and a map of 116 named regions
 * (aal), all in one space of 181 x 217 x 181 voxels of 1 mm, from the Debian package mricron-data. x increases to the
 * patient's right, y to the front, z upwards. All images of the demo are cut from it. It is read once and then
 * constant, so threads may share it.
 *
 *     struct demo_atlas atlas;
 *     MCS_TRY(mcs_demo_atlas_load(NULL, &atlas));
 *     ...
 *     mcs_demo_atlas_free(&atlas); */
#ifndef MCS_DEMO_ATLAS_H
#define MCS_DEMO_ATLAS_H

#include "engine/base/status.h"

#include <stdint.h>

enum {
    DEMO_SIZE = 128, /* side of an image, in pixels of 1.5 mm */
    DEMO_PIXELS = DEMO_SIZE * DEMO_SIZE,
    DEMO_REGIONS = 117, /* AAL labels 0..116, 0 = none */
    DEMO_Z_LOW = 30,
    DEMO_Z_HIGH = 135, /* axial slices used, both ends included */
};
#define DEMO_PIXEL_MM 1.5

enum demo_side { DEMO_LEFT, DEMO_RIGHT, DEMO_MIDLINE, DEMO_SIDES };
enum demo_lobe {
    DEMO_FRONTAL,
    DEMO_PARIETAL,
    DEMO_TEMPORAL,
    DEMO_OCCIPITAL,
    DEMO_LIMBIC,
    DEMO_INSULAR,
    DEMO_DEEP,
    DEMO_CEREBELLAR,
    DEMO_LOBES
};
enum demo_level { DEMO_LOWER, DEMO_MIDDLE, DEMO_UPPER, DEMO_LEVELS };

struct demo_region {
    char label[32]; /* the atlas's label: "Frontal_Sup_Orb_L"; "" where there is none */
    char words[48]; /* in plain words without the side: "superior orbital frontal"; three words at most */
    enum demo_side side;
    enum demo_lobe lobe;
};

/* Slices of training, validation and test. Test: z 46-51, 70-75, 94-99, 118-123 (24 slices). Validation: 55-58, 79-82,
 * 111-114 (12: one low, one middle, one high slab, each near a test slab, which takes the fewest slices from training).
 * Three unused slices separate slabs of different splits. Training has the other 37: 30-42, 62-66, 86-90, 103-107,
 * 127-135. There is one subject, so all splits share its anatomy. */
enum demo_split { DEMO_TRAIN, DEMO_VALIDATION, DEMO_TEST, DEMO_SPLITS };

struct demo_atlas {
    int nx, ny, nz; /* nz: number of slices kept; the first is z = DEMO_Z_LOW */
    float *value;   /* (nz,ny,nx) T1, white matter about 0.7, clipped to 0..1 */
    uint8_t *label; /* (nz,ny,nx) AAL label of the nearest labelled voxel, 1..116 */
    uint8_t *brain; /* (nz,ny,nx) 1 inside the skull-stripped brain, sulci and holes of a slice filled */
    struct demo_region region[DEMO_REGIONS];
    int n_slices[DEMO_SPLITS];
    int slice[DEMO_SPLITS][DEMO_Z_HIGH - DEMO_Z_LOW + 1]; /* z of each split's slices, ascending */
};

/* Reads the three volumes and the names (aal.nii.txt). `folder` NULL searches $MCSAM_DEMO_DATA or the folders of common
 * distributions. E_NOINPUT: not found, the message says which package to install; E_DATA: volumes of another size or
 * without a brain. Release with mcs_demo_atlas_free. */
enum mcs_status mcs_demo_atlas_load(const char *folder, struct demo_atlas *atlas);
void mcs_demo_atlas_free(struct demo_atlas *atlas);

/* The split of a slice, or -1: in a gap or outside. */
int mcs_demo_slice_split(int z);
/* Lower, middle or upper third of the slices used. */
enum demo_level mcs_demo_slice_level(int z);

/* City-block distance from each pixel to the nearest one where (mask != 0) == to, capped at 255; pixels outside the
 * slice count as mask 0. mask, steps (ny,nx). */
void mcs_demo_steps(const uint8_t *mask, int nx, int ny, int to, uint8_t *steps);

const char *mcs_demo_side_word(enum demo_side side);    /* "left" */
const char *mcs_demo_lobe_words(enum demo_lobe lobe);   /* "frontal lobe", "cerebellum" */
const char *mcs_demo_level_word(enum demo_level level); /* "lower" */
const char *mcs_demo_split_word(enum demo_split split); /* "train", "validation", "test" */

#endif
