/* Run-length encoded masks, as COCO and segment-anything write them: lengths of the runs of a mask read column by
 * column, from the top; the first run is of zeros and may have length 0. */
#ifndef MCS_RLE_H
#define MCS_RLE_H

#include "engine/base/status.h"

#include <stdint.h>

struct rle {
    int width, height, n;
    uint32_t *counts; /* (n), owned; their sum is width * height */
};

/* mask (height,width), foreground is not 0. Release with mcs_rle_free. E_NOMEM. */
enum mcs_status mcs_rle_encode(const uint8_t *mask, int width, int height, struct rle *r);
void mcs_rle_free(struct rle *r);
/* dst (height,width) 0 or 1. */
void mcs_rle_decode(const struct rle *r, uint8_t *dst);
int64_t mcs_rle_area(const struct rle *r);
/* The counts as pycocotools' compressed string (rleToString in COCO's maskApi.c): from the third on, the difference to
 * the count two before; five bits a character, least first, from character 48. malloc'ed; NULL without memory. */
char *mcs_rle_string(const struct rle *r);

#endif
