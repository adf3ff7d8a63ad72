#include "tests/support/support_guarded.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, GUARD_BYTE = 0x5c, FILL_BYTE = 0xff };
static int held, damaged, fail_at;

struct block_head {
    int64_t bytes;
    uint8_t guard[GUARD - 8];
};

static enum mcs_status alloc_guarded(struct device *d, int64_t bytes, void **p)
{
    const size_t rounded = ((size_t)bytes + 2 * GUARD + 63) / 64 * 64;
    MCS_REQUIRE(!fail_at || --fail_at, MCS_E_NOMEM, "no memory: the test wants it so");
    struct block_head *head = aligned_alloc(64, rounded);
    MCS_REQUIRE(head, MCS_E_NOMEM, "no memory for %lld bytes", (long long)bytes);
    head->bytes = bytes;
    memset(head->guard, GUARD_BYTE, sizeof head->guard);
    uint8_t *data = (uint8_t *)(head + 1);
    memset(data, FILL_BYTE, (size_t)bytes);
    memset(data + bytes, GUARD_BYTE, GUARD);
    *p = data;
    held++;
    return MCS_OK;
}

static void free_guarded(struct device *d, void *p)
{
    if (!p) return;
    struct block_head *head = (struct block_head *)p - 1;
    const uint8_t *after = (uint8_t *)p + head->bytes;
    int changed = 0;
    for (size_t i = 0; i < sizeof head->guard; i++) changed |= head->guard[i] != GUARD_BYTE;
    for (int i = 0; !changed && i < GUARD; i++) changed |= after[i] != GUARD_BYTE;
    damaged += changed;
    held--;
    free(head);
}

int support_guarded_held(void)
{
    return held;
}
int support_guarded_damaged(void)
{
    return damaged;
}
void support_guarded_fail_alloc(int n)
{
    fail_at = n;
}

enum mcs_status support_guarded_open(struct device *d)
{
    static struct backend backend;
    MCS_TRY(mcs_cpu_open(1, d));
    backend = *d->backend;
    backend.alloc = alloc_guarded;
    backend.free = free_guarded;
    d->backend = &backend;
    return MCS_OK;
}
