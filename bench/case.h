/* One measured shape as a step of the tape: set up on any device, checked, turned into its backward steps. */
#ifndef MCS_BENCH_CASE_H
#define MCS_BENCH_CASE_H

#include "bench/bench.h"
#include "engine/backend.h"

/* Meaning of the sizes: a product y (m,n) = x (m,k) w (n,k)^T + b; a convolution from c to o channels over sp (sp[0] 1:
 * two spatial dimensions); an attention of seqs sequences of nq queries and nk keys, `heads` heads of hd columns, with
 * relative positions on a grid x grid image unless grid is 0; rows (m,n) of a pointwise op or a norm. */
struct bench_case {
    const char *model, *name;
    enum mcs_op op;
    int64_t m, n, k;
    int64_t batch, c, o, sp[3], kernel, stride;
    int64_t seqs, nq, nk, heads, hd, grid;
};

struct bench_setup {
    const struct bench_case *c;
    union {
        struct linear_attr linear;
        struct conv_attr conv;
        struct attention_attr attention;
        struct norm_attr norm;
        struct no_attr none;
    } attr;
    struct tensor in[MCS_MAX_IN], out[MCS_MAX_OUT], din[MCS_MAX_IN], dout;
    float *host[MCS_MAX_IN], *host_dout; /* the values of in[] and dout */
    struct run_state run;
    struct step step;
    void *memory[2 * MCS_MAX_IN + MCS_MAX_OUT + 2]; /* device memory */
    int n_memory;
    int half;     /* activations in bf16 */
    double flops; /* of the forward pass; 0 for rows */
};

/* Makes the forward step, filled with noise and prepared; activations have the device's type. Call
 * mcs_bench_tear_down also after a failure. */
enum mcs_status mcs_bench_set_up(const struct bench_case *c, struct device *d, struct bench_setup *u);
/* Turns a forward step that has run into the backward step for the inputs in the bit mask `want`. */
enum mcs_status mcs_bench_make_backward(struct bench_setup *u, unsigned want);
void mcs_bench_tear_down(struct bench_setup *u);
enum mcs_status mcs_bench_run_step(void *step);

/* Lower bound of the memory traffic in bytes: every tensor of the step once. */
double mcs_bench_bytes(const struct step *s);
/* "4096x2304x768", with the type where it is not float32. */
void mcs_bench_shape(const struct bench_setup *u, char *text, size_t text_bytes);

/* After a forward run: the largest error of 48 elements against float64, in units of the rounding x the sum of |terms|,
 * and the allowed error. bias 0: the tested implementation adds no bias. */
enum mcs_status mcs_bench_check(struct bench_setup *u, int bias, struct bench_row *row);
/* After a backward run of an op that is linear in the input `slot`: <gradient, input> = <dout, out without bias> up to
 * rounding; for attention <dv, v> = <dout, out> and <dq, q> = <dk, k> + <drel, rel>. Others: checks only that all
 * gradients are finite. */
enum mcs_status mcs_bench_check_gradients(struct bench_setup *u, struct bench_row *row);

#endif
