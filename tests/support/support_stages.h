/* A device in host memory that provides the device operations of engine/stage_ops.h, each computed by a plain loop or
 * by the host code of infer/ and train/. So every test program can run the code that calls device operations and
 * compare its results with the host's. Its memory is filled with NaN, and each block has guard bytes around it. One
 * such device at a time. */
#ifndef MCS_SUPPORT_STAGES_H
#define MCS_SUPPORT_STAGES_H

#include "engine/stage_ops.h"

enum mcs_status support_stages_open(struct device *d);
/* Number of allocated blocks; number of freed blocks whose guard bytes had been overwritten. */
int support_stages_held(void);
int support_stages_damaged(void);
/* The n-th allocation from now on fails; 0: none does. */
void support_stages_fail_alloc(int n);

#endif
