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

/* window backward copies as unwindow forward does, and the reverse. */
static enum mcs_status run(const struct step *s)
{
    const int to_windows = (s->op == OP_window) == !s->backward;
    const struct tensor *src = s->backward ? s->dout[0] : s->in[0], *dst = s->backward ? s->din[0] : s->out[0];
    const struct tensor *image = to_windows ? src : dst, *windows = to_windows ? dst : src;
    if (!dst) return MCS_OK;
    const struct shape d = shape_of(image, windows, s->attr);
    copy(&d, mcs_f32(image), mcs_f32(windows), to_windows, s->backward ? s->beta[0] : 0);
    return MCS_OK;
}

const struct op_impl mcs_cpu_window = {NULL, run, run, NULL};
const struct op_impl mcs_cpu_unwindow = {NULL, run, run, NULL};
