#include "engine/dist/buckets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_shared(const struct params *p, int i, const char *const *without)
{
    if (p->is_buffer[i]) return 0;
    for (const char *const *f = without; f && *f; f++)
        if (!strncmp(p->t[i]->name, *f, strlen(*f))) return 0;
    return 1;
}

/* last[i]: the last step that adds to parameter i's gradient, else the last forward step. */
static void find_last_steps(const struct graph *g, int *last)
{
    const struct params *p = g->params;
    for (int i = 0; i < p->n; i++) last[i] = g->n_forward - 1;
    for (int s = g->n_forward; s < g->n_steps; s++)
        for (int k = 0; k < MCS_MAX_IN; k++) {
            const struct tensor *d = g->steps[s].din[k];
            if (!d || d->root->role != TENSOR_PARAM_GRAD) continue;
            int low = 0, high = p->n - 1; /* binary search: offsets ascend with the index */
            while (low < high) {
                const int middle = (low + high + 1) / 2;
                if (p->t[middle]->offset <= d->root->offset)
                    low = middle;
                else
                    high = middle - 1;
            }
            last[low] = s;
        }
}

static int by_ready(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    if (x->ready != y->ready) return x->ready < y->ready ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* From the last parameter to the first, as the backward pass goes. */
enum mcs_status mcs_buckets_make(const struct graph *g, const char *const *without, struct comm *c, int64_t bytes,
                                 struct buckets *b)
{
    const struct params *p = g->params;
    const int64_t most = (bytes > 0 ? bytes : (int64_t)BUCKET_MIB << 20) / (int64_t)sizeof(float);
    *b = (struct buckets){.comm = c, .params = p};
    int *last = malloc(((size_t)p->n + 1) * sizeof *last);
    b->b = calloc((size_t)p->n + 1, sizeof *b->b);
    if (!last || !b->b) {
        free(last);
        mcs_buckets_free(b);
        return MCS_FAIL(MCS_E_NOMEM, "no memory for %d gradient buckets", p->n);
    }
    find_last_steps(g, last);
    struct bucket *open = NULL;
    for (int i = p->n - 1; i >= 0; i--) { /* tensors are padded to 16 floats, as in graph.c */
        const int64_t first = p->t[i]->offset / (int64_t)sizeof(float), n = (mcs_count(p->t[i]) + 15) / 16 * 16;
        if (!is_shared(p, i, without)) {
            open = NULL;
            continue;
        }
        if (!open || open->n + n > most) {
            open = &b->b[b->n++];
            *open = (struct bucket){.first = first + n, .ready = -1};
        }
        open->n += n;
        open->first = first;
        if (last[i] > open->ready) open->ready = last[i];
    }
    free(last);
    qsort(b->b, (size_t)b->n, sizeof *b->b, by_ready);
    for (int i = 0; i < b->n; i++) snprintf(b->b[i].what, sizeof b->b[i].what, "gradient bucket %d", i);
    return MCS_OK;
}

void mcs_buckets_free(struct buckets *b)
{
    free(b->b);
    *b = (struct buckets){0};
}

enum mcs_status mcs_buckets_after_step(struct buckets *b, const struct graph *g, int i)
{
    const int first = i == g->n_forward; /* buckets that wait for no backward step are summed after the first one */
    for (int k = 0; k < b->n; k++)
        if (b->b[k].ready == i || (first && b->b[k].ready < i))
            MCS_TRY(mcs_comm_allreduce_sum(b->comm, b->params->grad + b->b[k].first, b->b[k].n, b->b[k].what));
    return MCS_OK;
}
