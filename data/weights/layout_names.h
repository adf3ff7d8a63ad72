/* The tensors that a layout has, one after the other, and their names and sizes; for layout.c and layout_check.c. */
#ifndef MCS_LAYOUT_NAMES_H
#define MCS_LAYOUT_NAMES_H

#include "data/weights/layout_table.h"

enum { LAYOUT_NAME = 160, LAYOUT_MAX_BLOCKS = 1024 };

/* A tensor of the family: a row, a block's number, "weight" or "bias" (with "*"). */
struct layout_place {
    const struct layout_row *row;
    int block;
    const char *end;
};

/* All places of a layout, with as many blocks as the file has in it, at least one:
 *
 *     struct layout_walk w = {.file = file, .layout = layout};
 *     while (mcs_layout_next(&w)) ... w.place ...                                                                    */
struct layout_walk {
    const struct weight_file *file;
    enum weight_layout layout;
    struct layout_place place;
    int n_blocks;
    char counted[LAYOUT_NAME]; /* the names before "#" that n_blocks was counted for */
};
int mcs_layout_next(struct layout_walk *w);

/* The names of a place's tensor: none, one, three that are joined, or two of the same tensor. */
struct layout_names {
    int n;
    char v[3][LAYOUT_NAME];
};
void mcs_layout_names(enum weight_layout layout, const struct layout_place *p, struct layout_names *names);
/* How the layout's tensors differ from the reference's: HOW_SAME for layouts with the reference's shapes. */
enum layout_how mcs_layout_how(enum weight_layout layout, const struct layout_row *row);

/* A size: k, or k times the size of a letter; letter '?': any. */
struct layout_size {
    int k;
    char letter;
};
/* The sizes of one of the layout's tensors; returns their number. */
int mcs_layout_sizes(enum weight_layout layout, const struct layout_place *p, struct layout_size s[MCS_ARRAY_MAX_ND]);

/* 1: a buffer that is no weight. */
int mcs_layout_is_buffer(const char *name);

#endif
