/* An image size, three components in it, and maps of saliency from which they are cut. */
#ifndef MCS_SUPPORT_RANK_H
#define MCS_SUPPORT_RANK_H

#include "infer/coarse/coarse.h"

enum { RANK_WIDTH = 48, RANK_HEIGHT = 40, RANK_PIXELS = RANK_WIDTH * RANK_HEIGHT, RANK_COMPONENTS = 3, RANK_EMBED = 8 };

/* Three components, of 8 x 8, 10 x 6 and 7 x 9 pixels, in raster order of their first pixels. */
extern const int rank_boxes[RANK_COMPONENTS][4];
/* The number of the component at a pixel, counted from 1; 0: none. */
int rank_component_at(int x, int y);
/* map (RANK_HEIGHT, RANK_WIDTH): the confidence of each component inside it, 0 elsewhere. */
void rank_make_map(const float confidence[RANK_COMPONENTS], float *map);
/* mcs_coarse_mask of the map; mask (RANK_HEIGHT, RANK_WIDTH). The caller frees the result by mcs_coarse_free. */
struct coarse_result rank_coarse(const float *map, const struct coarse_options *o, const struct coarse_text_scorer *s,
                                 uint8_t *mask);

#endif
