/* How two files or folders differ: arrays by value, masks by Dice. */
#ifndef MCS_DIFF_H
#define MCS_DIFF_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

struct diff_row {
    const char *name;  /* of the file, and of the array in it: "a.h5:saliency" */
    const char *fault; /* NULL, or why values cannot be compared: another shape, no partner, unreadable */
    double max_abs;    /* greatest difference; infinite where one is not finite and the other is another value */
    double relative;   /* ||a - b|| / ||a||, 0 where both are 0 */
    double dice;       /* NaN unless both are masks that are not both empty */
    int differs;
};
/* Start with {0}, release with mcs_diff_free. */
struct diff {
    int n, capacity, n_different;
    struct diff_row *rows;
    struct arena arena;
};

/* Compares two files of one kind, or two folders file by file: matched by stem and ending, what has no partner is
 * different. Kinds: .h5 (all arrays and texts), .safetensors, .npy, .png, .jpg, .nii, .nii.gz; other files of a folder
 * are not looked at, nor are its subfolders. A mask is a PNG or NIfTI file with 0 and one other value; masks differ
 * when 1 - Dice is above `tolerance`, everything else when its relative error is. E_NOINPUT, E_USAGE: a file against a
 * folder; E_DATA: a single file that cannot be read or of no known kind (in a folder that is a row's fault). */
enum mcs_status mcs_diff_paths(const char *a, const char *b, double tolerance, struct diff *d);
void mcs_diff_free(struct diff *d);

#endif
