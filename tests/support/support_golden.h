/* Comparing with golden files: reading them, filling parameters by the formula, and a range-relative comparison. */
#ifndef MCS_SUPPORT_GOLDEN_H
#define MCS_SUPPORT_GOLDEN_H

#include "data/io/safetensors.h"
#include "engine/model/clip.h"
#include "engine/tape/exec.h"

/* The golden file `name` of tests/golden; ends the test when it cannot be read. */
struct safetensors *golden_open(const char *name);
/* A tensor's values as float, malloc'ed; n receives how many. Ends the test when it is missing. */
float *golden_values(const struct safetensors *file, const char *name, int64_t *n);
/* Every parameter and buffer by the formula. */
void golden_fill_params(struct params *p);
/* The sizes of tests/golden/tiny_clip.py, with v_depth blocks in the image tower. */
struct clip_config golden_clip_config(int v_depth);
/* An image by the formula from the reference's (N,C,sp...) to channels last, n_sp pixels an image. dst (n, n_sp, c). */
void golden_fill_image(const char *name, int64_t n, int64_t c, int64_t n_sp, float *dst);
/* (n,c,sp) -> (n,sp,c), in place of a copy: malloc'ed. */
float *golden_channels_last(const float *src, int64_t n, int64_t c, int64_t n_sp);

/* Largest |got - want| over the range (max - min, at least floor) of want. */
double golden_error(const float *got, const float *want, int64_t n, double floor);
/* Fails the test where golden_error exceeds tolerance, naming `what`. */
void golden_check(const char *what, const float *got, const float *want, int64_t n, double tolerance, double floor);
/* Downloads a kept tensor (malloc'ed) / the gradient of a parameter by name. */
float *golden_get(struct exec *e, const struct tensor *t);
/* Every `PREFIXgrad.NAME` of the file against params->grad: error over the range within tolerance; a range below floor
 * counts as floor. Returns how many were compared. */
int golden_check_grads(const struct safetensors *file, const char *prefix, const struct params *p, double tolerance,
                       double floor);

#endif
