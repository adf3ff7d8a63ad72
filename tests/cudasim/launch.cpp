/* Kernel launches: limits of the launch configuration, occupancy; host functions in streams. */
#include <algorithm>
#include <map>

#include "tests/cudasim/stream.h"

using namespace sim;

static std::map<const void *, kernel> kernels;
static std::map<const void *, size_t> shared_limits;

void sim_kernel(const void *entry, const char *name, void (*call)(const void *, void **), const size_t *sizes, int n)
{
    const guard g;
    kernel &k = kernels[entry];
    if (!k.entry) {
        k.name = name;
        /* dev_launch wants a template's name in parentheses */
        if (k.name[0] == '(') k.name = k.name.substr(1, k.name.size() - 2);
        k.entry = entry;
        k.call = call;
        k.sizes.assign(sizes, sizes + n);
    }
}

static cudaError_t refuse(const char *name, cudaError_t e, const std::string &what)
{
    report(CUDASIM_LIMIT, 0, 0, std::string("launch of ") + name + ": " + what);
    return fail(e);
}

static size_t shared_limit(const void *entry)
{
    return shared_limits.count(entry) ? shared_limits[entry] : (size_t)SHARED_DEFAULT;
}

extern "C" {
cudaError_t cudaLaunchKernel(const void *entry, dim3 grid, dim3 block, void **args, size_t shared_bytes,
                             cudaStream_t stream)
{
    SIM_ENTER();
    auto found = kernels.find(entry);
    if (found == kernels.end()) return fail(cudaErrorInvalidDeviceFunction);
    const kernel &k = found->second;
    CUstream_st *s = resolve(stream);
    if (!s || s->device != device_now()) return fail(cudaErrorInvalidResourceHandle);
    if (!has_kernel_image()) return fail(cudaErrorNoKernelImageForDevice);
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (!threads || threads > MAX_THREADS || block.x > 1024 || block.y > 1024 || block.z > 64)
        return refuse(k.name.c_str(), cudaErrorInvalidConfiguration,
                      std::to_string(threads) + " threads a block; 1 to 1024, z at most 64");
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return refuse(k.name.c_str(), cudaErrorInvalidConfiguration,
                      "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                          std::to_string(grid.z) + "; at least 1, y and z at most 65535");
    const size_t most = shared_limit(entry);
    if (shared_bytes > most)
        return refuse(k.name.c_str(), cudaErrorInvalidValue,
                      std::to_string(shared_bytes) +
                          " bytes of dynamic shared memory; allowed for it: " + std::to_string(most));
    auto l = std::make_shared<launch>(launch{&k, grid, block, shared_bytes, {}});
    for (size_t i = 0; i < k.sizes.size(); i++) l->args.emplace_back((char *)args[i], (char *)args[i] + k.sizes[i]);
    return submit_run(s, k.name, [l]() { return run_launch(*l); });
}

cudaError_t cudaFuncSetAttribute(const void *entry, enum cudaFuncAttribute which, int value)
{
    SIM_ENTER();
    if (which == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (which != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > SHARED_MAX)
        return fail(cudaErrorInvalidValue);
    shared_limits[entry] = (size_t)value;
    return cudaSuccess;
}
/* Registers, static shared and local memory, known only to nvcc, are 0 here. */
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *entry)
{
    SIM_ENTER();
    if (!a) return fail(cudaErrorInvalidValue);
    if (!has_kernel_image()) return fail(cudaErrorNoKernelImageForDevice);
    *a = {};
    a->maxThreadsPerBlock = MAX_THREADS;
    a->maxDynamicSharedSizeBytes = (int)shared_limit(entry);
    a->binaryVersion = a->ptxVersion = 90;
    return cudaSuccess;
}
/* From threads and dynamic shared memory only: 2048 threads, 32 blocks and 228 KiB a multiprocessor, of which each
 * block reserves 1 KiB more than it asks for. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *entry, int threads, size_t shared_bytes)
{
    SIM_ENTER();
    if (!n || threads < 1) return fail(cudaErrorInvalidValue);
    *n = 0;
    if (threads > MAX_THREADS || shared_bytes > shared_limit(entry)) return cudaSuccess;
    const int warps = (threads + WARP - 1) / WARP;
    *n = std::min({32, 2048 / (warps * WARP), (int)(228 * 1024 / (shared_bytes + 1024))});
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void *data)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!f) return fail(cudaErrorInvalidValue);
    return submit_run(s, "cudaLaunchHostFunc", [f, data]() {
        in_host_function = true;
        f(data);
        in_host_function = false;
        host_memory_written();
        return cudaSuccess;
    });
}
}
