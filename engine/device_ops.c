#include "engine/device_ops.h"

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
