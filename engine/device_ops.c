#include "engine/device_ops.h"

#include <string.h>

enum mcs_status mcs_device_alloc(struct device *d, int64_t bytes, void *to)
{
    void *p = NULL;
    MCS_TRY(d->backend->alloc(d, bytes, &p));
    memcpy(to, &p, sizeof p);
    return MCS_OK;
}

enum mcs_status mcs_device_scratch(struct device_scratch *r, int64_t bytes)
{
    if (bytes <= r->bytes) return MCS_OK;
    mcs_device_scratch_free(r);
    MCS_TRY(r->device->backend->alloc(r->device, bytes, &r->p));
    r->bytes = bytes;
    return MCS_OK;
}

void mcs_device_scratch_free(struct device_scratch *r)
{
    if (r->p) r->device->backend->free(r->device, r->p);
    r->p = NULL;
    r->bytes = 0;
}
