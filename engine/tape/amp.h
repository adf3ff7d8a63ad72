/* Mixed precision on the tape. A graph whose activations are MCS_BF16 keeps them, and their gradients, in bf16 between
 * steps; weights, optimizer, statistics, losses and every sum stay float32. Where an op takes the other type, a step
 * `cast` is recorded before it, once a tensor: the rule is a table by op (amp.c), so a network's code says nothing of
 * precision. */
#ifndef MCS_AMP_H
#define MCS_AMP_H

#include "engine/tape/graph.h"

/* What new graphs of this process keep their activations in; MCS_F32 at the start. main sets it from --precision
 * before the first graph is made. */
enum mcs_dtype mcs_amp_activations(void);
void mcs_amp_set_activations(enum mcs_dtype dt);

/* Bits of the inputs of `op` that are activations: of the graph's type where mcs_amp_is_half, else float32. */
unsigned mcs_amp_slots(enum mcs_op op);
/* 1 where the op computes on bf16 activations in such a graph. in: for ops that follow their input (gather). */
int mcs_amp_is_half(enum mcs_op op, struct tensor *const *in);
/* The type of output i, `dt` what the shape rule says. */
enum mcs_dtype mcs_amp_output(enum mcs_dtype activations, enum mcs_op op, struct tensor *const *in, int i,
                              enum mcs_dtype dt);

/* For mcs_record: the inputs with casts recorded before them where they are needed; `room` holds them. */
struct tensor *const *mcs_amp_inputs(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in,
                                     struct tensor **room);

#endif
