/* One operation of the CPU backend, run on tensors in the memory of the test. */
#ifndef MCS_SUPPORT_CPU_OP_H
#define MCS_SUPPORT_CPU_OP_H

#include "engine/backend.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static inline struct tensor cpu_op_tensor(int nd, const int64_t *dim, void *data)
{
    struct tensor t = {.name = "t", .nd = nd, .data = data};
    memcpy(t.dim, dim, (size_t)nd * sizeof *dim);
    return t;
}

/* Prepares, runs and releases the step: forward, or backward where s->backward is set. */
static inline void cpu_op_run(const struct op_impl *op, struct step *s)
{
    cr_assert_eq(op->prepare ? op->prepare(s) : MCS_OK, MCS_OK, "%s", mcs_error_message());
    s->workspace = aligned_alloc(64, (s->workspace_bytes + 127) / 64 * 64);
    cr_assert(s->workspace);
    cr_assert_eq(s->backward ? op->bwd(s) : op->fwd(s), MCS_OK, "%s", mcs_error_message());
    free(s->workspace);
    s->workspace = NULL;
    if (op->release) op->release(s);
}

#endif
