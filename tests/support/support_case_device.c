#include "tests/support/support_case_device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char guard_byte =
    0xA5; /* an unlikely float; the memory between the guards is filled with NaN to detect reads before writes */

void case_complain(struct case_runner *r, const char *what, const char *fmt, ...)
{
    va_list ap;
    if (r->failed++ > 8) return;
    fprintf(stderr, "%s: %s \"%s\": %s: ", r->b->name, r->info->name, r->c->name, what);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static void copy_to_device(struct case_runner *r, void *dst, const void *src, int64_t bytes)
{
    const struct backend *be = r->b->device ? r->b->device->backend : NULL;
    if (!be)
        memcpy(dst, src, (size_t)bytes);
    else if (be->upload(r->b->device, dst, src, bytes) != MCS_OK)
        case_complain(r, "upload", "%s", mcs_error_message());
}

void case_download(struct case_runner *r, void *dst, const void *src, int64_t bytes)
{
    const struct backend *be = r->b->device ? r->b->device->backend : NULL;
    if (!be)
        memcpy(dst, src, (size_t)bytes);
    else if (be->download(r->b->device, dst, src, bytes) != MCS_OK)
        case_complain(r, "download", "%s", mcs_error_message());
}

static int guard_of(const struct case_runner *r)
{
    return r->b->exact ? 0 : CASE_GUARD;
}

void *case_device_new(struct case_runner *r, int64_t bytes, const void *src)
{
    const struct backend *be = r->b->device ? r->b->device->backend : NULL;
    const int guard = guard_of(r);
    unsigned char *image = malloc((size_t)bytes + CASE_GUARD);
    void *p = NULL;
    if (!image) abort();
    if (src)
        memcpy(image, src, (size_t)bytes);
    else
        memset(image, 0xFF, (size_t)bytes); /* a NaN in float32 */
    memset(image + bytes, guard_byte, CASE_GUARD);
    if (be) {
        if (be->alloc(r->b->device, bytes + guard, &p) != MCS_OK) abort();
    } else {
        p = mcs_aligned_alloc((size_t)bytes + CASE_GUARD);
        if (!p) abort();
    }
    copy_to_device(r, p, image, bytes + guard);
    free(image);
    if (r->n_made == r->cap_made) {
        r->cap_made = r->cap_made ? 2 * r->cap_made : 32;
        r->made = realloc(r->made, (size_t)r->cap_made * sizeof *r->made);
        if (!r->made) abort();
    }
    r->made[r->n_made++] = (struct case_memory){p, bytes};
    return p;
}

void case_device_free_from(struct case_runner *r, int from)
{
    const struct backend *be = r->b->device ? r->b->device->backend : NULL;
    unsigned char seen[CASE_GUARD];
    while (r->n_made > from) {
        struct case_memory m = r->made[--r->n_made];
        case_download(r, seen, (const char *)m.p + m.bytes, guard_of(r));
        for (int i = 0; i < guard_of(r); i++)
            if (seen[i] != guard_byte) {
                case_complain(r, "overrun", "wrote behind a buffer of %lld bytes", (long long)m.bytes);
                break;
            }
        if (be)
            be->free(r->b->device, m.p);
        else
            mcs_aligned_free(m.p);
    }
}

void *case_device_floats(struct case_runner *r, enum mcs_dtype dt, const void *host, int64_t n)
{
    uint16_t *half = dt == MCS_BF16 && host ? mcs_arena_alloc(&r->host, (size_t)n * sizeof *half + 1) : NULL;
    for (int64_t i = 0; half && i < n; i++) half[i] = mcs_bf16_from(((const float *)host)[i]);
    return case_device_new(r, n * mcs_dtype_bytes(dt), half ? half : host);
}

void case_get_floats(struct case_runner *r, const struct tensor *t, float *dst)
{
    const int64_t n = mcs_count(t);
    uint16_t *half = (uint16_t *)dst;
    case_download(r, dst, t->data, mcs_bytes(t));
    for (int64_t i = n - 1; t->dt == MCS_BF16 && i >= 0; i--) { /* widens in place, from the end */
        const uint16_t h = half[i];
        dst[i] = mcs_bf16_to(h);
    }
}
