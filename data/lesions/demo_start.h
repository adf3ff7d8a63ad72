/* Images for pretraining the starting weights, before any lesion: slices of training slabs with painted shapes
 * (rectangles, polygons, crescents, stars, joined discs, squircles) and atlas regions. None is a lesion, and no outline
 * is a lesion's (demo_form.h); their contrasts and look-alikes are drawn as a lesion image's, and the words lesion,
 * mass and tumor do occur in captions. */
#ifndef MCS_DEMO_START_H
#define MCS_DEMO_START_H

#include "data/lesions/demo_text.h"

enum demo_shape {
    DEMO_RECTANGLE,
    DEMO_POLYGON,
    DEMO_CRESCENT,
    DEMO_STAR,
    DEMO_DISCS,
    DEMO_SQUIRCLE,
    DEMO_SHAPES,
    DEMO_REGION = DEMO_SHAPES, /* an atlas region */
    DEMO_BRAIN,                /* the whole brain */
};

/* Attributes of an object, each 0 or 1; all 0 where there is no object. */
enum {
    DEMO_COL_BRIGHT,
    DEMO_COL_DARK,
    DEMO_COL_BLURRED,
    DEMO_COL_SHARP,
    DEMO_COL_BIG,
    DEMO_COL_SMALL,
    DEMO_COL_RIM,
    DEMO_COLUMNS
};

/* For CLIP: an image with up to three objects, its caption, and their masks and attributes. */
enum { DEMO_OBJECTS = 3 };
struct demo_start_object {
    enum demo_shape shape;
    struct demo_words words; /* complete: no attribute left out */
    uint8_t column[DEMO_COLUMNS];
    uint8_t mask[DEMO_PIXELS]; /* 0/1 */
};
struct demo_clip_start {
    uint32_t id;
    int z, n_objects, n_lookalikes;
    struct demo_start_object object[DEMO_OBJECTS];
    char caption[DEMO_CAPTION_BYTES];
    uint8_t image[DEMO_PIXELS];     /* (128,128) */
    uint8_t lookalike[DEMO_PIXELS]; /* 0/1: vessels and calcifications, as in lesion images; in no object's mask */
};
/* Sample `id`, keyed by (seed, id). The caption leaves out each attribute with probability start.drop of the config. */
void mcs_demo_clip_start(const struct demo_atlas *atlas, const struct demo_config *config, uint64_t seed, uint32_t id,
                         struct demo_clip_start *sample);
/* Another caption with the same content; variant 0 is sample->caption. caption: DEMO_CAPTION_BYTES. */
void mcs_demo_clip_start_caption(const struct demo_atlas *atlas, const struct demo_config *config,
                                 const struct demo_clip_start *sample, uint64_t seed, uint32_t variant, char *caption);

/* For SAM: an image and one to five objects as targets of box prompts. */
enum { DEMO_TARGETS = 5 };
struct demo_sam_target {
    enum demo_shape shape;
    int box[4]; /* x0 y0 x1 y1, tight, inclusive */
    int area;
    uint8_t mask[DEMO_PIXELS]; /* 0/1 */
};
struct demo_sam_start {
    uint32_t id;
    int z, n_targets;           /* at least 1 */
    uint8_t image[DEMO_PIXELS]; /* (128,128) */
    struct demo_sam_target target[DEMO_TARGETS];
};
/* One to three shapes that do not touch (half of them with a radius of 4 to 8 pixels; any grey that differs from their
 * surroundings; borders 0.3 to 3.5 wide; rims), with probability 0.2 an atlas region (half of these tinted), 0.1 the
 * whole brain. */
void mcs_demo_sam_start(const struct demo_atlas *atlas, const struct demo_config *config, uint64_t seed, uint32_t id,
                        struct demo_sam_start *sample);

#endif
