/* Bilinear resizing with half-pixel centres, no antialiasing, channels last. The backward pass gathers: each input row
 * sums over the output rows that read it, so no two threads add to the same row. */
#include <math.h>
#include <stdlib.h>

#include "engine/cpu/op_common.h"

enum { TILE = 4096 }; /* floats */

/* Output position o reads input lo[o] with weight 1 - w[o] and hi[o] with w[o]; the outputs that read input i are
 * first[i] ... last[i]. */
struct axis {
    int32_t *lo, *hi, *first, *last;
    float *w;
};
struct tables {
    struct axis y, x;
};

static enum mcs_status axis_new(int64_t in, int64_t out, struct axis *a)
{
    int32_t *p = malloc((size_t)(2 * (in + out)) * sizeof *p + (size_t)out * sizeof(float));
    MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for resize tables");
    *a = (struct axis){p, p + out, p + 2 * out, p + 2 * out + in, (float *)(p + 2 * out + 2 * in)};
    for (int64_t i = 0; i < in; i++) a->first[i] = (int32_t)out, a->last[i] = -1;
    for (int64_t o = 0; o < out; o++) {
        double at = ((double)o + 0.5) * (double)in / (double)out - 0.5;
        if (at < 0) at = 0;
        int64_t lo = (int64_t)at;
        if (lo > in - 1) lo = in - 1;
        const int64_t hi = lo + 1 < in ? lo + 1 : lo;
        a->lo[o] = (int32_t)lo;
        a->hi[o] = (int32_t)hi;
        a->w[o] = hi > lo ? (float)(at - (double)lo) : 0;
        for (int64_t i = lo; i <= hi; i++) {
            if (o < a->first[i]) a->first[i] = (int32_t)o;
            a->last[i] = (int32_t)o;
        }
    }
    return MCS_OK;
}

static void release(struct step *s)
{
    struct tables *t = s->prepared;
    if (t) {
        free(t->y.lo);
        free(t->x.lo);
    }
    free(t);
    s->prepared = NULL;
}

static enum mcs_status prepare(struct step *s)
{
    const struct resize_attr *a = s->attr;
    const struct tensor *x = s->backward ? s->din[0] : s->in[0];
    if (!x) return MCS_OK;
    MCS_REQUIRE(mcs_last(x) <= TILE, MCS_E_SHAPE, "%s: resize takes at most %d channels, got %lld", s->scope, TILE,
                (long long)mcs_last(x));
    struct tables *t = calloc(1, sizeof *t);
    MCS_REQUIRE(t, MCS_E_NOMEM, "no memory for resize tables");
    s->prepared = t;
    MCS_TRY(axis_new(x->dim[1], a->h, &t->y));
    return axis_new(x->dim[2], a->w, &t->x);
}

MCS_CLONES static void fwd_row(const float *restrict up, const float *restrict down, float wy, const struct axis *ax,
                               int64_t w, int64_t c, float *restrict y)
{
    if (c == 1) {
        for (int64_t o = 0; o < w; o++) {
            const float wx = ax->w[o], l = up[ax->lo[o]] * (1 - wy) + down[ax->lo[o]] * wy;
            const float r = up[ax->hi[o]] * (1 - wy) + down[ax->hi[o]] * wy;
            y[o] = l * (1 - wx) + r * wx;
        }
        return;
    }
    for (int64_t o = 0; o < w; o++) {
        const int64_t l = ax->lo[o] * c, r = ax->hi[o] * c;
        const float wx = ax->w[o], w00 = (1 - wy) * (1 - wx), w01 = (1 - wy) * wx, w10 = wy * (1 - wx), w11 = wy * wx;
#pragma omp simd
        for (int64_t i = 0; i < c; i++)
            y[o * c + i] = w00 * up[l + i] + w01 * up[r + i] + w10 * down[l + i] + w11 * down[r + i];
    }
}

static enum mcs_status fwd(const struct step *s)
{
    const struct tensor *x = s->in[0];
    const struct tables *t = s->prepared;
    const int64_t n = x->dim[0], ih = x->dim[1], iw = x->dim[2], c = x->dim[3], h = s->out[0]->dim[1],
                  w = s->out[0]->dim[2];
    const float *src = mcs_f32(x);
    float *dst = mcs_f32(s->out[0]);
#pragma omp parallel for schedule(static) if (n * h * w * c >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < n * h; r++) {
        const int64_t b = r / h, o = r % h;
        fwd_row(src + (b * ih + t->y.lo[o]) * iw * c, src + (b * ih + t->y.hi[o]) * iw * c, t->y.w[o], &t->x, w, c,
                dst + r * w * c);
    }
    return MCS_OK;
}

MCS_INLINE float weight_of(const struct axis *a, int64_t o, int64_t i)
{
    return (a->lo[o] == i ? 1 - a->w[o] : 0) + (a->hi[o] == i && a->hi[o] != a->lo[o] ? a->w[o] : 0);
}

/* Input row i of one image: dx (iw,c) from dy (h,w,c). A tile of the output's columns at a time is first summed over
 * its rows, and then distributed to the input's columns. */
MCS_CLONES static void bwd_row(const float *restrict dy, const struct tables *t, int64_t i, int64_t iw, int64_t w,
                               int64_t c, float beta, float *restrict dx)
{
    float sum[TILE];
    const int64_t tile = TILE / c;
    if (beta == 0)
        for (int64_t k = 0; k < iw * c; k++) dx[k] = 0;
    for (int64_t p0 = 0; p0 < w; p0 += tile) {
        const int64_t m = (p0 + tile < w ? tile : w - p0) * c;
        for (int64_t k = 0; k < m; k++) sum[k] = 0;
        for (int64_t o = t->y.first[i]; o <= t->y.last[i]; o++) {
            const float wy = weight_of(&t->y, o, i), *g = dy + (o * w + p0) * c;
#pragma omp simd
            for (int64_t k = 0; k < m; k++) sum[k] += wy * g[k];
        }
        if (c == 1) {
            for (int64_t p = 0; p < m; p++) {
                const float right = t->x.w[p0 + p] * sum[p];
                dx[t->x.lo[p0 + p]] += sum[p] - right;
                dx[t->x.hi[p0 + p]] += right;
            }
            continue;
        }
        for (int64_t p = 0; p < m / c; p++) {
            const float *g = sum + p * c, w1 = t->x.w[p0 + p], w0 = 1 - w1;
            float *l = dx + t->x.lo[p0 + p] * c, *r = dx + t->x.hi[p0 + p] * c;
            for (int64_t k = 0; k < c; k++) l[k] += w0 * g[k];
            for (int64_t k = 0; k < c; k++) r[k] += w1 * g[k];
        }
    }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct tensor *x = s->din[0];
    if (!x) return MCS_OK;
    const int64_t n = x->dim[0], ih = x->dim[1], iw = x->dim[2], c = x->dim[3], h = s->dout[0]->dim[1],
                  w = s->dout[0]->dim[2];
    const float *dy = mcs_f32(s->dout[0]);
    float *dx = mcs_f32(x);
#pragma omp parallel for schedule(static) if (n * h * w * c >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < n * ih; r++)
        bwd_row(dy + r / ih * h * w * c, s->prepared, r % ih, iw, w, c, s->beta[0], dx + r * iw * c);
    return MCS_OK;
}

const struct op_impl mcs_cpu_resize = {prepare, fwd, bwd, release};
