/* window, unwindow: copy rows of C values between an image (B,H,W,C) and its windows (B*nh*nw,win,win,C), zero-padded
 * at the bottom and right. Each is the other's gradient, except that padding is dropped. */
#include "engine/backend.h"

#include <string.h>

struct shape {
    int64_t h, w, c, win, nh, nw, windows;
};

static struct shape shape_of(const struct tensor *image, const struct tensor *windows, const struct window_attr *a)
{
    const int64_t h = image->dim[1], w = image->dim[2];
    return (struct shape){
        h, w, mcs_last(image), a->win, (h + a->win - 1) / a->win, (w + a->win - 1) / a->win, windows->dim[0]};
}

static enum mcs_status prepare(struct step *s, struct device *d)
{
    (void)s, (void)d;
    return MCS_OK;
}

/* dst = beta dst + src; src NULL: zeros. */
static void move(float *dst, const float *src, int64_t n, float beta)
{
    if (beta == 0 && src)
        memcpy(dst, src, (size_t)n * 4);
    else if (beta == 0)
        memset(dst, 0, (size_t)n * 4);
    else if (src)
        for (int64_t i = 0; i < n; i++) dst[i] += src[i];
}

/* to_windows: windows = beta windows + image, the padding 0; else image = beta image + windows. */
static void copy(const struct shape *d, float *image, float *windows, int to_windows, float beta)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < d->windows; i++) {
        const int64_t wx = i % d->nw, wy = i / d->nw % d->nh, b = i / d->nw / d->nh;
        const int64_t x0 = wx * d->win, inside = d->w - x0 < d->win ? d->w - x0 : d->win;
        for (int64_t y = 0; y < d->win; y++) {
            float *row = windows + (i * d->win + y) * d->win * d->c;
            const int64_t iy = wy * d->win + y;
            float *at = iy < d->h ? image + ((b * d->h + iy) * d->w + x0) * d->c : NULL;
            if (to_windows) {
                const int64_t n = at ? inside : 0;
                move(row, at, n * d->c, beta);
                move(row + n * d->c, NULL, (d->win - n) * d->c, beta);
            } else if (at) {
                move(at, row, inside * d->c, beta);
            }
        }
    }
}

static enum mcs_status window_fwd(const struct step *s)
{
    const struct shape d = shape_of(s->in[0], s->out[0], s->attr);
    copy(&d, mcs_f32(s->in[0]), mcs_f32(s->out[0]), 1, 0);
    return MCS_OK;
}

static enum mcs_status window_bwd(const struct step *s)
{
    if (!s->din[0]) return MCS_OK;
    const struct shape d = shape_of(s->din[0], s->dout[0], s->attr);
    copy(&d, mcs_f32(s->din[0]), mcs_f32(s->dout[0]), 0, s->beta[0]);
    return MCS_OK;
}

static enum mcs_status unwindow_fwd(const struct step *s)
{
    const struct shape d = shape_of(s->out[0], s->in[0], s->attr);
    copy(&d, mcs_f32(s->out[0]), mcs_f32(s->in[0]), 0, 0);
    return MCS_OK;
}

static enum mcs_status unwindow_bwd(const struct step *s)
{
    if (!s->din[0]) return MCS_OK;
    const struct shape d = shape_of(s->dout[0], s->din[0], s->attr);
    copy(&d, mcs_f32(s->dout[0]), mcs_f32(s->din[0]), 1, s->beta[0]);
    return MCS_OK;
}

const struct op_impl mcs_cpu_window = {prepare, window_fwd, window_bwd, NULL};
const struct op_impl mcs_cpu_unwindow = {prepare, unwindow_fwd, unwindow_bwd, NULL};
