/* Recall@1 and @2 of a CLIP model on image-caption pairs, image to text and text to image. */
#ifndef MCS_RETRIEVE_H
#define MCS_RETRIEVE_H

#include "data/text/pairs.h"
#include "infer/cases.h"
#include "infer/clip/clip_model.h"
#include "infer/clip/recall.h"

/* Recall of a model on pairs. A pair that cannot be read or tokenised is an error that names it. */
enum mcs_status mcs_retrieve(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                             const struct recall_options *o, struct recall_result *r);
/* The same, but pairs whose image cannot be read or whose caption has no words are added to `failures` and left out;
 * *n_used: the other pairs. o->group must be NULL. E_DATA if fewer than two are left. */
enum mcs_status mcs_retrieve_some(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                                  const struct recall_options *o, struct failure_list *failures, int *n_used,
                                  struct recall_result *r);

#endif
