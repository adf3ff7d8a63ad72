/* Conversion between float types. This backend computes in float32 only (--precision), so its own graphs ask for copies
 * only; the roundings serve comparisons between backends. */
#include "engine/cpu/op_common.h"

static float get(const struct tensor *t, int64_t i)
{
    return t->dt == MCS_BF16 ? mcs_bf16_to(((const uint16_t *)t->data)[i]) : ((const float *)t->data)[i];
}

static enum mcs_status run(const struct step *s)
{
    const struct tensor *src = s->backward ? s->dout[0] : s->in[0], *dst = s->backward ? s->din[0] : s->out[0];
    const float beta = s->backward ? s->beta[0] : 0;
    if (!dst) return MCS_OK;
    const int64_t n = mcs_count(dst);
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++) {
        const float v = op_blend(beta, beta != 0 ? get(dst, i) : 0, get(src, i));
        if (dst->dt == MCS_BF16)
            ((uint16_t *)dst->data)[i] = mcs_bf16_from(v);
        else
            ((float *)dst->data)[i] = v;
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_cast = {NULL, run, run, NULL};
