/* Captions and prompts of the demo: one grammar for lesions and for the starting data's objects, so that the vocabulary
 * is closed and small. Lower case, words separated by one space, no punctuation, at most DEMO_CAPTION_WORDS words. */
#ifndef MCS_DEMO_TEXT_H
#define MCS_DEMO_TEXT_H

#include "data/lesions/demo_paint.h"

enum { DEMO_CAPTION_WORDS = 24, DEMO_CAPTION_BYTES = 256, DEMO_NULL_PROMPTS = 6 };

/* The attributes of a lesion or an object to be named. -1 leaves an attribute out. */
struct demo_words {
    int bright, large, blurred, rim; /* 0, 1 or -1; rim 0 is never mentioned */
    int side;                        /* enum demo_side, -1: no place is named */
    int level;                       /* enum demo_level or -1 */
    enum demo_lobe lobe;
    int region; /* AAL label; named instead of the lobe where by_region */
    int by_region;
    int object; /* nouns of the starting data (object, shape, patch ... lesion) */
};

/* "axial t1 mri showing a small bright well defined lesion with a rim in the left frontal lobe lower slice": one of
 * five templates, synonyms drawn. caption: DEMO_CAPTION_BYTES. */
void mcs_demo_caption_one(const struct demo_atlas *atlas, const struct demo_words *w, struct demo_draw *draw,
                          char *caption);
/* Two or three lesions or objects in one caption (size, intensity, side, lobe of each). */
void mcs_demo_caption_some(const struct demo_words *w, int n, struct demo_draw *draw, char *caption);
/* A normal brain; the caption denies a lesion or, with object, any object. */
void mcs_demo_caption_none(int level, int object, struct demo_draw *draw, char *caption);

/* Prompts with fixed wording. */
enum demo_prompt_level {
    DEMO_PROMPT_WORD,       /* "axial t1 mri showing a lesion" */
    DEMO_PROMPT_LOOK,       /* the same with size, border, intensity, rim */
    DEMO_PROMPT_LOOK_PLACE, /* and with side and lobe */
    DEMO_PROMPT_LEVELS
};
void mcs_demo_prompt(const struct demo_words *w, enum demo_prompt_level level, char *prompt);
extern const char *const mcs_demo_null_prompts[DEMO_NULL_PROMPTS];

/* Every word that the above can write, one per line: [PAD] [UNK] [CLS] [SEP] [MASK], then the words in byte order.
 * malloc'ed text; n_words (unless NULL) is the number of lines. */
enum mcs_status mcs_demo_vocabulary(const struct demo_atlas *atlas, char **text, int *n_words);

#endif
