/* Benchmarks: one row per measured item, correctness first, then its times. */
#ifndef MCS_BENCH_H
#define MCS_BENCH_H

#include "engine/backend.h"
#include "engine/cli/config.h"

#include <stdio.h>

struct bench_options {
    struct mcs_common common;
    struct mcs_strings ops; /* only these; empty = all */
    const char *model;  /* ops: only rows whose model contains this text; models: the only model; NULL, "all" = all */
    const char *output; /* FILE without extension: .md, .csv and .jsonl are written; NULL = only stdout */
    double seconds;     /* spent on each row */
    int small;          /* shapes for a test */
    int64_t batch;      /* models; 0 = the model's default */
    int64_t gpus;       /* comm: ranks */
    int train, by_op;   /* models: train: backward too; by_op: a row per op */
    const char *fail_above; /* compare: "5%" */
};

enum { BENCH_MAX_RUNS = 200 };
struct bench_row {
    const char *model, *op, *name; /* name: of the shape within the model */
    const char *pass;              /* "forward", "backward", "gradient of x", ...; of a collective: "sum", ... */
    char shape[64];
    double error, allowed;   /* largest error and its limit, in units of the rounding (bench/case.h) */
    double median, p10, p90; /* seconds */
    int n_runs;
    double gflops, gbytes; /* per second, at the median */
    double percent; /* of a peak rate in struct bench_peaks: of product for matrix products and attention, of conv for
                       convolutions, of copy for the rest */
    struct device_counts counts; /* instead of times, on a simulated device */
};

/* Runs f(arg) once to warm up, then for about `seconds` (3 to BENCH_MAX_RUNS runs), and fills in the times, by the
 * device's clock where it has one. A simulated device runs it once and counts. */
enum mcs_status mcs_bench_time(struct device *d, enum mcs_status (*f)(void *), void *arg, double seconds,
                               struct bench_row *row);
void mcs_bench_sort(double *t, int n); /* ascending */
/* NULL: the backend has no measuring functions; times are taken by the host's clock. */
const struct measure *mcs_bench_measure(const struct device *d);
int mcs_bench_counts(const struct device *d); /* 1 where the device reports counts instead of times */

/* The device's peak rates, the best of several shapes: square products and 3x3 convolutions in GFLOP/s, by its library
 * where it has one, and a copy's bytes read and written in GB/s. 0 on a simulated device. */
struct bench_peaks {
    double product, conv, copy;
};
enum mcs_status mcs_bench_peaks(const struct bench_options *o, struct device *d, struct bench_peaks *p);
/* One table as Markdown, CSV and JSON lines, collected for the files; Markdown, or JSON lines where json is set, is
 * also printed to stdout at once. */
enum bench_form { BENCH_MD, BENCH_CSV, BENCH_JSONL, BENCH_FORMS };
struct bench_text {
    int json, failed; /* failed: no memory for the text */
    char *text[BENCH_FORMS];
    size_t used[BENCH_FORMS];
    FILE *stream[BENCH_FORMS]; /* to text; NULL before the first call */
};
void mcs_bench_put(struct bench_text *t, enum bench_form form, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Markdown: "Best of this machine with 2 threads: ...". */
void mcs_bench_put_peaks(struct bench_text *t, const struct bench_options *o, const struct device *d,
                         const struct bench_peaks *p);
/* Writes OUTPUT.md, .csv and .jsonl, each whole or not at all; output NULL: does nothing. E_IO, E_NOMEM. */
enum mcs_status mcs_bench_write(const struct bench_text *t, const char *output);
void mcs_bench_text_free(struct bench_text *t);

/* bench ops. Rows are printed as they finish; E_FAIL where a result is wrong. */
enum mcs_status mcs_bench_ops(const struct bench_options *o);
/* bench models: whole networks with random weights. E_FAIL where a result is not finite or differs between two runs. */
enum mcs_status mcs_bench_models(const struct bench_options *o);
/* bench comm: collectives over o->gpus ranks, threads of this process. E_FAIL where a value is wrong. */
enum mcs_status mcs_bench_comm(const struct bench_options *o);
/* bench compare: compares median times of the rows that both files (.csv, .jsonl) have. E_FAIL where a row is more than
 * fail_above slower in B than in A; E_DATA: not such a file, no row in common. */
enum mcs_status mcs_bench_compare(const char *a, const char *b, const struct bench_options *o);

#endif
