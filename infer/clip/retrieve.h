/* Retrieval by a CLIP model: recall@1 and @2 both ways on image-caption pairs. */
#ifndef MCS_RETRIEVE_H
#define MCS_RETRIEVE_H

#include "data/text/pairs.h"
#include "infer/cases.h"
#include "infer/clip/clip_model.h"
#include "infer/clip/recall.h"

/* recall@1 and @2 both ways of a model on pairs. A pair that cannot be read or tokenised is an error naming it. */
enum mcs_status mcs_retrieve(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                             const struct recall_options *o, struct recall_result *r);
/* The same, but a pair whose image cannot be read or whose caption has no words goes to `failures` and the rest goes
 * on; *n_used is how many are left. o->group must be NULL. E_DATA where fewer than two are left. */
enum mcs_status mcs_retrieve_some(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                                  const struct recall_options *o, struct failure_list *failures, int *n_used,
                                  struct recall_result *r);

#endif
