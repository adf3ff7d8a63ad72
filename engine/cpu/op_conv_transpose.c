/* conv_transpose with kernel == stride: every input row makes a separate block of the output, so it is one GEMM and a
 * scatter. The weight (C,O,taps) is transposed to (C,taps,O), so that rows of O values are copied whole; rows are
 * processed in chunks. */
#include "engine/cpu/onednn.h"
#include "engine/cpu/op_common.h"
#include "engine/cpu/rowops.h"

#include <string.h>

enum { PIECE_FLOATS = 1 << 19 }; /* of a chunk's products: 2 MiB */

struct shape {
    int64_t n, c, o, taps, rows, piece; /* rows: number of x's rows; piece: rows per chunk, at least 16 */
    int64_t src[3], k[3];
};

static struct shape shape_of(const struct tensor *x, const struct tensor *w, const struct conv_attr *a)
{
    struct shape d = {.n = x->dim[0], .c = w->dim[0], .o = w->dim[1], .taps = 1, .rows = mcs_rows(x)};
    for (int i = 0; i < 3; i++) {
        const int at = i - (3 - a->nsp);
        d.src[i] = at < 0 ? 1 : x->dim[1 + at];
        d.k[i] = at < 0 ? 1 : w->dim[2 + at];
        d.taps *= d.k[i];
    }
    d.piece = PIECE_FLOATS / (d.taps * d.o);
    d.piece = d.piece < 16 ? 16 : d.piece;
    d.piece = d.piece > d.rows ? d.rows : d.piece;
    return d;
}

static enum mcs_status prepare(struct step *s)
{
    const struct shape d = shape_of(s->in[0], s->in[1], s->attr);
    s->workspace_bytes = op_part_bytes(d.c * d.taps * d.o) * 2 + op_part_bytes(d.piece * d.taps * d.o);
    if (s->backward && s->din[2]) {
        const size_t sum = mcs_rows_sum_workspace(d.rows * d.taps, d.o);
        if (sum > s->workspace_bytes) s->workspace_bytes = sum;
    }
    return MCS_OK;
}

/* The row of y that kernel position t of x's row r writes. */
static inline int64_t target_row(const struct shape *d, int64_t r, int64_t t)
{
    const int64_t w = r % d->src[2], h = r / d->src[2] % d->src[1], rest = r / d->src[2] / d->src[1];
    const int64_t z = rest % d->src[0], n = rest / d->src[0];
    const int64_t kw = t % d->k[2], kh = t / d->k[2] % d->k[1], kd = t / d->k[2] / d->k[1];
    const int64_t row = (n * d->src[0] + z) * d->k[0] + kd;
    return ((row * d->src[1] + h) * d->k[1] + kh) * d->src[2] * d->k[2] + w * d->k[2] + kw;
}

static void scatter(const struct shape *d, const float *cols, int64_t from, int64_t n, const float *bias, float *y)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++)
        for (int64_t t = 0; t < d->taps; t++) {
            const float *src = cols + (r * d->taps + t) * d->o;
            float *dst = y + target_row(d, from + r, t) * d->o;
            if (bias)
                for (int64_t o = 0; o < d->o; o++) dst[o] = src[o] + bias[o];
            else
                memcpy(dst, src, (size_t)d->o * 4);
        }
}

static void gather(const struct shape *d, const float *dy, int64_t from, int64_t n, float *cols)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++)
        for (int64_t t = 0; t < d->taps; t++)
            memcpy(cols + (r * d->taps + t) * d->o, dy + target_row(d, from + r, t) * d->o, (size_t)d->o * 4);
}

static enum mcs_status fwd(const struct step *s)
{
    const struct shape d = shape_of(s->in[0], s->in[1], s->attr);
    const int64_t width = d.taps * d.o;
    float *packed = s->workspace, *cols = packed + op_part_bytes(d.c * width) / sizeof(float);
    op_pack_weight(mcs_f32(s->in[1]), d.c, d.o, d.taps, packed);
    for (int64_t r = 0; r < d.rows; r += d.piece) {
        const int64_t n = op_min(d.piece, d.rows - r);
        MCS_TRY(mcs_sgemm('N', 'N', n, width, d.c, 1, mcs_f32(s->in[0]) + r * d.c, d.c, packed, width, 0, cols, width));
        scatter(&d, cols, r, n, mcs_f32(s->in[2]), mcs_f32(s->out[0]));
    }
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const struct shape d = shape_of(s->in[0], s->in[1], s->attr);
    const int64_t width = d.taps * d.o;
    float *packed = s->workspace, *dpacked = packed + op_part_bytes(d.c * width) / sizeof(float),
          *cols = dpacked + op_part_bytes(d.c * width) / sizeof(float);
    float *dx = mcs_f32(s->din[0]), *dw = mcs_f32(s->din[1]);
    if (dx) op_pack_weight(mcs_f32(s->in[1]), d.c, d.o, d.taps, packed);
    for (int64_t r = 0; r < d.rows && (dx || dw); r += d.piece) {
        const int64_t n = op_min(d.piece, d.rows - r);
        gather(&d, mcs_f32(s->dout[0]), r, n, cols);
        if (dx)
            MCS_TRY(mcs_sgemm('N', 'T', n, d.c, width, 1, cols, width, packed, width, s->beta[0], dx + r * d.c, d.c));
        if (dw)
            MCS_TRY(mcs_sgemm('T', 'N', d.c, width, n, 1, mcs_f32(s->in[0]) + r * d.c, d.c, cols, width, r > 0, dpacked,
                              width));
    }
    if (dw) op_unpack_weight(dpacked, d.c, d.o, d.taps, s->beta[1], dw);
    if (s->din[2])
        mcs_rows_sum(mcs_f32(s->dout[0]), d.rows * d.taps, d.o, s->beta[2], mcs_f32(s->din[2]), s->workspace);
    return MCS_OK;
}

const struct op_impl mcs_cpu_conv_transpose = {prepare, fwd, bwd, NULL};
