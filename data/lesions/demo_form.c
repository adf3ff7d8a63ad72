#include "data/lesions/demo_form.h"

#include <math.h>

static const float FAR_OUTSIDE = 1e3f;
enum { SMOOTH_HARMONICS = 3, FOCI_MIN = 3 };

struct demo_outline mcs_demo_outline_draw(const struct demo_config *c, enum demo_form form, double row, double col,
                                          double radius, double outwards, struct demo_draw *d)
{
    struct demo_outline o = {.form = form, .row = row, .col = col, .radius = radius};
    if (form == DEMO_WEDGE) {
        o.length = c->wedge * radius;
        o.half_angle = c->angle * M_PI / 180;
        o.angle = outwards + mcs_demo_normal(d, 0.15);
        o.row -= o.length * sin(o.angle);
        o.col -= o.length * cos(o.angle);
        return o;
    }
    o.log_ratio = mcs_demo_normal(d, c->ellipse);
    o.angle = mcs_demo_uniform(d, 0, M_PI);
    for (int k = 0; k < DEMO_HARMONICS && form != DEMO_CLUSTER; k++) {
        if (form == DEMO_SMOOTH && k >= SMOOTH_HARMONICS) break;
        o.amplitude[k] = mcs_demo_normal(d, form == DEMO_SMOOTH ? c->wobble / (k + 2) : c->spikes);
        o.phase[k] = mcs_demo_uniform(d, 0, 2 * M_PI);
    }
    if (form == DEMO_CLUSTER) {
        o.n_foci = FOCI_MIN + mcs_demo_below(d, DEMO_FOCI - FOCI_MIN + 1);
        for (int k = 0; k < o.n_foci; k++) { /* one in each sector, so that they are apart */
            const double a = o.angle + 2 * M_PI * (k + mcs_demo_uniform(d, -0.25, 0.25)) / o.n_foci;
            const double r = radius * mcs_demo_uniform(d, 0.7, 1.2);
            o.focus[k][0] = r * sin(a);
            o.focus[k][1] = r * cos(a);
            o.focus[k][2] = fmax(2, c->focus * radius * mcs_demo_uniform(d, 0.8, 1.2));
        }
    }
    return o;
}

static float bent_ellipse(const struct demo_outline *o, const float (*harmonic)[3], float dr, float dc)
{
    const float co = (float)cos(o->angle), si = (float)sin(o->angle);
    const float x = (co * dc + si * dr) * (float)exp(-o->log_ratio), y = (co * dr - si * dc) * (float)exp(o->log_ratio);
    const float rho = sqrtf(x * x + y * y), inv = rho > 0 ? 1 / rho : 0;
    const float c1 = rho > 0 ? x * inv : 1, s1 = y * inv;
    float ck = c1, sk = s1, bend = 1; /* cos and sin of k times the angle, by rotation */
    for (int k = 0; k < DEMO_HARMONICS; k++) {
        const float next = ck * c1 - sk * s1;
        sk = sk * c1 + ck * s1;
        ck = next;
        bend += harmonic[k][0] * (ck * harmonic[k][1] - sk * harmonic[k][2]);
    }
    return rho - (float)o->radius * fmaxf(bend, 0.3f);
}

static float foci(const struct demo_outline *o, float dr, float dc)
{
    float nearest = FAR_OUTSIDE;
    for (int k = 0; k < o->n_foci; k++)
        nearest =
            fminf(nearest, hypotf(dr - (float)o->focus[k][0], dc - (float)o->focus[k][1]) - (float)o->focus[k][2]);
    return nearest;
}

/* A sector from the tip; it ends a tenth of its depth beyond its base, which is outside the brain. */
static float sector(const struct demo_outline *o, float dr, float dc)
{
    const float co = (float)cos(o->angle), si = (float)sin(o->angle);
    const float along = co * dc + si * dr, across = fabsf(co * dr - si * dc);
    const float side = across * (float)cos(o->half_angle) - along * (float)sin(o->half_angle);
    return fmaxf(side, along - 1.1f * (float)o->length);
}

void mcs_demo_outline_distance(const struct demo_outline *o, float *distance)
{
    const float reach = o->form == DEMO_WEDGE ? 1.5f * (float)o->length + 14 : 2 * (float)o->radius + 20;
    float harmonic[DEMO_HARMONICS][3];
    for (int k = 0; k < DEMO_HARMONICS; k++) {
        harmonic[k][0] = (float)o->amplitude[k];
        harmonic[k][1] = (float)cos(o->phase[k]);
        harmonic[k][2] = (float)sin(o->phase[k]);
    }
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const float dr = (float)(i / DEMO_SIZE) - (float)o->row, dc = (float)(i % DEMO_SIZE) - (float)o->col;
        distance[i] = FAR_OUTSIDE;
        if (dr > reach || dr < -reach || dc > reach || dc < -reach) continue;
        distance[i] = o->form == DEMO_CLUSTER ? foci(o, dr, dc)
                      : o->form == DEMO_WEDGE ? sector(o, dr, dc)
                                              : bent_ellipse(o, harmonic, dr, dc);
    }
}
