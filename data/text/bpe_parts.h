/* Shared by the files of the byte-pair encoding. */
#ifndef MCS_BPE_PARTS_H
#define MCS_BPE_PARTS_H

#include "data/text/bpe.h"

enum {
    N_MERGES = 49152 - 256 - 2, /* of the file's lines */
    N_BYTES = 512,              /* symbols of single bytes, within a word and at its end */
    SLOTS = 1 << 18             /* of either hash table: more than four times the merges */
};

/* A piece of text: the file's characters that stand for its bytes, with "</w>" at the end of a word. */
struct symbol {
    const char *text;
    int n_bytes;
    int32_t id; /* the last of the same text */
};

struct merge {
    int32_t left, right, result; /* symbols; left -1: an empty slot */
    int32_t rank;
};

struct bpe {
    char *bytes;            /* symbols' texts */
    struct symbol *symbols; /* by first appearance; 0 .. 511: bytes */
    int n_symbols, n_merges;
    int32_t *slots;       /* (SLOTS) symbol by text, -1: empty */
    struct merge *merges; /* (SLOTS) by pair */
};

/* From the text of a file of merges, n bytes; path names it in errors. */
enum mcs_status mcs_bpe_from_text(const char *path, const char *text, int64_t n, struct bpe **bpe);

#endif
