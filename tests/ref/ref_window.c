#include "tests/ref/ref.h"

/* Index in the image (B,h,w,C) of element i of the windows (B*nh*nw,win,win,C), -1 in the padding. */
static int64_t image_index(int64_t i, int64_t win, int64_t h, int64_t w, int64_t c)
{
    const int64_t nh = (h + win - 1) / win, nw = (w + win - 1) / win;
    const int64_t ch = i % c, wx = i / c % win, wy = i / c / win % win, id = i / c / win / win;
    const int64_t x = id % nw * win + wx, y = id / nw % nh * win + wy, b = id / nw / nh;
    return x < w && y < h ? ((b * h + y) * w + x) * c + ch : -1;
}

void ref_window_fwd(const struct ref_step *s)
{
    const struct window_attr *a = s->attr;
    const int64_t *d = s->in[0].dim;
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n; i++) {
        const int64_t at = image_index(i, a->win, d[1], d[2], d[3]);
        s->out[0].v[i] = at < 0 ? 0 : s->in[0].v[at];
    }
}

void ref_window_bwd(const struct ref_step *s)
{
    const struct window_attr *a = s->attr;
    const int64_t *d = s->in[0].dim;
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n && s->din[0].v; i++) {
        const int64_t at = image_index(i, a->win, d[1], d[2], d[3]);
        if (at >= 0) s->din[0].v[at] += s->dout[0].v[i];
    }
}

void ref_unwindow_fwd(const struct ref_step *s)
{
    const struct window_attr *a = s->attr;
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        const int64_t at = image_index(i, a->win, a->h, a->w, s->in[0].dim[3]);
        if (at >= 0) s->out[0].v[at] = s->in[0].v[i];
    }
}

void ref_unwindow_bwd(const struct ref_step *s)
{
    const struct window_attr *a = s->attr;
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n && s->din[0].v; i++) {
        const int64_t at = image_index(i, a->win, a->h, a->w, s->in[0].dim[3]);
        if (at >= 0) s->din[0].v[i] += s->dout[0].v[at];
    }
}
