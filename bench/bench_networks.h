/* The networks of `bench models`, at full size or small, with random weights. */
#ifndef MCS_BENCH_NETWORKS_H
#define MCS_BENCH_NETWORKS_H

#include "engine/model/unet.h"
#include "engine/tape/graph.h"

enum { BENCH_MAX_RESULTS = UNET_MAX_STAGES };

/* A network over one graph: its inputs and results. Integer inputs are constants of the graph. */
struct bench_network {
    struct graph *graph;
    struct tensor *image;                     /* filled with noise */
    struct tensor *result[BENCH_MAX_RESULTS]; /* kept; in training also the seeds of the gradients */
    int n_results;
};

struct bench_model {
    const char *name;
    int64_t batch;   /* default batch */
    int part;        /* part of another model: only run when named */
    int contrastive; /* trained by a contrastive loss, which needs a batch of 2 */
    void (*build)(struct bench_network *n, int64_t batch, int small, int train);
};
extern const struct bench_model mcs_bench_networks[];
extern const int mcs_bench_n_networks;

#endif
