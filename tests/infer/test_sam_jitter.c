/* The jitter of boxes in the training of SAM: means, covariances and bounds of the moves of the edges. */
#include "train/sam/sam_train.h"

#include <criterion/criterion.h>
#include <math.h>

/* ---- jitter ---- */

/* Edges move by U(-jitter, jitter) times the box's side; before that half of the boxes are scaled about their centre by
 * 1 + U(-scale, scale). Means and covariances are within five standard errors, and no edge exceeds the bounds. */
Test(sam_steps, how_boxes_are_jittered)
{
    enum { DRAWS = 20000, FRAME = 1000 };
    static const int box[4] = {300, 400, 339, 479}; /* 40 x 80 pixels */
    const double jitter = 0.3, scale = 0.25;
    double sum[4] = {0}, product[4][4] = {{0}}, low[4] = {0}, high[4] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        double out[4], move[4];
        mcs_sam_jitter_box(box, FRAME, jitter, scale, 3, i / 7, i % 7, out);
        for (int k = 0; k < 4; k++) {
            move[k] = out[k] - box[k];
            sum[k] += move[k];
            low[k] = fmin(low[k], move[k]), high[k] = fmax(high[k], move[k]);
        }
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 4; j++) product[k][j] += move[k] * move[j] / DRAWS;
    }
    for (int k = 0; k < 4; k++) {
        const double side = k % 2 ? 80 : 40, half = 0.5 * (side - 1), most = jitter * side + scale * half;
        const double variance = jitter * jitter / 3 * side * side + 0.5 * scale * scale / 3 * half * half;
        cr_expect_float_eq(sum[k] / DRAWS, 0, 5 * sqrt(variance / DRAWS), "edge %d moves by %g on average", k,
                           sum[k] / DRAWS);
        cr_expect_float_eq(product[k][k], variance, 5 * variance / sqrt(DRAWS), "edge %d: variance %g, want %g", k,
                           product[k][k], variance);
        cr_expect(low[k] >= -most && high[k] <= most && low[k] < -0.9 * most && high[k] > 0.9 * most,
                  "edge %d moves by %g to %g, bound %g", k, low[k], high[k], most);
        for (int j = 0; j < k; j++) { /* scaling moves opposite edges apart, with one factor for both axes */
            const double other = 0.5 * ((j % 2 ? 80 : 40) - 1), sign = k / 2 == j / 2 ? 1 : -1,
                         want = sign * 0.5 * scale * scale / 3 * half * other;
            cr_expect_float_eq(product[k][j], want, 5 * sqrt(product[k][k] * product[j][j] / DRAWS),
                               "edges %d and %d: covariance %g, want %g", k, j, product[k][j], want);
        }
    }
}
