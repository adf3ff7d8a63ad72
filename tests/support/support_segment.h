/* Models and images of the zero-shot pipeline: folders clip, sam and img of the shell's folder. */
#ifndef MCS_SUPPORT_SEGMENT_H
#define MCS_SUPPORT_SEGMENT_H

#include "data/image/image.h"
#include "infer/clip/clip_model.h"
#include "infer/sam/sam_model.h"

enum { SEGMENT_WIDTH = 36, SEGMENT_HEIGHT = 24, SEGMENT_PIXELS = SEGMENT_WIDTH * SEGMENT_HEIGHT };

extern struct device segment_device;
extern struct clip_model segment_clip;
extern struct sam_model segment_sam;
/* Image i, to be freed by mcs_image_free: noise and a bright disc. */
void segment_paint(struct image *img, int i);
/* Before and after each test: CLIP with 6 x 6 tokens, SAM, and three images a.png, b.png and c.png. */
void segment_open(void);
void segment_close(void);

#endif
