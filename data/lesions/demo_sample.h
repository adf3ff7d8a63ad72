/* One image of the demo: a slice of the atlas under a random deformation with no, one or two artificial lesions, their
 * true masks, a caption and prompts. All draws are keyed by (seed, site, split, id), so no image depends on
 * another. */
#ifndef MCS_DEMO_SAMPLE_H
#define MCS_DEMO_SAMPLE_H

#include "data/lesions/demo_text.h"

enum demo_kind { DEMO_NONE, DEMO_ONE, DEMO_TWO, DEMO_MIXED }; /* mixed: drawn with the config's shares */

struct demo_lesion {
    int bright, large, blurred, rim;
    enum demo_side side;
    enum demo_lobe lobe;
    int region;              /* AAL label of most of its pixels */
    double row, col, radius; /* pixels */
    double grey;             /* before texture, bias and gain */
    double contrast; /* mean grey inside - mean 2 to 6 pixels around it, in the finished image, shares of full scale */
    int area;        /* pixels of its true mask */
    int box[4];      /* bounding box x0 y0 x1 y1, inclusive */
    char prompt1[DEMO_CAPTION_BYTES], prompt3[DEMO_CAPTION_BYTES], prompt4[DEMO_CAPTION_BYTES]; /* by mcs_demo_prompt */
};

struct demo_sample {
    uint32_t id;
    enum demo_split split;
    enum demo_kind kind; /* never DEMO_MIXED */
    enum demo_level level;
    int z;
    double noise; /* sigma, share of full scale */
    int n_lesions;
    struct demo_lesion lesion[2];
    char caption[DEMO_CAPTION_BYTES];
    uint8_t image[DEMO_PIXELS];    /* (128,128) */
    uint8_t truth[2][DEMO_PIXELS]; /* 0/1, masks of lesion[0] and lesion[1]; zero where there is none */
    uint8_t brain[DEMO_PIXELS];    /* 0/1 */
    uint8_t label[DEMO_PIXELS];    /* AAL label, nearest */
};

/* Makes sample `id` of a split. Two lesions have opposite grey and are in opposite halves. Thread safe, no heap; about
 * 150 KiB of stack. Never fails for a config that mcs_demo_config_check accepts. */
void mcs_demo_lesion_sample(const struct demo_atlas *atlas, const struct demo_config *config, enum demo_split split,
                            enum demo_kind kind, uint64_t seed, uint32_t id, struct demo_sample *sample);
/* Another caption with the same content: other template and synonyms, place by lobe or by region. variant 0 is
 * sample->caption. caption: DEMO_CAPTION_BYTES. */
void mcs_demo_lesion_caption(const struct demo_atlas *atlas, const struct demo_config *config,
                             const struct demo_sample *sample, uint64_t seed, uint32_t variant, char *caption);

#endif
