/* Files of weights with the references' tensors in each layout, at toy size (tests/golden/layouts.tsv). */
#ifndef MCS_SUPPORT_LAYOUT_H
#define MCS_SUPPORT_LAYOUT_H

#include "data/weights/layout.h"
#include "data/weights/weight_write.h"

enum { LAYOUT_TENSORS = 400, LAYOUT_VALUES = 8192 /* of a tensor, at most */ };

extern const char *const layout_ids[LAYOUT_N]; /* "OPEN_CLIP_BERT" ... */

/* Tensors to write, which a test may change before it writes them. */
extern struct weight_out tensors[LAYOUT_TENSORS];
extern int n_tensors;
/* The golden tensors of a layout into `tensors`; each value of the file is another number. */
void take_golden(int layout);
struct weight_out *tensor(const char *name); /* ends the test where there is none */
void layout_free(void);

/* Ends the test unless both files have the same bytes. */
void expect_same_bytes(const char *a, const char *b);

#endif
