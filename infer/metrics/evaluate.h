/* Evaluation of predicted masks against reference masks, matched by file stem: each class or region of each case, and
 * their means over the cases. docs/cli.md, "evaluate", has the definition of each metric. */
#ifndef MCS_EVALUATE_H
#define MCS_EVALUATE_H

#include "engine/base/form.h"
#include "infer/cases.h"
#include "infer/metrics/regions.h"
#include "infer/metrics/statistics.h"

/*  name in the files, field of struct mask_metrics, its definition */
#define MCS_METRIC_LIST(X)                                                                                             \
    X("Dice", dice, "2 TP / (2 TP + FP + FN)")                                                                         \
    X("IoU", iou, "TP / (TP + FP + FN)")                                                                               \
    X("Sensitivity", sensitivity, "TP / (TP + FN)")                                                                    \
    X("Precision", precision, "TP / (TP + FP)")                                                                        \
    X("NSD", nsd, "share of both surfaces within the tolerance of the other one (surface-distance)")                   \
    X("NSD_slice", nsd_slice, "NSD of a plane taken as a volume of one slice (released evaluation)")                   \
    X("HD95", hd95, "greater of both directions' 95th percentiles of surface distance, weighted by area")              \
    X("ASSD", assd, "mean surface distance of both directions together, weighted by area")                             \
    X("Volume_pred", volume_pred, "volume of the prediction in mm3; pixels without a spacing")                         \
    X("Volume_ref", volume_ref, "volume of the reference in mm3; pixels without a spacing")                            \
    X("Volume_difference", volume_difference, "(prediction - reference) / reference, of volumes")                      \
    X("Lesion_sensitivity", lesion_sensitivity, "matched lesions / lesions of the reference")                          \
    X("Lesion_precision", lesion_precision, "matched lesions / lesions of the prediction")                             \
    X("Lesion_FP", lesion_fp, "lesions of the prediction without a match, in a case")                                  \
    X("Lesion_Dice", lesion_dice, "mean Dice of matched lesions")
enum {
#define X(name, field, text) MCS_METRIC_##field,
    MCS_METRIC_LIST(X)
#undef X
        MCS_N_METRICS
};

struct evaluate_options {
    enum mcs_form form; /* release: foreground is above 200 and predictions are nearest-resized to the reference's size,
                           as in the released evaluation; paper: labels by data/image/labels.h */
    double tolerance;   /* of NSD and NSD_slice: pixels, or mm for files with a spacing */
    double lesion_iou;  /* least IoU of matched lesions */
    const char *labels; /* regions (mcs_regions_parse), or NULL: every label, or one binary mask */
    int merge, resample; /* all labels but 0 are one region; predictions on another grid are taken by nearest voxel */
    struct label_rule rule;
    uint64_t seed; /* of the bootstrap */
};
struct evaluate_options mcs_evaluate_defaults(enum mcs_form form); /* tolerance 2, lesion_iou 0.1 */

struct evaluated_case {
    const char *stem, *pred, *ref; /* the stem and both paths */
    const char *note;              /* what was done to read the pair, such as turned axes; "": nothing */
    struct mask_metrics *m;        /* (regions.n) */
};
/* Cases of a region by which mask is empty there. */
struct empty_counts {
    int both, ref, pred;
};
/* The arena owns all memory; release with mcs_evaluation_free. */
struct evaluation {
    int n;
    struct evaluated_case *cases; /* sorted by stem */
    struct region_list regions;
    struct mean_interval *mean;            /* (regions.n, MCS_N_METRICS) over the finite values; percentile bootstrap */
    struct empty_counts *empty;            /* (regions.n) */
    int n_only_pred, n_only_ref, n_failed; /* without a counterpart (the first two); pairs that failed */
    struct failure_list failures;          /* all three kinds */
    struct label_rule rule;                /* with the label to ignore of a dataset.json */
    struct arena arena;
};

/* Compares the PNG, JPEG and NIfTI (.nii, .nii.gz) files of two folders. Without labels: where every mask has 0 and one
 * other number they are binary; else each label is a class. E_NOINPUT: a folder is missing or empty; E_DATA: two files
 * with one stem, no pairs, masks of one label whose number differs from file to file, no label in common, folders
 * exchanged; E_PARTIAL: done, but e->failures is not empty (*e is valid). */
enum mcs_status mcs_evaluate(const char *pred, const char *ref, const struct evaluate_options *o, struct evaluation *e);
void mcs_evaluation_free(struct evaluation *e);

/* mcs_evaluate, then writes out/summary.json with nnU-Net's keys (metric_per_case, mean, foreground_mean) and the
 * metrics above (null if NaN or infinite), out/cases.csv and, if there are failures, out/failures.csv. */
enum mcs_status mcs_evaluate_folder(const char *pred, const char *ref, const char *out,
                                    const struct evaluate_options *o, struct evaluation *e);

/* Means over regions of their means, as nnU-Net's foreground_mean; NaN where no region has one. */
double mcs_evaluation_foreground(const struct evaluation *e, int metric);
/* A case's metric by its number. */
double mcs_metric_value(const struct mask_metrics *m, int metric);

/* One mask (evaluate_read.c). E_DATA also: an image instead of a mask. */
enum mcs_status mcs_evaluate_read(const char *path, const struct evaluate_options *o, struct label_map *m);
/* Brings a prediction to its reference's grid. */
enum mcs_status mcs_evaluate_fit(struct label_map *pred, const char *pred_path, const struct label_map *ref,
                                 const char *ref_path, const struct evaluate_options *o);
/* E_DATA where the reference's folder holds predictions and the prediction's does not. */
enum mcs_status mcs_evaluate_check_folders(const char *pred, const char *ref);
/* The regions where no --labels says them (evaluate_scan.c), from the labels of all pairs. keep: the first pair's maps,
 * which are read last; zeroed if they could not be read. */
enum mcs_status mcs_evaluate_scan(const struct case_list *p, const struct case_list *r,
                                  const struct evaluate_options *o, struct evaluation *e, struct label_map keep[2]);
/* summary.json and cases.csv (evaluate_files.c). */
enum mcs_status mcs_evaluate_write(const char *out, const struct evaluate_options *o, struct evaluation *e);

#endif
