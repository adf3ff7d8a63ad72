/* Learning-rate schedules. */
#ifndef MCS_SCHEDULE_H
#define MCS_SCHEDULE_H

#include <stdint.h>

/* Linear warm-up to base over `warmup` steps, then cosine decay to 0 at `total` (open_clip's cosine_lr). step counts
 * from 0. */
double mcs_lr_cosine(int64_t step, double base, int64_t warmup, int64_t total);

#endif
