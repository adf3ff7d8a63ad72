/* Measurements: one row a thing measured, correctness first, then its times. */
#ifndef MCS_BENCH_H
#define MCS_BENCH_H

#include "engine/config.h"

struct bench_options {
    struct mcs_common common;
    struct mcs_strings ops; /* only these; empty = all */
    const char *model;      /* only rows whose model contains this text; NULL = all */
    const char *output;     /* FILE without ending: .md, .csv and .jsonl are written; NULL = stdout alone */
    double seconds;         /* spent on each row */
    int small;              /* shapes for a test */
};

enum { BENCH_MAX_RUNS = 200 };
struct bench_row {
    const char *model, *op, *name, *pass;
    char shape[64];
    double error, allowed;   /* largest error over its tolerance's unit, see bench_ops.c; wrong where error > allowed */
    double median, p10, p90; /* seconds */
    int n_runs;
    double gflops, gbytes; /* per second, at the median */
    double percent; /* of the machine's best: sgemm for products and attention, 3x3 convolution for convolutions */
};

/* Runs f(arg) once to warm up, then for about `seconds` (3 to BENCH_MAX_RUNS runs), and fills in the times. */
enum mcs_status mcs_bench_time(enum mcs_status (*f)(void *), void *arg, double seconds, struct bench_row *row);

/* bench ops. Rows are printed as they are done; E_FAIL where a result is wrong. */
enum mcs_status mcs_bench_ops(const struct bench_options *o);

#endif
