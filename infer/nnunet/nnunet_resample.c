#include "infer/nnunet/nnunet_resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAD = 12, BLOCK = 8 /* lines filtered together */ };
static const double ANISOTROPY = 3;

/* ---- shapes ---- */

/* The axes of the largest spacing; *axis is the last of them. Returns their number. */
static int coarsest(const double spacing[3], int *axis)
{
    const double largest = fmax(spacing[0], fmax(spacing[1], spacing[2]));
    int n = 0;
    for (int d = 0; d < 3; d++)
        if (largest / spacing[d] == 1) *axis = d, n++;
    return n;
}

static int is_anisotropic(const double v[3])
{
    return fmax(v[0], fmax(v[1], v[2])) / fmin(v[0], fmin(v[1], v[2])) > ANISOTROPY;
}

int mcs_nnunet_separate_axis(const double current[3], const double target[3], int force)
{
    int axis = -1, n = 0;
    if (force == 1 || (force < 0 && is_anisotropic(current)))
        n = coarsest(current, &axis);
    else if (force < 0 && is_anisotropic(target))
        n = coarsest(target, &axis);
    return n == 1 ? axis : -1;
}

void mcs_nnunet_new_shape(const int64_t shape[3], const double current[3], const double target[3], int64_t new_shape[3])
{
    for (int d = 0; d < 3; d++) new_shape[d] = (int64_t)rint(current[d] / target[d] * (double)shape[d]);
}

static int64_t voxels(const int64_t shape[3])
{
    return shape[0] * shape[1] * shape[2];
}

/* Where sample i of m lies among n. */
static double place(int64_t i, int64_t n, int64_t m)
{
    return ((double)i + 0.5) * ((double)n / (double)m) - 0.5;
}

static int64_t within(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* The nearest of n for sample i of m. */
static int64_t nearest(int64_t i, int64_t n, int64_t m)
{
    return within((int64_t)floor(place(i, n, m) + 0.5), n);
}

/* ---- values, axis by axis ---- */

/* The taps of one output: `first` may lie outside, where the edge is repeated. */
struct tap {
    int64_t first;
    double weight[4];
};

static void set_tap(int order, int64_t i, int64_t n, int64_t m, struct tap *t)
{
    double x = place(i, n, m);
    if (order == 1) x = fmin(fmax(x, 0), (double)(n - 1));
    const double below = floor(x), y = x - below, z = 1 - y;
    *t = (struct tap){.first = (int64_t)below - (order == 3)};
    if (order == 1) {
        t->weight[0] = z;
        t->weight[1] = 1 - z;
        return;
    }
    t->weight[0] = z * z * z / 6;
    t->weight[1] = (y * y * (y - 2) * 3 + 4) / 6;
    t->weight[2] = (z * z * (z - 2) * 3 + 4) / 6;
    t->weight[3] = 1 - t->weight[0] - t->weight[1] - t->weight[2];
}

/* Coefficients of the cubic B-spline through n values of each of BLOCK lines, c (n, BLOCK), in place: a recursive
 * filter forwards and backwards, the ends mirrored about the edge of the outermost value. */
static void spline_filter(double *c, int64_t n)
{
    const double pole = sqrt(3.0) - 2, at_end = pow(pole, (double)n);
    for (int64_t i = 0; i < n * BLOCK; i++) c[i] *= (1 - pole) * (1 - 1 / pole);
    for (int k = 0; k < BLOCK; k++) {
        double sum = c[k] + at_end * c[(n - 1) * BLOCK + k], power = pole;
        for (int64_t i = 1; i < n; i++, power *= pole)
            sum += power * (c[i * BLOCK + k] + at_end * c[(n - 1 - i) * BLOCK + k]);
        c[k] += sum * pole / (1 - at_end * at_end);
    }
    for (int64_t i = 1; i < n; i++)
        for (int k = 0; k < BLOCK; k++) c[i * BLOCK + k] += pole * c[(i - 1) * BLOCK + k];
    for (int k = 0; k < BLOCK; k++) c[(n - 1) * BLOCK + k] *= pole / (pole - 1);
    for (int64_t i = n - 2; i >= 0; i--)
        for (int k = 0; k < BLOCK; k++) c[i * BLOCK + k] = pole * (c[(i + 1) * BLOCK + k] - c[i * BLOCK + k]);
}

/* Lines of one axis: line l begins at (l / inner) * n * inner + l % inner and has the stride inner. */
struct axis {
    int order;
    int64_t n, m, inner, lines;
    const struct tap *taps; /* (m) */
    const double *src;
    double *dst;
};

/* Resizes the lines from l on, at most BLOCK. padded (n + 2 PAD, BLOCK). */
static void resize_lines(const struct axis *a, int64_t l, double *padded)
{
    const int pad = a->order == 3 ? PAD : 1, count = a->lines - l < BLOCK ? (int)(a->lines - l) : BLOCK;
    int64_t from[BLOCK], to[BLOCK];
    for (int k = 0; k < BLOCK; k++) {
        const int64_t line = l + (k < count ? k : 0);
        from[k] = line / a->inner * a->n * a->inner + line % a->inner;
        to[k] = line / a->inner * a->m * a->inner + line % a->inner;
    }
    for (int64_t i = 0; i < a->n + 2 * pad; i++)
        for (int k = 0; k < BLOCK; k++) padded[i * BLOCK + k] = a->src[from[k] + within(i - pad, a->n) * a->inner];
    if (a->order == 3) spline_filter(padded, a->n + 2 * pad);
    for (int64_t i = 0; i < a->m; i++) {
        const struct tap *t = &a->taps[i];
        const double *at = padded + (t->first + pad) * BLOCK;
        for (int k = 0; k < count; k++) {
            double sum = 0;
            for (int j = 0; j <= a->order; j++) sum += t->weight[j] * at[j * BLOCK + k];
            a->dst[to[k] + i * a->inner] = sum;
        }
    }
}

/* *values (shape), owned, becomes the same with m voxels along axis d. */
static enum mcs_status resize_axis(double **values, int64_t shape[3], int d, int64_t m, int order)
{
    struct axis a = {.order = order, .n = shape[d], .m = m, .inner = 1, .lines = voxels(shape) / shape[d]};
    int failed = 0;
    for (int i = d + 1; i < 3; i++) a.inner *= shape[i];
    struct tap *taps = malloc((size_t)m * sizeof *taps);
    double *dst = malloc((size_t)(a.lines * m) * sizeof *dst);
    for (int64_t i = 0; taps && i < m; i++) set_tap(order, i, a.n, m, &taps[i]);
    a.taps = taps;
    a.src = *values;
    a.dst = dst;
    if (taps && dst) {
#pragma omp parallel
        {
            double *padded = malloc((size_t)(a.n + 2 * PAD) * BLOCK * sizeof *padded);
            if (!padded) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp for schedule(dynamic, 64)
            for (int64_t l = 0; l < a.lines; l += BLOCK)
                if (padded) resize_lines(&a, l, padded);
            free(padded);
        }
    }
    free(taps);
    if (!taps || !dst || failed) {
        free(dst);
        return MCS_FAIL(MCS_E_NOMEM, "no memory to resample %lld x %lld x %lld voxels", (long long)shape[2],
                        (long long)shape[1], (long long)shape[0]);
    }
    free(*values);
    *values = dst;
    shape[d] = m;
    return MCS_OK;
}

/* The slice of voxel i along an axis; axis -1: all voxels are one slice. */
static int64_t slice_of(int64_t i, const int64_t shape[3], int axis)
{
    int64_t inner = 1;
    if (axis < 0) return 0;
    for (int d = axis + 1; d < 3; d++) inner *= shape[d];
    return i / inner % shape[axis];
}

/* range (slices, 2): the smallest and largest value of each slice. */
static void slice_ranges(const float *src, const int64_t shape[3], int axis, double (*range)[2])
{
    for (int64_t s = 0; s < (axis < 0 ? 1 : shape[axis]); s++) range[s][0] = INFINITY, range[s][1] = -INFINITY;
    for (int64_t i = 0; i < voxels(shape); i++) {
        double *r = range[slice_of(i, shape, axis)];
        r[0] = fmin(r[0], src[i]);
        r[1] = fmax(r[1], src[i]);
    }
}

enum mcs_status mcs_nnunet_resample(const float *src, const int64_t shape[3], int order, int separate, float *dst,
                                    const int64_t new_shape[3])
{
    enum mcs_status st = MCS_OK;
    int64_t at[3] = {shape[0], shape[1], shape[2]};
    const int64_t n = voxels(shape), n_new = voxels(new_shape);
    if (!memcmp(shape, new_shape, sizeof at)) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return MCS_OK;
    }
    double(*range)[2] = malloc((size_t)(separate < 0 ? 1 : shape[separate]) * sizeof *range);
    double *values = malloc((size_t)n * sizeof *values);
    MCS_REQUIRE_GOTO(range && values, MCS_E_NOMEM, st, done, "no memory to resample %lld voxels", (long long)n);
    slice_ranges(src, shape, separate, range);
    for (int64_t i = 0; i < n; i++) values[i] = src[i];
    for (int growing = 0; growing < 2; growing++) /* what shrinks first: less to compute afterwards */
        for (int d = 0; d < 3; d++)
            if (d != separate && new_shape[d] != at[d] && (new_shape[d] > at[d]) == growing)
                MCS_TRY_GOTO(resize_axis(&values, at, d, new_shape[d], order), st, done);
    int64_t inner = 1;
    for (int d = separate + 1; separate >= 0 && d < 3; d++) inner *= at[d];
    for (int64_t i = 0; i < n_new; i++) {
        int64_t from = i, slice = 0;
        if (separate >= 0) {
            slice = nearest(slice_of(i, new_shape, separate), shape[separate], new_shape[separate]);
            from = (i / (inner * new_shape[separate]) * shape[separate] + slice) * inner + i % inner;
        }
        dst[i] = (float)fmin(fmax(values[from], range[slice][0]), range[slice][1]);
    }
done:
    free(range);
    free(values);
    return st;
}

/* ---- labels ---- */

/* The two taps of each axis for one output; a separate axis has its nearest slice alone. */
struct corner {
    int64_t index[2];
    double weight[2];
    int64_t nearest;
};

static void set_corners(int64_t n, int64_t m, int is_separate, struct corner *c)
{
    for (int64_t i = 0; i < m; i++) {
        struct tap t;
        c[i].nearest = nearest(i, n, m);
        c[i].index[0] = c[i].index[1] = c[i].nearest;
        c[i].weight[0] = 1;
        c[i].weight[1] = 0;
        if (is_separate || n == m) continue;
        set_tap(1, i, n, m, &t);
        for (int k = 0; k < 2; k++) c[i].index[k] = within(t.first + k, n), c[i].weight[k] = t.weight[k];
    }
}

/* The label with the largest weight. The weights are multiplied and added in scipy's order, since equal sums are
 * decided by another rule than nearly equal ones. */
static float vote(const float *src, const int64_t shape[3], const struct corner *const c[3])
{
    float labels[8];
    double weights[8], best = 0;
    int n = 0;
    const float near = src[(c[0]->nearest * shape[1] + c[1]->nearest) * shape[2] + c[2]->nearest];
    for (int tap = 0; tap < 8; tap++) {
        const int a = tap >> 2, b = tap >> 1 & 1, d = tap & 1;
        const double w = c[0]->weight[a] * c[1]->weight[b] * c[2]->weight[d];
        const float label = src[(c[0]->index[a] * shape[1] + c[1]->index[b]) * shape[2] + c[2]->index[d]];
        int k = 0;
        while (k < n && labels[k] != label) k++;
        if (k == n) labels[n] = label, weights[n++] = 0;
        weights[k] += w;
    }
    for (int k = 0; k < n; k++) best = fmax(best, weights[k] = fmin(weights[k], 1));
    float smallest = INFINITY;
    for (int k = 0; k < n; k++) {
        if (weights[k] != best) continue;
        if (labels[k] == near) return near;
        smallest = fminf(smallest, labels[k]);
    }
    return smallest;
}

enum mcs_status mcs_nnunet_resample_labels(const float *src, const int64_t shape[3], int separate, float *dst,
                                           const int64_t new_shape[3])
{
    struct corner *corners = malloc((size_t)(new_shape[0] + new_shape[1] + new_shape[2]) * sizeof *corners), *of[3];
    MCS_REQUIRE(corners, MCS_E_NOMEM, "no memory to resample labels");
    of[0] = corners;
    of[1] = of[0] + new_shape[0];
    of[2] = of[1] + new_shape[1];
    for (int d = 0; d < 3; d++) set_corners(shape[d], new_shape[d], d == separate, of[d]);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t z = 0; z < new_shape[0]; z++)
        for (int64_t y = 0; y < new_shape[1]; y++)
            for (int64_t x = 0; x < new_shape[2]; x++)
                dst[(z * new_shape[1] + y) * new_shape[2] + x] =
                    vote(src, shape, (const struct corner *const[3]){&of[0][z], &of[1][y], &of[2][x]});
    free(corners);
    return MCS_OK;
}
