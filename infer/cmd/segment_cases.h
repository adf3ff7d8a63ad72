/* Computes, writes and records the cases of the verb segment. */
#ifndef MCS_SEGMENT_CASES_H
#define MCS_SEGMENT_CASES_H

#include "data/run/run_folder.h"
#include "infer/cmd/saliency_command.h"
#include "infer/requests.h"
#include "infer/segment.h"

enum { SEGMENT_CHUNK = 32 /* images or slices in memory at once, at most */ };

struct segment_command {
    struct mcs_common common;
    const char *window;
    const char *clip, *sam, *input, *output, *text, *prompts, *threshold, *rank, *preprocess;
    struct saliency_flags m2ib;
    int64_t keep, grow;
    double min_confidence, min_presence;
    int sam_prompts, multimask, keep_stages;
};

struct segment_work {
    const struct segment_command *c;
    struct clip_model clip;
    struct sam_model sam;
    struct segment_options o;
    struct segment_session session;
    struct failure_list failures;
    struct run_folder *run;
    const struct request *requests; /* all requests; request r's result is results[r - requests] */
    json_t **results;               /* {"case": for summary.json, "box": of an image, for boxes.json}; NULL: not done */
    int n_done;
};

/* Segments and records those of n <= SEGMENT_CHUNK images that have no result yet. Images that fail are listed in
 * w->failures; a returned failure ends the run. */
enum mcs_status mcs_segment_images(struct segment_work *w, const struct request *const *requests, int n);
/* Segments and records one volume slice by slice. E_DATA and E_SHAPE concern this volume only; other failures end the
 * run. */
enum mcs_status mcs_segment_volume(struct segment_work *w, const struct request *r);

#endif
