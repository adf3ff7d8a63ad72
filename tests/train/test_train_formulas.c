/* Parts of the trainings against formulas implemented here from the definitions: the negatives that both forms of
 * DHN-NCE attract, gamma correction, blur and contrast. */
#include "train/clip/clip_train.h"
#include "train/unet/augment.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* ---- attraction ---- */

enum { B = 5, D = 3 };

/* Normalised rows that all differ. */
static void draw_rows(float *rows, int seed)
{
    for (int i = 0; i < B; i++) {
        double norm = 0;
        for (int k = 0; k < D; k++) {
            rows[i * D + k] = (float)sin(1.7 * i + 2.3 * k + seed);
            norm += (double)rows[i * D + k] * (double)rows[i * D + k];
        }
        for (int k = 0; k < D; k++) rows[i * D + k] = (float)((double)rows[i * D + k] / sqrt(norm));
    }
}

struct attraction_case {
    double inv_tau, b_image, b_text;
    double logit[B][B];
};

/* DHN-NCE on the similarities alone. Paper: for each image i, -s_ii + log sum_{j != i} w_ij exp(s_ij) with the weight
 * w_ij = (B - 1) exp(b s_ij) / sum_{k != i} exp(b s_ik), and the same for texts. */
static double paper_loss(const struct attraction_case *c)
{
    double loss = 0;
    for (int text = 0; text < 2; text++)
        for (int i = 0; i < B; i++) {
            const double b = text ? c->b_text : c->b_image;
            double hard = 0, weights = 0;
            for (int j = 0; j < B; j++) {
                const double s = text ? c->logit[j][i] : c->logit[i][j];
                if (j == i) continue;
                hard += exp((1 + b) * s);
                weights += exp(b * s);
            }
            loss += log(hard) - log(weights);
        }
    return loss;
}

/* Shares of the negatives, and of their gradients' magnitudes, with a negative gradient, by central differences. */
static struct attraction paper_attraction(struct attraction_case *c)
{
    double n = 0, size = 0, total = 0;
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++) {
            if (i == j) continue;
            const double at = c->logit[i][j], h = 1e-5;
            c->logit[i][j] = at + h;
            const double above = paper_loss(c);
            c->logit[i][j] = at - h;
            const double slope = (above - paper_loss(c)) / (2 * h);
            c->logit[i][j] = at;
            total += fabs(slope);
            if (slope < 0) n++, size -= slope;
        }
    return (struct attraction){n / (B * (B - 1)), size / total};
}

/* Released: cross entropy of rows and columns over B, in whose sums 1 replaces the positive pair's term, and the mean
 * of the weights, (2 + b_image + b_text) / B^2, which repels all negatives equally. */
static struct attraction released_attraction(const struct attraction_case *c)
{
    double n = 0, size = 0, total = 0;
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++) {
            double row = 1, column = 1;
            if (i == j) continue;
            for (int k = 0; k < B; k++) {
                if (k != i) row += exp(c->logit[i][k]);
                if (k != j) column += exp(c->logit[k][j]);
            }
            const double e = exp(c->logit[i][j]);
            const double slope = (2 + c->b_image + c->b_text) / (B * B) - (e / row + e / column) / B;
            total += fabs(slope);
            if (slope < 0) n++, size -= slope;
        }
    return (struct attraction){n / (B * (B - 1)), size / total};
}

Test(train_formulas, attraction_of_negatives)
{
    static const double settings[][3] = {{1 / 0.6, 0.15, 0.15}, {3, 0.3, 1.4}, {5, 2.5, 0.5}, {2, 0, 0.8}, {2, 1.1, 0}};
    float image[B * D], text[B * D];
    int some_paper = 0, some_released = 0;
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        struct attraction_case c = {settings[s][0], settings[s][1], settings[s][2], {{0}}};
        struct attraction paper, released;
        draw_rows(image, (int)s);
        draw_rows(text, 40 + 3 * (int)s);
        for (int i = 0; i < B; i++)
            for (int j = 0; j < B; j++)
                for (int k = 0; k < D; k++)
                    c.logit[i][j] += (double)image[i * D + k] * (double)text[j * D + k] * c.inv_tau;
        cr_assert_eq(mcs_clip_attracted(image, text, B, D, c.inv_tau, c.b_image, c.b_text, &paper, &released), MCS_OK);
        const struct attraction p = paper_attraction(&c), r = released_attraction(&c);
        /* central differences of losses of order 10 over 2e-5: rounding 10 * 2^-53 / 1e-5 = 1e-10, truncation h^2 */
        cr_expect_float_eq(paper.share, p.share, 1e-12, "setting %zu", s);
        cr_expect_float_eq(paper.pull, p.pull, 1e-8, "setting %zu: %.12g, want %.12g", s, paper.pull, p.pull);
        cr_expect_float_eq(released.share, r.share, 1e-12, "setting %zu", s);
        cr_expect_float_eq(released.pull, r.pull, 1e-12, "setting %zu", s);
        some_paper |= paper.share > 0 && paper.share < 1;
        some_released |= released.share > 0 && released.share < 1;
    }
    cr_expect(some_paper && some_released, "negatives of both signs are wanted");
}

/* ---- intensities ---- */

enum { H = 5, W = 7, PIXELS = H * W };

static void draw_plane(float *x)
{
    for (int i = 0; i < PIXELS; i++) x[i] = (float)(3 + 2.5 * sin(0.9 * i) + 0.1 * i);
}

/* ((x - low) / range)^e, scaled back to the range, then to the mean and deviation before. Inverted: applied to -x. */
static void gamma_by_definition(const float *x, double e, int inverted, double *want)
{
    double low = INFINITY, high = -INFINITY, mean = 0, var = 0, mean_now = 0, var_now = 0;
    const double sign = inverted ? -1 : 1;
    for (int i = 0; i < PIXELS; i++) {
        low = fmin(low, sign * (double)x[i]), high = fmax(high, sign * (double)x[i]);
        mean += sign * (double)x[i] / PIXELS;
    }
    for (int i = 0; i < PIXELS; i++) {
        var += pow(sign * (double)x[i] - mean, 2) / PIXELS;
        want[i] = pow((sign * (double)x[i] - low) / (high - low), e) * (high - low) + low;
        mean_now += want[i] / PIXELS;
    }
    for (int i = 0; i < PIXELS; i++) var_now += pow(want[i] - mean_now, 2) / PIXELS;
    for (int i = 0; i < PIXELS; i++) want[i] = sign * ((want[i] - mean_now) * sqrt(var / var_now) + mean);
}

Test(train_formulas, gamma)
{
    static const double exponents[] = {0.6, 1, 1.4, 2.2};
    for (int k = 0; k < 8; k++) {
        float x[PIXELS];
        double want[PIXELS];
        draw_plane(x);
        gamma_by_definition(x, exponents[k / 2], k % 2, want);
        mcs_augment_gamma((struct augment_plane){x, H, W, 1}, exponents[k / 2], k % 2);
        /* values below 10 with five roundings of 2^-24, including the rounding of the exponent to float */
        for (int i = 0; i < PIXELS; i++)
            cr_assert_float_eq((double)x[i], want[i], 10 * 16 * 6e-8, "exponent %g, inverted %d, pixel %d: %g, not %g",
                               exponents[k / 2], k % 2, i, (double)x[i], want[i]);
    }
}

static int mirrored(int i, int n)
{
    const int period = 2 * (n - 1), at = ((i % period) + period) % period;
    return at < n ? at : period - at;
}

/* Kernel exp(-d^2 / 2 sigma^2) over ceil(3 sigma) pixels on both sides, at most 8, normalised; edges are reflected. */
static void blur_axis(const double *x, double sigma, int along_x, double *to)
{
    const int radius = (int)fmin(ceil(3 * sigma), 8);
    for (int y = 0; y < H; y++)
        for (int c = 0; c < W; c++) {
            double sum = 0, all = 0;
            for (int d = -radius; d <= radius; d++) {
                const double w = exp(-d * d / (2 * sigma * sigma));
                sum += w * (along_x ? x[y * W + mirrored(c + d, W)] : x[mirrored(y + d, H) * W + c]);
                all += w;
            }
            to[y * W + c] = sum / all;
        }
}

Test(train_formulas, blur)
{
    static const double sigmas[][2] = {{0.5, 1}, {1.1, 0.4}, {2.6, 2.7}, {3.5, 0.34}, {0.33, 5}};
    for (size_t s = 0; s < sizeof sigmas / sizeof *sigmas; s++) {
        float x[PIXELS], scratch[64];
        double first[PIXELS], half[PIXELS], want[PIXELS];
        draw_plane(x);
        for (int i = 0; i < PIXELS; i++) first[i] = (double)x[i];
        blur_axis(first, sigmas[s][0], 0, half);
        blur_axis(half, sigmas[s][1], 1, want);
        mcs_augment_blur((struct augment_plane){x, H, W, 1}, sigmas[s][0], sigmas[s][1], scratch);
        /* two sums of 17 products of values below 10 with rounded weights: 2 * 19 roundings */
        for (int i = 0; i < PIXELS; i++)
            cr_assert_float_eq((double)x[i], want[i], 10 * 38 * 6e-8, "sigmas %g %g, pixel %d", sigmas[s][0],
                               sigmas[s][1], i);
    }
}

Test(train_formulas, contrast_by_value)
{
    float x[PIXELS], before[PIXELS];
    for (int k = 0; k < 2; k++) {
        const double factor = k ? 0.75 : 1.25;
        double mean = 0, low = INFINITY, high = -INFINITY;
        int cut = 0;
        draw_plane(x);
        memcpy(before, x, sizeof x);
        for (int i = 0; i < PIXELS; i++) {
            mean += (double)x[i] / PIXELS;
            low = fmin(low, (double)x[i]), high = fmax(high, (double)x[i]);
        }
        mcs_augment_contrast((struct augment_plane){x, H, W, 1}, factor);
        for (int i = 0; i < PIXELS; i++) {
            const double far = ((double)before[i] - mean) * factor + mean, want = fmin(fmax(far, low), high);
            cut += want != far;
            cr_assert_float_eq((double)x[i], want, 10 * 4 * 6e-8, "factor %g, pixel %d", factor, i);
        }
        cr_expect_eq(cut > 0, k == 0, "a greater contrast is cut to the old range");
    }
}
