/* Counts a device's allocations, plans and copies between host and device. One such device at a time.
 */
#ifndef SUPPORT_COUNTED_H
#define SUPPORT_COUNTED_H

#include "engine/backend.h"

struct support_counts {
    int64_t n_allocs, alloc_bytes,
        n_prepared; /* n_prepared: steps prepared, which each planning of a graph does again */
    int64_t large_bytes, n_large_uploads, n_large_downloads; /* copies of at least large_bytes, which a test sets */
};
extern struct support_counts support_counts;
/* From now on the open device is counted. */
void support_count(struct device *d);

#endif
