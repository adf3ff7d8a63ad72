/* Shared by the files of the byte-pair encoding. */
#ifndef MCS_BPE_PARTS_H
#define MCS_BPE_PARTS_H

#include "data/text/bpe.h"

/* From the text of a file of merges, n bytes; path names it in errors. */
enum mcs_status mcs_bpe_from_text(const char *path, const char *text, int64_t n, struct bpe **bpe);

#endif
