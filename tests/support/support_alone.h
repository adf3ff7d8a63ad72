/* Ten cases processed together and each alone: both runs must give each case the same result, and different cases
 * different results. So a case that gets the result of another one of its batch, group or chunk is detected. */
#ifndef MCS_SUPPORT_ALONE_H
#define MCS_SUPPORT_ALONE_H

#include "data/image/image.h"
#include "infer/sam/sam_model.h"

enum {
    ALONE_CASES = 10,
    ALONE_WIDTH = 24,
    ALONE_HEIGHT = 20,
    ALONE_PIXELS = ALONE_WIDTH * ALONE_HEIGHT,
    ALONE_EMBED = 8
};

/* The images in img, and each once more in one/cN. */
void alone_open(void);
/* Runs a line that reads $IN and writes $OUT on all images (img, into all) and on each (one/cN, into alone/cN). */
void alone_run(const char *line);
/* all/NAME and alone/cN/NAME, where NAME is cN and an ending. */
const char *alone_path(const char *folder, int i, const char *ending, int alone);
/* A dataset of a case's file, malloc'ed. */
float *alone_values(const char *folder, int i, const char *ending, const char *dataset, int alone, int64_t *n);
/* max |a[i] - b[i]| */
double alone_distance(const float *a, const float *b, int64_t n);
/* Arrays of all cases: each within `rounding` of its result alone, any two cases further apart than ten times that. */
void alone_check_arrays(const char *folder, const char *ending, const char *dataset, double rounding);
/* The mask of case i. */
struct image alone_mask(int i, int alone);
/* Masks of all cases: each within `rounding` pixels of its result alone, and at least `least` of the 45 pairs of cases
 * further apart than that. */
void alone_check_masks(int rounding, int least);

#endif
