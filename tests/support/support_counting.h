/* Counts the allocations of an open device by replacing its table of backend functions. */
#ifndef MCS_SUPPORT_COUNTING_H
#define MCS_SUPPORT_COUNTING_H

#include "engine/backend.h"

#include <criterion/criterion.h>
#include <string.h>

struct counting {
    struct backend table; /* first: a device's backend is this structure */
    const struct backend *real;
    int64_t held, peak; /* bytes */
    int64_t fail_from;  /* allocations of at least this many bytes fail; 0: none fails */
    int n_allocations, n_taken;
    int poison; /* fill new memory with NaN to detect reads before writes; for devices in host memory */
    struct {
        void *p;
        int64_t bytes;
    } taken[512];
};

static inline struct counting *counting_of(struct device *d)
{
    return (struct counting *)(uintptr_t)d->backend;
}

static inline enum mcs_status counting_alloc(struct device *d, int64_t bytes, void **p)
{
    struct counting *c = counting_of(d);
    int i = 0;
    MCS_REQUIRE(!c->fail_from || bytes < c->fail_from, MCS_E_NOMEM, "no %lld bytes here", (long long)bytes);
    MCS_TRY(c->real->alloc(d, bytes, p));
    while (i < c->n_taken && c->taken[i].p) i++;
    if (i == c->n_taken) c->n_taken++;
    cr_assert_lt(i, 512);
    if (c->poison) memset(*p, 0xFF, (size_t)bytes);
    c->taken[i].p = *p, c->taken[i].bytes = bytes;
    c->n_allocations++;
    c->held += bytes;
    if (c->held > c->peak) c->peak = c->held;
    return MCS_OK;
}

static inline void counting_free(struct device *d, void *p)
{
    struct counting *c = counting_of(d);
    for (int i = 0; p && i < c->n_taken; i++)
        if (c->taken[i].p == p) {
            c->held -= c->taken[i].bytes;
            c->taken[i].p = NULL;
            break;
        }
    c->real->free(d, p);
}

static inline void counting_close(struct device *d)
{
    d->backend = counting_of(d)->real;
    d->backend->close(d);
}

/* *c must outlive the device. */
static inline void count_device(struct device *d, struct counting *c)
{
    *c = (struct counting){.table = *d->backend, .real = d->backend};
    c->table.alloc = counting_alloc;
    c->table.free = counting_free;
    c->table.close = counting_close;
    d->backend = &c->table;
}

#endif
