/* Partial results of `embed`, from which a stopped run resumes: the rows computed so far in a file .OUT.h5.part beside
 * OUT.h5, and for each row an entry in the run's record with its index and SHA-256. */
#ifndef MCS_EMBED_PART_H
#define MCS_EMBED_PART_H

#include "data/run/run_folder.h"
#include "engine/base/path.h"

#include <limits.h>

struct embed_part {
    struct run_folder *run;
    int fd;             /* -1: not open */
    int64_t n_rows;     /* complete rows in the file */
    int embed, n_taken; /* values per row; rows reused from an earlier run */
    char path[MCS_PATH_BYTES];
};
/* run: the open run folder of the output. E_IO. */
enum mcs_status mcs_embed_part_open(struct embed_part *p, struct run_folder *run, const char *output, int embed);
/* Whether an earlier run left rows beside this output. */
int mcs_embed_part_exists(const char *output);
/* 1 if an earlier run computed this row; row (embed) receives it. 0 where the part is not open. */
int mcs_embed_part_take(struct embed_part *p, const char *stem, const struct run_source *source, float *row);
/* Appends a row (embed), which is recorded at mcs_embed_part_flush. E_IO. */
enum mcs_status mcs_embed_part_add(struct embed_part *p, const char *stem, const struct run_source *source,
                                   const float *row);
enum mcs_status mcs_embed_part_flush(struct embed_part *p);
/* finished: the output has been written, so the part file is removed. */
void mcs_embed_part_close(struct embed_part *p, int finished);

#endif
