/* Shared by the files of the tokenizer. */
#ifndef MCS_TOKENIZER_PARTS_H
#define MCS_TOKENIZER_PARTS_H

#include "data/text/tokenizer.h"

/* A tokenizer from the text of a vocab.txt; takes ownership of text (malloc'ed, with a NUL after n_bytes), also on
 * failure. path names it in errors. */
enum mcs_status mcs_tokenizer_from_text(const char *path, char *text, int64_t n_bytes, struct tokenizer **tok);
/* 1 for [PAD], [UNK], [CLS], [SEP], [MASK]. */
int mcs_tokenizer_is_special(const char *token);

#endif
