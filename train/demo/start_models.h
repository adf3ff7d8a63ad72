/* Training of the demo's starting weights (data/demo/clip, data/demo/sam): small models trained on shapes and atlas
 * regions, never on a lesion. Run by hand; data/demo/README.md has the commands that made the shipped files. */
#ifndef MCS_DEMO_START_TRAIN_H
#define MCS_DEMO_START_TRAIN_H

#include "data/lesions/demo_config.h"
#include "engine/dist/comm.h"
#include "engine/model/clip.h"
#include "infer/clip/clip_model.h"

/* The data that a CLIP start is trained on. */
enum demo_recipe {
    DEMO_RECIPE_MASKS,    /* pairs, and the objects' pixels and attributes */
    DEMO_RECIPE_CAPTIONS, /* image-caption pairs alone */
    DEMO_RECIPE_TOKENS,   /* the same pairs, with a loss of caption words on patch tokens */
};

struct demo_start_options {
    const char *out;    /* run folder; receives the weights in OUT/model */
    const char *atlas;  /* folder of the MRI, NULL = where its package installs it */
    const char *config; /* resolved options as YAML */
    int64_t steps, batch, seed, checkpoint_every;
    double lr;
    struct demo_config data;
    enum demo_recipe recipe; /* of CLIP */
    const char *from;        /* CLIP: model folder to continue from, NULL: random weights */
    struct device *device;
    /* SAM: the ranks that share each batch, NULL: one. CLIP: NULL, since its auxiliary losses need a single rank. */
    struct comm *comm;
};

/* The demo's CLIP: 96 x 96 pixels in patches of 8, width 128, 4 blocks; text tower of 2 layers. vocab 0: as many
 * entries as vocab.txt has. */
struct clip_config mcs_demo_clip_config(void);
/* Trains with InfoNCE (learned temperature) and, by recipe, auxiliary losses:
 *   all       the caption's words from the image embedding
 *   masks     kind and place of the objects from the patch tokens, and attention guidance of the class token in the
 * last two blocks: both see the objects' masks tokens    the caption's words from the patch tokens, each word by its
 * own attention over them: it sees no mask, and learns where a word's evidence is by itself OUT/model is a model folder
 * (float16). */
enum mcs_status mcs_demo_start_clip(const struct demo_start_options *o);
/* OUT/model and OUT/evaluation.json are written by rank 0. */
enum mcs_status mcs_demo_start_sam(const struct demo_start_options *o);

/* Copies the weights of a model folder into a model of the same sizes. Rows of the word table are matched by word;
 * words that the folder lacks keep their values. E_DATA: other sizes, by name. */
enum mcs_status mcs_demo_start_from(const char *folder, struct clip_model *m);

#endif
