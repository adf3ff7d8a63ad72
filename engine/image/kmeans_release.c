/* The 2-means of MedCLIP-SAMv2's released code: scikit-learn 1.0.2's KMeans(n_clusters=2, random_state=10) on the grey
 * levels of a copy of 256 x 256 pixels. It is no exact search: each of ten runs starts from two pixels (k-means++) and
 * ends when the centres move by less than 1 % of the standard deviation, so the cut is often a level or two beside the
 * best one. Draws, starts and iterations are therefore scikit-learn's; sums of levels are exact integers. */
#include "engine/image/threshold.h"

#include <math.h>
#include <string.h>

enum { SIDE = MCS_RELEASE_SIDE, PIXELS = SIDE * SIDE, LEVELS = 256, RUNS = 10, MAX_ITERATIONS = 300 };

/* RandomState(10), for each run: randint(65536), the pixel of the first centre; random_sample(2), which give the two
 * candidates for the second one. tests/golden/make_m2ib_release.py checks them against numpy. */
static const struct draw {
    int first;
    double candidate[2];
} draws[RUNS] = {
    {17673, {0.29876115188562824, 0.4945899295333641}}, {28017, {0.7488038825386119, 0.4985070123025904}},
    {17904, {0.02517172841774562, 0.709208009843012}},  {9289, {0.16911083656253545, 0.08833981417401027}},
    {48548, {0.6838184293612342, 0.8166018352206666}},  {51595, {0.5121922633857766, 0.8126209616521135}},
    {33342, {0.03061665387269341, 0.8776149398973291}}, {14001, {0.9177741225129434, 0.7145757833976906}},
    {12301, {0.4136673744184527, 0.7787288082639929}},  {36700, {0.6741336150663453, 0.4418331744229961}},
};

/* Sums over the levels below each level, and the mean of level / 255 as numpy rounds it. */
struct levels {
    const uint8_t *pixels;
    int64_t number[LEVELS + 1], sum[LEVELS + 1], squares[LEVELS + 1];
    double mean;
};

struct clusters {
    double low, high; /* centres, in levels */
    int cut;          /* levels below it belong to the lower centre */
    double inertia;   /* sum of the squared distances to the centres */
};

int mcs_nearest_index(int i, int n_src, int n_dst)
{
    const int index = (int)floor(i * (1.0 / ((double)n_dst / n_src)));
    return index < n_src ? index : n_src - 1;
}

static double pairwise_sum(const double *v, int n)
{
    double r[8];
    if (n > 128) return pairwise_sum(v, n / 2) + pairwise_sum(v + n / 2, n / 2);
    memcpy(r, v, sizeof r);
    for (int i = 8; i < n; i++) r[i % 8] += v[i];
    return ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
}

static void count_levels(const uint8_t *pixels, struct levels *l)
{
    static _Thread_local double shares[PIXELS];
    int64_t count[LEVELS] = {0};
    *l = (struct levels){.pixels = pixels};
    for (int i = 0; i < PIXELS; i++) {
        count[pixels[i]]++;
        shares[i] = pixels[i] / 255.0;
    }
    l->mean = pairwise_sum(shares, PIXELS) / PIXELS;
    for (int64_t k = 0; k < LEVELS; k++) {
        l->number[k + 1] = l->number[k] + count[k];
        l->sum[k + 1] = l->sum[k] + count[k] * k;
        l->squares[k + 1] = l->squares[k] + count[k] * k * k;
    }
}

/* k-means++'s second centre: of two pixels, drawn with a probability proportional to their squared distance from the
 * first centre, the one that leaves the smaller sum of squared distances; the first of equal ones. */
static int second_centre(const struct levels *l, int first, const double draw[2])
{
    int64_t total = 0, least = INT64_MAX;
    int best = first;
    for (int i = 0; i < PIXELS; i++) total += (l->pixels[i] - first) * (l->pixels[i] - first);
    for (int c = 0; c < 2; c++) {
        int64_t reached = 0, left = 0;
        int at = 0;
        for (; at < PIXELS - 1; at++) {
            reached += (l->pixels[at] - first) * (l->pixels[at] - first);
            if ((double)reached >= draw[c] * (double)total) break;
        }
        const int centre = l->pixels[at];
        for (int k = 0; k < LEVELS; k++) {
            const int64_t a = (k - first) * (k - first), b = (k - centre) * (k - centre);
            left += (l->number[k + 1] - l->number[k]) * (a < b ? a : b);
        }
        if (left < least) least = left, best = centre;
    }
    return best;
}

/* Whether the level halfway between two levels starts in the first one's cluster. Its distances are equal but for the
 * rounding of scikit-learn's distances (Elkan's bounds), which is repeated here step by step. */
static int first_takes_middle(const struct levels *l, int first, int second)
{
    const double middle = (first + second) / 2 / 255.0 - l->mean; /* first + second is even */
    const double a = first / 255.0 - l->mean, b = second / 255.0 - l->mean;
    const volatile double product = a * b, aa = a * a, bb = b * b; /* rounded: no fused multiply and add */
    const double squared = -2 * product + aa + bb;
    const double half = sqrt(squared > 0 ? squared : 0) / 2;
    return !(fabs(middle - a) > half && fabs(middle - b) < fabs(middle - a));
}

/* The first level of the upper cluster: its distances from the centres are compared, an equal one is the upper's. */
static int cut_between(const struct clusters *c)
{
    return (int)ceil((c->low + c->high) / 2);
}

static struct clusters iterate(const struct levels *l, int first, int second)
{
    const int64_t *n = l->number, *s = l->sum;
    const double mean = (double)s[LEVELS] / PIXELS,
                 tolerance = 1e-4 * ((double)l->squares[LEVELS] / PIXELS - mean * mean);
    struct clusters c = {.low = first < second ? first : second, .high = first < second ? second : first};
    int64_t before = -1;
    int exact = 0;
    for (int i = 0; i < MAX_ITERATIONS; i++) {
        c.cut = cut_between(&c);
        if (!i && (first + second) % 2 == 0 && first_takes_middle(l, first, second) == (first < second)) c.cut++;
        const int64_t below = n[c.cut], above = PIXELS - below;
        const double low = below ? (double)s[c.cut] / (double)below : c.low,
                     high = above ? (double)(s[LEVELS] - s[c.cut]) / (double)above : c.high,
                     moved = (low - c.low) * (low - c.low) + (high - c.high) * (high - c.high);
        c.low = low, c.high = high;
        exact = below == before;
        if (exact || moved <= tolerance) break;
        before = below;
    }
    if (!exact) c.cut = cut_between(&c);
    const double below = (double)n[c.cut], sum = (double)s[c.cut];
    c.inertia = (double)l->squares[LEVELS] - 2 * (c.low * sum + c.high * ((double)s[LEVELS] - sum)) +
                c.low * c.low * below + c.high * c.high * (PIXELS - below);
    return c;
}

void mcs_kmeans_release_cut(const uint8_t *pixels, int *cut, float *threshold)
{
    struct levels l;
    struct clusters best = {.inertia = INFINITY};
    count_levels(pixels, &l);
    *cut = LEVELS - 1;
    *threshold = (float)pixels[0] / 255.0f;
    if (l.number[pixels[0] + 1] - l.number[pixels[0]] == PIXELS) return;
    for (int run = 0; run < RUNS; run++) {
        const int first = pixels[draws[run].first], second = second_centre(&l, first, draws[run].candidate);
        const struct clusters c = iterate(&l, first, second);
        if (c.inertia < best.inertia && (!run || l.number[c.cut] != l.number[best.cut])) best = c;
    }
    *cut = best.cut - 1;
    *threshold = (float)(0.5 * (best.low + best.high) / 255.0);
}

void mcs_kmeans_release_reduce(const float *map, int width, int height, uint8_t *pixels)
{
    for (int y = 0; y < SIDE; y++) {
        const float *row = map + (int64_t)mcs_nearest_index(y, height, SIDE) * width;
        float line[SIDE];
        for (int x = 0; x < SIDE; x++) line[x] = row[mcs_nearest_index(x, width, SIDE)];
        mcs_map_to_u8(line, SIDE, pixels + (int64_t)y * SIDE);
    }
}
