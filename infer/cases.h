/* The cases of a folder by file stem, and the list of those that failed. */
#ifndef MCS_CASES_H
#define MCS_CASES_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

struct case_file {
    const char *stem, *name, *path; /* "a", "a.nii.gz", "folder/a.nii.gz" */
};
struct case_key {
    const char *text;
    int file;
};
/* Sorted by stem. The arena owns all memory; release with mcs_cases_free. */
struct case_list {
    int n;
    struct case_file *files;
    struct case_key *keys; /* (n) sorted by normal form C of the stems */
    struct arena arena;
};

/* The files of `folder` with one of `endings` (".h5;.png"). Of several files with one stem, the one that ends in
 * `prefer` is used; E_DATA (naming the files) if prefer is NULL or does not select exactly one. E_NOINPUT: no such
 * folder, or no such file in it. On failure the list is empty. */
enum mcs_status mcs_cases_list(const char *folder, const char *endings, const char *prefer, struct case_list *list);
void mcs_cases_free(struct case_list *list);
/* The file with this stem, or NULL. */
const struct case_file *mcs_cases_find(const struct case_list *list, const char *stem);

/* The file of `in` that belongs to file i of `from`, or NULL: the same stem; else the same text in another Unicode
 * normal form (a name written on macOS has its accents apart); else one of the two has nnU-Net's suffix of the first
 * channel, _0000, and `from` has no file of the other name itself. Two candidates of one form are none. */
const struct case_file *mcs_cases_partner(const struct case_list *from, int i, const struct case_list *in);
/* The stem in the list that takes the fewest changed characters to become `stem`, for messages; NULL: the list is
 * empty, or of more than 20,000 files. */
const char *mcs_cases_nearest(const struct case_list *list, const char *stem);

/* E_DATA if the file system does not allow a file "FOLDER/STEM" + suffix: the name or the path is too long. Called
 * before the case is computed, so that one long name does not end a run. */
enum mcs_status mcs_case_name_check(const char *folder, const char *stem, const char *suffix);

/* Cases that failed, in the order of failure. Start with {0}. */
struct case_failure {
    const char *stem, *reason;
};
struct failure_list {
    int n, capacity;
    struct case_failure *items;
    struct arena arena;
};
void mcs_failures_add(struct failure_list *f, const char *stem, const char *reason);
/* Uses the thread's error message as the reason and clears it. */
void mcs_failures_add_held(struct failure_list *f, const char *stem);
/* A failed step of one case: adds the held error if it concerns this case only (E_DATA, E_SHAPE), and returns OK; else
 * returns st. f NULL: returns st. */
enum mcs_status mcs_failures_take(struct failure_list *f, const char *stem, enum mcs_status st);
/* Writes folder/failures.csv (case,reason), or removes an older one if nothing failed. E_IO. */
enum mcs_status mcs_failures_write(const struct failure_list *f, const char *folder);
void mcs_failures_free(struct failure_list *f);

/* A text as a CSV field, owned by the arena: quoted if necessary, bytes that are not UTF-8 encoded by mcs_text_encode.
 * Against CSV injection (spreadsheets evaluate a cell that begins with = + - @, a tab or a line end) such a text gets a
 * leading apostrophe, as does a text with apostrophes before such a character; mcs_pairs_read removes it. Numbers are
 * not written by this function, so -1.5 stays a number. */
const char *mcs_csv_field(struct arena *a, const char *text);

#endif
