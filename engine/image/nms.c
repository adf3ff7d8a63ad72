#include "engine/image/nms.h"

#include <math.h>
#include <stdlib.h>

struct ranked {
    float score;
    int index;
};

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->index - y->index;
}

static float area(const int b[4])
{
    return ((float)b[2] - (float)b[0]) * ((float)b[3] - (float)b[1]);
}

/* NaN where both have no area. */
static float overlap(const int a[4], const int b[4])
{
    const float w = fmaxf(0, fminf((float)a[2], (float)b[2]) - fmaxf((float)a[0], (float)b[0])),
                h = fmaxf(0, fminf((float)a[3], (float)b[3]) - fmaxf((float)a[1], (float)b[1])), inter = w * h;
    return inter / (area(a) + area(b) - inter);
}

enum mcs_status mcs_nms(const int (*boxes)[4], const float *scores, int n, double threshold, int *keep, int *n_keep)
{
    struct ranked *order = malloc(((size_t)n + 1) * sizeof *order);
    MCS_REQUIRE(order, MCS_E_NOMEM, "no memory for %d boxes", n);
    for (int i = 0; i < n; i++) order[i] = (struct ranked){scores[i], i};
    qsort(order, (size_t)n, sizeof *order, by_score);
    *n_keep = 0;
    for (int i = 0; i < n; i++) {
        int suppressed = 0;
        for (int k = 0; k < *n_keep && !suppressed; k++)
            suppressed = (double)overlap(boxes[keep[k]], boxes[order[i].index]) > threshold;
        if (!suppressed) keep[(*n_keep)++] = order[i].index;
    }
    free(order);
    return MCS_OK;
}
