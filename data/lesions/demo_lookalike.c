/* Look-alikes: structures that are no lesions, in images with lesions and in healthy ones. */
#include "data/lesions/demo_form.h"

#include <math.h>
#include <string.h>

enum { TRIES = 12, PIECES = 16, KEEP_AWAY = 4, VESSEL_PIXELS = 12, DOT_PIXELS = 2, REACH = 10 /* pixels */ };
static const float FAR_OUTSIDE = 1e3f;

/* Distance to a curve (a quadratic Bezier curve as PIECES segments) less half its width. */
static void curve_distance(const double p[3][2], double width, float *distance)
{
    float at[PIECES + 1][2];
    for (int k = 0; k <= PIECES; k++) {
        const double t = (double)k / PIECES;
        for (int j = 0; j < 2; j++)
            at[k][j] = (float)((1 - t) * (1 - t) * p[0][j] + 2 * t * (1 - t) * p[1][j] + t * t * p[2][j]);
    }
    float low[2] = {at[0][0], at[0][1]}, high[2] = {at[0][0], at[0][1]};
    for (int k = 1; k <= PIECES; k++)
        for (int j = 0; j < 2; j++) {
            low[j] = fminf(low[j], at[k][j]);
            high[j] = fmaxf(high[j], at[k][j]);
        }
    for (int i = 0; i < DEMO_PIXELS; i++) {
        float nearest = FAR_OUTSIDE * FAR_OUTSIDE;
        const float y = (float)(i / DEMO_SIZE), x = (float)(i % DEMO_SIZE);
        distance[i] = FAR_OUTSIDE;
        if (y < low[0] - REACH || y > high[0] + REACH || x < low[1] - REACH || x > high[1] + REACH) continue;
        for (int k = 0; k < PIECES; k++) {
            const float r = y - at[k][0], c = x - at[k][1];
            const float er = at[k + 1][0] - at[k][0], ec = at[k + 1][1] - at[k][1];
            float t = (r * er + c * ec) / (er * er + ec * ec + 1e-12f);
            t = t < 0 ? 0 : t > 1 ? 1 : t;
            const float dr = r - t * er, dc = c - t * ec;
            nearest = fminf(nearest, dr * dr + dc * dc);
        }
        distance[i] = sqrtf(nearest) - (float)(width / 2);
    }
}

/* Draws one look-alike's outline; a dot is a curve without length. */
static void draw_curve(const struct demo_config *c, int vessel, double row, double col, struct demo_draw *d,
                       float *distance)
{
    const double angle = mcs_demo_uniform(d, 0, 2 * M_PI), length = vessel ? mcs_demo_uniform(d, 14, 36) : 0;
    const double bend = length * mcs_demo_uniform(d, -0.5, 0.5), si = sin(angle), co = cos(angle);
    const double width =
        vessel ? mcs_demo_uniform(d, c->vessel_low, c->vessel_high) : 2 * mcs_demo_uniform(d, c->dot_low, c->dot_high);
    const double p[3][2] = {{row - si * length / 2, col - co * length / 2},
                            {row + co * bend, col - si * bend},
                            {row + si * length / 2, col + co * length / 2}};
    curve_distance(p, width, distance);
}

static int paint_one(const struct demo_config *c, struct demo_scene *scene, const uint8_t *steps, int vessel,
                     struct demo_draw *d, uint8_t *mask)
{
    static const float none[DEMO_PIXELS];
    float distance[DEMO_PIXELS];
    uint8_t one[DEMO_PIXELS], depth[DEMO_PIXELS];
    double row, col;
    const int bright = vessel || mcs_demo_chance(d, 0.5);
    const double contrast = mcs_demo_uniform(d, c->contrast_low, c->contrast_high);
    mcs_demo_depth(scene->brain, depth);
    for (int t = 0; t < TRIES; t++) {
        struct demo_look look = {.edge = c->edge_sharp, .texture = none};
        int area = 0, clear = 1;
        if (!mcs_demo_pick(NULL, scene, depth, 2, -1, d, &row, &col)) return 0;
        draw_curve(c, vessel, row, col, d, distance);
        for (int i = 0; i < DEMO_PIXELS && clear; i++) {
            if (distance[i] >= 0 || !scene->brain[i]) continue;
            area++;
            clear = steps[i] >= KEEP_AWAY;
        }
        if (!clear || area < (vessel ? VESSEL_PIXELS : DOT_PIXELS)) continue;
        if (!mcs_demo_contrast(scene, distance, bright, contrast, c, &look)) continue;
        mcs_demo_paint(scene, distance, &look, one);
        for (int i = 0; i < DEMO_PIXELS; i++) mask[i] |= one[i];
        return 1;
    }
    return 0;
}

int mcs_demo_lookalikes(const struct demo_config *c, struct demo_scene *scene, const uint8_t *taken,
                        struct demo_draw *d, uint8_t *mask)
{
    uint8_t steps[DEMO_PIXELS];
    const int vessels = mcs_demo_below(d, (int)c->vessels + 1), dots = mcs_demo_below(d, (int)c->dots + 1);
    int n = 0;
    memset(mask, 0, DEMO_PIXELS);
    mcs_demo_steps(taken, DEMO_SIZE, DEMO_SIZE, 1, steps);
    for (int k = 0; k < vessels + dots; k++) n += paint_one(c, scene, steps, k < vessels, d, mask);
    return n;
}
