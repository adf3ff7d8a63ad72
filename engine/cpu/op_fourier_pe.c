/* SAM's positional encoding by random frequencies: a = 2 pi (2 p - 1) g, then sin a and cos a. In double: it runs once
 * per image, and the arguments are tens of radians. */
#include <math.h>

#include "engine/cpu/op_common.h"

static enum mcs_status fwd(const struct step *s)
{
    const int64_t n = s->in[0]->dim[0], f = s->in[2]->dim[1];
    const float *xy = mcs_f32(s->in[0]), *g = mcs_f32(s->in[2]);
    const int32_t *label = mcs_i32(s->in[1]);
    float *out = mcs_f32(s->out[0]);
#pragma omp parallel for schedule(static) if (n * f >= 1024)
    for (int64_t i = 0; i < n; i++) {
        float *y = out + i * 2 * f;
        const double px = 2.0 * xy[2 * i] - 1.0, py = 2.0 * xy[2 * i + 1] - 1.0;
        const int none = label && label[i] == -1;
        for (int64_t k = 0; k < f; k++) {
            const double a = 2.0 * M_PI * (px * g[k] + py * g[f + k]);
            y[k] = none ? 0 : (float)sin(a);
            y[f + k] = none ? 0 : (float)cos(a);
        }
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_fourier_pe = {NULL, fwd, NULL, NULL};
