/* Embeddings that are done before all are: a file of rows beside the output, OUT.h5 -> .OUT.h5.part, and a line a row
 * in the run's record with the row's number and SHA-256. A run that was stopped takes its rows from there. */
#ifndef MCS_EMBED_PART_H
#define MCS_EMBED_PART_H

#include "data/run/run_folder.h"

#include <limits.h>

struct embed_part {
    struct run_folder *run;
    int fd;             /* -1: not open */
    int64_t n_rows;     /* in the file; a cut last row does not count */
    int embed, n_taken; /* values a row; rows that an earlier run left */
    char path[PATH_MAX];
};
/* run: of the output, open. E_IO. */
enum mcs_status mcs_embed_part_open(struct embed_part *p, struct run_folder *run, const char *output, int embed);
/* 1 where an earlier run left this row; row (embed) receives it. */
int mcs_embed_part_take(struct embed_part *p, const char *stem, const struct run_source *source, float *row);
/* Adds a row (embed); it counts after mcs_embed_part_flush. E_IO. */
enum mcs_status mcs_embed_part_add(struct embed_part *p, const char *stem, const struct run_source *source,
                                   const float *row);
enum mcs_status mcs_embed_part_flush(struct embed_part *p);
/* finished: the output is written, and the file is removed. */
void mcs_embed_part_close(struct embed_part *p, int finished);

#endif
