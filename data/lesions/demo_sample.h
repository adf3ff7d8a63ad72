/* One image of the demo: a slice of the atlas under a random deformation with no or up to three artificial lesions,
 * their true masks, look-alikes, a caption and prompts. All draws are keyed by (seed, site, split, id), so no image
 * depends on another. */
#ifndef MCS_DEMO_SAMPLE_H
#define MCS_DEMO_SAMPLE_H

#include "data/lesions/demo_form.h"
#include "data/lesions/demo_text.h"

enum { DEMO_LESIONS = 3 }; /* most lesions in an image */

enum demo_kind {
    DEMO_NONE,   /* healthy; look-alikes may be there */
    DEMO_SOME,   /* one to three lesions of the seen forms, by the config's shares */
    DEMO_TWO,    /* exactly two, of opposite grey, in opposite halves: the control of prompts */
    DEMO_UNSEEN, /* one or two lesions of a form that no training saw; test split only */
    DEMO_MIXED,  /* none or some, by the config's share of healthy images */
    DEMO_KINDS
};

struct demo_lesion {
    int bright, large, blurred, rim;
    enum demo_form form;
    enum demo_side side;
    enum demo_lobe lobe;
    int region;              /* AAL label of most of its pixels */
    double row, col, radius; /* pixels; of a wedge: the middle of its base */
    double grey;             /* before texture, bias and gain */
    double contrast; /* mean grey inside - mean 2 to 6 pixels around it, in the finished image, shares of full scale */
    int area;        /* pixels of its true mask */
    int box[4];      /* bounding box x0 y0 x1 y1, inclusive */
    char prompt[DEMO_PROMPT_LEVELS][DEMO_CAPTION_BYTES]; /* by mcs_demo_lesion_prompt */
};

struct demo_sample {
    uint32_t id;
    enum demo_split split;
    enum demo_kind kind; /* never DEMO_MIXED */
    enum demo_level level;
    int z;
    double noise; /* sigma, share of full scale */
    int n_lesions;
    struct demo_lesion lesion[DEMO_LESIONS]; /* in random order */
    int n_lookalikes;
    char caption[DEMO_CAPTION_BYTES];
    uint8_t image[DEMO_PIXELS];               /* (128,128) */
    uint8_t truth[DEMO_LESIONS][DEMO_PIXELS]; /* 0/1, mask of each lesion; zero where there is none */
    uint8_t lookalike[DEMO_PIXELS];           /* 0/1: vessels and calcifications, never in a lesion's mask */
    uint8_t brain[DEMO_PIXELS];               /* 0/1 */
    uint8_t label[DEMO_PIXELS];               /* AAL label, nearest */
};

/* Makes sample `id` of a split. Lesions keep at least lesion.gap pixels apart; where no place is found for a second or
 * third, the image has fewer (but DEMO_TWO always two). DEMO_UNSEEN outside the test split makes DEMO_SOME, and `kind`
 * says so: no other split can hold a cluster or a wedge. Thread safe, no heap; about 400 KiB of stack. Never fails for
 * a config that mcs_demo_config_check accepts. */
void mcs_demo_lesion_sample(const struct demo_atlas *atlas, const struct demo_config *config, enum demo_split split,
                            enum demo_kind kind, uint64_t seed, uint32_t id, struct demo_sample *sample);
/* Another caption with the same content: other template and synonyms, place by lobe or by region. variant 0 is
 * sample->caption. caption: DEMO_CAPTION_BYTES. */
void mcs_demo_lesion_caption(const struct demo_atlas *atlas, const struct demo_config *config,
                             const struct demo_sample *sample, uint64_t seed, uint32_t variant, char *caption);

/* "axial t1 mri showing a lesion", with the lesion's look, and with its look and place. prompt: DEMO_CAPTION_BYTES. */
void mcs_demo_lesion_prompt(const struct demo_lesion *lesion, enum demo_prompt_level level, char *prompt);
/* Truth of an (image, prompt) pair: union of the masks of all lesions that the prompt of lesion `k` describes (0/1). A
 * prompt without a rim does not deny one, so it describes lesions with a rim too. Returns their bit mask. */
unsigned mcs_demo_prompt_truth(const struct demo_sample *sample, int k, enum demo_prompt_level level, uint8_t *truth);

#endif
