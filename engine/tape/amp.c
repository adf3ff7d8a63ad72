#include "engine/tape/amp.h"

#include <string.h>

static enum mcs_dtype activations = MCS_F32;

enum mcs_dtype mcs_amp_activations(void)
{
    return activations;
}

void mcs_amp_set_activations(enum mcs_dtype dt)
{
    activations = dt;
}

#define IN(i) (1u << (i))
/* half: the inputs that are bf16 in a bf16 graph, output 0 with them. An op without is a loss, a normalised embedding
 * or a coordinate: its float inputs are float32, so that what is compared or summed over a batch is exact.
 * follow: takes either type as it comes; a table of embeddings is a weight and stays float32. */
static const struct {
    unsigned half, follow;
} rule[MCS_N_OPS] = {
    [OP_linear] = {.half = IN(0)},
    [OP_conv] = {.half = IN(0)},
    [OP_conv_transpose] = {.half = IN(0)},
    [OP_layernorm] = {.half = IN(0)},
    [OP_instance_norm] = {.half = IN(0)},
    [OP_gelu] = {.half = IN(0)},
    [OP_relu] = {.half = IN(0)},
    [OP_add] = {.half = IN(0) | IN(1)},
    [OP_attention] = {.half = IN(0) | IN(1) | IN(2)},
    [OP_window] = {.half = IN(0)},
    [OP_unwindow] = {.half = IN(0)},
    [OP_gather] = {.follow = IN(0)},
    [OP_concat] = {.half = IN(0) | IN(1) | IN(2) | IN(3)},
    [OP_dropout] = {.half = IN(0)},
    [OP_resize] = {.half = IN(0)},
    [OP_bmm_nt] = {.half = IN(0) | IN(1)},
    [OP_cast] = {.follow = IN(0)},
};

unsigned mcs_amp_slots(enum mcs_op op)
{
    return rule[op].half | rule[op].follow;
}

int mcs_amp_is_half(enum mcs_op op, struct tensor *const *in)
{
    return rule[op].half || (rule[op].follow && in[0]->dt == MCS_BF16);
}

enum mcs_dtype mcs_amp_output(enum mcs_dtype act, enum mcs_op op, struct tensor *const *in, int i, enum mcs_dtype dt)
{
    if (act != MCS_BF16 || op == OP_cast || i > 0 || dt != MCS_F32) return dt;
    return mcs_amp_is_half(op, in) ? MCS_BF16 : MCS_F32;
}

/* A parameter belongs to several graphs, so its cast is not remembered on it: it is read once in a network. */
static struct tensor *cast(struct graph *g, const char *name, struct tensor *x, enum mcs_dtype to)
{
    if (x->role != TENSOR_PARAM && x->cast) return x->cast;
    struct tensor *y = mcs_apply(g, OP_cast, name, &x, &(struct cast_attr){.to = to});
    if (x->role != TENSOR_PARAM) x->cast = y;
    return y;
}

struct tensor *const *mcs_amp_inputs(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in,
                                     struct tensor **room)
{
    const struct op_info *info = &mcs_op_table[op];
    if (g->activations != MCS_BF16 || op == OP_cast) return in;
    memcpy(room, in, (size_t)info->n_in * sizeof *in);
    for (int i = 0; i < info->n_in; i++) {
        struct tensor *x = in[i];
        const int half = rule[op].half >> i & 1;
        if (!x || x->dt == MCS_I32 || rule[op].follow >> i & 1) continue;
        if (half && x->dt == MCS_F32) room[i] = cast(g, name, x, MCS_BF16);
        if (!half && x->dt == MCS_BF16) room[i] = cast(g, name, x, MCS_F32);
    }
    return room;
}
