/* The inputs of a verb: images (one file or a folder), each with a text prompt. */
#ifndef MCS_REQUESTS_H
#define MCS_REQUESTS_H

#include "infer/cases.h"
#include "infer/clip/clip_model.h"

struct request {
    const char *stem, *name, *path, *text; /* name: file name without its folder */
};
/* Sorted by stem. The arena owns all memory; release with mcs_requests_free. */
struct request_list {
    int n, n_asked; /* n_asked: also counts those that were added to the failures */
    struct request *v;
    struct arena arena;
};

/* images: a file, or a folder whose files have one of `endings` (";"-separated). Exactly one of text (for all images)
 * and prompts (a prompts.json; of several texts for an image the first is used, with a warning) is not NULL. Images
 * without a prompt, or with a prompt that mcs_text_check refuses, are added to `failures` and left out. E_USAGE: both
 * or neither of text and prompts; E_NOINPUT: no images; E_DATA: two images with one stem, a `text` that is refused,
 * invalid prompts. On failure the list is empty. */
enum mcs_status mcs_requests_read(const struct clip_model *m, const char *images, const char *endings, const char *text,
                                  const char *prompts, struct failure_list *failures, struct request_list *list);
void mcs_requests_free(struct request_list *list);

/* E_DATA: not UTF-8, or no token is left after cleaning. */
enum mcs_status mcs_text_check(const struct clip_model *m, const char *text);

/* Final status of a verb that writes into `folder`: writes failures.csv and returns OK without failures, E_PARTIAL with
 * some, E_DATA if all n_asked cases failed. */
enum mcs_status mcs_failures_finish(const struct failure_list *f, const char *folder, int n_asked);

#endif
