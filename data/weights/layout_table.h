/* The tables of layout_table.c, for layout.c. */
#ifndef MCS_LAYOUT_TABLE_H
#define MCS_LAYOUT_TABLE_H

#include "data/weights/layout.h"

/* How the other layout's tensor lies in the reference's. */
enum layout_how {
    HOW_SAME,
    HOW_JOIN,      /* the reference's rows are those of three tensors: "{qkv}" in the other name is q, k or v */
    HOW_LEAD1,     /* the reference has a leading dimension of 1 more */
    HOW_LEAD2,     /* two more */
    HOW_TRANSPOSE, /* of a matrix */
    HOW_TWICE,     /* "a|b": the other layout has the same tensor under two names; the first one is read */
    HOW_NONE       /* the other layout has no such tensor; the reference may have it */
};

/* One tensor, or one of each block ("#": the block's number), or its weight and its bias ("*"). */
struct layout_row {
    const char *reference;
    /* Sizes of the reference's tensor, in order: a number, a letter that stands for one size throughout the file, a
     * digit before a letter (3V), or "?" for any size. A bias ("*") has the first of them. */
    const char *shape;
    const char *other;
    enum layout_how how;
    int n_blocks; /* 0: as many as the file has */
};

/* Rows of a family; NULL-ended. */
const struct layout_row *mcs_layout_rows(enum weight_family family);
/* Buffers that some versions of the references write beside the weights; NULL-ended. */
extern const char *const mcs_layout_buffers[];

#endif
