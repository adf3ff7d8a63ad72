/* Labels: the one rule by which train, evaluate and report read masks. A label is the number that the file stores.
 *
 *   palette              the index, whatever its colour
 *   8, 16, 32, 64 bits   the number, after scl_slope and scl_inter
 *   float                whole (within 1e-4, for labels stored with a slope) or refused: file, value, voxel
 *   colours              grey where R = G = B; black and one other colour are 0 and 1; more colours are refused
 *   alpha                dropped; refused where only alpha tells a mask from its background
 *   JPEG                 0 up to 127, 1 above; refused where it can be no mask of 0 and 255
 *   NaN, infinite        refused
 *   negative             refused, unless it is the label to ignore
 *
 * A mask of two classes whose values are 0 and one other is binary, whatever the other is (mcs_labels_to_classes). */
#ifndef MCS_LABELS_H
#define MCS_LABELS_H

#include "data/image/grid.h"
#include "engine/base/status.h"

#include <stdint.h>

enum { MCS_LABELS_MAX = 255, MCS_LABELS_NOTE_BYTES = 1024, MCS_LABEL_IGNORED = 255 };

struct label_rule {
    int has_ignore;
    int64_t ignore; /* voxels with this label are left out of everything */
    int merge;      /* 1: all labels but 0 are one class */
};

/* From --ignore-label; NULL: none. E_USAGE: no whole number from -32768 to 65535. */
enum mcs_status mcs_label_rule_parse(const char *ignore, struct label_rule *rule);

struct label_map {
    struct grid grid;
    int n;                         /* different labels */
    int64_t label[MCS_LABELS_MAX]; /* ascending */
    int64_t count[MCS_LABELS_MAX]; /* voxels of each */
    int64_t first[MCS_LABELS_MAX]; /* the first voxel of each */
    uint8_t *index;                /* (nz, ny, nx): number of the voxel's label in the list; owned */
    int lossy;                     /* 1: JPEG */
    int turned;                    /* EXIF orientation of the file, 1: none; it is applied */
    char notes[MCS_LABELS_NOTE_BYTES];
};

/* Errors of mcs_picture_read; E_DATA: the rules above, more than 255 different labels, or labels beyond 65535. Release
 * with mcs_labels_free; zeroed on failure. */
enum mcs_status mcs_labels_read(const char *path, const struct label_rule *rule, struct label_map *m);
void mcs_labels_free(struct label_map *m);

/* Number of a label in the list, or -1. */
int mcs_labels_find(const struct label_map *m, int64_t label);
/* Position of a label's first voxel, for messages: "(3, 4, 0)". */
const char *mcs_labels_place(const struct label_map *m, int64_t voxel, char text[64]);

/* Brings the labels to the grid of another file. The same voxels stored otherwise are turned; another grid is E_DATA,
 * or taken by the nearest voxel (0 outside) with `resample`, which needs both affines. What was done is added to
 * m->notes. E_NOMEM. */
enum mcs_status mcs_labels_to_grid(struct label_map *m, const char *path, const struct grid *grid,
                                   const char *grid_file, int resample);

/* Class of each voxel, (nz, ny, nx): two classes: 0 and 1 where the labels are 0 and one other, or are merged. More, or
 * other labels: the label, which must be below `classes` (E_DATA: file, label, voxel, rule). MCS_LABEL_IGNORED: to be
 * ignored. */
enum mcs_status mcs_labels_to_classes(const struct label_map *m, const char *path, const struct label_rule *rule,
                                      int classes, uint8_t *dst);

/* 1: more than 32 labels that change from voxel to voxel: an image rather than a mask. */
int mcs_labels_is_picture(const struct label_map *m);

#endif
