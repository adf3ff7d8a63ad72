/* What a verb is asked for: images, one file or a folder of them, each with a text. */
#ifndef MCS_REQUESTS_H
#define MCS_REQUESTS_H

#include "infer/cases.h"
#include "infer/clip/clip_model.h"

struct request {
    const char *stem, *name, *path, *text; /* name: the file's, without its folder */
};
/* Sorted by stem. Everything lives in the arena; release with mcs_requests_free. */
struct request_list {
    int n, n_asked; /* n_asked: with those that went to the failures */
    struct request *v;
    struct arena arena;
};

/* images: a file, or a folder whose files have one of `endings` (";"-separated). Exactly one of text (for all of them)
 * and prompts (a prompts.json; of several texts for an image the first is taken, with a warning) is not NULL. An image
 * without a prompt, or with a text that mcs_text_check refuses, goes to `failures` and the rest goes on. E_USAGE: both
 * or neither of text and prompts; E_NOINPUT: nothing there; E_DATA: two images with one stem, a `text` that is refused,
 * damaged prompts. On failure the list is empty. */
enum mcs_status mcs_requests_read(const struct clip_model *m, const char *images, const char *endings, const char *text,
                                  const char *prompts, struct failure_list *failures, struct request_list *list);
void mcs_requests_free(struct request_list *list);

/* E_DATA: not UTF-8, or nothing in it that the model could read: no piece is left after cleaning. */
enum mcs_status mcs_text_check(const struct clip_model *m, const char *text);

/* How a verb that writes into `folder` ends: writes failures.csv and returns OK without failures, E_PARTIAL with some,
 * E_DATA where none of n_asked cases was done. */
enum mcs_status mcs_failures_finish(const struct failure_list *f, const char *folder, int n_asked);

#endif
