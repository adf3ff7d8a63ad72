/* The cases of a folder by file stem, and the list of those that failed. */
#ifndef MCS_CASES_H
#define MCS_CASES_H

#include "engine/arena.h"
#include "engine/status.h"

struct case_file {
    const char *stem, *name, *path; /* "a", "a.nii.gz", "folder/a.nii.gz" */
};
/* Sorted by stem. Everything lives in the arena; release with mcs_cases_free. */
struct case_list {
    int n;
    struct case_file *files;
    struct arena arena;
};

/* The files of `folder` with one of `endings` (".h5;.png"). Where several have one stem, the one that ends in `prefer`
 * is taken; with prefer NULL, or where that does not leave one, it is E_DATA naming them. E_NOINPUT: no such folder, or
 * no such file in it. On failure the list is empty. */
enum mcs_status mcs_cases_list(const char *folder, const char *endings, const char *prefer, struct case_list *list);
void mcs_cases_free(struct case_list *list);
/* The file with this stem, or NULL. */
const struct case_file *mcs_cases_find(const struct case_list *list, const char *stem);

/* Cases that failed, in the order in which they did. Start with {0}. */
struct case_failure {
    const char *stem, *reason;
};
struct failure_list {
    int n, capacity;
    struct case_failure *items;
    struct arena arena;
};
void mcs_failures_add(struct failure_list *f, const char *stem, const char *reason);
/* Takes the held error message as the reason and clears it. */
void mcs_failures_add_held(struct failure_list *f, const char *stem);
/* Writes folder/failures.csv (case,reason), or removes an older one when nothing failed. E_IO. */
enum mcs_status mcs_failures_write(const struct failure_list *f, const char *folder);
void mcs_failures_free(struct failure_list *f);

/* A text as a CSV field: quoted where it must be. Owned by the arena. */
const char *mcs_csv_field(struct arena *a, const char *text);

#endif
