/* Connected components by lock-free union-find. The parent of a voxel is an earlier voxel or itself: a warp links each
 * run of a row to the run's first voxel, then adjacent runs are joined by atomicMin. The root of a component is its
 * first voxel in any order of execution. Roots are counted by chunks and numbered in order. A join that meets another
 * thread's update continues with the updated parent, always towards smaller indices, so no thread waits. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/masks.h"

constexpr int THREADS = 256;

static DEV_INLINE int warp_lane()
{
    return (int)(threadIdx.x % DEV_WARP);
}

/* Mask of lanes that begin a run: voxels that are set and are the first of the warp or of a row, or follow one that is
 * not set. */
static DEV_INLINE unsigned run_starts(bool set, int x)
{
    const unsigned all = __ballot_sync(DEV_FULL, set), row = __ballot_sync(DEV_FULL, x == 0);
    return all & (~(all << 1) | row | 1u);
}

/* parent = first voxel of the run; -1 outside the mask. */
static __global__ void __launch_bounds__(THREADS) components_runs(const uint8_t *mask, int n, int width, int *parent)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x), lane = warp_lane();
    const bool set = i < n && mask[i];
    const unsigned starts = run_starts(set, i % width);
    if (i >= n) return;
    const int first = 31 - __clz((int)(starts & (0xffffffffu >> (31 - lane))));
    parent[i] = set ? i - lane + first : -1;
}

/* Root of a. Other threads lower parents concurrently, but every value read is an ancestor. atomicAdd of 0 is an atomic
 * read. */
static DEV_INLINE int root_now(int *parent, int a)
{
    for (;;) {
        const int p = atomicAdd(&parent[a], 0);
        if (p == a) return a;
        a = p;
    }
}

static DEV_INLINE void join(int *parent, int a, int b)
{
    for (;;) {
        a = root_now(parent, a);
        b = root_now(parent, b);
        if (a == b) return;
        const int high = a > b ? a : b, low = a > b ? b : a;
        const int was = atomicMin(&parent[high], low);
        if (was == high) return;
        a = was; /* another thread changed the parent: join that one with `low` */
        b = low;
    }
}

/* Joins voxel i at column x with the row whose voxel at column x is r; left, right: whether i's neighbours in the row
 * are set. Of r - 1, r and r + 1 it joins only those that no other voxel of i's row joins. */
static DEV_INLINE void join_row(const uint8_t *mask, int *parent, int i, int r, int x, int width, bool left, bool right)
{
    const bool before = x && mask[r - 1];
    if (mask[r]) {
        if (!(left && before)) join(parent, i, r);
        return;
    }
    if (before && !left) join(parent, i, r - 1);
    if (x + 1 < width && mask[r + 1] && !right) join(parent, i, r + 1);
}

static __global__ void __launch_bounds__(THREADS)
    components_join(const uint8_t *mask, int n, int height, int width, int *parent)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= n || !mask[i]) return;
    const int x = i % width, y = i / width % height, plane = height * width;
    const bool left = x && mask[i - 1], right = x + 1 < width && mask[i + 1];
    if (left && warp_lane() == 0) join(parent, i, i - 1); /* a run that continues from the previous warp */
    if (y) join_row(mask, parent, i, i - width, x, width, left, right);
    if (i < plane) return;
    for (int d = -1; d <= 1; d++)
        if (y + d >= 0 && y + d < height) join_row(mask, parent, i, i - plane + d * width, x, width, left, right);
}

/* labels = root, -1 outside; count (chunks): number of roots in each chunk. */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    components_roots(const int *parent, int n, int32_t *labels, int *count)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK;
    int roots = 0;
    for (int64_t i = first + threadIdx.x; i < first + CHUNK && i < n; i += CHUNK_THREADS) {
        int a = parent[i];
        while (a >= 0 && parent[a] != a) a = parent[a];
        labels[i] = a;
        roots += a == (int)i;
    }
    roots = block_sum<CHUNK_THREADS>(roots);
    if (threadIdx.x == 0) count[blockIdx.x] = roots;
}

/* Exclusive prefix sum of v over the threads of a block; *total: the sum. */
static DEV_INLINE int block_exclusive_sum(int v, int *total)
{
    SHARED_ARRAY(int, warps, [CHUNK_THREADS / DEV_WARP]);
    const int lane = warp_lane(), w = (int)threadIdx.x / DEV_WARP;
    int upto = v;
    for (int d = 1; d < DEV_WARP; d *= 2) {
        const int other = __shfl_up_sync(DEV_FULL, upto, d);
        if (lane >= d) upto += other;
    }
    if (lane == DEV_WARP - 1) warps[w] = upto;
    DEV_SYNC();
    int before = upto - v, sum = 0;
    for (int i = 0; i < CHUNK_THREADS / DEV_WARP; i++) {
        if (i < w) before += warps[i];
        sum += warps[i];
    }
    DEV_SYNC();
    *total = sum;
    return before;
}

/* One block: replaces count (chunks) by its exclusive prefix sum, the number of roots in earlier chunks;
 * *n: all roots. */
static __global__ void __launch_bounds__(CHUNK_THREADS) components_count(int *count, int chunks, int32_t *n)
{
    int done = 0;
    for (int at = 0; at < chunks; at += CHUNK_THREADS) {
        const int i = at + (int)threadIdx.x, v = i < chunks ? count[i] : 0;
        int total;
        const int before = block_exclusive_sum(v, &total);
        if (i < chunks) count[i] = done + before;
        done += total;
    }
    if (threadIdx.x == 0) *n = done;
}

/* parent of a root = its number, from 1. The item of a measured component starts as its first voxel, the root: the box
 * and the peak are there, the area, the centroid and the values are 0. */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    components_number(struct k_components a, int n, const int *count, int *parent, unsigned long long *sums)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK;
    int done = count[blockIdx.x];
    for (int64_t at = first; at < first + CHUNK && at < n; at += CHUNK_THREADS) {
        const int i = (int)at + (int)threadIdx.x;
        const int is_root = i < n && a.labels[i] == i;
        int total;
        const int number = done + block_exclusive_sum(is_root, &total) + 1;
        done += total;
        if (!is_root) continue;
        parent[i] = number;
        if (number > a.capacity) continue;
        const int x = i % a.width, y = i / a.width % a.height, z = i / a.width / a.height;
        a.items[number - 1] = {number, 0, x, y, z, x, y, z, 0, 0, 0, 0, 0, x, y, z};
        for (int k = 0; k < 3; k++) sums[3 * (int64_t)(number - 1) + k] = 0;
    }
}

/* labels: roots replaced by numbers; areas, boxes and sums of coordinates, added once per run. */
static __global__ void __launch_bounds__(THREADS)
    components_label(struct k_components a, int n, const int *number, unsigned long long *sums)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x), lane = warp_lane();
    const int root = i < n ? a.labels[i] : -1, label = root < 0 ? 0 : number[root];
    const int x = i % a.width, y = i / a.width % a.height, z = i / a.width / a.height;
    const unsigned starts = run_starts(label > 0, x), all = __ballot_sync(DEV_FULL, label > 0);
    if (i < n) a.labels[i] = label;
    if (!(starts >> lane & 1) || label > a.capacity) return;
    const unsigned ends = lane == 31 ? 0 : (starts | ~all) & (0xfffffffeu << lane);
    const int length = (ends ? __ffs((int)ends) - 1 : 32) - lane;
    struct component *c = a.items + label - 1;
    atomicAdd(&c->area, length);
    atomicMin(&c->x0, x);
    atomicMax(&c->x1, x + length - 1);
    atomicMin(&c->y0, y);
    atomicMax(&c->y1, y);
    atomicMin(&c->z0, z);
    atomicMax(&c->z1, z);
    unsigned long long *sum = sums + 3 * (int64_t)(label - 1);
    atomicAdd(&sum[0], (unsigned long long)((int64_t)length * x + (int64_t)length * (length - 1) / 2));
    atomicAdd(&sum[1], (unsigned long long)length * (unsigned)y);
    atomicAdd(&sum[2], (unsigned long long)length * (unsigned)z);
}

/* Key whose maximum is the largest value, and among equal values the smallest index. */
static DEV_INLINE unsigned long long peak_key(float v, unsigned place)
{
    const unsigned u = __float_as_uint(v + 0.0f); /* -0 is 0 */
    return (unsigned long long)(u & 0x80000000u ? ~u : u | 0x80000000u) << 32 | (0xffffffffu - place);
}

/* One block per component: its centroid from the sums, and the mean and the peak of the map over its voxels, which are
 * read in raster order of its bounding box. */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    components_measure(struct k_components a, const unsigned long long *sums)
{
    const int n = *a.n < a.capacity ? *a.n : a.capacity;
    for (int c = (int)blockIdx.x; c < n; c += (int)gridDim.x) {
        struct component *item = a.items + c;
        const int x0 = item->x0, y0 = item->y0, z0 = item->z0, area = item->area;
        const int w = item->x1 - x0 + 1, h = item->y1 - y0 + 1, cells = w * h * (item->z1 - z0 + 1);
        double sum = 0;
        unsigned long long key = 0;
        for (int64_t k = threadIdx.x; a.map && k < cells; k += CHUNK_THREADS) {
            const int y = (int)(k / w % h) + y0, z = (int)(k / w / h) + z0;
            const int64_t i = ((int64_t)z * a.height + y) * a.width + x0 + k % w;
            if (a.labels[i] != c + 1) continue;
            const float v = a.map[i];
            const unsigned long long mine = peak_key(v, (unsigned)k);
            sum += v;
            key = mine > key ? mine : key;
        }
        sum = block_sum<CHUNK_THREADS>(sum);
        key = block_max<CHUNK_THREADS>(key);
        if (threadIdx.x) continue;
        item->cx = (float)((double)sums[3 * c] / area);
        item->cy = (float)((double)sums[3 * c + 1] / area);
        item->cz = (float)((double)sums[3 * c + 2] / area);
        if (!a.map) continue;
        const int k = (int)(0xffffffffu - (unsigned)key);
        item->peak_x = x0 + k % w;
        item->peak_y = y0 + k / w % h;
        item->peak_z = z0 + k / w / h;
        item->peak = a.map[((int64_t)item->peak_z * a.height + item->peak_y) * a.width + item->peak_x];
        item->confidence = (float)(sum / area);
    }
}

size_t k_components_bytes(int depth, int height, int width, int capacity)
{
    const int64_t n = (int64_t)depth * height * width;
    return (size_t)capacity * 3 * sizeof(unsigned long long) + ((size_t)n + chunks_of(n)) * sizeof(int);
}

cudaError_t k_components_run(const struct k_components *a, cudaStream_t s)
{
    const int n = a->depth * a->height * a->width, chunks = (int)chunks_of(n);
    const unsigned blocks = blocks_of(n, THREADS);
    unsigned long long *sums = (unsigned long long *)a->workspace;
    int *count = (int *)(sums + 3 * (int64_t)a->capacity), *parent = count + chunks;
    if (!n) return cudaSuccess;
    cudaError_t e = dev_launch(components_runs, blocks, THREADS, 0, s, a->mask, n, a->width, parent);
    if (e == cudaSuccess)
        e = dev_launch(components_join, blocks, THREADS, 0, s, a->mask, n, a->height, a->width, parent);
    if (e == cudaSuccess)
        e = dev_launch(components_roots, (unsigned)chunks, CHUNK_THREADS, 0, s, (const int *)parent, n, a->labels,
                       count);
    if (e == cudaSuccess) e = dev_launch(components_count, 1, CHUNK_THREADS, 0, s, count, chunks, a->n);
    if (e == cudaSuccess)
        e = dev_launch(components_number, (unsigned)chunks, CHUNK_THREADS, 0, s, *a, n, (const int *)count, parent,
                       sums);
    if (e == cudaSuccess) e = dev_launch(components_label, blocks, THREADS, 0, s, *a, n, (const int *)parent, sums);
    if (e != cudaSuccess || !a->capacity) return e;
    return dev_launch(components_measure, (unsigned)(a->capacity < 1024 ? a->capacity : 1024), CHUNK_THREADS, 0, s, *a,
                      (const unsigned long long *)sums);
}

static __global__ void __launch_bounds__(THREADS)
    components_mask(const int32_t *labels, const uint8_t *keep, int capacity, int64_t n, uint8_t *mask)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) mask[i] = labels[i] <= capacity && keep[labels[i]];
}

cudaError_t k_components_mask(const int32_t *labels, const uint8_t *keep, int capacity, int64_t n, uint8_t *mask,
                              cudaStream_t s)
{
    if (!n) return cudaSuccess;
    return dev_launch(components_mask, blocks_of(n, THREADS), THREADS, 0, s, labels, keep, capacity, n, mask);
}
