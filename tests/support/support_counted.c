#include "tests/support/support_counted.h"

#include <string.h>

struct support_counts support_counts;
static struct backend counted, inner;
static struct op_impl ops[MCS_N_OPS];

static enum mcs_status alloc(struct device *d, int64_t bytes, void **p)
{
    support_counts.n_allocs++;
    support_counts.alloc_bytes += bytes;
    return inner.alloc(d, bytes, p);
}

static enum mcs_status prepare(struct step *s)
{
    support_counts.n_prepared++;
    return inner.ops[s->op].prepare ? inner.ops[s->op].prepare(s) : MCS_OK;
}

static enum mcs_status upload(struct device *d, void *dst, const void *src, int64_t bytes)
{
    support_counts.n_large_uploads += bytes >= support_counts.large_bytes;
    return inner.upload(d, dst, src, bytes);
}

static enum mcs_status download(struct device *d, void *dst, const void *src, int64_t bytes)
{
    support_counts.n_large_downloads += bytes >= support_counts.large_bytes;
    return inner.download(d, dst, src, bytes);
}

void support_count(struct device *d)
{
    inner = counted = *d->backend;
    memcpy(ops, inner.ops, sizeof ops);
    for (int i = 0; i < MCS_N_OPS; i++) ops[i].prepare = prepare;
    counted.ops = ops;
    counted.alloc = alloc;
    counted.upload = upload;
    counted.download = download;
    d->backend = &counted;
    support_counts = (struct support_counts){0};
}
