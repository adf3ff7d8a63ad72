/* Float64 oracles: the simplest possible loops, independent of every backend. One file per op: tests/ref/ref_x.c
 * defines ref_x_fwd and ref_x_bwd. The runner compares backends with them, and checks their backward by finite
 * differences. */
#ifndef MCS_REF_H
#define MCS_REF_H

#include "engine/tape/op.h"

/* v: values (doubles, also for int32 inputs, exactly). mag: for outputs and gradients, the sum of the |terms| of the
 * element, which determines the tolerance (k eps mag); where an oracle leaves mag at 0, the runner sets it to the
 * largest |value| of the tensor after the call. v NULL: an optional input that is not given, or a gradient that is not
 * wanted. */
struct ref_tensor {
    int nd;
    int64_t dim[MCS_MAX_DIM];
    double *v, *mag;
};
struct ref_step {
    const void *attr;
    struct ref_tensor in[MCS_MAX_IN], out[MCS_MAX_OUT], din[MCS_MAX_IN], dout[MCS_MAX_OUT];
    uint64_t seed; /* run state, for dropout */
    uint32_t step;
};

static inline int64_t ref_count(const struct ref_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i];
    return n;
}

/* fwd writes out[] (all of them, statistics too). bwd ADDS to din[] (zeroed by the runner); it may read in[], out[] and
 * dout[] of all slots; dout[i].v NULL counts as 0. */
#define OP(name, inputs, outputs, attr)                                                                                \
    void ref_##name##_fwd(const struct ref_step *s);                                                                   \
    void ref_##name##_bwd(const struct ref_step *s);
#include "engine/tape/ops.def"
#undef OP

#endif
