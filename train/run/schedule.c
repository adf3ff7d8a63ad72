#include "train/run/schedule.h"

#include <math.h>

double mcs_lr_cosine(int64_t step, double base, int64_t warmup, int64_t total)
{
    if (step < warmup) return base * (double)(step + 1) / (double)warmup;
    return 0.5 * base * (1 + cos(M_PI * (double)(step - warmup) / (double)(total > warmup ? total - warmup : 1)));
}
