#include "engine/image/prob_maps.h"

#include <math.h>

static double term(double p)
{
    return p > 0.0 && p < 1.0 ? -p * log2(p) : 0.0;
}

enum mcs_status mcs_entropy_map(const float *prob, int n_classes, int64_t n, float *bits)
{
    MCS_REQUIRE(n_classes >= 1, MCS_E_SHAPE, "entropy of %d classes", n_classes);
    for (int64_t i = 0; i < n * n_classes; i++)
        MCS_REQUIRE(prob[i] >= -1e-4f && prob[i] <= 1.0001f, MCS_E_DATA, "pixel %lld: %g is no probability",
                    (long long)(i % n), prob[i]);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int c = 0; c < n_classes; c++) sum += term(prob[c * n + i]);
        if (n_classes == 1) sum += term(1.0 - prob[i]);
        bits[i] = (float)sum;
    }
    return MCS_OK;
}

void mcs_prob_labels(const float *prob, int classes, int64_t n, double threshold, uint8_t *labels)
{
    for (int64_t i = 0; i < n; i++) {
        int best = 0;
        for (int k = 1; k < classes; k++)
            if (prob[k * n + i] > prob[best * n + i]) best = k;
        labels[i] = threshold > 0 && classes == 2 ? (double)prob[n + i] > threshold : (uint8_t)best;
    }
}
