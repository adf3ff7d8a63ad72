/* SAM's mask losses: focal (Lin et al. 2017, as torchvision), Dice and binary cross-entropy of logits, with the IoU
 * that the IoU head learns. With u = x for target 1 and -x for target 0: BCE = softplus(-u), 1 - p_t = sigmoid(-u) =
 * exp(-softplus(u)). */
#include "engine/cpu/op_common.h"

enum { N_SUMS = 7 }; /* pg, p, g, pixels in both, pixels in the prediction, focal, bce */

MCS_CLONES static void chunk_fwd(const float *restrict x, const float *restrict t, int64_t n,
                                 const struct mask_loss_attr *a, double *restrict sums)
{
    double pg = 0, sp = 0, sg = 0, both = 0, pred = 0, focal = 0, bce = 0;
    const float gamma = a->focal_gamma, alpha1 = a->focal_alpha < 0 ? 1 : a->focal_alpha,
                alpha0 = a->focal_alpha < 0 ? 1 : 1 - a->focal_alpha;
#pragma omp simd reduction(+ : pg, sp, sg, both, pred, focal, bce)
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i], g = t[i] > 0.5f ? 1 : 0, u = t[i] > 0.5f ? v : -v;
        const float z = mcs_log1pf01(mcs_expf(v > 0 ? -v : v)), ce = z + (u < 0 ? -u : 0), p = mcs_sigmoidf(v);
        /* over: in the predicted mask; hard = (1 - p_t)^gamma */
        const float over = v > 0 ? 1 : 0, hard = mcs_expf(-gamma * (z + (u > 0 ? u : 0)));
        pg += (double)(p * g);
        sp += (double)p;
        sg += (double)g;
        both += (double)(over * g);
        pred += (double)over;
        focal += (double)((g > 0 ? alpha1 : alpha0) * ce * hard);
        bce += (double)ce;
    }
    sums[0] = pg, sums[1] = sp, sums[2] = sg, sums[3] = both, sums[4] = pred, sums[5] = focal, sums[6] = bce;
}

static enum mcs_status prepare(struct step *s)
{
    if (!s->backward)
        s->workspace_bytes =
            (size_t)(s->in[0]->dim[0] * op_div_up(s->in[0]->dim[1], MCS_CHUNK)) * N_SUMS * sizeof(double);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct mask_loss_attr *a = s->attr;
    const int64_t b_n = s->in[0]->dim[0], n = s->in[0]->dim[1], chunks = op_div_up(n, MCS_CHUNK);
    const float *x = mcs_f32(s->in[0]), *t = mcs_f32(s->in[1]), *weight = mcs_f32(s->in[2]);
    float *iou = mcs_f32(s->out[1]), *sums = mcs_f32(s->out[2]);
    double *part = s->workspace, loss = 0;
#pragma omp parallel for schedule(static) if (b_n * n >= MCS_PARALLEL_MIN / 4)
    for (int64_t k = 0; k < b_n * chunks; k++) {
        const int64_t i = k % chunks * MCS_CHUNK, o = k / chunks * n + i;
        chunk_fwd(x + o, t + o, op_min(MCS_CHUNK, n - i), a, part + k * N_SUMS);
    }
    for (int64_t b = 0; b < b_n; b++) {
        double q[N_SUMS] = {0};
        for (int64_t k = 0; k < chunks; k++)
            for (int j = 0; j < N_SUMS; j++) q[j] += part[(b * chunks + k) * N_SUMS + j];
        const double any = q[4] + q[2] - q[3];
        iou[b] = any > 0 ? (float)(q[3] / any) : 1;
        for (int j = 0; j < 4; j++) sums[4 * b + j] = (float)q[j];
        loss += (double)weight[b] * (a->focal * q[5] / (double)n + a->dice * (1 - (2 * q[0] + 1) / (q[1] + q[2] + 1)) +
                                     a->bce * q[6] / (double)n);
    }
    mcs_f32(s->out[0])[0] = (float)loss;
    return MCS_OK;
}

/* on, off: the Dice term's derivative by p where the target is 1, 0. focal, bce: weights over n. All are multiplied by
 * the mask's weight. */
MCS_CLONES static void chunk_bwd(const float *restrict x, const float *restrict t, int64_t n,
                                 const struct mask_loss_attr *a, float on, float off, float focal, float bce,
                                 float beta, float *restrict dx)
{
    const float gamma = a->focal_gamma, alpha1 = a->focal_alpha < 0 ? 1 : a->focal_alpha,
                alpha0 = a->focal_alpha < 0 ? 1 : 1 - a->focal_alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i], sign = t[i] > 0.5f ? 1.0f : -1.0f, u = sign * v;
        const float z = mcs_log1pf01(mcs_expf(v > 0 ? -v : v)), ce = z + (u < 0 ? -u : 0);
        const float pt = mcs_sigmoidf(u), miss = mcs_sigmoidf(-u), hard = mcs_expf(-gamma * (z + (u > 0 ? u : 0)));
        const float du = -miss * bce - focal * (sign > 0 ? alpha1 : alpha0) * hard * (miss + gamma * pt * ce);
        dx[i] = op_blend(beta, dx[i], sign * du + (sign > 0 ? on : off) * pt * miss);
    }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct mask_loss_attr *a = s->attr;
    const int64_t b_n = s->in[0]->dim[0], n = s->in[0]->dim[1], chunks = op_div_up(n, MCS_CHUNK);
    const float *x = mcs_f32(s->in[0]), *t = mcs_f32(s->in[1]), *weight = mcs_f32(s->in[2]), *sums = mcs_f32(s->out[2]);
    const float beta = s->beta[0], *g = mcs_f32(s->dout[0]);
    float *dx = mcs_f32(s->din[0]);
    if (!dx || !g) return MCS_OK;
#pragma omp parallel for schedule(static) if (b_n * n >= MCS_PARALLEL_MIN / 4)
    for (int64_t k = 0; k < b_n * chunks; k++) {
        const int64_t b = k / chunks, i = k % chunks * MCS_CHUNK, o = b * n + i;
        const double w = (double)weight[b] * g[0], den = (double)sums[4 * b + 1] + sums[4 * b + 2] + 1;
        const double off = w * a->dice * (2 * (double)sums[4 * b] + 1) / (den * den);
        chunk_bwd(x + o, t + o, op_min(MCS_CHUNK, n - i), a, (float)(off - w * a->dice * 2 / den), (float)off,
                  (float)(w * a->focal / (double)n), (float)(w * a->bce / (double)n), beta, dx + o);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_mask_loss = {prepare, fwd, bwd, NULL};
