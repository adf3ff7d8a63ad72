/* The cases of a folder by file stem, and the list of those that failed. */
#ifndef MCS_CASES_H
#define MCS_CASES_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

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

/* E_DATA where the file system takes no file "FOLDER/STEM" + suffix: the name, or the whole path, is too long. To be
 * asked before the case is computed, so that one long name does not end a run. */
enum mcs_status mcs_case_name_check(const char *folder, const char *stem, const char *suffix);

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

/* A text as a CSV field, owned by the arena: quoted where it must be, bytes that are not UTF-8 as mcs_text_encode
 * writes them. A spreadsheet takes a cell that begins with = + - @, a tab or a line end for a formula: such a text gets
 * an apostrophe before it, and so does one that begins with apostrophes before such a character; mcs_pairs_read takes
 * it off again. Numbers are not written through this function, so -1.5 stays a number. */
const char *mcs_csv_field(struct arena *a, const char *text);

#endif
