#include "engine/stage_ops.h"

enum mcs_status mcs_stage_room(struct stage_room *r, int64_t bytes)
{
    if (bytes <= r->bytes) return MCS_OK;
    mcs_stage_room_free(r);
    MCS_TRY(r->device->backend->alloc(r->device, bytes, &r->p));
    r->bytes = bytes;
    return MCS_OK;
}

void mcs_stage_room_free(struct stage_room *r)
{
    if (r->p) r->device->backend->free(r->device, r->p);
    r->p = NULL;
    r->bytes = 0;
}
