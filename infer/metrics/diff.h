/* Comparison of two files or folders: arrays by value, masks by Dice. */
#ifndef MCS_DIFF_H
#define MCS_DIFF_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

struct diff_row {
    const char *name;  /* file, and array in it: "a.h5:saliency" */
    const char *fault; /* NULL, or why values cannot be compared: another shape, no counterpart, unreadable */
    double max_abs;    /* greatest absolute difference; infinite if only one is not finite, or both but different */
    double relative;   /* ||a - b|| / ||a||, 0 if both are 0 */
    double dice;       /* NaN unless both are masks that are not both empty */
    int differs;
};
/* Start with {0}, release with mcs_diff_free. */
struct diff {
    int n, capacity, n_different;
    struct diff_row *rows;
    struct arena arena;
};

/* Compares two files of one kind, or two folders file by file: files are matched by stem and extension, and a file
 * without a counterpart counts as different. Kinds: .h5 (all arrays and texts), .safetensors, .npy, .png, .jpg, .nii,
 * .nii.gz; other files and subfolders of a folder are ignored. A mask is a PNG or NIfTI file with 0 and one other
 * value. Masks differ if 1 - Dice exceeds `tolerance`, other arrays if their relative error does. E_NOINPUT; E_USAGE: a
 * file against a folder; E_DATA: a single file that cannot be read or is of no known kind (in a folder this is the
 * row's fault). */
enum mcs_status mcs_diff_paths(const char *a, const char *b, double tolerance, struct diff *d);
void mcs_diff_free(struct diff *d);

#endif
