/* The share of negatives that each form of DHN-NCE attracts, against central differences of both losses, implemented
 * here. */
#include "engine/base/rng.h"
#include "train/clip/clip_train.h"

#include <criterion/criterion.h>
#include <math.h>

enum { B = 16, D = 64 };
static const double INV_TAU = 1 / 0.6, BETA_IMAGE = 0.15, BETA_TEXT = 0.4;

/* DHN-NCE of the MedCLIP-SAMv2 paper with a = 0, on given similarities L. */
static double paper_loss(double l[B][B])
{
    double loss = 0;
    for (int i = 0; i < B; i++) {
        double hard_row = 0, soft_row = 0, hard_column = 0, soft_column = 0;
        for (int j = 0; j < B; j++) {
            if (i == j) continue;
            hard_row += exp((1 + BETA_IMAGE) * l[i][j]), soft_row += exp(BETA_IMAGE * l[i][j]);
            hard_column += exp((1 + BETA_TEXT) * l[j][i]), soft_column += exp(BETA_TEXT * l[j][i]);
        }
        loss += -2 * l[i][i] + log((B - 1) * hard_row / soft_row) + log((B - 1) * hard_column / soft_column);
    }
    return loss / B;
}

/* The released code's loss in closed form: the normalisers have a spurious 1, and their logarithms a minus sign. */
static double released_loss(double l[B][B])
{
    double diagonal = 0, off = 0, normalisers = 0;
    for (int i = 0; i < B; i++) {
        double row = 1, column = 1;
        for (int j = 0; j < B; j++) {
            if (i == j) continue;
            off += l[i][j];
            row += exp(l[i][j]), column += exp(l[j][i]);
        }
        diagonal += l[i][i];
        normalisers += log(row) + log(column);
    }
    return -2 * diagonal / (B * B) + (2 + BETA_IMAGE + BETA_TEXT) * off / (B * B) + 2 * log(B - 1) - normalisers / B;
}

static struct attraction by_differences(double (*loss)(double[B][B]), double l[B][B])
{
    const double h = 1e-5;
    double n = 0, size = 0, pulled = 0;
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++) {
            if (i == j) continue;
            const double at = l[i][j];
            l[i][j] = at + h;
            double slope = loss(l);
            l[i][j] = at - h;
            slope = (slope - loss(l)) / (2 * h);
            l[i][j] = at;
            n += slope < 0;
            size += fabs(slope);
            pulled += slope < 0 ? -slope : 0;
        }
    return (struct attraction){n / (B * (B - 1)), pulled / size};
}

Test(attraction, equals_central_differences_of_both_losses)
{
    static float image[B * D], text[B * D];
    static double l[B][B];
    struct attraction paper, released;
    mcs_rng_fill_normal((struct mcs_rng){.seed = 7, .site = 1}, image, B * D);
    mcs_rng_fill_normal((struct mcs_rng){.seed = 7, .site = 2}, text, B * D);
    for (int i = 0; i < B; i++)
        for (int side = 0; side < 2; side++) {
            float *x = (side ? text : image) + i * D;
            double sum = 0;
            for (int k = 0; k < D; k++) sum += (double)x[k] * x[k];
            for (int k = 0; k < D; k++) x[k] = (float)(x[k] / sqrt(sum));
        }
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++)
            for (int k = 0; k < D; k++) l[i][j] += (double)image[i * D + k] * text[j * D + k] * INV_TAU;
    cr_assert_eq(mcs_clip_attracted(image, text, B, D, INV_TAU, BETA_IMAGE, BETA_TEXT, &paper, &released), MCS_OK);
    const struct attraction want_paper = by_differences(paper_loss, l),
                            want_released = by_differences(released_loss, l);
    /* the share counts signs, so it is exact unless a slope is 0; central differences have an error of h^2 = 1e-10 */
    cr_expect_float_eq(paper.share, want_paper.share, 1e-12);
    cr_expect_float_eq(released.share, want_released.share, 1e-12);
    cr_expect_float_eq(paper.pull, want_paper.pull, 1e-6);
    cr_expect_float_eq(released.pull, want_released.pull, 1e-6);
    cr_expect(paper.share < released.share, "at this temperature the paper's form attracts fewer: %g, %g", paper.share,
              released.share);
}
