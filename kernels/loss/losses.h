/* Losses, and the ops used with them (bottleneck, cosine); conventions: kernels.h. All arrays are float (integers where
 * said), except the embeddings of k_contrastive. Sums over a tensor are in double: each block writes a partial sum to
 * the workspace (`k_NAME_..._bytes` bytes, 16-byte aligned), and a last block adds them in order. dloss (1): gradient
 * of the loss. */
#ifndef MCS_KERNELS_LOSSES_H
#define MCS_KERNELS_LOSSES_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* contrastive: the four losses and the released form (struct contrastive_attr, engine/tape/op.h) without a B x B matrix
 * in memory, for a whole batch or for one rank of several. image, text (batch, d) of all ranks; a rank owns rows [row0,
 * row0 + rows) of both. Forward: `loss` (1) is the sum over these rows (the loss is the sum over ranks), and of `stats`
 * (2, batch, 2) only these rows are written. Backward: reads all of stats (gathered), writes dimage and dtext (rows,
 * d), and these rows' contribution to dlog_scale (1). log_scale (1) NULL: the scale is inv_tau, else exp(log_scale).
 * released > 1: the batch size of the released form, as in engine/tape/op.h. batch is at least 2. */
struct k_contrastive {
    enum k_dtype dtype; /* of image, text, dimage, dtext */
    int64_t batch, row0, rows;
    int d, released;
    float a, b_image, b_text, inv_tau;
    const void *image, *text;
    const float *log_scale, *dloss;
    float *loss, *stats;
    void *dimage, *dtext;
    float *dlog_scale;
    float beta_image, beta_text, beta_scale;
    void *workspace;
};
size_t k_contrastive_fwd_bytes(int64_t batch, int64_t rows);
size_t k_contrastive_bwd_bytes(int64_t batch, int64_t rows);
cudaError_t k_contrastive_fwd(const struct k_contrastive *a, cudaStream_t s);
cudaError_t k_contrastive_bwd(const struct k_contrastive *a, cudaStream_t s);

/* bottleneck: x, alpha, dalpha (p, t, c), noise, y, dy (p * copies, t, c), kl, dkl (p), map (p, t). dy or dkl NULL:
 * that gradient is zero. */
struct k_bottleneck {
    int64_t p, copies, t;
    int c;
    const float *x, *alpha, *noise, *dy, *dkl;
    float *y, *kl, *map, *dalpha;
    float beta;
};
cudaError_t k_bottleneck_fwd(const struct k_bottleneck *a, cudaStream_t s);
cudaError_t k_bottleneck_bwd(const struct k_bottleneck *a, cudaStream_t s);

/* cosine of rows: a, da (rows, n), b (rows / each, n), y, dy (rows), norms (rows, 2). */
struct k_cosine {
    int64_t rows, each;
    int n;
    const float *a, *b, *dy;
    float *y, *norms, *da;
    float beta;
};
cudaError_t k_cosine_fwd(const struct k_cosine *a, cudaStream_t s);
cudaError_t k_cosine_bwd(const struct k_cosine *a, cudaStream_t s);

/* dice_ce: logits, dlogits (n, voxels, c), target (n, voxels), sums (n, c, 3). c is 2 to K_DICE_CLASSES. A target
 * below 0 is ignored; a target of c or more is an error in the data and makes loss and gradient NaN. */
enum { K_DICE_CLASSES = 256 };
struct k_dice_ce {
    int64_t n, voxels;
    int c, batch_dice;
    float smooth, weight_ce, weight_dice;
    const float *logits;
    const int32_t *target;
    float *loss, *sums;
    const float *dloss;
    float *dlogits;
    float beta;
    void *workspace;
};
size_t k_dice_ce_fwd_bytes(int64_t n, int64_t voxels, int c);
size_t k_dice_ce_bwd_bytes(int64_t n, int c);
cudaError_t k_dice_ce_fwd(const struct k_dice_ce *a, cudaStream_t s);
cudaError_t k_dice_ce_bwd(const struct k_dice_ce *a, cudaStream_t s);

/* mask_loss: logits, target, dlogits (b, n), weight, iou (b), sums (b, 4). */
struct k_mask_loss {
    int64_t b, n;
    float focal, dice, bce, gamma, alpha; /* struct mask_loss_attr */
    const float *logits, *target, *weight;
    float *loss, *iou, *sums;
    const float *dloss;
    float *dlogits;
    float beta;
    void *workspace;
};
size_t k_mask_loss_fwd_bytes(int64_t b, int64_t n);
cudaError_t k_mask_loss_fwd(const struct k_mask_loss *a, cudaStream_t s);
cudaError_t k_mask_loss_bwd(const struct k_mask_loss *a, cudaStream_t s);

/* mse and bce (of logits): x, target, weight (or NULL: 1), dx (n). */
struct k_point_loss {
    int64_t n;
    const float *x, *target, *weight;
    float *loss;
    const float *dloss;
    float *dx;
    float beta;
    void *workspace;
};
size_t k_point_loss_fwd_bytes(int64_t n);
cudaError_t k_mse_fwd(const struct k_point_loss *a, cudaStream_t s);
cudaError_t k_mse_bwd(const struct k_point_loss *a, cudaStream_t s);
cudaError_t k_bce_fwd(const struct k_point_loss *a, cudaStream_t s);
cudaError_t k_bce_bwd(const struct k_point_loss *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
