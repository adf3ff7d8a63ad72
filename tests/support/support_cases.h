/* One case of one op: its shapes, its attributes, how its inputs are filled, how exact the answer must be.
 * tests/cases/NAME.def holds the cases of op NAME, one CASE line each; tests/engine/test_ops.c runs them all:
 *
 *     CASE(layernorm, "bert row", .in = {DIMS(5, 32), DIMS(32), DIMS(32)}, .attr = &(struct norm_attr){.eps = 1e-12f},
 * .k = 8) CASE(linear, "no bias",     .in = {DIMS(3, 7), DIMS(5, 7)}, .attr = &(struct linear_attr){0}, .k = 8)
 *     CASE(linear, "frozen rows", .in = {DIMS(3, 7), DIMS(9, 7), DIMS(9)}, .attr = &(struct linear_attr){.w_row = 3,
 * .w_rows = 4}, .k = 8, .frozen = IN(1) | IN(2)) CASE(gather, "rows",        .in = {DIMS(9, 4), DIMS(5)}, .fill = {[1]
 * = INDEX(9)}, .k = 1) CASE(attention, "packed",   .in = {DIMS(10, 48), DIMS(10, 48), DIMS(10, 48), DIMS(3), DIMS(3)},
 * .same = {[1] = SAME(0), [2] = SAME(0)}, .fill = {[3] = INTS(0, 4, 10), [4] = INTS(0, 4, 10)}, .attr = &(struct
 * attention_attr){...}, .k = 16)
 *
 * An input not named (nd 0) is absent. What is not said: inputs standard normal (int32 ones by default_fill in
 * support_cases.c), a gradient arrives at output 0 alone, every float32 input that the op can give a gradient to gets
 * one, seed 1. */
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
    FILL_OFFSETS,  /* int32: 0, growing, the last is a */
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
    int same[MCS_MAX_IN]; /* SAME(j): this input is the very tensor of input j < this one */
    float k;              /* outputs: |got - oracle| <= k 2^-24 mag (ref.h) */
    float k_bwd;          /* gradients; 0 = k */
    unsigned dout;        /* OUT(i) bits: outputs that a gradient arrives at; 0 = OUT(0) */
    float half;           /* bf16: roundings of 2^-8 of mag inside the op, beside the stored ones; 0 = none */
    unsigned half_in;     /* IN(i) bits: inputs stored in bf16 in every run */
    unsigned frozen;      /* IN(i) bits: inputs whose gradient is not wanted */
    double fd_step;       /* of the finite differences; 0 = 1e-6 */
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

/* What the runner needs of a device: its implementations of the ops that are run, and a way to ask for a number of
 * threads (may be NULL). device->backend NULL: plain host memory. */
struct case_backend {
    const char *name;
    const struct op_impl *impl[MCS_N_OPS];
    struct device *device;
    void (*set_threads)(int n);
    int half;  /* 1: activations in bf16, as amp.h says; every float input is then rounded to bf16 first */
    int exact; /* 1: the device itself reports what leaves an allocation, so that none needs a guard behind it */
};

/* Fills a host array (float or int32) of n elements for input `slot` of the case, and says which of the two it is. */
enum mcs_dtype mcs_case_fill(const struct op_case *c, int slot, int64_t n, void *dst);
enum mcs_dtype mcs_case_dtype(const struct op_case *c, int slot);
/* Runs one case: forward and backward against the oracle (beta 0 over garbage, beta 1, each gradient alone), the
 * oracle's backward against finite differences of its forward, the same bytes twice, 1 and 2 threads, no writes
 * outside. Prints what is wrong; returns how many checks failed. */
int mcs_case_run(const struct op_case *c, const struct case_backend *b);
/* Runs its forward and backward once and compares nothing. */
int mcs_case_launch(const struct op_case *c, const struct case_backend *b);

#endif
