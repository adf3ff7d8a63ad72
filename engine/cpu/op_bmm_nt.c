/* bmm_nt: y[b] = a[b] b[b]^T. Many small products run one per thread, few large ones on all threads. */
#include "engine/backend.h"
#include "engine/cpu/onednn.h"

#include <omp.h>

/* y[i] (m,n) = op(a[i]) op(b[i]) + beta y[i] for i < batch; matrices densely stacked. */
static enum mcs_status products(char ta, char tb, int64_t batch, int64_t m, int64_t n, int64_t k, const float *a,
                                int64_t lda, const float *b, int64_t ldb, float beta, float *y)
{
    enum mcs_status st = MCS_OK;
    const int spread = batch >= omp_get_max_threads();
#pragma omp parallel for schedule(static) if (spread)
    for (int64_t i = 0; i < batch; i++) {
        enum mcs_status one =
            mcs_sgemm(ta, tb, m, n, k, 1, a + i * m * k, lda, b + i * n * k, ldb, beta, y + i * m * n, n);
        if (one != MCS_OK) {
#pragma omp atomic write
            st = one;
        }
    }
    return st;
}

static enum mcs_status fwd(const struct step *s)
{
    const int64_t *a = s->in[0]->dim, *b = s->in[1]->dim;
    MCS_TRY(products('N', 'T', a[0], a[1], b[1], a[2], mcs_f32(s->in[0]), a[2], mcs_f32(s->in[1]), a[2], 0,
                     mcs_f32(s->out[0])));
    return MCS_OK;
}

/* da = dy b, db = dy^T a. */
static enum mcs_status bwd(const struct step *s)
{
    const int64_t *a = s->in[0]->dim, *b = s->in[1]->dim, m = a[1], n = b[1], k = a[2];
    const float *dy = mcs_f32(s->dout[0]);
    if (s->din[0])
        MCS_TRY(products('N', 'N', a[0], m, k, n, dy, n, mcs_f32(s->in[1]), k, s->beta[0], mcs_f32(s->din[0])));
    if (s->din[1])
        MCS_TRY(products('T', 'N', a[0], n, k, m, dy, n, mcs_f32(s->in[0]), k, s->beta[1], mcs_f32(s->din[1])));
    return MCS_OK;
}

const struct op_impl mcs_cpu_bmm_nt = {NULL, fwd, bwd, NULL};
