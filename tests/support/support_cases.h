/* One test case of an op: shapes, attributes, fill of the inputs and tolerance. tests/cases/NAME.def holds the cases of
 * op NAME, one CASE line each; tests/engine/test_ops.c runs them all:
 *
 *     CASE(linear, "no bias", .in = {DIMS(3, 7), DIMS(5, 7)}, .attr = &(struct linear_attr){0}, .k = 8)
 *     CASE(gather, "rows", .in = {DIMS(9, 4), DIMS(5)}, .fill = {[1] = INDEX(9)}, .attr = &(struct no_attr){0}, .k = 1)
 *
 * An input that is not given (nd 0) is absent. Defaults: inputs are standard normal (int32 inputs need a fill), only
 * output 0 gets a gradient, gradients are computed for every input for which the op has one, seed 1. */
#ifndef MCS_TEST_SUPPORT_CASES_H
#define MCS_TEST_SUPPORT_CASES_H

#include "engine/backend.h"

enum fill_kind {
    FILL_DEFAULT,
    FILL_NORMAL,   /* a + b * normal */
    FILL_UNIFORM,  /* [a, b) */
    FILL_POSITIVE, /* b * (0.1 + |normal|) */
    FILL_CONST,    /* a */
    FILL_BINARY,   /* 0 or 1 */
    FILL_FLOATS,   /* data */
    FILL_INDEX,    /* int32: below a, about one in eight is -1 */
    FILL_LABELS,   /* int32: 0 .. a-1 */
    FILL_OFFSETS,  /* int32: ascending from 0 to a */
    FILL_INTS,     /* int32: data */
};
struct case_fill {
    enum fill_kind kind;
    float a, b;
    const void *data;
};
struct case_dims {
    int nd;
    int64_t dim[MCS_MAX_DIM];
};

struct op_case {
    enum mcs_op op;
    const char *name;
    struct case_dims in[MCS_MAX_IN];
    const void *attr;
    struct case_fill fill[MCS_MAX_IN];
    int same[MCS_MAX_IN]; /* SAME(j): this input and input j (j < this one) are the same tensor */
    float k;              /* tolerance of outputs: |got - oracle| <= k 2^-24 mag (ref.h) */
    float k_bwd;          /* tolerance of gradients; 0 = k */
    unsigned dout;        /* OUT(i) bits: outputs that get a gradient; 0 = OUT(0) */
    float half;           /* bf16: roundings of 2^-8 of mag inside the op, in addition to the stored ones; 0 = none */
    unsigned half_in;     /* IN(i) bits: inputs stored in bf16 in every run */
    unsigned frozen;      /* IN(i) bits: inputs whose gradient is not computed */
    double fd_step;       /* step of the finite differences; 0 = 1e-6 */
    uint32_t seed;        /* 0 = 1 */
};

#define DIMS(...)                                                                                                      \
    {                                                                                                                  \
        .nd = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .dim = { __VA_ARGS__ }                               \
    }
#define SAME(j) ((j) + 1)
#define NORMAL(mean, std)                                                                                              \
    {                                                                                                                  \
        FILL_NORMAL, mean, std, NULL                                                                                   \
    }
#define UNIFORM(lo, hi)                                                                                                \
    {                                                                                                                  \
        FILL_UNIFORM, lo, hi, NULL                                                                                     \
    }
#define POSITIVE(scale)                                                                                                \
    {                                                                                                                  \
        FILL_POSITIVE, 0, scale, NULL                                                                                  \
    }
#define CONST(value)                                                                                                   \
    {                                                                                                                  \
        FILL_CONST, value, 0, NULL                                                                                     \
    }
#define BINARY()                                                                                                       \
    {                                                                                                                  \
        FILL_BINARY, 0, 0, NULL                                                                                        \
    }
#define FLOATS(...)                                                                                                    \
    {                                                                                                                  \
        FILL_FLOATS, 0, 0, (const float[])                                                                             \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define INDEX(n)                                                                                                       \
    {                                                                                                                  \
        FILL_INDEX, n, 0, NULL                                                                                         \
    }
#define LABELS(n)                                                                                                      \
    {                                                                                                                  \
        FILL_LABELS, n, 0, NULL                                                                                        \
    }
#define OFFSETS(last)                                                                                                  \
    {                                                                                                                  \
        FILL_OFFSETS, last, 0, NULL                                                                                    \
    }
#define INTS(...)                                                                                                      \
    {                                                                                                                  \
        FILL_INTS, 0, 0, (const int32_t[])                                                                             \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define IN(i) (1u << (i))
#define OUT(i) (1u << (i))

extern const struct op_case mcs_cases[];
extern const int mcs_n_cases;

/* A device under test: its implementations of the ops that are run, and a function that sets the number of threads (may
 * be NULL). device->backend NULL: plain host memory. */
struct case_backend {
    const char *name;
    const struct op_impl *impl[MCS_N_OPS];
    struct device *device;
    void (*set_threads)(int n);
    int half;  /* 1: activations in bf16, as amp.h says; every float input is first rounded to bf16 */
    int exact; /* 1: the device reports accesses outside of allocations, so no guard bytes are needed */
};

/* Runs one case: forward and backward against the oracle (beta 0 over NaN, beta 1, each gradient separately), the
 * oracle's backward against finite differences of its forward, bit-identical repetition, 1 and 2 threads, no writes out
 * of bounds. Prints the failed checks and returns their number. */
int mcs_case_run(const struct op_case *c, const struct case_backend *b);
/* Runs forward and backward once without comparison. */
int mcs_case_launch(const struct op_case *c, const struct case_backend *b);

#endif
