#include "engine/tape/amp.h"

#include <string.h>

static int type_of(enum mcs_op op, int input)
{
    return mcs_op_table[op].in[input] & SLOT_TYPE;
}

unsigned mcs_amp_slots(enum mcs_op op)
{
    unsigned slots = 0;
    for (int i = 0; i < mcs_op_table[op].n_in; i++)
        if (type_of(op, i) == SLOT_ACT || type_of(op, i) == SLOT_ANY) slots |= 1u << i;
    return slots;
}

enum mcs_dtype mcs_amp_output(enum mcs_dtype act, enum mcs_op op, int i, enum mcs_dtype dt)
{
    return (mcs_op_table[op].out[i] & SLOT_TYPE) == SLOT_ACT ? act : dt;
}

/* A parameter belongs to several graphs, so its cast is not remembered on it; a network reads each only once. */
static struct tensor *cast(struct graph *g, const char *name, struct tensor *x, enum mcs_dtype to)
{
    if (x->role != TENSOR_PARAM && x->cast) return x->cast;
    struct tensor *y = mcs_apply(g, OP_cast, name, &x, &(struct cast_attr){.to = to});
    if (x->role != TENSOR_PARAM) x->cast = y;
    return y;
}

struct tensor *const *mcs_amp_inputs(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in,
                                     struct tensor **cast_inputs)
{
    const int n_in = mcs_op_table[op].n_in;
    if (g->activations != MCS_BF16) return in;
    memcpy(cast_inputs, in, (size_t)n_in * sizeof *in);
    for (int i = 0; i < n_in; i++) {
        struct tensor *x = in[i];
        if (!x) continue;
        if (type_of(op, i) == SLOT_ACT && x->dt == MCS_F32) cast_inputs[i] = cast(g, name, x, MCS_BF16);
        if (type_of(op, i) == SLOT_F32 && x->dt == MCS_BF16) cast_inputs[i] = cast(g, name, x, MCS_F32);
    }
    return cast_inputs;
}
