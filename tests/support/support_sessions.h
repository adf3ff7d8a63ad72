/* Saliency and segmentation of some cases by a session that is opened for them alone. */
#ifndef SUPPORT_SESSIONS_H
#define SUPPORT_SESSIONS_H

#include "infer/segment.h"

static inline enum mcs_status saliency_once(struct clip_model *m, const struct saliency_options *o,
                                            struct saliency_case *cases, int n)
{
    struct saliency s;
    MCS_TRY(mcs_saliency_open(&s, m, o));
    const enum mcs_status st = mcs_saliency_run(&s, cases, n, NULL, 0);
    mcs_saliency_close(&s);
    return st;
}

static inline enum mcs_status segment_once(struct clip_model *clip, struct sam_model *sam,
                                           const struct segment_options *o, struct segment_case *cases, int n)
{
    struct segment_session s;
    MCS_TRY(mcs_segment_open(&s, clip, sam, o));
    const enum mcs_status st = mcs_segment_run(&s, cases, n, NULL, 0);
    mcs_segment_close(&s);
    return st;
}

#endif
