/* A graph with its parameters on a CPU device of one thread. */
#ifndef MCS_SUPPORT_NET_H
#define MCS_SUPPORT_NET_H

#include "engine/backend.h"
#include "engine/tape/graph.h"

#include <criterion/criterion.h>

struct net {
    struct device d;
    struct params *p;
    struct graph *g;
};

static inline struct net net_open(void)
{
    struct net n;
    cr_assert_eq(mcs_cpu_open(1, &n.d), MCS_OK, "%s", mcs_error_message());
    n.p = mcs_params_new();
    n.g = mcs_graph_new(n.p, MCS_F32);
    return n;
}

static inline void net_close(struct net *n)
{
    mcs_graph_free(n->g);
    mcs_params_free(n->p);
    mcs_cpu_close(&n->d);
}

#endif
