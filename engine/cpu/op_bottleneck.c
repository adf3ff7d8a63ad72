/* M2IB's information bottleneck (Wang, Rudner, Wilson 2023): t = s x + (1-s) noise, s = sigmoid(alpha), and per element
 * the KL divergence of N(s x, (1-s)^2) from N(0,1) = -ln(1-s) - 1/2 + ((s x)^2 + (1-s)^2) / 2 = softplus(alpha) - s +
 * (s^2 + (s x)^2) / 2. The last form loses no digits where s is small, as it is in a map's background. */
#include "engine/cpu/op_common.h"

struct dims {
    int64_t p, copies, t, c;
};

static struct dims dims_of(const struct step *s)
{
    const struct tensor *x = s->in[0];
    return (struct dims){x->dim[0], s->in[2]->dim[0] / x->dim[0], x->dim[1], x->dim[2]};
}

enum { TILE = 256 };

/* s = sigmoid(alpha), q = 1 - s (without the subtraction) and softplus(alpha) from one exponential. */
MCS_INLINE float gate(float alpha, float *q, float *softplus)
{
    /* near1 = sigmoid(|alpha|), near0 = sigmoid(-|alpha|) */
    const float z = mcs_expf(alpha > 0 ? -alpha : alpha), near1 = 1.0f / (1.0f + z), near0 = z * near1;
    *softplus = (alpha > 0 ? alpha : 0) + mcs_log1pf01(z);
    *q = alpha > 0 ? near0 : near1;
    return alpha > 0 ? near1 : near0;
}

/* One token: writes its copies of t, `stride` floats apart like those of noise, and returns its summed divergence. */
MCS_CLONES static float token_fwd(const float *restrict x, const float *restrict alpha, const float *noise, float *t,
                                  int64_t copies, int64_t stride, int64_t n)
{
    double sum = 0;
    for (int64_t c = 0; c < n; c += TILE) {
        const int64_t m = n - c < TILE ? n - c : TILE;
        float sx[TILE], q[TILE];
        double part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = 0; i < m; i++) {
            float softplus;
            const float s = gate(alpha[c + i], &q[i], &softplus);
            sx[i] = s * x[c + i];
            part += (double)(softplus - s + 0.5f * (s * s + sx[i] * sx[i]));
        }
        sum += part;
        for (int64_t k = 0; k < copies; k++) {
            const float *restrict e = noise + k * stride + c;
            float *restrict y = t + k * stride + c;
#pragma omp simd
            for (int64_t i = 0; i < m; i++) y[i] = sx[i] + q[i] * e[i];
        }
    }
    return (float)sum;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct dims d = dims_of(s);
    const float *x = mcs_f32(s->in[0]), *alpha = mcs_f32(s->in[1]), *noise = mcs_f32(s->in[2]);
    float *t = mcs_f32(s->out[0]), *kl = mcs_f32(s->out[1]), *map = mcs_f32(s->out[2]);
    const int64_t rows = d.p * d.t;
#pragma omp parallel for schedule(static) if (rows * d.c * d.copies >= MCS_PARALLEL_MIN / 4)
    for (int64_t r = 0; r < rows; r++) {
        const int64_t p = r / d.t, tok = r % d.t;
        const int64_t o = (p * d.copies * d.t + tok) * d.c;
        map[r] = token_fwd(x + r * d.c, alpha + r * d.c, noise + o, t + o, d.copies, d.t * d.c, d.c);
    }
    for (int64_t p = 0; p < d.p; p++) {
        double sum = 0;
        for (int64_t i = 0; i < d.t; i++) sum += map[p * d.t + i];
        kl[p] = (float)(sum / (double)(d.t * d.c));
    }
    return MCS_OK;
}

/* dalpha = s (1-s) sum over copies of dt (x - noise) + dkl (s + x^2 s^2 (1-s) - s (1-s)^2) */
MCS_CLONES static void bwd_row(const float *restrict x, const float *restrict alpha, const float *noise,
                               const float *dt, int64_t copies, int64_t stride, float dkl, float beta,
                               float *restrict dalpha, int64_t n)
{
    for (int64_t c = 0; c < n; c += TILE) {
        const int64_t m = n - c < TILE ? n - c : TILE;
        float acc[TILE];
        for (int64_t i = 0; i < m; i++) acc[i] = 0;
        for (int64_t k = 0; dt && k < copies; k++) {
            const float *e = noise + k * stride + c, *g = dt + k * stride + c;
#pragma omp simd
            for (int64_t i = 0; i < m; i++) acc[i] += g[i] * (x[c + i] - e[i]);
        }
#pragma omp simd
        for (int64_t i = 0; i < m; i++) {
            float q, softplus;
            const float v = x[c + i], s = gate(alpha[c + i], &q, &softplus);
            const float g = s * q * acc[i] + dkl * (s + s * q * (v * v * s - q));
            dalpha[c + i] = op_blend(beta, dalpha[c + i], g);
        }
    }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct dims d = dims_of(s);
    const float *x = mcs_f32(s->in[0]), *alpha = mcs_f32(s->in[1]), *noise = mcs_f32(s->in[2]);
    const float *dt = mcs_f32(s->dout[0]), *dkl = mcs_f32(s->dout[1]), beta = s->beta[1];
    float *dalpha = mcs_f32(s->din[1]);
    const int64_t rows = d.p * d.t;
    if (!dalpha) return MCS_OK;
#pragma omp parallel for schedule(static) if (rows * d.c * d.copies >= MCS_PARALLEL_MIN / 4)
    for (int64_t r = 0; r < rows; r++) {
        const int64_t p = r / d.t, o = (p * d.copies * d.t + r % d.t) * d.c;
        bwd_row(x + r * d.c, alpha + r * d.c, noise + o, dt ? dt + o : NULL, d.copies, d.t * d.c,
                dkl ? dkl[p] / (float)(d.t * d.c) : 0, beta, dalpha + r * d.c, d.c);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_bottleneck = {NULL, fwd, bwd, NULL};
