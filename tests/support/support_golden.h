/* Golden files: reading, parameters by the formula of formula.h, and comparison relative to the range. */
#ifndef MCS_SUPPORT_GOLDEN_H
#define MCS_SUPPORT_GOLDEN_H

#include "data/weights/weight_file.h"
#include "engine/model/clip.h"
#include "engine/model/sam.h"
#include "engine/tape/exec.h"

/* Opens the golden file `name` of tests/golden; aborts the test if it cannot be read. */
struct weight_file *golden_open(const char *name);
/* A tensor's values as float, malloc'ed; n receives their number. Aborts the test if it is missing. */
float *golden_values(const struct weight_file *file, const char *name, int64_t *n);
/* Fills every parameter and buffer by the formula. */
void golden_fill_params(struct params *p);
/* The sizes of tests/golden/tiny_clip.py, with v_depth blocks in the image tower. */
struct clip_config golden_clip_config(int v_depth);
/* The sizes of tests/golden/make_sam.py. */
struct sam_config golden_sam_config(void);
/* Fills an image by the formula and converts it from the reference's (N,C,sp...) to dst (n, n_sp, c), n_sp pixels per
 * image. */
void golden_fill_image(const char *name, int64_t n, int64_t c, int64_t n_sp, float *dst);
/* (n,c,sp) -> (n,sp,c), malloc'ed. */
float *golden_channels_last(const float *src, int64_t n, int64_t c, int64_t n_sp);

/* Largest |got - want| over the range (max - min, at least floor) of want. */
double golden_error(const float *got, const float *want, int64_t n, double floor);
/* Fails the test with `what` in its message if golden_error exceeds tolerance. */
void golden_check(const char *what, const float *got, const float *want, int64_t n, double tolerance, double floor);
/* Downloads a kept tensor, malloc'ed. */
float *golden_get(struct exec *e, const struct tensor *t);
/* Compares every `PREFIXgrad.NAME` of the file with params->grad: error / max(range, floor) <= tolerance. Returns the
 * number of compared gradients. */
int golden_check_grads(const struct weight_file *file, const char *prefix, const struct params *p, double tolerance,
                       double floor);

#endif
