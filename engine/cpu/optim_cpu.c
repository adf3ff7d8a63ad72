#include "engine/cpu/optim_cpu.h"

#include <math.h>

#include "engine/cpu/op_common.h"

enum { MAX_BLOCKS = 256, BLOCK = 16384 /* floats */ };

MCS_CLONES static double squares(const float *restrict x, int64_t n)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    return s;
}

/* Each range is cut into at most MAX_BLOCKS blocks, by its length alone; their sums are added in order. */
static double sum_squares(const float *x, const struct optim_range *r, int n)
{
    double sum = 0;
    for (int k = 0; k < n; k++) {
        double part[MAX_BLOCKS];
        const int64_t even = op_div_up(r[k].n, MAX_BLOCKS), size = even > BLOCK ? even : BLOCK,
                      blocks = op_div_up(r[k].n, size);
#pragma omp parallel for schedule(static) if (r[k].n >= MCS_PARALLEL_MIN)
        for (int64_t b = 0; b < blocks; b++)
            part[b] = squares(x + r[k].first + b * size, op_min(size, r[k].n - b * size));
        for (int64_t b = 0; b < blocks; b++) sum += part[b];
    }
    return sum;
}

struct adam {
    float keep, step, rbias, eps, scale; /* keep: w's factor; step: lr / (1 - beta1^t); rbias: 1 / sqrt(1 - beta2^t) */
    float beta2, one1, one2;             /* one1: 1 - beta1; one2: 1 - beta2 */
};

MCS_CLONES static void adamw(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
                             int64_t n, struct adam a)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float e = g[i] * a.scale;
        m[i] += a.one1 * (e - m[i]);
        v[i] = a.beta2 * v[i] + a.one2 * e * e;
        w[i] = a.keep * w[i] - a.step * m[i] / (sqrtf(v[i]) * a.rbias + a.eps);
    }
}

/* Nesterov: the step uses the next momentum. Torch copies the gradient in the first step, as adding to 0 does here. */
MCS_CLONES static void sgd(float *restrict w, const float *restrict g, float *restrict m, int64_t n, float lr,
                           float momentum, float decay, float scale)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float e = g[i] * scale + decay * w[i];
        m[i] = momentum * m[i] + e;
        w[i] -= lr * (e + momentum * m[i]);
    }
}

static _Thread_local double last_norm; /* of this thread's last update: a rank is a thread */

enum mcs_status mcs_cpu_optim_norm(struct device *d, double *norm)
{
    *norm = last_norm;
    return MCS_OK;
}

enum mcs_status mcs_cpu_optim_update(struct device *d, const struct optim_update *u)
{
    const struct optim_options *o = u->o;
    last_norm = sqrt(sum_squares(u->g, u->ranges, u->n_ranges));
    if (!isfinite(last_norm)) return MCS_OK;
    const double clip = o->clip_norm > 0 ? o->clip_norm / (last_norm + 1e-6) : 1;
    const float scale = clip < 1 ? (float)clip : 1;
    const double beta1 = mcs_optim_decimal(o->beta1), beta2 = mcs_optim_decimal(o->beta2), t = (double)u->step;
    struct adam a = {.eps = o->eps, .scale = scale, .beta2 = (float)beta2};
    a.one1 = (float)(1 - beta1);
    a.one2 = (float)(1 - beta2);
    a.step = (float)(u->lr / (1 - pow(beta1, t)));
    a.rbias = (float)(1 / sqrt(1 - pow(beta2, t)));
    for (int k = 0; k < u->n_ranges; k++) {
        const struct optim_range r = u->ranges[k];
        a.keep = (float)(1 - u->lr * (double)r.decay);
#pragma omp parallel for schedule(static) if (r.n >= MCS_PARALLEL_MIN)
        for (int64_t b = 0; b < r.n; b += BLOCK) {
            const int64_t i = r.first + b, n = op_min(BLOCK, r.n - b);
            if (o->kind == OPTIM_ADAMW)
                adamw(u->w + i, u->g + i, u->m + i, u->v + i, n, a);
            else
                sgd(u->w + i, u->g + i, u->m + i, n, (float)u->lr, o->momentum, r.decay, scale);
        }
    }
    return MCS_OK;
}
