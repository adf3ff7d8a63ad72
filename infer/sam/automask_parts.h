/* Shared by automask.c and automask_regions.c. */
#ifndef MCS_AUTOMASK_PARTS_H
#define MCS_AUTOMASK_PARTS_H

#include "infer/sam/automask.h"

enum { AUTOMASK_LAYERS = 4, AUTOMASK_CROPS = 1 + 4 + 16 + 64 + 256 };

/* The inclusive box of a mask (height,width) with a pixel at least. */
void mcs_automask_box(const uint8_t *mask, int width, int height, int box[4]);
/* Suppresses among masks first .. list->n - 1, with a score for each; those that stay are sorted by score. */
enum mcs_status mcs_automask_suppress(struct automask_list *list, int first, const float *scores, double threshold);
/* mcs_automask_clean on each mask, then suppression that prefers unchanged masks. */
enum mcs_status mcs_automask_small_regions(const struct automask_options *o, int width, int height,
                                           struct automask_list *list);

#endif
