/* Concatenation along an axis; an input whose leading part is 1 is repeated (a class token over the batch). */
#include <string.h>

#include "engine/cpu/op_common.h"

/* Product of the dimensions before the axis. */
static int64_t outer(const struct tensor *t, int axis)
{
    int64_t n = 1;
    for (int d = 0; d < axis; d++) n *= t->dim[d];
    return n;
}

static enum mcs_status fwd(const struct step *s)
{
    const int axis = ((const struct axis_attr *)s->attr)->axis;
    const int64_t rows = outer(s->out[0], axis), width = mcs_count(s->out[0]) / rows;
    float *y = mcs_f32(s->out[0]);
    for (int k = 0; k < 4 && s->in[k]; k++) {
        const float *x = mcs_f32(s->in[k]);
        const int64_t own = outer(s->in[k], axis), n = mcs_count(s->in[k]) / own;
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
        for (int64_t r = 0; r < rows; r++) memcpy(y + r * width, x + (own == 1 ? 0 : r) * n, (size_t)n * sizeof *y);
        y += n;
    }
    return MCS_OK;
}

static enum mcs_status prepare(struct step *s)
{
    const int axis = ((const struct axis_attr *)s->attr)->axis;
    for (int k = 0; s->backward && k < 4; k++) {
        if (!s->din[k]) continue;
        const int64_t rows = outer(s->dout[0], axis), n = mcs_count(s->din[k]) / outer(s->din[k], axis);
        const size_t bytes = op_sum_rows_bytes(rows, n);
        if (bytes > s->workspace_bytes) s->workspace_bytes = bytes;
    }
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const int axis = ((const struct axis_attr *)s->attr)->axis;
    const int64_t rows = outer(s->dout[0], axis), width = mcs_count(s->dout[0]) / rows;
    const float *dy = mcs_f32(s->dout[0]);
    for (int k = 0; k < 4 && s->like[k]; k++) {
        const int64_t own = outer(s->like[k], axis), n = mcs_count(s->like[k]) / own;
        float *dx = mcs_f32(s->din[k]);
        if (dx && own == 1) {
            op_sum_rows(dy, rows, n, width, s->beta[k], dx, s->workspace);
        } else if (dx) {
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
            for (int64_t r = 0; r < rows; r++) op_blend_row(dy + r * width, n, s->beta[k], dx + r * n);
        }
        dy += n;
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_concat = {prepare, fwd, bwd, NULL};
