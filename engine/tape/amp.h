/* Mixed precision on the tape. A graph whose activations are MCS_BF16 keeps them, and their gradients, in bf16 between
 * steps; weights, optimizer, statistics, losses and all sums stay float32. Where an op takes the other type, a step
 * `cast` is recorded before it, once per tensor: ops.def declares the types, so a network's code does not mention
 * precision. */
#ifndef MCS_AMP_H
#define MCS_AMP_H

#include "engine/tape/graph.h"

/* Bit mask: bit i is set where input i of `op` can be bf16 (ACT and ANY of ops.def). */
unsigned mcs_amp_slots(enum mcs_op op);
/* The type of output i in a graph with these activations; dt: the type that the shape rule gave it. */
enum mcs_dtype mcs_amp_output(enum mcs_dtype activations, enum mcs_op op, int i, enum mcs_dtype dt);

/* For mcs_record: returns the inputs, with casts recorded before them where needed; `cast_inputs` is the array to hold
 * them. */
struct tensor *const *mcs_amp_inputs(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in,
                                     struct tensor **cast_inputs);

#endif
