/* Rows by number; -1 gives zeros. The backward pass adds in the order of the index; every thread owns a range of target
 * rows. */
#include <string.h>

#include "engine/cpu/op_common.h"

enum { RANGES = 16 };

static enum mcs_status fwd(const struct step *s)
{
    const int64_t width = mcs_last(s->in[0]), rows = mcs_rows(s->in[0]), n = mcs_count(s->in[1]);
    const float *x = mcs_f32(s->in[0]);
    const int32_t *index = mcs_i32(s->in[1]);
    float *y = mcs_f32(s->out[0]);
    for (int64_t i = 0; i < n; i++)
        MCS_REQUIRE(index[i] >= -1 && index[i] < rows, MCS_E_DATA, "%s: row %d of a table of %lld rows (entry %lld)",
                    s->scope, index[i], (long long)rows, (long long)i);
#pragma omp parallel for schedule(static) if (n * width >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++) {
        if (index[i] < 0)
            memset(y + i * width, 0, (size_t)width * sizeof *y);
        else
            memcpy(y + i * width, x + index[i] * width, (size_t)width * sizeof *y);
    }
    return MCS_OK;
}

MCS_CLONES static void scatter(const float *restrict dy, const int32_t *index, int64_t n, int64_t width, int64_t r0,
                               int64_t r1, float *restrict dx)
{
    for (int64_t i = 0; i < n; i++) {
        if (index[i] < r0 || index[i] >= r1) continue;
        float *to = dx + index[i] * width;
        const float *from = dy + i * width;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) to[c] += from[c];
    }
}

static enum mcs_status bwd(const struct step *s)
{
    float *dx = mcs_f32(s->din[0]);
    if (!dx) return MCS_OK;
    const int64_t width = mcs_last(s->din[0]), rows = mcs_rows(s->din[0]), n = mcs_count(s->in[1]);
    const int64_t per = op_div_up(rows, RANGES);
#pragma omp parallel for schedule(static) if (rows * width >= MCS_PARALLEL_MIN || n * width >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r += per) {
        const int64_t end = op_min(r + per, rows);
        if (s->beta[0] == 0) memset(dx + r * width, 0, (size_t)((end - r) * width) * sizeof *dx);
        scatter(mcs_f32(s->dout[0]), mcs_i32(s->in[1]), n, width, r, end, dx);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_gather = {NULL, fwd, bwd, NULL};
