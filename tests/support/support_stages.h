/* A device whose tensors lie in the host's memory, and which yet offers the stages of engine/stage_ops.h, each computed
 * by a plain loop or by what infer/ and train/ do on the host. So the code that drives stages on a device runs in every
 * test program, and its results can be compared with the host's. Its memory is not cleared but filled with NaN, and
 * each block has guard bytes around it. One such device at a time. */
#ifndef MCS_SUPPORT_STAGES_H
#define MCS_SUPPORT_STAGES_H

#include "engine/stage_ops.h"

enum mcs_status support_stages_open(struct device *d);
/* Blocks that are held, and how often a block was freed whose guard bytes had changed. */
int support_stages_held(void);
int support_stages_damaged(void);
/* The n-th allocation from now on fails; 0: none does. */
void support_stages_fail_alloc(int n);

#endif
