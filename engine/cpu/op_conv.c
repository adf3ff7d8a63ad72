/* conv: oneDNN's convolutions on channels-last activations; im2col + GEMM in chunks of rows where oneDNN only has a
 * reference implementation, and for the 3-D wgrad where oneDNN would apply im2col to the whole volume (no AVX-512). */
#include "engine/cpu/conv.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/op_common.h"
#include "engine/cpu/rowops.h"

#include <stdlib.h>
#include <string.h>

enum { IM2COL_FLOATS = 1 << 20 }; /* of the im2col buffer: 4 MiB */

struct conv_plan {
    struct conv_dims d;
    int64_t taps, rows;          /* positions of the kernel; rows of the output */
    int64_t chunk;               /* output rows per im2col buffer, at least 64 */
    struct onednn_conv *pass[3]; /* by enum conv_pass; NULL: not wanted, or im2col */
    size_t sum_at;               /* byte offset in the workspace where oneDNN writes a gradient to be added (beta 1) */
};

static struct conv_dims dims_of(const struct tensor *x, const struct tensor *w, const struct tensor *y,
                                const struct conv_attr *a)
{
    struct conv_dims d = {.nsp = a->nsp, .n = x->dim[0], .c = mcs_last(x), .o = w->dim[0]};
    for (int i = 0; i < 3; i++) {
        const int at = i - (3 - a->nsp); /* spatial axis of the op */
        d.src[i] = at < 0 ? 1 : x->dim[1 + at];
        d.dst[i] = at < 0 ? 1 : y->dim[1 + at];
        d.k[i] = at < 0 ? 1 : w->dim[2 + at];
        d.stride[i] = at < 0 ? 1 : a->stride[at];
        d.pad[i] = at < 0 ? 0 : a->pad[at];
    }
    return d;
}

static void release(struct step *s)
{
    struct conv_plan *p = s->prepared;
    if (!p) return;
    for (int i = 0; i < 3; i++) mcs_onednn_conv_free(p->pass[i]);
    free(p);
    s->prepared = NULL;
}

/* Bytes of packed weights and of the im2col buffer. */
static size_t im2col_bytes(const struct conv_plan *p)
{
    const int64_t width = p->taps * p->d.c;
    return op_part_bytes(p->d.o * width) + op_part_bytes(p->chunk * width);
}

static enum mcs_status plan_pass(struct conv_plan *p, enum conv_pass pass, int has_bias, int force_im2col,
                                 size_t *bytes)
{
    if (!force_im2col) MCS_TRY(mcs_onednn_conv_new(pass, &p->d, has_bias, &p->pass[pass]));
    if (p->pass[pass] && pass == CONV_WGRAD && p->d.nsp == 3 && strstr(mcs_onednn_conv_impl(p->pass[pass]), "gemm")) {
        mcs_onednn_conv_free(p->pass[pass]);
        p->pass[pass] = NULL;
    }
    const size_t want = p->pass[pass] ? mcs_onednn_conv_workspace(p->pass[pass]) : im2col_bytes(p);
    if (want > *bytes) *bytes = want;
    return MCS_OK;
}

static enum mcs_status plan_step(struct step *s, int force_im2col)
{
    const struct tensor *y = s->backward ? s->dout[0] : s->out[0];
    struct conv_plan *p = calloc(1, sizeof *p);
    size_t bytes = 0, sum = 0;
    enum mcs_status st;
    MCS_REQUIRE(p, MCS_E_NOMEM, "%s: out of memory", s->scope);
    s->prepared = p;
    if (!y) return MCS_OK;
    p->d = dims_of(s->in[0], s->in[1], y, s->attr);
    p->taps = p->d.k[0] * p->d.k[1] * p->d.k[2];
    p->rows = mcs_rows(y);
    p->chunk = IM2COL_FLOATS / (p->taps * p->d.c);
    p->chunk = p->chunk < 64 ? 64 : p->chunk;
    p->chunk = p->chunk > p->rows ? p->rows : p->chunk;
    if (!s->backward) {
        MCS_TRY_GOTO(plan_pass(p, CONV_FPROP, s->in[2] != NULL, force_im2col, &bytes), st, fail);
    }
    if (s->backward && s->din[0]) {
        MCS_TRY_GOTO(plan_pass(p, CONV_DGRAD, 0, force_im2col, &bytes), st, fail);
        if (s->beta[0] != 0 && p->pass[CONV_DGRAD]) sum = (size_t)mcs_count(s->in[0]) * 4;
    }
    if (s->backward && s->din[1]) {
        const size_t w = (size_t)mcs_count(s->in[1]) * 4;
        MCS_TRY_GOTO(plan_pass(p, CONV_WGRAD, 0, force_im2col, &bytes), st, fail);
        if (s->beta[1] != 0 && p->pass[CONV_WGRAD] && w > sum) sum = w;
    }
    if (s->backward && s->din[2]) {
        const size_t b = mcs_rows_sum_workspace(p->rows, p->d.o);
        if (b > bytes) bytes = b;
    }
    p->sum_at = (bytes + 63) & ~(size_t)63;
    s->workspace_bytes = p->sum_at + sum;
    return MCS_OK;
fail:
    release(s);
    return st;
}

static enum mcs_status prepare(struct step *s)
{
    return plan_step(s, 0);
}

static enum mcs_status prepare_im2col(struct step *s)
{
    return plan_step(s, 1);
}

const char *mcs_cpu_conv_impl_name(const struct step *s, int pass)
{
    const struct conv_plan *p = s->prepared;
    if (p->pass[pass]) return mcs_onednn_conv_impl(p->pass[pass]);
    const int wanted = pass == CONV_FPROP ? !s->backward : s->backward && s->din[pass - 1] != NULL;
    return wanted ? "im2col" : NULL;
}

/* ---- im2col ---- */

/* Row of x that tap t of output row r reads, or -1 in the padding. */
static inline int64_t source_row(const struct conv_dims *d, int64_t r, int64_t t)
{
    const int64_t ow = r % d->dst[2], oh = r / d->dst[2] % d->dst[1], rest = r / d->dst[2] / d->dst[1];
    const int64_t od = rest % d->dst[0], n = rest / d->dst[0];
    const int64_t kw = t % d->k[2], kh = t / d->k[2] % d->k[1], kd = t / d->k[2] / d->k[1];
    const int64_t iw = ow * d->stride[2] + kw - d->pad[2], ih = oh * d->stride[1] + kh - d->pad[1];
    const int64_t id = od * d->stride[0] + kd - d->pad[0];
    if (iw < 0 || iw >= d->src[2] || ih < 0 || ih >= d->src[1] || id < 0 || id >= d->src[0]) return -1;
    return ((n * d->src[0] + id) * d->src[1] + ih) * d->src[2] + iw;
}

static void im2col(const struct conv_plan *p, const float *x, int64_t from, int64_t n, float *cols)
{
    const int64_t c = p->d.c;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++)
        for (int64_t t = 0; t < p->taps; t++) {
            const int64_t at = source_row(&p->d, from + r, t);
            float *to = cols + (r * p->taps + t) * c;
            if (at < 0)
                memset(to, 0, (size_t)c * 4);
            else
                memcpy(to, x + at * c, (size_t)c * 4);
        }
}

/* Adds the columns back (col2im). Position by position: for one kernel position all output rows read different rows of
 * x, so that no two threads write the same row. */
static void col2im(const struct conv_plan *p, const float *cols, int64_t from, int64_t n, float *dx)
{
    const int64_t c = p->d.c;
#pragma omp parallel
    for (int64_t t = 0; t < p->taps; t++) {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n; r++) {
            const int64_t at = source_row(&p->d, from + r, t);
            const float *src = cols + (r * p->taps + t) * c;
            if (at < 0) continue;
            for (int64_t i = 0; i < c; i++) dx[at * c + i] += src[i];
        }
    }
}

static enum mcs_status run_im2col(const struct step *s, enum conv_pass pass, const float *x, float *w, float *y,
                                  float *dx)
{
    const struct conv_plan *p = s->prepared;
    const int64_t width = p->taps * p->d.c, o = p->d.o;
    float *packed = s->workspace, *cols = packed + op_part_bytes(o * width) / sizeof(float);
    if (pass != CONV_WGRAD) op_pack_weight(w, o, p->d.c, p->taps, packed);
    if (pass == CONV_DGRAD && s->beta[0] == 0) memset(dx, 0, (size_t)mcs_count(s->din[0]) * 4);
    for (int64_t r = 0; r < p->rows; r += p->chunk) {
        const int64_t n = op_min(p->chunk, p->rows - r);
        float *row = y + r * o;
        if (pass != CONV_DGRAD) im2col(p, x, r, n, cols);
        if (pass == CONV_FPROP) MCS_TRY(mcs_sgemm('N', 'T', n, o, width, 1, cols, width, packed, width, 0, row, o));
        if (pass == CONV_DGRAD) {
            MCS_TRY(mcs_sgemm('N', 'N', n, width, o, 1, row, o, packed, width, 0, cols, width));
            col2im(p, cols, r, n, dx);
        }
        if (pass == CONV_WGRAD) MCS_TRY(mcs_sgemm('T', 'N', o, width, n, 1, row, o, cols, width, r > 0, packed, width));
    }
    if (pass == CONV_FPROP && s->in[2]) mcs_rows_add_bias(y, mcs_f32(s->in[2]), p->rows, o);
    if (pass == CONV_WGRAD) op_unpack_weight(packed, o, p->d.c, p->taps, s->beta[1], w);
    return MCS_OK;
}

/* ---- the passes ---- */

static enum mcs_status fwd(const struct step *s)
{
    const struct conv_plan *p = s->prepared;
    float *x = mcs_f32(s->in[0]), *w = mcs_f32(s->in[1]), *y = mcs_f32(s->out[0]);
    if (!p->pass[CONV_FPROP]) return run_im2col(s, CONV_FPROP, x, w, y, NULL);
    return mcs_onednn_conv_run(p->pass[CONV_FPROP], x, w, mcs_f32(s->in[2]), y, s->workspace);
}

/* oneDNN's dgrad and wgrad overwrite: with beta 1 they write to the workspace, which is then added. */
static enum mcs_status bwd(const struct step *s)
{
    const struct conv_plan *p = s->prepared;
    float *x = mcs_f32(s->in[0]), *w = mcs_f32(s->in[1]), *dy = mcs_f32(s->dout[0]);
    float *dx = mcs_f32(s->din[0]), *dw = mcs_f32(s->din[1]), *addend = (float *)((char *)s->workspace + p->sum_at);
    if (dx && !p->pass[CONV_DGRAD]) MCS_TRY(run_im2col(s, CONV_DGRAD, NULL, w, dy, dx));
    if (dx && p->pass[CONV_DGRAD]) {
        float *to = s->beta[0] != 0 ? addend : dx;
        MCS_TRY(mcs_onednn_conv_run(p->pass[CONV_DGRAD], to, w, NULL, dy, s->workspace));
        if (to == addend) op_accumulate(addend, mcs_count(s->din[0]), 1, dx);
    }
    if (dw && !p->pass[CONV_WGRAD]) MCS_TRY(run_im2col(s, CONV_WGRAD, x, dw, dy, NULL));
    if (dw && p->pass[CONV_WGRAD]) {
        float *to = s->beta[1] != 0 ? addend : dw;
        MCS_TRY(mcs_onednn_conv_run(p->pass[CONV_WGRAD], x, to, NULL, dy, s->workspace));
        if (to == addend) op_accumulate(addend, mcs_count(s->din[1]), 1, dw);
    }
    if (s->din[2]) mcs_rows_sum(dy, p->rows, p->d.o, s->beta[2], mcs_f32(s->din[2]), s->workspace);
    return MCS_OK;
}

const struct op_impl mcs_cpu_conv = {prepare, fwd, bwd, release};
const struct op_impl mcs_cpu_conv_im2col = {prepare_im2col, fwd, bwd, release};
