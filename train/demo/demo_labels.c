/* The demo's pseudo-labels: masks of training images from the looks that their captions name; no mask where the caption
 * denies a lesion. */
#include "engine/base/log.h"
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum mcs_status mcs_demo_labels(struct demo_run *run)
{
    const int n = run->train.n < run->o->label_images ? run->train.n : (int)run->o->label_images;
    const struct demo_set some = {n, run->train.cases};
    uint8_t *masks = mcs_arena_alloc(&run->arena, (size_t)n * DEMO_PIXELS + 1), truth[DEMO_PIXELS];
    int n_lesions = 0;
    run->labelled = mcs_arena_alloc(&run->arena, (size_t)(n + 1) * sizeof *run->labelled);
    run->label = mcs_arena_alloc(&run->arena, (size_t)(n + 1) * sizeof *run->label);
    MCS_TRY(mcs_arena_status(&run->arena));
    MCS_TRY(mcs_demo_segment_all(run, &some, NULL, masks));
    run->n_labelled = n;
    run->r.label_dice = 0;
    for (int i = 0; i < n; i++) {
        run->labelled[i] = i;
        run->label[i] = masks + (int64_t)i * DEMO_PIXELS;
        mcs_demo_truth_all(&some.cases[i], truth);
        const double dice = mcs_demo_dice(run->label[i], truth);
        if (some.cases[i].sample->n_lesions) run->r.label_dice += dice, n_lesions++;
        MCS_TRY(mcs_demo_write_mask(run, "labels", some.cases[i].stem, run->label[i]));
    }
    run->r.label_dice = n_lesions ? run->r.label_dice / n_lesions : NAN;
    mcs_log(
        "pseudo-labels of %d training images with lesions, and %d healthy ones: DSC %.3f (their true masks are used "
        "for this number alone)",
        n_lesions, n - n_lesions, run->r.label_dice);
    return MCS_OK;
}
