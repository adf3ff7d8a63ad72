/* Copies and memsets as operations of streams. As documented, a copy from pageable memory reads it before the call
 * returns, and a copy to pageable memory has written it when the call returns. Pinned memory is read when the copy runs
 * in stream order; if the host changed it between the call and the copy, that is reported. */
#include <string.h>

#include "tests/cudasim/stream.h"

namespace sim
{
/* Writes to host memory by the device or by host functions in streams: these are no mistakes. */
static uint64_t host_writes;

void host_memory_written()
{
    host_writes++;
}

/* Checked at the call: the whole range must be device memory, or, if host memory is required, none of it. */
bool range_valid(const void *p, size_t n, bool device, const char *call)
{
    if (device ? in_allocation(p, n) : !in_arena(p)) return true;
    const bool is_freed = device && was_freed(p);
    report(is_freed                ? CUDASIM_FREED
           : device && in_arena(p) ? CUDASIM_BOUNDS
                                   : CUDASIM_HOST,
           0, 0,
           std::string(call) + " of " + std::to_string(n) + " bytes: " +
               (!device       ? "device memory where host memory is required"
                : is_freed    ? "they were freed"
                : in_arena(p) ? nearest(p)
                              : "host memory where device memory is required"));
    return false;
}

static uint64_t digest(const void *p, size_t n)
{
    uint64_t h = n, w;
    const char *c = (const char *)p;
    for (; n >= 8; n -= 8, c += 8) {
        memcpy(&w, c, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    w = 0;
    memcpy(&w, c, n);
    h = (h ^ w) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

struct transfer {
    void *dst;
    const void *src;
    size_t n;
    bool to, from; /* device memory */
    const char *name;
    std::shared_ptr<std::vector<char>> staged;
};

static cudaError_t run_transfer(const transfer &t, uint64_t was, uint64_t writes)
{
    const cudaError_t bad = cudaErrorIllegalAddress;
    block_now++;
    if (t.from && !shadow_host_access(t.src, t.n, READ, t.name, t.to)) return bad;
    if (t.to && !shadow_host_access(t.dst, t.n, WRITE, t.name)) return bad;
    if (t.from && t.to) shadow_copy_state(t.dst, t.src, t.n);
    if (!t.from && !t.staged && writes == host_writes && digest(t.src, t.n) != was)
        report(CUDASIM_PINNED, 0, 0,
               std::string(t.name) + " of " + std::to_string(t.n) +
                   " bytes: the host changed pinned memory after the copy was queued and before it was read");
    if (!t.to) host_memory_written();
    memmove(t.dst, t.staged ? t.staged->data() : t.src, t.n);
    return cudaSuccess;
}

static cudaError_t start(CUstream_st *s, const transfer &t, uint32_t *id = NULL)
{
    return submit(
        s, t.name,
        [t]() {
            const uint64_t was = t.from || t.staged ? 0 : digest(t.src, t.n), writes = host_writes;
            return work{[t, was, writes]() { return run_transfer(t, was, writes); }, NULL};
        },
        id);
}

/* Copies between devices need no peer access: without it CUDA stages them through the host. */
static cudaError_t copy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream,
                        const char *name)
{
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return fail(cudaErrorInvalidMemcpyDirection);
    if (!n) return cudaSuccess;
    if (!dst || !src) return fail(cudaErrorInvalidValue);
    transfer t = {dst, src, n, false, false, name, NULL};
    t.to =
        kind == cudaMemcpyDefault ? in_arena(dst) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    t.from =
        kind == cudaMemcpyDefault ? in_arena(src) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!range_valid(dst, n, t.to, (std::string(name) + " to").c_str()) ||
        !range_valid(src, n, t.from, (std::string(name) + " from").c_str()))
        return fail(cudaErrorInvalidValue);
    const bool pageable_in = !t.from && !is_pinned(src), pageable_out = !t.to && !is_pinned(dst);
    if (s->into && (pageable_in || pageable_out)) return forbidden_on_captured(s, "cudaMemcpyAsync of pageable memory");
    if (pageable_in) t.staged = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + n);
    uint32_t id;
    SIM_TRY(start(s, t, &id));
    if (id && pageable_out) {
        const clock_vector clock = s->last;
        wait_for(id, clock);
        return note_error(device_error(s->device));
    }
    return cudaSuccess;
}

static cudaError_t fill(void *dst, int value, size_t n, CUstream_st *s)
{
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!n) return cudaSuccess;
    if (!range_valid(dst, n, true, "cudaMemset")) return fail(cudaErrorInvalidValue);
    return submit_run(s, "cudaMemset", [=]() {
        block_now++;
        if (!shadow_host_access(dst, n, WRITE, "cudaMemset")) return cudaErrorIllegalAddress;
        memset(dst, value, n);
        return cudaSuccess;
    });
}
} // namespace sim

using namespace sim;

extern "C" {
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    SIM_ENTER();
    return copy(dst, src, n, kind, stream, "cudaMemcpy");
}
/* In the default stream. The host waits, except for a device-to-device copy. */
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind)
{
    SIM_ENTER();
    SIM_TRY(legacy_in_capture(default_stream_of(device_now()), "cudaMemcpy"));
    SIM_TRY(forbidden_in_capture("cudaMemcpy"));
    SIM_TRY(copy(dst, src, n, kind, NULL, "cudaMemcpy"));
    if (in_arena(dst) && in_arena(src)) return cudaSuccess;
    wait_for_stream(default_stream_of(device_now()));
    return note_error(device_error(device_now()));
}
cudaError_t cudaMemcpyPeerAsync(void *dst, int dst_device, const void *src, int src_device, size_t n,
                                cudaStream_t stream)
{
    SIM_ENTER();
    if (!n) return cudaSuccess;
    if (!in_arena(dst) || !in_arena(src) || device_of(dst) != dst_device || device_of(src) != src_device) {
        report(CUDASIM_DEVICE, 0, 0, "cudaMemcpyPeer: a pointer of another device than stated");
        return fail(cudaErrorInvalidValue);
    }
    return copy(dst, src, n, cudaMemcpyDeviceToDevice, stream, "cudaMemcpyPeer");
}
cudaError_t cudaMemcpyPeer(void *dst, int dst_device, const void *src, int src_device, size_t n)
{
    SIM_ENTER();
    SIM_TRY(forbidden_in_capture("cudaMemcpyPeer"));
    return cudaMemcpyPeerAsync(dst, dst_device, src, src_device, n, NULL);
}
/* One copy for each row. All are in one stream, so their order is that of one operation. */
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    SIM_ENTER();
    if (width > dst_pitch || width > src_pitch) return fail(cudaErrorInvalidValue);
    for (size_t i = 0; i < height; i++)
        SIM_TRY(
            copy((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width, kind, stream, "cudaMemcpy2D"));
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t n, cudaStream_t stream)
{
    SIM_ENTER();
    return fill(dst, value, n, resolve(stream));
}
/* In the default stream; asynchronous to the host. */
cudaError_t cudaMemset(void *dst, int value, size_t n)
{
    SIM_ENTER();
    SIM_TRY(legacy_in_capture(default_stream_of(device_now()), "cudaMemset"));
    SIM_TRY(forbidden_in_capture("cudaMemset"));
    return fill(dst, value, n, default_stream_of(device_now()));
}
}
