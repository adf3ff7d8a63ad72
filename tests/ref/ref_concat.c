#include <math.h>

#include "tests/ref/ref.h"

/* For every output element, its input and the element there: copies the value, or adds the gradient. */
static void walk(const struct ref_step *s, int backward)
{
    const int axis = ((const struct axis_attr *)s->attr)->axis;
    int64_t lead = 1, tail = 1, o = 0;
    for (int d = 0; d < axis; d++) lead *= s->out[0].dim[d];
    for (int d = axis + 1; d < s->out[0].nd; d++) tail *= s->out[0].dim[d];
    for (int64_t l = 0; l < lead; l++)
        for (int k = 0; k < 4 && s->in[k].v; k++) {
            const int64_t n = s->in[k].dim[axis] * tail, own = ref_count(&s->in[k]) / n;
            for (int64_t i = 0; i < n; i++, o++) {
                const int64_t e = (own == 1 ? 0 : l) * n + i;
                if (!backward) {
                    s->out[0].v[o] = s->in[k].v[e];
                } else if (s->din[k].v) {
                    s->din[k].v[e] += s->dout[0].v[o];
                    s->din[k].mag[e] += fabs(s->dout[0].v[o]);
                }
            }
        }
}

void ref_concat_fwd(const struct ref_step *s)
{
    walk(s, 0);
}

void ref_concat_bwd(const struct ref_step *s)
{
    walk(s, 1);
}
