/* The declaration of ops: attributes, table entry, shape rule. ops.def says what each computes. */
#ifndef MCS_OP_H
#define MCS_OP_H

#include "engine/base/status.h"
#include "engine/tape/tensor.h"

enum { MCS_MAX_IN = 7, MCS_MAX_OUT = 3 };

struct no_attr {
    char unused;
};
/* The weight's rows [w_row, w_row + w_rows) are used, all where w_rows is 0. If only a part is used, the weight must be
 * frozen. */
struct linear_attr {
    int64_t w_row, w_rows;
};
/* stride and padding (on both sides) per spatial dimension; conv_transpose uses nsp only, since its stride is its
 * kernel. */
struct conv_attr {
    int nsp; /* spatial dimensions, 2 or 3 */
    int64_t stride[3], pad[3];
};
struct norm_attr {
    float eps, slope; /* slope: of the leaky ReLU after an instance norm; 1 = none. Unused by layernorm */
};
struct attention_attr {
    int heads, head_dim;
    int64_t q_col, k_col, v_col; /* first column of q, k, v in their tensors */
    int64_t q_len, k_len;        /* equal lengths of all sequences, where no offsets are given */
    int grid_h, grid_w;          /* grid of the relative positions */
    float scale;                 /* 0 = 1/sqrt(head_dim) */
    float dropout_p;             /* of the probabilities, in training; 0 = none */
    uint32_t site;               /* key of the dropout's random numbers */
    int causal;                  /* query i of a sequence sees its keys j <= i only; not with relative positions */
    int first_seq; /* number of the first sequence in the dropout's draws; not 0 in a later rank's share of a batch */
};
struct window_attr {
    int64_t win, h, w; /* h, w: unwindow's output size */
};
struct axis_attr {
    int axis;
};
/* Four contrastive losses in one. With L = inv_tau * similarity over the batch B, for row i,
 *
 *     l_i = -L_ii + ln(a exp(L_ii) + (B-1) sum_{j!=i} exp((1+b) L_ij) / sum_{j!=i} exp(b L_ij)),
 *
 * summed over both directions (b_image: image to text), mean over i; the gradient flows through the weights too.
 * (a,b) = (1,0) is InfoNCE, (0,0) DCL, (1,b) HN-NCE, (0,b) DHN-NCE (MedCLIP-SAM, arXiv 2403.20253). inv_tau 0: the
 * third input is the log of the scale, a learned temperature.
 *
 * released: the loss of MedCLIP-SAMv2's released code instead, only for a = 0. N is the code's --batch-size: released =
 * 1 means N = B, released = n > 1 means N = n:
 *
 *     -2/B^2 sum_i L_ii + (2 + b_image + b_text)/B^2 sum_{i!=j} L_ij + 2 ln(N-1) - 1/B sum_i (ln R_i + ln C_i),
 *
 * R_i = 1 + sum_{j!=i} exp(L_ij), C_i the same down column i. */
struct contrastive_attr {
    float a, b_image, b_text, inv_tau;
    int released;
};
struct dropout_attr {
    float p;
    uint32_t site;
};
struct dice_ce_attr {
    int batch_dice;
    float smooth, weight_ce, weight_dice; /* nnU-Net: 1e-5, 1, 1 */
};
struct resize_attr {
    int64_t h, w;
};
struct mask_loss_attr {
    float focal, dice, bce;         /* weights of the three terms (mean over pixels for focal and bce) */
    float focal_gamma, focal_alpha; /* 2, 0.25; alpha < 0 = none */
};
struct guide_attr {
    int heads, head_dim, heads_used; /* the first heads_used heads are guided */
};

struct cast_attr {
    enum mcs_dtype to; /* MCS_F32 or MCS_BF16 */
};

enum mcs_op {
#define OP(name, inputs, outputs, attr) OP_##name,
#include "engine/tape/ops.def"
#undef OP
    MCS_N_OPS
};

/* An input or an output in ops.def, which explains the words: a type and flags. */
enum op_slot {
    SLOT_NONE, /* the op has fewer */
    SLOT_F32,
    SLOT_ACT,
    SLOT_ANY,
    SLOT_I32,
    SLOT_TYPE = 7, /* mask of the type */
    SLOT_KEEP = 8,
    SLOT_NOGRAD = 16,
    SLOT_OPT = 32,
    SLOT_SHARE = 64,
};

struct op_info {
    const char *name;
    int n_in, n_out;
    uint8_t in[MCS_MAX_IN], out[MCS_MAX_OUT]; /* enum op_slot */
    size_t attr_bytes;
    /* The op's shape rule; mcs_op_shape calls it. */
    enum mcs_status (*shape)(const char *where, struct tensor *const *in, const void *attr, struct tensor *out);
};

extern const struct op_info mcs_op_table[MCS_N_OPS];

/* Checks in[] (n_in of them) and attr and writes the outputs' dt, nd and dim (nothing else). `where` names the scope in
 * messages. */
enum mcs_status mcs_op_shape(enum mcs_op op, const char *where, struct tensor *const *in, const void *attr,
                             struct tensor *out);

/* 1 where the op passes a gradient to its input i. */
static inline int mcs_op_differentiates(enum mcs_op op, int i)
{
    const int slot = mcs_op_table[op].in[i], type = slot & SLOT_TYPE;
    return type != SLOT_NONE && type != SLOT_I32 && !(slot & SLOT_NOGRAD);
}

#endif
