/* Tensors of the static tape: a name, a shape, an offset. Always contiguous, row-major, activations channels-last. */
#ifndef MCS_TENSOR_H
#define MCS_TENSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* BF16: activations and their gradients under --precision bf16 (amp.h), on backends that support it; never a weight. */
enum mcs_dtype { MCS_F32, MCS_I32, MCS_BF16 };
enum { MCS_MAX_DIM = 6 };

enum tensor_role {
    TENSOR_PARAM, /* a weight: lives in a struct params, shared by every graph built over it */
    TENSOR_INPUT, /* filled by the caller before a run, or a constant; kept between runs (exec.h says for how long) */
    TENSOR_SEED,  /* gradient of a loss, where backpropagation begins: 1 unless the caller sets it; kept between runs */
    TENSOR_ACT,   /* output of a step; its memory is reused after its last reader */
    TENSOR_GRAD,  /* output of a backward step, planned like TENSOR_ACT */
    TENSOR_PARAM_GRAD, /* a part of params->grad */
};

struct tensor {
    const char *name; /* full scope, for messages: "visual.trunk.blocks.9.attn.qkv" */
    enum mcs_dtype dt;
    enum tensor_role role;
    int nd;
    int64_t dim[MCS_MAX_DIM];
    struct tensor *root; /* the tensor that owns the storage; itself unless made by mcs_reshape */
    struct tensor *grad; /* gradient in this graph, set by mcs_grad; NULL: not wanted. Not used on a TENSOR_PARAM */
    void *data;          /* set when the plan is bound; NULL before */
    int64_t offset;      /* byte offset in its region; set by the plan (activations) or by params */
    int first_step, last_step; /* lifetime, as indices of steps; set by the plan */
    int keep;                  /* readable after a run: alive to the end */
    int wants_grad;            /* TENSOR_INPUT whose gradient the caller wants; then always kept */
    int needs_grad;            /* used by mcs_grad */
    struct tensor *cast;       /* the same values in the other float type, made by amp.c; not on a TENSOR_PARAM */
    const void *constant; /* TENSOR_INPUT whose value is part of the graph (mcs_constant): uploaded by mcs_exec_new */
    int index;            /* position in graph->tensors or params->t */
};

static inline int64_t mcs_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i];
    return n;
}
static inline int64_t mcs_dtype_bytes(enum mcs_dtype dt)
{
    return dt == MCS_BF16 ? 2 : 4;
}
static inline int64_t mcs_bytes(const struct tensor *t)
{
    return mcs_count(t) * mcs_dtype_bytes(t->dt);
}
/* Elements of the last dimension, and the number of such rows. */
static inline int64_t mcs_last(const struct tensor *t)
{
    return t->nd ? t->dim[t->nd - 1] : 1;
}
static inline int64_t mcs_rows(const struct tensor *t)
{
    return mcs_last(t) ? mcs_count(t) / mcs_last(t) : 0;
}
/* bf16: the upper half of a float32, rounded to nearest, ties to even; NaN stays NaN. */
static inline float mcs_bf16_to(uint16_t half)
{
    const uint32_t u = (uint32_t)half << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint16_t mcs_bf16_from(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}
static inline float *mcs_f32(const struct tensor *t)
{
    return t ? (float *)t->data : NULL;
}
static inline int32_t *mcs_i32(const struct tensor *t)
{
    return t ? (int32_t *)t->data : NULL;
}

#endif
