/* The CPU backend: host memory and the table of its ops. */
#include "engine/backend.h"
#include "engine/base/memory.h"
#include "engine/cpu/device_ops_cpu.h"
#include "engine/cpu/limits_cpu.h"
#include "engine/cpu/optim_cpu.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Writes to every page once. Linux allocates a page at its first write: done here, a shortage of memory shows before a
 * run starts, and not at the step with the largest batch so far. In parallel, so that the pages are on the NUMA nodes
 * of the threads that will use them. */
static void touch_pages(char *p, size_t bytes)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes; i += 4096) p[i] = 0;
}

static enum mcs_status cpu_alloc(struct device *d, int64_t bytes, void **p)
{
    MCS_TRY(mcs_memory_check_as(MCS_E_NOMEM, bytes, "the tensors on the CPU; use a smaller batch"));
    const size_t rounded = ((size_t)bytes + 63) / 64 * 64;
    *p = aligned_alloc(64, rounded ? rounded : 64);
    MCS_REQUIRE(*p, MCS_E_NOMEM, "no memory for %.1f MiB; use a smaller batch", (double)bytes / 1048576);
    touch_pages(*p, rounded);
    return MCS_OK;
}

/* The batch that fits follows by division: by_batch is proportional to the batch. */
static enum mcs_status cpu_check_memory(struct device *d, int64_t fixed, int64_t by_batch, int64_t batch)
{
    if (mcs_memory_check_as(MCS_E_NOMEM, fixed + by_batch, "a batch of %lld on the CPU", (long long)batch) == MCS_OK)
        return MCS_OK;
    const int64_t left = mcs_memory_left() - fixed, fits = by_batch > 0 && left > 0 ? left / (by_batch / batch + 1) : 0;
    if (fits > 0 && fits < batch) mcs_error_add("; a batch of %lld would fit", (long long)fits);
    return MCS_E_NOMEM;
}

static void cpu_free(struct device *d, void *p)
{
    free(p);
}

static enum mcs_status cpu_copy(struct device *d, void *dst, const void *src, int64_t bytes)
{
    memcpy(dst, src, (size_t)bytes);
    return MCS_OK;
}

static enum mcs_status cpu_zero(struct device *d, void *dst, int64_t bytes)
{
    memset(dst, 0, (size_t)bytes);
    return MCS_OK;
}

static enum mcs_status cpu_sync(struct device *d)
{
    return MCS_OK;
}

#define OP(name, inputs, outputs, attr) extern const struct op_impl mcs_cpu_##name;
#include "engine/tape/ops.def"
#undef OP

/* Addresses of const objects in other files are no constant expressions in C, so the table is filled at open. */
static struct op_impl cpu_ops[MCS_N_OPS];

static const struct backend cpu_backend = {
    .name = "cpu",
    .ops = cpu_ops,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .check_memory = cpu_check_memory,
    .upload = cpu_copy,
    .download = cpu_copy,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .optim_update = mcs_cpu_optim_update,
    .optim_norm = mcs_cpu_optim_norm,
    .close = mcs_cpu_close,
    .device_ops = &mcs_cpu_device_ops,
};

static void fill_table(void)
{
#define OP(name, inputs, outputs, attr) cpu_ops[OP_##name] = mcs_cpu_##name;
#include "engine/tape/ops.def"
#undef OP
}

enum mcs_status mcs_cpu_open(int threads, struct device *d)
{
    static pthread_once_t filled = PTHREAD_ONCE_INIT;
    MCS_TRY(mcs_cpu_check_limits(threads > 0 ? threads : omp_get_max_threads()));
    pthread_once(&filled, fill_table);
    if (threads > 0) omp_set_num_threads(threads);
    *d = (struct device){.backend = &cpu_backend, .activations = MCS_F32};
    return MCS_OK;
}

void mcs_cpu_close(struct device *d)
{
    mcs_cpu_device_ops_close(d);
    d->backend = NULL;
}
