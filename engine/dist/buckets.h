/* Gradient buckets: the flat gradient is cut into ranges; each is summed over the ranks as soon as the backward pass
 * has finished it, while the remaining backward steps run (Li et al., PyTorch Distributed, 2020). */
#ifndef MCS_BUCKETS_H
#define MCS_BUCKETS_H

#include "engine/dist/comm.h"
#include "engine/tape/exec.h"

struct bucket {
    int64_t first, n; /* floats of params->grad; multiples of 16 */
    int ready;        /* the backward step after which its gradients are final */
    char what[32];    /* "gradient bucket 3" */
};
struct buckets {
    struct comm *comm;
    const struct params *params;
    int n;
    struct bucket *b; /* in the order in which they become ready */
};

enum { BUCKET_MIB = 25 };
/* Makes buckets of about `bytes` (0: BUCKET_MIB) over g's parameters, except buffers and names that begin with a prefix
 * in `without` (NULL-ended, or NULL). g must have a backward part. Parameters that only other graphs add to are ready
 * before g's backward steps. E_NOMEM. */
enum mcs_status mcs_buckets_make(const struct graph *g, const char *const *without, struct comm *c, int64_t bytes,
                                 struct buckets *b);
void mcs_buckets_free(struct buckets *b);
/* Sums the buckets that are ready after step i; call it after each backward step. */
enum mcs_status mcs_buckets_after_step(struct buckets *b, const struct graph *g, int i);

#endif
