#include "train/plan/topology.h"

#include <math.h>
#include <string.h>

enum { MIN_EDGE = 4, BASE_FEATURES = 32, MAX_FEATURES_2D = 512, MAX_FEATURES_3D = 320 };

static double smallest(const double *v, int n)
{
    double least = v[0];
    for (int i = 1; i < n; i++) least = fmin(least, v[i]);
    return least;
}

/* Which axes the next stage halves: at least twice MIN_EDGE long, and their spacing less than twice the smallest of
 * such axes; a single axis must be three times MIN_EDGE long. Returns their number. */
static int axes_to_pool(int n, const double *spacing, const double *size, int pool[3])
{
    double least = INFINITY;
    int count = 0, last = 0;
    for (int i = 0; i < n; i++)
        if (size[i] >= 2 * MIN_EDGE) least = fmin(least, spacing[i]);
    for (int i = 0; i < n; i++) {
        pool[i] = size[i] >= 2 * MIN_EDGE && spacing[i] / least < 2;
        if (pool[i]) count++, last = i;
    }
    return count == 1 && size[last] < 3 * MIN_EDGE ? 0 : count;
}

static void fill_features(struct topology *t)
{
    static const int residual_blocks[] = {1, 3, 4};
    const int limit = t->n_axes == 2 ? MAX_FEATURES_2D : MAX_FEATURES_3D;
    for (int s = 0; s < t->n_stages; s++) {
        const int64_t doubled = (int64_t)BASE_FEATURES << s;
        t->features[s] = doubled < limit ? (int)doubled : limit;
        t->n_encoder[s] = !t->residual ? 2 : s < 3 ? residual_blocks[s] : 6;
    }
    t->n_decoder = t->residual ? 1 : 2;
}

void mcs_topology_make(int n_axes, const double *spacing, const double *wanted_patch, int residual, struct topology *t)
{
    double at[3], size[3];
    int pool[3], kernel[3] = {1, 1, 1};
    *t = (struct topology){.n_axes = n_axes, .n_stages = 1, .residual = residual};
    for (int i = 0; i < n_axes; i++) {
        at[i] = spacing[i];
        size[i] = wanted_patch[i];
        t->stride[0][i] = 1;
        t->divisor[i] = 1;
    }
    while (t->n_stages < TOPOLOGY_MAX_STAGES && axes_to_pool(n_axes, at, size, pool)) {
        for (int i = 0; i < n_axes; i++)
            if (at[i] / smallest(at, n_axes) < 2) kernel[i] = 3; /* and stays */
        memcpy(t->kernel[t->n_stages - 1], kernel, sizeof kernel);
        for (int i = 0; i < n_axes; i++) {
            t->stride[t->n_stages][i] = pool[i] ? 2 : 1;
            if (!pool[i]) continue;
            t->divisor[i] *= 2;
            at[i] *= 2;
            size[i] = ceil(size[i] / 2);
        }
        t->n_stages++;
    }
    for (int i = 0; i < n_axes; i++) {
        const double divisor = (double)t->divisor[i], rest = fmod(wanted_patch[i], divisor);
        t->kernel[t->n_stages - 1][i] = 3;
        t->patch[i] = (int64_t)(rest == 0 ? wanted_patch[i] : wanted_patch[i] + divisor - rest);
    }
    fill_features(t);
}

int64_t mcs_topology_values(const struct topology *t, int n_outputs)
{
    const int last = t->n_stages - 1;
    int64_t size[3], total = 0, full = 1;
    memcpy(size, t->patch, sizeof size);
    for (int i = 0; i < t->n_axes; i++) full *= size[i];
    if (t->residual) total += t->features[0] * full; /* the stem */
    for (int s = 0; s < t->n_stages; s++) {
        int64_t voxels = 1;
        int shrinks = 0;
        for (int i = 0; i < t->n_axes; i++) {
            const int64_t before = size[i];
            size[i] /= t->stride[s][i];
            shrinks |= size[i] != before;
            voxels *= size[i];
        }
        const int64_t one = t->features[s] * voxels;
        const int skip = t->residual && (shrinks || (s && t->features[s] != t->features[s - 1]));
        total += one * (t->residual ? 2 * t->n_encoder[s] + skip : t->n_encoder[s]);
        if (s < last) total += one * (t->n_decoder + 1); /* and the transposed convolution */
    }
    return total + (last > 0 ? n_outputs * full : 0);
}
