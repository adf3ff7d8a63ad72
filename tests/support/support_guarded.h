/* The CPU device with memory that is not cleared but filled with NaN, with guard bytes around each block, and with
 * allocations that fail where a test wants it. One such device at a time. */
#ifndef MCS_SUPPORT_GUARDED_H
#define MCS_SUPPORT_GUARDED_H

#include "engine/backend.h"

enum mcs_status support_guarded_open(struct device *d);
/* Number of allocated blocks; number of freed blocks whose guard bytes had been overwritten. */
int support_guarded_held(void);
int support_guarded_damaged(void);
/* The n-th allocation from now on fails; 0: none does. */
void support_guarded_fail_alloc(int n);

#endif
