/* Probes of shuffles, votes and atomics (probes.h). */
#include "tests/cudasim/probes.cuh"

#include <stdlib.h>
#include <string.h>

/* --- shuffles: programming guide, "Warp Shuffle Functions" --- */
constexpr int SHUFFLES = 8;
static __global__ void shuffle_kernel(const int *in, int *out)
{
    const int l = (int)threadIdx.x, v = in[l];
    int *o = out + l * SHUFFLES;
    o[0] = __shfl_sync(DEV_FULL, v, 5);
    o[1] = __shfl_up_sync(DEV_FULL, v, 3);
    o[2] = __shfl_down_sync(DEV_FULL, v, 7);
    o[3] = __shfl_xor_sync(DEV_FULL, v, 17);
    o[4] = __shfl_sync(DEV_FULL, v, 11, 8); /* source lane beyond the width: modulo the width */
    o[5] = __shfl_up_sync(DEV_FULL, v, 3, 16);
    o[6] = __shfl_down_sync(DEV_FULL, v, 3, 16);
    o[7] = __shfl_xor_sync(DEV_FULL, v, 3, 4);
}
int probe_shuffles(char *text)
{
    int in[32], out[32 * SHUFFLES] = {0};
    for (int i = 0; i < 32; i++) in[i] = 100 + i;
    if (launch(shuffle_kernel, 1, 32, in, 32, out, 32 * SHUFFLES, text)) return 1;
    for (int l = 0; l < 32; l++) {
        const int want[SHUFFLES] = {5,
                                    l >= 3 ? l - 3 : l,
                                    l + 7 < 32 ? l + 7 : l,
                                    l ^ 17,
                                    l / 8 * 8 + 3,
                                    l % 16 >= 3 ? l - 3 : l,
                                    l % 16 + 3 < 16 ? l + 3 : l,
                                    l ^ 3};
        for (int k = 0; k < SHUFFLES; k++)
            if (out[l * SHUFFLES + k] != 100 + want[k])
                FAIL("shuffle %d, lane %d: %d, want lane %d's", k, l, out[l * SHUFFLES + k], want[k]);
    }
    return 0;
}

static __global__ void shuffle_wide_kernel(const double *in, double *out)
{
    out[threadIdx.x] = __shfl_xor_sync(DEV_FULL, in[threadIdx.x], 1);
    out[threadIdx.x + 32] = dev_warp_sum(in[threadIdx.x]);
    out[threadIdx.x + 64] = dev_warp_max((float)in[threadIdx.x]);
}
int probe_wide_and_sums(char *text)
{
    double in[32], out[96] = {0}, sum = 0;
    for (int i = 0; i < 32; i++) in[i] = (i * 37 % 32) + 0.25, sum += in[i];
    if (launch(shuffle_wide_kernel, 1, 32, in, 32, out, 96, text)) return 1;
    for (int l = 0; l < 32; l++)
        if (out[l] != in[l ^ 1] || out[l + 32] != sum || out[l + 64] != 31.25)
            FAIL("lane %d: %g %g %g", l, out[l], out[l + 32], out[l + 64]);
    return 0;
}

/* --- votes: "Warp Vote Functions"; reductions: "Warp Reduce Functions" --- */
constexpr int VOTES = 12;
static __global__ void vote_kernel(const int *in, int *out)
{
    const int l = (int)threadIdx.x, v = in[l];
    int *o = out + l * VOTES;
    o[0] = (int)__ballot_sync(DEV_FULL, v & 1);
    o[1] = __any_sync(DEV_FULL, v == 131);
    o[2] = __any_sync(DEV_FULL, v == 999);
    o[3] = __all_sync(DEV_FULL, v >= 100);
    o[4] = __all_sync(DEV_FULL, v > 100);
    o[5] = (int)__popc(__ballot_sync(DEV_FULL, l < 9));
    o[6] = o[7] = o[8] = o[9] = o[10] = o[11] = 0;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    o[6] = (int)__reduce_add_sync(DEV_FULL, (unsigned)v);
    o[7] = __reduce_min_sync(DEV_FULL, v - 120);
    o[8] = __reduce_max_sync(DEV_FULL, v - 120);
    o[9] = (int)__reduce_and_sync(DEV_FULL, (unsigned)v | 64u);
    o[10] = (int)__reduce_or_sync(DEV_FULL, 1u << l);
    o[11] = (int)__reduce_xor_sync(DEV_FULL, 1u << (l / 2));
#endif
}
int probe_votes(char *text)
{
    int in[32], out[32 * VOTES] = {0}, all = 127;
    for (int i = 0; i < 32; i++) in[i] = 100 + i, all &= in[i] | 64;
    if (launch(vote_kernel, 1, 32, in, 32, out, 32 * VOTES, text)) return 1;
    const int want[VOTES] = {(int)0xaaaaaaaau, 1, 0, 1, 0, 9, 3696, -20, 11, all, -1, 0};
    for (int l = 0; l < 32; l++)
        for (int k = 0; k < VOTES; k++) {
            const int got = out[l * VOTES + k];
            if ((got != 0) != (want[k] != 0) || (k != 1 && k != 3 && got != want[k]))
                FAIL("vote %d, lane %d: %d, want %d", k, l, got, want[k]);
        }
    return 0;
}

/* --- atomics: "Atomic Functions"; each returns the old value --- */
static __global__ void atomic_kernel(const int *in, int *out)
{
    const int t = (int)(blockIdx.x * blockDim.x + threadIdx.x), v = in[t];
    atomicAdd(&out[0], v);
    atomicMax(&out[1], v);
    atomicMin(&out[2], v);
    atomicAdd((float *)&out[3], 0.5f);
    atomicOr((unsigned *)&out[4], 1u << (t % 32));
    atomicAnd((unsigned *)&out[5], ~(1u << (t % 32)));
    atomicXor((unsigned *)&out[6], 3u);
    atomicCAS(&out[7], 7, v); /* only the first thread finds 7 */
    atomicExch(&out[8], v);
    atomicAdd((unsigned long long *)&out[10], 1ull << 33);
    atomicAdd((double *)&out[12], 0.25);
    out[14 + atomicAdd((unsigned *)&out[9], 1u)] = v; /* each thread gets another index */
}
int probe_atomics(char *text)
{
    constexpr int N = 128;
    int in[N], out[14 + N] = {0}, seen[N] = {0};
    for (int i = 0; i < N; i++) in[i] = 1000 + i;
    out[2] = 1 << 30, out[5] = -1, out[7] = 7;
    if (launch(atomic_kernel, 2, 64, in, N, out, 14 + N, text)) return 1;
    float f;
    double d;
    unsigned long long u;
    memcpy(&f, &out[3], sizeof f), memcpy(&u, &out[10], sizeof u), memcpy(&d, &out[12], sizeof d);
    const int sum = N * 1000 + N * (N - 1) / 2;
    if (out[0] != sum || out[1] != 1000 + N - 1 || out[2] != 1000 || f != N * 0.5f)
        FAIL("add, max, min: %d %d %d %g", out[0], out[1], out[2], (double)f);
    if (out[4] != -1 || out[5] != 0 || out[6] != 0) FAIL("or, and, xor: %x %x %x", out[4], out[5], out[6]);
    if (out[7] < 1000 || out[8] < 1000 || out[9] != N || u != (unsigned long long)N << 33 || d != N * 0.25)
        FAIL("cas, exch, wide: %d %d %d %llu %g", out[7], out[8], out[9], u, d);
    for (int i = 0; i < N; i++) seen[out[14 + i] - 1000]++;
    for (int i = 0; i < N; i++)
        if (seen[i] != 1) FAIL("the old value: %d seen %d times", i, seen[i]);
    return 0;
}

template <class T> static DEV_INLINE void each_atomic(T *out, T v, unsigned t)
{
    atomicMax(&out[0], v);
    atomicMin(&out[1], v);
    atomicAnd(&out[2], ~((T)1 << t % 32));
    atomicOr(&out[3], (T)1 << t % 32);
    atomicXor(&out[4], (T)5);
    atomicAdd(&out[5], v);
    const T before = atomicCAS(&out[6], (T)9, v);
    if (before == 9) out[7] = v; /* only one thread */
    atomicExch(&out[8], v);
}
static __global__ void atomic_types_kernel(const unsigned *in, unsigned long long *out)
{
    const unsigned t = threadIdx.x;
    each_atomic(out, ((unsigned long long)in[t] << 32), t);
    each_atomic((unsigned *)(out + 9), in[t], t);
    int *i = (int *)(out + 14), old = atomicExch(&i[0], (int)in[t]);
    float *f = (float *)(out + 15), was = atomicExch(&f[0], (float)in[t]);
    atomicAdd(&i[1], old); /* old values: those of all threads but the last, and the initial value */
    atomicAdd(&f[1], was);
}
int probe_atomic_types(char *text)
{
    constexpr int N = 64;
    unsigned in[N], narrow[9];
    unsigned long long out[16] = {0}, sum = 0;
    for (unsigned i = 0; i < N; i++) in[i] = 100 + i * 7 % 64, sum += in[i];
    memset(&narrow, 0, sizeof narrow);
    out[1] = ~0ull, out[2] = ~0ull, out[6] = 9;
    narrow[1] = narrow[2] = ~0u, narrow[6] = 9;
    memcpy(out + 9, narrow, sizeof narrow);
    int i[2] = {0, 0};
    float f[2] = {0, 0};
    memcpy(out + 14, i, sizeof i), memcpy(out + 15, f, sizeof f);
    if (launch(atomic_types_kernel, 1, N, in, N, out, 16, text)) return 1;
    memcpy(narrow, out + 9, sizeof narrow), memcpy(i, out + 14, sizeof i), memcpy(f, out + 15, sizeof f);
    for (int k = 0; k < 9; k++) {
        const unsigned long long w = out[k], n = narrow[k], high = ~0ull << 32;
        const unsigned long long any = k == 6 || k == 7 || k == 8; /* value of any thread */
        const unsigned long long want[9] = {163, 100, 0, 0xffffffffu, 0, sum, n, out[7] >> 32, n};
        if (n != (k == 7 ? narrow[6] : want[k])) FAIL("unsigned, %d: %llu", k, n);
        const unsigned long long wide = k == 2 ? high : k == 3 ? 0xffffffffull : k == 4 ? 0 : want[k] << 32;
        if (!any && w != wide) FAIL("unsigned long long, %d: %llx, want %llx", k, w, wide);
        if (any && (w >> 32 < 100 || w >> 32 > 163 || (unsigned)w || n < 100 || n > 163)) FAIL("one's, %d: %llx", k, w);
    }
    if (out[6] != out[7]) FAIL("compare and swap: %llx stays, %llx was the one", out[6], out[7]);
    if (i[0] + i[1] != (int)sum || f[0] + f[1] != (float)sum)
        FAIL("exchanged: %d %d %g %g", i[0], i[1], (double)f[0], (double)f[1]);
    return 0;
}
