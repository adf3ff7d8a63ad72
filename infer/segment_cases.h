/* The cases of the verb segment: computed, written and recorded. */
#ifndef MCS_SEGMENT_CASES_H
#define MCS_SEGMENT_CASES_H

#include "data/run/run_folder.h"
#include "infer/clip/saliency_command.h"
#include "infer/requests.h"
#include "infer/segment.h"

enum { SEGMENT_CHUNK = 32 /* images or slices that are in memory at once, at most */ };

struct segment_command {
    struct mcs_common common;
    const char *clip, *sam, *input, *output, *text, *prompts, *threshold, *rank;
    struct saliency_flags m2ib;
    int64_t keep, grow;
    double min_confidence;
    int sam_prompts, multimask, keep_stages;
};

struct segment_work {
    const struct segment_command *c;
    struct clip_model clip;
    struct sam_model sam;
    struct segment_options o;
    struct failure_list failures;
    struct run_folder *run;
    const struct request *requests; /* the first; a case's place in `results` is its distance from here */
    json_t **results;               /* by request, NULL: not done. {"case": for summary.json, "box": of an image} */
    int n_done;
};

/* A group of at most SEGMENT_CHUNK images: those that are not finished already. They are recorded together. One that
 * fails is listed; a status ends the run. */
enum mcs_status mcs_segment_images(struct segment_work *w, const struct request *const *requests, int n);
/* One volume, slice by slice. E_DATA and E_SHAPE are its own. */
enum mcs_status mcs_segment_volume(struct segment_work *w, const struct request *r);

#endif
