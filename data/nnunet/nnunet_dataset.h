/* nnU-Net's raw data sets: nnUNet_raw/DatasetNNN_NAME with dataset.json, imagesTr and labelsTr.
 *
 *     MCS_TRY(mcs_nnunet_root(NNUNET_RAW, option, raw));
 *     MCS_TRY(mcs_nnunet_find("5", raw, preprocessed, results, name));
 *     MCS_TRY(mcs_nnunet_dataset_read(path_of_dataset_json, &d));
 *     MCS_TRY_GOTO(mcs_nnunet_dataset_list(folder, &d), st, done);
 *
 * An image file is CASE_CCCC.ENDING (CCCC: channel, from 0000), a label CASE.ENDING; or dataset.json names all files
 * ("dataset"). Format: nnU-Net, documentation/dataset_format.md. */
#ifndef MCS_NNUNET_DATASET_H
#define MCS_NNUNET_DATASET_H

#include "engine/base/arena.h"
#include "engine/base/path.h"
#include "engine/base/status.h"

#include <jansson.h>
#include <stdint.h>

enum { NNUNET_MAX_CHANNELS = 64, NNUNET_MAX_LABELS = 4096 };

/* One entry of "labels": a class, or a region, which is the union of classes. */
struct nnunet_label {
    const char *name;
    int is_list, n; /* is_list: written as a list, perhaps of one */
    int *values;    /* (n) */
};
struct nnunet_case {
    const char *name, *label; /* label: the path of its file */
    int n_images;
    const char **images; /* (n_images) paths in the order of the channels; one file may hold several channels */
};
/* The arena owns all memory but json; release with mcs_nnunet_dataset_close. */
struct nnunet_dataset {
    const char *path; /* of dataset.json, for messages */
    json_t *json;
    int n_channels;
    const char **channels; /* (n_channels) names, which choose the normalisation */
    int n_labels;
    struct nnunet_label *labels; /* (n_labels) in the file's order, background and ignore included */
    int n_classes;               /* classes are 0 to n_classes - 1, background included, ignore not */
    int ignore;                  /* the class that is not annotated, n_classes; -1: none */
    int has_regions;             /* at least one region of two classes */
    int n_regions;               /* of them or of classes, without background: `regions_class_order` has as many */
    int64_t n_training;          /* numTraining */
    const char *ending;          /* ".nii.gz" */
    const char *reader;          /* image_reader_writer: "SimpleITKIO" */
    int n_cases;
    struct nnunet_case *cases; /* sorted by name, or in the order of "dataset" */
    struct arena arena;
};

/* Reads and checks dataset.json; no cases yet. E_NOINPUT, E_IO; E_DATA: not JSON, a key is missing, misspelt or of
 * another form, labels are not consecutive, a reader that nnU-Net does not have. On failure *d is empty. */
enum mcs_status mcs_nnunet_dataset_read(const char *path, struct nnunet_dataset *d);
/* Lists the training cases below `folder`. E_NOINPUT: no imagesTr or labelsTr; E_DATA: a file without a channel's
 * suffix, a case without all its channels or its label, a label without images, another number than numTraining. */
enum mcs_status mcs_nnunet_dataset_list(const char *folder, struct nnunet_dataset *d);
void mcs_nnunet_dataset_close(struct nnunet_dataset *d);

/* 1 where the label is the background: 0, or a list of zeros. */
int mcs_nnunet_is_background(const struct nnunet_label *l);
/* E_DATA, with the names that are known, where nnU-Net has no such reader. */
enum mcs_status mcs_nnunet_reader_check(const char *path, const char *reader);

/* nnUNet_raw, nnUNet_preprocessed and nnUNet_results. */
enum nnunet_root { NNUNET_RAW, NNUNET_PREPROCESSED, NNUNET_RESULTS };
/* The folder that an option gives, else the environment variable's; "" where there is neither. E_IO: too long. */
enum mcs_status mcs_nnunet_root(enum nnunet_root which, const char *option, char path[MCS_PATH_BYTES]);
/* The folder name of a data set given as "5", "005" or "Dataset005_Prostate", looked for in the roots that are not "".
 * E_NOINPUT: there is none; E_DATA: two names with this number; E_USAGE: neither a number nor such a name. */
enum mcs_status mcs_nnunet_find(const char *id, const char roots[3][MCS_PATH_BYTES], char name[MCS_PATH_BYTES]);

#endif
