/* prompts.json: {image name or "*": "text" or ["text", ...]}. The prompt files released with MedCLIP-SAMv2 ({image file
 * name: "text"}) have this form. */
#ifndef MCS_PROMPTS_H
#define MCS_PROMPTS_H

#include "engine/base/status.h"

struct prompt {
    char *name; /* an image's file name or stem; "*" for every image that is not named */
    int n;
    char **texts; /* (n), n >= 1, none empty */
};
/* A name or stem and the entry that it belongs to. */
struct prompt_key {
    char *text;
    int item;
};
struct prompts {
    int n;
    struct prompt *v; /* in the file's order */
    /* Of the first n_indexed entries, sorted: names (n_indexed), and stems with the names that are no stems. */
    int n_indexed, n_stems;
    struct prompt_key *names, *stems;
};

/* E_NOINPUT, E_IO; E_DATA with file and line: not JSON, not UTF-8, a name twice, not an object; with file and name: a
 * value that is neither a text nor a list of texts, an empty list or text; or no entry at all. Release with
 * mcs_prompts_free. */
enum mcs_status mcs_prompts_read(const char *path, struct prompts *prompts);
/* Adds a copy of texts under a name; the name must be new. */
enum mcs_status mcs_prompts_add(struct prompts *prompts, const char *name, const char *const *texts, int n);
/* Writes whole or not at all, entries in order, one text as a string, several as a list. */
enum mcs_status mcs_prompts_write(const char *path, const struct prompts *prompts);
/* The prompt of an image: by its file name, else by its stem (an entry "a.png" matches a.nii.gz), else "*"; NULL when
 * there is none. `image` may be a path. */
const struct prompt *mcs_prompts_find(const struct prompts *prompts, const char *image);
void mcs_prompts_free(struct prompts *prompts);

#endif
