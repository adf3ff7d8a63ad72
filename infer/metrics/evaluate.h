/* Evaluation of predicted masks against reference masks, matched by file stem. */
#ifndef MCS_EVALUATE_H
#define MCS_EVALUATE_H

#include "engine/base/form.h"
#include "infer/cases.h"
#include "infer/metrics/metrics.h"
#include "infer/metrics/statistics.h"

/*  name in the files, field of struct mask_metrics */
#define MCS_METRIC_LIST(X)                                                                                             \
    X("Dice", dice)                                                                                                    \
    X("IoU", iou)                                                                                                      \
    X("NSD", nsd)                                                                                                      \
    X("NSD_slice", nsd_slice)                                                                                          \
    X("HD95", hd95)                                                                                                    \
    X("ASSD", assd)
enum {
#define X(name, field) MCS_METRIC_##field,
    MCS_METRIC_LIST(X)
#undef X
        MCS_N_METRICS
};

struct evaluate_options {
    enum mcs_form form; /* release: foreground is above 200 and predictions are nearest-resized to the reference's size,
                           as in the released evaluation; paper: foreground is nonzero (above 127 in a JPEG), another
                           size is an error of that case */
    double tolerance;   /* of NSD and NSD_slice: pixels, or mm for NIfTI */
};
struct evaluate_options mcs_evaluate_defaults(enum mcs_form form); /* tolerance 2 */

struct evaluated_case {
    const char *stem, *pred, *ref; /* the stem and both paths */
    struct mask_metrics m;
};
/* The arena owns all memory; release with mcs_evaluation_free. */
struct evaluation {
    int n;
    struct evaluated_case *cases;             /* sorted by stem */
    struct mean_interval mean[MCS_N_METRICS]; /* over the finite values */
    int n_only_pred, n_only_ref, n_failed;    /* without a counterpart (the first two); pairs that failed */
    struct failure_list failures;             /* all three kinds */
    struct arena arena;
};

/* Compares the PNG, JPEG and NIfTI (.nii, .nii.gz) files of two folders. A file of several slices has counts, Dice and
 * IoU only; its surface metrics are NaN. E_NOINPUT: a folder is missing or empty; E_DATA: two files with one stem, or
 * no pairs; E_PARTIAL: done, but e->failures is not empty (*e is valid). */
enum mcs_status mcs_evaluate(const char *pred, const char *ref, const struct evaluate_options *o, struct evaluation *e);
void mcs_evaluation_free(struct evaluation *e);

/* mcs_evaluate, then writes out/summary.json with nnU-Net's keys (metric_per_case, mean, foreground_mean) and the
 * metrics above (null if NaN or infinite), out/cases.csv and, if there are failures, out/failures.csv. */
enum mcs_status mcs_evaluate_folder(const char *pred, const char *ref, const char *out,
                                    const struct evaluate_options *o, struct evaluation *e);

#endif
