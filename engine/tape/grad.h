/* Appends the backward steps. Seeds are tensors whose gradient is given from outside: losses (one element: 1 unless set
 * otherwise) or others, such as embeddings whose loss is in another graph. A seed must not be read by another step that
 * leads to a seed. After the call seed->grad is an input of the graph: mcs_exec_new fills a one-element seed with 1,
 * larger ones with 0. Parameter gradients are always added to params->grad; zero it (mcs_params_zero_grad) before the
 * first run of an optimizer step. */
#ifndef MCS_GRAD_H
#define MCS_GRAD_H

#include "engine/tape/graph.h"

enum mcs_status mcs_grad(struct graph *g, struct tensor *const *seeds, int n_seeds);
void mcs_params_zero_grad(struct params *p);

#endif
