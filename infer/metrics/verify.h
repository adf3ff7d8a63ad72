/* Suspicious files and values in folders of images, labels and captions, found before a training or an evaluation
 * spends time on them. */
#ifndef MCS_VERIFY_H
#define MCS_VERIFY_H

#include "data/image/labels.h"
#include "engine/base/arena.h"
#include "engine/base/status.h"

struct verify_options {
    const char *images; /* or NULL: labels alone are looked at */
    const char *labels; /* or NULL */
    const char *test;   /* images that must not be among `images`, or NULL */
    const char *pairs;  /* a table of captions, or NULL */
    const char *image_column, *caption_column;
    char separator;
    int classes; /* labels are below it; 0: any */
    struct label_rule rule;
};

struct finding {
    const char *file, *value, *meaning, *fix;
};
/* The arena owns all memory; release with mcs_verify_free. Start with {0}. */
struct findings {
    int n, capacity, n_images, n_labels, n_pairs; /* files and rows that were looked at */
    struct finding *v;
    struct arena arena;
};

/* Reads every file. Found are: files that cannot be read, notes of their readers (geometry), images that EXIF turns,
 * mixed spacing, depth or channels, duplicates by content, images of `test` among `images`; images and labels without a
 * partner, labels outside of the classes, images given as masks, empty masks, labels on another grid or stored
 * otherwise; captions that repeat, rows without an image. E_NOINPUT: a folder is missing or empty; E_DATA: two files of
 * one stem; E_NOMEM. */
enum mcs_status mcs_verify(const struct verify_options *o, struct findings *f);
void mcs_verify_free(struct findings *f);

#endif
