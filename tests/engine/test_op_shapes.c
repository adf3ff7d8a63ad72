/* engine/tape/op.c: the shapes of every op's outputs, and each input that its shape rule refuses. Every refused call
 * differs from a valid one in one respect. */
#include "engine/tape/op.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct tensor made[512];
static int n_made;

static struct tensor *make(enum mcs_dtype dt, int nd, const int64_t *dim)
{
    struct tensor *t = &made[n_made++ % 512];
    memset(t, 0, sizeof *t);
    t->dt = dt;
    t->nd = nd;
    if (nd) memcpy(t->dim, dim, (size_t)nd * sizeof *dim);
    return t;
}
#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                                             \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define F(...) make(MCS_F32, DIMS(__VA_ARGS__))
#define I(...) make(MCS_I32, DIMS(__VA_ARGS__))
#define H(...) make(MCS_BF16, DIMS(__VA_ARGS__))
#define SCALAR make(MCS_F32, 0, NULL)
#define IN(...) ((struct tensor *[MCS_MAX_IN + 1]){__VA_ARGS__})

/* The outputs of an op as text: "2,3|i32 5". Fields that the rule leaves unset show as 99 dimensions or -9. */
static enum mcs_status shape(enum mcs_op op, struct tensor **in, const void *attr, char *text, size_t bytes)
{
    struct tensor out[MCS_MAX_OUT];
    static const char *const types[] = {[MCS_F32] = "", [MCS_I32] = "i32 ", [MCS_BF16] = "bf16 "};
    const struct op_info *info = &mcs_op_table[op];
    size_t used = 0;
    for (int k = 0; k < MCS_MAX_OUT; k++) {
        out[k] = (struct tensor){.dt = MCS_I32, .nd = 99};
        for (int d = 0; d < MCS_MAX_DIM; d++) out[k].dim[d] = -9;
    }
    text[0] = '\0';
    mcs_error_clear();
    const enum mcs_status st = mcs_op_shape(op, "here", in, attr, out);
    for (int k = 0; st == MCS_OK && k < info->n_out; k++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", k ? "|" : "", types[out[k].dt]);
        if (out[k].nd > MCS_MAX_DIM) used += (size_t)snprintf(text + used, bytes - used, "%d dimensions", out[k].nd);
        for (int d = 0; d < out[k].nd && d < MCS_MAX_DIM; d++)
            used += (size_t)snprintf(text + used, bytes - used, "%s%lld", d ? "," : "", (long long)out[k].dim[d]);
    }
    return st;
}

static void good_at(int line, enum mcs_op op, struct tensor **in, const void *attr, const char *want)
{
    char text[256];
    cr_expect_eq(shape(op, in, attr, text, sizeof text), MCS_OK, "line %d: %s", line, mcs_error_message());
    cr_expect_str_eq(text, want, "line %d: got %s, want %s", line, text, want);
}

static void bad_at(int line, enum mcs_op op, struct tensor **in, const void *attr, const char *part)
{
    char text[256];
    cr_expect_eq(shape(op, in, attr, text, sizeof text), MCS_E_SHAPE, "line %d: taken, %s", line, text);
    cr_expect(strncmp(mcs_error_message(), "here: ", 6) == 0 && strstr(mcs_error_message(), part),
              "line %d: want '%s' in: %s", line, part, mcs_error_message());
}
#define GOOD(...) good_at(__LINE__, __VA_ARGS__)
#define BAD(...) bad_at(__LINE__, __VA_ARGS__)

Test(op_shapes, linear)
{
    static const struct linear_attr all = {0, 0}, part = {2, 3}, beyond = {3, 3}, before = {-1, 0}, negative = {2, -1};
    GOOD(OP_linear, IN(F(2, 3, 4), F(5, 4), F(5)), &all, "2,3,5");
    GOOD(OP_linear, IN(F(4), F(5, 4), NULL), &all, "5");
    GOOD(OP_linear, IN(H(3, 4), F(5, 4), F(5)), &part, "3,3");
    BAD(OP_linear, IN(SCALAR, F(5, 1)), &all, "wants a weight");
    BAD(OP_linear, IN(F(3, 4), F(5, 4, 1)), &all, "wants a weight");
    BAD(OP_linear, IN(F(3, 4), F(5, 3)), &all, "wants a weight (N,4), got (5,3)");
    BAD(OP_linear, IN(F(3, 4), F(5, 4), F(4)), &all, "bias of 5");
    BAD(OP_linear, IN(F(3, 4), F(5, 4), F(5, 1)), &all, "bias of 5");
    BAD(OP_linear, IN(F(3, 4), F(5, 4)), &beyond, "rows out of range");
    BAD(OP_linear, IN(F(3, 4), F(5, 4)), &before, "rows out of range");
    BAD(OP_linear, IN(F(3, 4), F(5, 4)), &negative, "rows out of range");
}

Test(op_shapes, conv)
{
    static const struct conv_attr two = {2, {2, 1, 7}, {1, 0, 9}}, three = {3, {1, 2, 3}, {0, 1, 2}},
                                  one = {1, {1, 1, 1}, {0}}, four = {4, {1, 1, 1}, {0}}, still = {2, {1, 0, 1}, {0}};
    GOOD(OP_conv, IN(F(2, 9, 8, 3), F(4, 3, 3, 2), F(4)), &two, "2,5,7,4");
    GOOD(OP_conv, IN(H(2, 9, 8, 3), F(4, 3, 11, 8)), &two, "2,1,1,4"); /* as large as the padded input */
    GOOD(OP_conv, IN(F(1, 5, 6, 7, 2), F(3, 2, 1, 2, 3), F(3)), &three, "1,5,4,3,3");
    BAD(OP_conv, IN(F(2, 9, 3), F(4, 3, 3)), &one, "2 or 3 spatial dimensions, got 1");
    BAD(OP_conv, IN(F(2, 9, 8, 7, 5, 3), F(4, 3, 1, 1, 1, 1)), &four, "2 or 3 spatial dimensions, got 4");
    BAD(OP_conv, IN(F(2, 9, 8, 7, 3), F(4, 3, 3, 2)), &two, "wants 4 dimensions, got x 5, w 4");
    BAD(OP_conv, IN(F(2, 9, 8, 3), F(4, 3, 3, 2, 1)), &two, "wants 4 dimensions, got x 4, w 5");
    BAD(OP_conv, IN(F(2, 9, 8, 3), F(4, 2, 3, 2)), &two, "wants 3 channels, got 2");
    BAD(OP_conv, IN(F(2, 9, 8, 3), F(4, 3, 3, 2), F(3)), &two, "bias of 4");
    BAD(OP_conv, IN(F(2, 9, 8, 3), F(4, 3, 12, 2)), &two, "kernel 12 is larger than its padded input 11");
    BAD(OP_conv, IN(F(2, 9, 8, 3), F(4, 3, 3, 9)), &two, "kernel 9 is larger than its padded input 8");
    BAD(OP_conv, IN(F(1, 5, 6, 7, 2), F(3, 2, 1, 2, 12)), &three, "kernel 12 is larger than its padded input 11");
    BAD(OP_conv, IN(F(2, 9, 8, 3), F(4, 3, 3, 2)), &still, "larger than its padded input");
}

Test(op_shapes, conv_transpose)
{
    static const struct conv_attr two = {.nsp = 2}, three = {.nsp = 3}, one = {.nsp = 1}, four = {.nsp = 4};
    GOOD(OP_conv_transpose, IN(F(2, 5, 7, 3), F(3, 4, 2, 3), F(4)), &two, "2,10,21,4");
    GOOD(OP_conv_transpose, IN(H(1, 5, 6, 7, 2), F(2, 3, 1, 2, 3)), &three, "1,5,12,21,3");
    BAD(OP_conv_transpose, IN(F(2, 5, 3), F(3, 4, 2)), &one, "of 3 dimensions");
    BAD(OP_conv_transpose, IN(F(2, 5, 4, 3, 2, 3), F(3, 4, 1, 1, 1, 1)), &four, "of 6 dimensions");
    BAD(OP_conv_transpose, IN(F(2, 5, 7, 3, 3), F(3, 4, 2, 3)), &two, "of 4 dimensions");
    BAD(OP_conv_transpose, IN(F(2, 5, 7, 3), F(3, 4, 2, 3, 1)), &two, "of 4 dimensions");
    BAD(OP_conv_transpose, IN(F(2, 5, 7, 3), F(2, 4, 2, 3)), &two, "3 input channels first, got 2");
    BAD(OP_conv_transpose, IN(F(2, 5, 7, 3), F(3, 4, 2, 3), F(3)), &two, "bias of 4");
}

Test(op_shapes, norms)
{
    GOOD(OP_layernorm, IN(H(2, 3, 4), F(4), F(4)), NULL, "2,3,4|6,2");
    BAD(OP_layernorm, IN(F(2, 3, 4), F(3), F(4)), NULL, "norm over 4 channels");
    BAD(OP_layernorm, IN(F(2, 3, 4), F(4), F(3)), NULL, "norm over 4 channels");
    GOOD(OP_instance_norm, IN(H(2, 5, 4), F(4), F(4)), NULL, "2,5,4|2,4,2");
    GOOD(OP_instance_norm, IN(F(2, 5, 6, 7, 4), F(4), F(4)), NULL, "2,5,6,7,4|2,4,2");
    BAD(OP_instance_norm, IN(F(2, 4), F(4), F(4)), NULL, "wants (N,sp...,C), got 2 dimensions");
    BAD(OP_instance_norm, IN(F(2, 5, 4), F(5), F(4)), NULL, "norm over 4 channels");
    BAD(OP_instance_norm, IN(F(2, 5, 4), F(4), F(2)), NULL, "norm over 4 channels");
    GOOD(OP_l2norm, IN(H(2, 3, 4)), NULL, "2,3,4|6");
}

Test(op_shapes, every_input_and_output_has_a_type)
{
    for (int op = 0; op < MCS_N_OPS; op++) {
        const struct op_info *info = &mcs_op_table[op];
        cr_expect(info->n_in > 0 && info->n_out > 0, "%s", info->name);
        for (int i = 0; i < info->n_in; i++) cr_expect(info->in[i] & SLOT_TYPE, "%s, input %d", info->name, i);
        for (int i = 0; i < info->n_out; i++) cr_expect(info->out[i] & SLOT_TYPE, "%s, output %d", info->name, i);
    }
}

Test(op_shapes, inputs_of_another_type_or_missing)
{
    BAD(OP_gelu, IN(NULL), NULL, "gelu: input 0 is missing");
    BAD(OP_quick_gelu, IN(I(7)), NULL, "quick_gelu: input 0 must be float");
    BAD(OP_relu, IN(I(7)), NULL, "relu: input 0 must be float");
    BAD(OP_linear, IN(F(3, 4), F(5, 4), I(5)), (&(struct linear_attr){0}), "linear: input 2 must be float");
}

/* Every gradient that ops.def excludes: int32 inputs, constants of the losses, what M2IB holds fixed. */
Test(op_shapes, inputs_without_a_gradient)
{
    static const struct {
        enum mcs_op op;
        unsigned inputs;
    } rows[] = {{OP_attention, 1 << 3 | 1 << 4},
                {OP_gather, 1 << 1},
                {OP_dropout, 1 << 1},
                {OP_bottleneck, 1 << 0 | 1 << 2},
                {OP_cosine, 1 << 1},
                {OP_dice_ce, 1 << 1},
                {OP_fourier_pe, 7},
                {OP_mask_loss, 1 << 1 | 1 << 2},
                {OP_mse, 1 << 1 | 1 << 2},
                {OP_bce, 1 << 1 | 1 << 2},
                {OP_attn_guide, 1 << 1 | 1 << 2},
                {OP_linear, 0},
                {OP_contrastive, 0},
                {OP_cast, 0}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const struct op_info *info = &mcs_op_table[rows[k].op];
        for (int i = 0; i < MCS_MAX_IN; i++)
            cr_expect_eq(mcs_op_differentiates(rows[k].op, i), i < info->n_in && !(rows[k].inputs >> i & 1),
                         "%s, input %d", info->name, i);
    }
}

Test(op_shapes, elementwise)
{
    GOOD(OP_gelu, IN(H(2, 3, 4)), NULL, "2,3,4");
    GOOD(OP_quick_gelu, IN(H(2, 3, 4)), NULL, "2,3,4");
    GOOD(OP_relu, IN(F(7)), NULL, "7");
    GOOD(OP_softmax, IN(F(1, 2, 3, 4, 5, 6)), NULL, "1,2,3,4,5,6");
    GOOD(OP_add, IN(H(2, 3, 4), F(2, 3, 4)), NULL, "2,3,4");
    GOOD(OP_add, IN(F(2, 3, 4), F(3, 4)), NULL, "2,3,4");
    GOOD(OP_add, IN(F(2, 3, 4), F(4)), NULL, "2,3,4");
    BAD(OP_add, IN(F(2, 3, 4), F(1, 2, 3, 4)), NULL, "more dimensions than the first");
    BAD(OP_add, IN(F(2, 3, 4), F(3, 5)), NULL, "trailing part of the first: 5 against 4");
    BAD(OP_add, IN(F(2, 3, 4), F(2, 4)), NULL, "trailing part of the first: 2 against 3");
    BAD(OP_add, IN(F(2, 3, 4), F(1, 3, 4)), NULL, "trailing part of the first: 1 against 2");
    GOOD(OP_cast, IN(F(2, 3)), (&(struct cast_attr){MCS_BF16}), "bf16 2,3");
    GOOD(OP_cast, IN(H(2, 3)), (&(struct cast_attr){MCS_F32}), "2,3");
    BAD(OP_cast, IN(I(2, 3)), (&(struct cast_attr){MCS_F32}), "cast: input 0 must be float");
    BAD(OP_cast, IN(F(2, 3)), (&(struct cast_attr){MCS_I32}), "between float types");
}

Test(op_shapes, attention_columns_and_lengths)
{
    struct attention_attr a = {.heads = 2, .head_dim = 4, .k_col = 2, .v_col = 4, .q_len = 2, .k_len = 3};
    GOOD(OP_attention, IN(H(6, 8), F(9, 10), F(9, 12)), &a, "6,8|6,2");
    GOOD(OP_attention, IN(F(3, 2, 9), F(3, 3, 10), F(3, 3, 12)), &a, "3,2,8|6,2");
    BAD(OP_attention, IN(F(6, 7), F(9, 10), F(9, 12)), &a, "2 heads of 4 columns do not fit q, k, v of 7, 10, 12");
    BAD(OP_attention, IN(F(6, 8), F(9, 9), F(9, 12)), &a, "do not fit q, k, v of 8, 9, 12 columns");
    BAD(OP_attention, IN(F(6, 8), F(9, 10), F(9, 11)), &a, "do not fit q, k, v of 8, 10, 11 columns");
    BAD(OP_attention, IN(F(6, 8), F(9, 10), F(6, 12)), &a, "k and v must have as many rows");
    BAD(OP_attention, IN(F(7, 8), F(9, 10), F(9, 12)), &a, "not as many sequences of 2 and 3");
    BAD(OP_attention, IN(F(6, 8), F(10, 10), F(10, 12)), &a, "not as many sequences of 2 and 3");
    BAD(OP_attention, IN(F(4, 8), F(9, 10), F(9, 12)), &a, "4 query and 9 key rows are not as many sequences");
    a.q_col = 1;
    BAD(OP_attention, IN(F(6, 8), F(9, 10), F(9, 12)), &a, "do not fit");
    a.q_col = a.q_len = 0;
    BAD(OP_attention, IN(F(6, 8), F(9, 10), F(9, 12)), &a, "not as many sequences of 0 and 3");
    a.q_len = 2, a.k_len = 0;
    BAD(OP_attention, IN(F(6, 8), F(9, 10), F(9, 12)), &a, "not as many sequences of 2 and 0");
    a.q_len = a.k_len = 1;
    GOOD(OP_attention, IN(F(9, 8), F(9, 10), F(9, 12)), &a, "9,8|9,2");
    a.heads = 0;
    BAD(OP_attention, IN(F(9, 8), F(9, 10), F(9, 12)), &a, "0 heads of 4 columns");
}

Test(op_shapes, attention_offsets)
{
    static const struct attention_attr a = {.heads = 2, .head_dim = 4};
    struct tensor *q = make(MCS_F32, DIMS(7, 8)), *k = make(MCS_F32, DIMS(5, 8));
    GOOD(OP_attention, IN(q, k, k, I(4), I(4)), &a, "7,8|7,2");
    GOOD(OP_attention, IN(q, k, k, I(2), I(2)), &a, "7,8|7,2");
    BAD(OP_attention, IN(q, k, k, I(4)), &a, "both offsets or none");
    BAD(OP_attention, IN(q, k, k, NULL, I(4)), &a, "both offsets or none");
    BAD(OP_attention, IN(q, k, k, F(4), I(4)), &a, "attention: input 3 must be int32");
    BAD(OP_attention, IN(q, k, k, I(4), F(4)), &a, "attention: input 4 must be int32");
    BAD(OP_attention, IN(q, k, k, I(4, 1), I(4, 1)), &a, "two int32 vectors");
    BAD(OP_attention, IN(q, k, k, I(4), I(5)), &a, "two int32 vectors");
    BAD(OP_attention, IN(q, k, k, I(4), I(4, 1)), &a, "two int32 vectors");
    BAD(OP_attention, IN(q, k, k, I(1), I(1)), &a, "two int32 vectors");
}

Test(op_shapes, attention_relative_positions)
{
    struct attention_attr a = {.heads = 2, .head_dim = 4, .q_len = 6, .k_len = 6, .grid_h = 2, .grid_w = 3};
    struct tensor *q = make(MCS_F32, DIMS(12, 8)), *h = make(MCS_F32, DIMS(3, 4)), *w = make(MCS_F32, DIMS(5, 4));
    static const char want[] = "relative positions want tables (2*2-1,4) and (2*3-1,4)";
    GOOD(OP_attention, IN(q, q, q, NULL, NULL, h, w), &a, "12,8|12,2");
    a.causal = 1;
    BAD(OP_attention, IN(q, q, q, NULL, NULL, h, w), &a, "a causal mask does not go with relative positions");
    GOOD(OP_attention, IN(q, q, q), &a, "12,8|12,2");
    a.causal = 0;
    BAD(OP_attention, IN(q, q, q, NULL, NULL, h, NULL), &a, "both relative position tables or none");
    BAD(OP_attention, IN(q, q, q, NULL, NULL, NULL, w), &a, "both relative position tables or none");
    BAD(OP_attention, IN(q, q, q, I(3), I(3), h, w), &a, want);
    BAD(OP_attention, IN(q, q, q, NULL, NULL, F(3, 4, 1), w), &a, want);
    BAD(OP_attention, IN(q, q, q, NULL, NULL, h, F(5, 4, 1)), &a, want);
    BAD(OP_attention, IN(q, q, q, NULL, NULL, F(4, 4), w), &a, want);
    BAD(OP_attention, IN(q, q, q, NULL, NULL, h, F(4, 4)), &a, want);
    BAD(OP_attention, IN(q, q, q, NULL, NULL, F(3, 5), w), &a, want);
    BAD(OP_attention, IN(q, q, q, NULL, NULL, h, F(5, 3)), &a, want);
    a.k_len = 3;
    BAD(OP_attention, IN(q, F(6, 8), F(6, 8), NULL, NULL, h, w), &a, want);
    a.q_len = a.k_len = 4;
    BAD(OP_attention, IN(q, q, q, NULL, NULL, h, w), &a, want);
}

Test(op_shapes, windows)
{
    static const struct window_attr two = {2, 5, 4}, one = {1, 1, 1}, none = {0, 5, 4}, flat = {2, 0, 4},
                                    thin = {2, 5, 0};
    GOOD(OP_window, IN(H(2, 5, 4, 3)), &two, "12,2,2,3");
    GOOD(OP_window, IN(F(2, 4, 7, 3)), &two, "16,2,2,3");
    GOOD(OP_window, IN(F(1, 2, 3, 1)), &one, "6,1,1,1");
    BAD(OP_window, IN(F(2, 5, 4)), &two, "wants (B,H,W,C)");
    BAD(OP_window, IN(F(2, 5, 4, 3)), &none, "wants (B,H,W,C)");
    GOOD(OP_unwindow, IN(H(12, 2, 2, 3)), &two, "2,5,4,3");
    GOOD(OP_unwindow, IN(F(7, 1, 1, 3)), &one, "7,1,1,3");
    BAD(OP_unwindow, IN(F(12, 2, 2, 3, 1)), &two, "wants (B*nW,win,win,C)");
    BAD(OP_unwindow, IN(F(12, 0, 0, 3)), &none, "wants (B*nW,win,win,C)");
    BAD(OP_unwindow, IN(F(12, 3, 2, 3)), &two, "wants (B*nW,win,win,C)");
    BAD(OP_unwindow, IN(F(12, 2, 3, 3)), &two, "wants (B*nW,win,win,C)");
    BAD(OP_unwindow, IN(F(12, 2, 2, 3)), &flat, "wants (B*nW,win,win,C)");
    BAD(OP_unwindow, IN(F(12, 2, 2, 3)), &thin, "wants (B*nW,win,win,C)");
    BAD(OP_unwindow, IN(F(11, 2, 2, 3)), &two, "11 windows are not a multiple of 6");
}

Test(op_shapes, gather_and_concat)
{
    static const struct axis_attr first = {0}, second = {1}, third = {2}, before = {-1}, beyond = {3};
    GOOD(OP_gather, IN(F(2, 3, 4), I(5)), NULL, "5,4");
    GOOD(OP_gather, IN(H(2, 3, 4), I(5)), NULL, "bf16 5,4");
    BAD(OP_gather, IN(F(2, 3, 4), F(5)), NULL, "gather: input 1 must be int32");
    BAD(OP_gather, IN(F(2, 3, 4)), NULL, "gather: input 1 is missing");
    BAD(OP_gather, IN(F(2, 3, 4), I(5, 1)), NULL, "int32 vector");
    GOOD(OP_concat, IN(H(2, 3), F(4, 3)), &first, "6,3");
    GOOD(OP_concat, IN(F(2, 3, 4), F(2, 5, 4), F(2, 7, 4)), &second, "2,15,4");
    /* Leading dimensions of 1 are repeated, at any position; a fifth input is ignored. */
    GOOD(OP_concat, IN(F(1, 2, 4), F(3, 5, 4), F(1, 1, 4), F(3, 6, 4), F(9)), &second, "3,14,4");
    GOOD(OP_concat, IN(F(2, 3, 4), F(1, 1, 5)), &third, "2,3,9");
    GOOD(OP_concat, IN(F(1, 1, 5), F(2, 1, 4)), &third, "2,1,9");
    BAD(OP_concat, IN(F(2, 3, 4)), &second, "concat: input 1 is missing");
    BAD(OP_concat, IN(F(2, 3), F(2, 3, 1)), &first, "inputs differ in dimensions");
    BAD(OP_concat, IN(F(2, 3, 4), F(2, 3, 4)), &before, "inputs differ in dimensions");
    BAD(OP_concat, IN(F(2, 3, 4), F(2, 3, 4)), &beyond, "inputs differ in dimensions");
    BAD(OP_concat, IN(F(2, 3, 4), F(2, 3, 5)), &second, "input 1 has 5 in dimension 2, expected 4");
    BAD(OP_concat, IN(F(1, 3, 4), F(2, 3, 4), F(1, 3, 1)), &second, "input 2 has 1 in dimension 2, expected 4");
    BAD(OP_concat, IN(F(4, 3, 4), F(2, 3, 4)), &second, "input 1 has 2 in dimension 0, expected 4");
    BAD(OP_concat, IN(F(2, 3, 4), F(3, 2, 4)), &third, "input 1 has 3 in dimension 0, expected 2");
    BAD(OP_concat, IN(F(2, 3, 4), F(2, 1, 4)), &third, "input 1 has 1 in dimension 1, expected 3");
}

Test(op_shapes, contrastive)
{
    static const struct contrastive_attr fixed = {.inv_tau = 0.5f}, learned = {.inv_tau = 0};
    GOOD(OP_contrastive, IN(F(3, 4), F(3, 4)), &fixed, "1|2,3,2");
    GOOD(OP_contrastive, IN(F(2, 4), F(2, 4), F(1)), &learned, "1|2,2,2");
    BAD(OP_contrastive, IN(F(3, 4), F(3, 4), F(1)), &fixed, "either a fixed temperature");
    BAD(OP_contrastive, IN(F(3, 4), F(3, 4)), &learned, "either a fixed temperature");
    BAD(OP_contrastive, IN(F(3, 4, 1), F(3, 4, 1)), &fixed, "as many images as texts");
    BAD(OP_contrastive, IN(F(3, 4), F(3, 5)), &fixed, "as many images as texts");
    BAD(OP_contrastive, IN(F(3, 4), F(2, 4)), &fixed, "as many images as texts");
    BAD(OP_contrastive, IN(F(3, 4), F(3, 4, 1)), &fixed, "as many images as texts");
    BAD(OP_contrastive, IN(F(1, 4), F(1, 4)), &fixed, "at least 2 pairs");
}

Test(op_shapes, dropout_and_bottleneck)
{
    static const struct dropout_attr none = {.p = 0}, half = {.p = 0.5f}, all = {.p = 1}, negative = {.p = -0.1f};
    GOOD(OP_dropout, IN(H(2, 3, 4)), &none, "2,3,4");
    GOOD(OP_dropout, IN(F(2, 3, 4), I(6)), &half, "2,3,4");
    GOOD(OP_dropout, IN(F(2, 3, 4), I(2, 3)), &half, "2,3,4");
    BAD(OP_dropout, IN(F(2, 3, 4)), &all, "probability 1 is not in [0,1)");
    BAD(OP_dropout, IN(F(2, 3, 4)), &negative, "probability -0.1 is not in [0,1)");
    BAD(OP_dropout, IN(F(2, 3, 4), F(6)), &half, "dropout: input 1 must be int32");
    BAD(OP_dropout, IN(F(2, 3, 4), I(5)), &half, "sample id a row");
    GOOD(OP_bottleneck, IN(F(2, 3, 4), F(2, 3, 4), F(6, 3, 4)), NULL, "6,3,4|2|2,3");
    BAD(OP_bottleneck, IN(F(2, 3, 4, 1), F(2, 3, 4, 1), F(6, 3, 4)), NULL, "bottleneck wants");
    BAD(OP_bottleneck, IN(F(2, 3, 4), F(2, 3, 5), F(6, 3, 4)), NULL, "bottleneck wants");
    BAD(OP_bottleneck, IN(F(2, 3, 5), F(2, 3, 4), F(6, 3, 4)), NULL, "bottleneck wants");
    BAD(OP_bottleneck, IN(F(2, 3, 4), F(2, 3, 4), F(6, 3, 4, 1)), NULL, "bottleneck wants");
    BAD(OP_bottleneck, IN(F(2, 3, 4), F(2, 3, 4), F(6, 2, 4)), NULL, "bottleneck wants");
    BAD(OP_bottleneck, IN(F(2, 3, 4), F(2, 3, 4), F(6, 3, 5)), NULL, "bottleneck wants");
    BAD(OP_bottleneck, IN(F(2, 3, 4), F(2, 3, 4), F(5, 3, 4)), NULL, "bottleneck wants");
}

Test(op_shapes, products)
{
    GOOD(OP_cosine, IN(F(6, 4), F(3, 4)), NULL, "6|6,2");
    BAD(OP_cosine, IN(F(6, 4, 1), F(3, 4)), NULL, "cosine wants");
    BAD(OP_cosine, IN(F(6, 4), F(3, 4, 1)), NULL, "cosine wants");
    BAD(OP_cosine, IN(F(6, 4), F(3, 5)), NULL, "cosine wants");
    BAD(OP_cosine, IN(F(5, 4), F(3, 4)), NULL, "cosine wants");
    GOOD(OP_bmm_nt, IN(H(2, 3, 4), F(2, 5, 4)), NULL, "2,3,5");
    BAD(OP_bmm_nt, IN(F(2, 3, 4, 1), F(2, 5, 4)), NULL, "bmm_nt wants");
    BAD(OP_bmm_nt, IN(F(2, 3, 4), F(2, 5, 4, 1)), NULL, "bmm_nt wants");
    BAD(OP_bmm_nt, IN(F(2, 3, 4), F(1, 5, 4)), NULL, "bmm_nt wants");
    BAD(OP_bmm_nt, IN(F(2, 3, 4), F(2, 5, 3)), NULL, "bmm_nt wants");
}

Test(op_shapes, images_and_coordinates)
{
    static const struct resize_attr size = {7, 1}, other = {1, 7}, flat = {0, 1}, thin = {1, 0};
    GOOD(OP_resize, IN(H(2, 5, 6, 3)), &size, "2,7,1,3");
    GOOD(OP_resize, IN(F(2, 5, 6, 3)), &other, "2,1,7,3");
    BAD(OP_resize, IN(F(2, 5, 6)), &size, "resize wants");
    BAD(OP_resize, IN(F(2, 5, 6, 3)), &flat, "resize wants");
    BAD(OP_resize, IN(F(2, 5, 6, 3)), &thin, "resize wants");
    GOOD(OP_fourier_pe, IN(F(5, 2), I(5), F(2, 7)), NULL, "5,14");
    GOOD(OP_fourier_pe, IN(F(5, 2), NULL, F(2, 7)), NULL, "5,14");
    BAD(OP_fourier_pe, IN(F(5, 2, 1), NULL, F(2, 7)), NULL, "coords (n,2)");
    BAD(OP_fourier_pe, IN(F(5, 3), NULL, F(2, 7)), NULL, "coords (n,2)");
    BAD(OP_fourier_pe, IN(F(5, 2), NULL, NULL), NULL, "fourier_pe: input 2 is missing");
    BAD(OP_fourier_pe, IN(F(5, 2), NULL, F(2, 7, 1)), NULL, "coords (n,2)");
    BAD(OP_fourier_pe, IN(F(5, 2), NULL, F(3, 7)), NULL, "coords (n,2)");
    BAD(OP_fourier_pe, IN(F(5, 2), F(5), F(2, 7)), NULL, "fourier_pe: input 1 must be int32");
    BAD(OP_fourier_pe, IN(F(5, 2), I(4), F(2, 7)), NULL, "a label a row");
}

Test(op_shapes, losses)
{
    GOOD(OP_dice_ce, IN(F(2, 5, 6, 3), I(2, 5, 6)), NULL, "1|2,3,3");
    GOOD(OP_dice_ce, IN(F(4, 5, 2), I(4, 5)), NULL, "1|4,2,3");
    BAD(OP_dice_ce, IN(F(2, 5, 6, 3), F(2, 5, 6)), NULL, "dice_ce: input 1 must be int32");
    BAD(OP_dice_ce, IN(F(4, 3), I(4)), NULL, "dice_ce wants");
    BAD(OP_dice_ce, IN(F(2, 5, 1), I(2, 5)), NULL, "dice_ce wants");
    BAD(OP_dice_ce, IN(F(2, 5, 6, 3), I(2, 5, 5)), NULL, "dice_ce wants");
    BAD(OP_dice_ce, IN(F(2, 5, 6, 3), I(5, 12)), NULL, "dice_ce wants");
    GOOD(OP_mask_loss, IN(F(3, 8), F(3, 8), F(3)), NULL, "1|3|3,4");
    BAD(OP_mask_loss, IN(F(3, 8, 1), F(3, 8, 1), F(3)), NULL, "mask_loss wants");
    BAD(OP_mask_loss, IN(F(3, 8), F(3, 7), F(3)), NULL, "mask_loss wants");
    BAD(OP_mask_loss, IN(F(3, 8), F(3, 8), F(2)), NULL, "mask_loss wants");
    static const enum mcs_op pointwise[] = {OP_mse, OP_bce};
    for (int i = 0; i < 2; i++) {
        GOOD(pointwise[i], IN(F(2, 3), F(6)), NULL, "1");
        GOOD(pointwise[i], IN(F(2, 3), F(6), F(3, 2)), NULL, "1");
        BAD(pointwise[i], IN(F(2, 3), F(5)), NULL, "as many elements");
        BAD(pointwise[i], IN(F(2, 3), F(6), F(5)), NULL, "as many elements");
    }
}

Test(op_shapes, attention_guide)
{
    static const struct guide_attr one = {2, 4, 1}, both = {2, 4, 2}, none = {2, 4, 0}, three = {2, 4, 3};
    GOOD(OP_attn_guide, IN(F(3, 5, 24), F(3, 5), F(3)), &one, "1|3,1,5");
    GOOD(OP_attn_guide, IN(F(3, 5, 24), F(3, 5), F(3)), &both, "1|3,2,5");
    BAD(OP_attn_guide, IN(F(3, 5, 24), F(3, 5), F(3)), &none, "packed qkv");
    BAD(OP_attn_guide, IN(F(3, 5, 24), F(3, 5), F(3)), &three, "packed qkv");
    BAD(OP_attn_guide, IN(F(3, 5, 24, 1), F(3, 5), F(3)), &one, "packed qkv");
    BAD(OP_attn_guide, IN(F(3, 5, 25), F(3, 5), F(3)), &one, "packed qkv");
    BAD(OP_attn_guide, IN(F(3, 5, 24), F(3, 5, 1), F(3)), &one, "coverage (B,T) and weight (B)");
    BAD(OP_attn_guide, IN(F(3, 5, 24), F(2, 5), F(3)), &one, "coverage (B,T) and weight (B)");
    BAD(OP_attn_guide, IN(F(3, 5, 24), F(3, 4), F(3)), &one, "coverage (B,T) and weight (B)");
    BAD(OP_attn_guide, IN(F(3, 5, 24), F(3, 5), F(2)), &one, "coverage (B,T) and weight (B)");
}
