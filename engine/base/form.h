/* The paper and its released code differ in several stages of the pipeline. A form says which of the two is computed;
 * it is chosen for each stage (--form). */
#ifndef MCS_FORM_H
#define MCS_FORM_H

#include "engine/base/arena.h"

enum mcs_form { MCS_PAPER, MCS_RELEASE };
/* loss: DHN-NCE; saliency: M2IB's crop and noise; coarse: threshold and component filter; sam: prompts; train: the
 * cyclic schedule; metrics: the variant of the surface distance. */
#define MCS_FORM_LIST(X)                                                                                               \
    X(LOSS, loss) X(SALIENCY, saliency) X(COARSE, coarse) X(SAM, sam) X(TRAIN, train) X(METRICS, metrics)
enum mcs_form_stage {
#define X(upper, lower) MCS_FORM_##upper,
    MCS_FORM_LIST(X)
#undef X
        MCS_FORM_STAGES
};
extern const char *const mcs_form_stage_names[MCS_FORM_STAGES]; /* "loss", ... */

/* "paper", "release", or the list of all stages when they differ: "loss=paper,coarse=release,...". Owned by the arena
 * where it is a list. */
const char *mcs_form_text(const enum mcs_form form[MCS_FORM_STAGES], struct arena *arena);

#endif
