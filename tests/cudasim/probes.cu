/* Probes of tensor cores, copies, conversions and indices, and the table of all probes (probes.h). */
#include "tests/cudasim/probes.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cudasim/probes.cuh"

/* --- mma.sync.m16n8k16 and ldmatrix: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix" --- */
static __global__ void mma_kernel(const float *in, float *out) /* a (16,16), b (16,8), c (16,8) -> d (16,8) */
{
    const int l = (int)threadIdx.x, g = l / 4, t = l % 4;
    const float *a = in, *b = in + 256, *c = in + 384;
    unsigned ra[4], rb[2];
    float d[4];
    for (int i = 0; i < 4; i++) {
        const int row = g + (i & 1) * 8, col = t * 2 + (i & 2) * 4;
        ra[i] = dev_pack_bf16(a[row * 16 + col], a[row * 16 + col + 1]);
    }
    for (int i = 0; i < 2; i++) rb[i] = dev_pack_bf16(b[(t * 2 + 8 * i) * 8 + g], b[(t * 2 + 8 * i + 1) * 8 + g]);
    for (int i = 0; i < 4; i++) d[i] = c[(g + i / 2 * 8) * 8 + t * 2 + i % 2];
    dev_mma_bf16(d, ra, rb);
    for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}
/* The same product with both operands read by ldmatrix: a row-major, b (16,8) row-major, so with .trans. */
static __global__ void mma_shared_kernel(const float *in, float *out)
{
    SHARED_ARRAY(__nv_bfloat16, sa, [16][16]);
    SHARED_ARRAY(__nv_bfloat16, sb, [16][8]);
    const int l = (int)threadIdx.x, g = l / 4, t = l % 4;
    for (int i = l; i < 256; i += 32) sa[i / 16][i % 16] = __float2bfloat16_rn(in[i]);
    for (int i = l; i < 128; i += 32) sb[i / 8][i % 8] = __float2bfloat16_rn(in[256 + i]);
    DEV_SYNC();
    unsigned ra[4], rb[2];
    float d[4];
    dev_ldmatrix_x4(ra, &sa[l % 16][l / 16 * 8]);
    dev_ldmatrix_x2_trans(rb, &sb[l % 16][0]);
    for (int i = 0; i < 4; i++) d[i] = in[384 + (g + i / 2 * 8) * 8 + t * 2 + i % 2];
    dev_mma_bf16(d, ra, rb);
    for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}
static int products(char *text)
{
    float in[512], out[128];
    for (int i = 0; i < 512; i++) in[i] = (float)((i * 29 + i / 7) % 17 - 8); /* small integers: sums are exact */
    for (int k = 0; k < 2; k++) {
        memset(out, 0, sizeof out);
        if (launch(k ? mma_shared_kernel : mma_kernel, 1, 32, in, 512, out, 128, text)) return 1;
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 8; c++) {
                float want = in[384 + r * 8 + c];
                for (int i = 0; i < 16; i++) want += in[r * 16 + i] * in[256 + i * 8 + c];
                if (out[r * 8 + c] != want)
                    FAIL("product %d (%d,%d): %g, want %g", k, r, c, (double)out[r * 8 + c], (double)want);
            }
    }
    return 0;
}

static __global__ void ldmatrix_kernel(const unsigned short *in, unsigned *out) /* in (32,8): four matrices */
{
    SHARED_ARRAY(unsigned short, m, [32][8]);
    const int l = (int)threadIdx.x;
    for (int i = 0; i < 8; i++) m[l][i] = in[l * 8 + i];
    DEV_SYNC();
    unsigned r[4];
    dev_ldmatrix_x4(r, m[l]);
    for (int i = 0; i < 4; i++) out[i * 32 + l] = r[i];
    dev_ldmatrix_x4_trans(r, m[l]);
    for (int i = 0; i < 4; i++) out[128 + i * 32 + l] = r[i];
    dev_ldmatrix_x2(r, m[l % 16]);
    for (int i = 0; i < 2; i++) out[256 + i * 32 + l] = r[i];
    dev_ldmatrix_x2_trans(r, m[l % 16]);
    for (int i = 0; i < 2; i++) out[320 + i * 32 + l] = r[i];
}
static int matrices(char *text)
{
    unsigned short in[256];
    unsigned out[384] = {0};
    for (int i = 0; i < 256; i++) in[i] = (unsigned short)(i * 251 + 3);
    if (launch(ldmatrix_kernel, 1, 32, in, 256, out, 384, text)) return 1;
    for (int form = 0; form < 4; form++)
        for (int i = 0; i < (form < 2 ? 4 : 2); i++)
            for (int l = 0; l < 32; l++) {
                const unsigned short *m = in + i * 64;
                const int r = l / 4, c = l % 4 * 2;
                const unsigned want = form % 2 ? m[c * 8 + r] | (unsigned)m[(c + 1) * 8 + r] << 16
                                               : m[r * 8 + c] | (unsigned)m[r * 8 + c + 1] << 16;
                const unsigned got = out[(form < 2 ? form * 128 : 256 + (form - 2) * 64) + i * 32 + l];
                if (got != want) FAIL("ldmatrix form %d, matrix %d, lane %d: %08x, want %08x", form, i, l, got, want);
            }
    return 0;
}

/* --- cp.async: PTX ISA; bytes beyond the source size are zero-filled; groups complete in order --- */
static __global__ void copy_kernel(const int *in, int *out)
{
    SHARED_ARRAY(int, a, [128]);
    SHARED_ARRAY(int, b, [128]);
    SHARED_ARRAY(int, c, [32]);
    const int l = (int)threadIdx.x;
    dev_copy_async16(a + 4 * l, in + 4 * l, 16);
    dev_copy_commit();
    dev_copy_async16(b + 4 * l, in + 128 + 4 * l, 8);
    dev_copy_async4(c + l, in + l, l % 2 ? 4 : 0);
    dev_copy_commit();
    dev_copy_wait<1>();
    DEV_SYNC();
    for (int i = 0; i < 4; i++) out[4 * l + i] = a[(4 * l + i + 4) % 128]; /* copied by a neighbour lane */
    dev_copy_wait<0>();
    DEV_SYNC();
    for (int i = 0; i < 4; i++) out[128 + 4 * l + i] = b[(4 * l + i + 4) % 128];
    out[256 + l] = c[31 - l];
}
static int copies(char *text)
{
    int in[256], out[288] = {0};
    for (int i = 0; i < 256; i++) in[i] = 5000 + i;
    if (launch(copy_kernel, 1, 32, in, 256, out, 288, text)) return 1;
    for (int i = 0; i < 128; i++) {
        const int j = (i + 4) % 128;
        if (out[i] != in[j]) FAIL("cp.async of 16, word %d: %d, want %d", i, out[i], in[j]);
        if (out[128 + i] != (j % 4 < 2 ? in[128 + j] : 0)) FAIL("cp.async of 8 in 16, word %d: %d", i, out[128 + i]);
    }
    for (int i = 0; i < 32; i++)
        if (out[256 + i] != ((31 - i) % 2 ? in[31 - i] : 0)) FAIL("cp.async of 4, word %d: %d", i, out[256 + i]);
    return 0;
}

/* --- half and bfloat16, and the arithmetic the C library names otherwise --- */
static __global__ void number_kernel(const float *in, float *out)
{
    const int l = (int)threadIdx.x;
    const float x = in[l];
    float *o = out + 12 * l;
    o[0] = __bfloat162float(__float2bfloat16_rn(x));
    o[1] = __half2float(__float2half_rn(x));
    o[2] = rsqrtf(fabsf(x));
    o[3] = __expf(x / 64);
    o[4] = __uint_as_float(__float_as_uint(x) & 0x7fffffffu);
    o[5] = (float)(__popc((unsigned)l) + 100 * __clz(l) + 10000 * __ffs(l));
    o[6] = fmaf(x, 2.0f, 1.0f) + __ldg(in + l);
    o[7] = __uint_as_float(dev_pack_bf16(x, 0) << 16);
    o[8] = __logf(fabsf(x) + 2);
    o[9] = __fdividef(x, 3.0f);
    __threadfence(); /* no effect in the simulation */
    o[10] = dev_load(out + 12 * l + 9);
    o[11] = fmaxf(x, 0);
}
static float to_bf16(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof u);
    u += 0x7fffu + (u >> 16 & 1);
    u &= 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}
static int numbers(char *text)
{
    float in[32], out[384] = {0};
    for (int i = 0; i < 32; i++) in[i] = (float)(i - 16) * 1.00390625f + (i & 1 ? 0.001f : 0.5f);
    if (launch(number_kernel, 1, 32, in, 32, out, 384, text)) return 1;
    for (int l = 0; l < 32; l++) {
        const float x = in[l], *o = out + 12 * l;
        int clz = 32, ffs = 0, pop = 0;
        for (int b = 0; b < 32; b++)
            if (l >> b & 1) clz = 31 - b, ffs = ffs ? ffs : b + 1, pop++;
        /* half has 11 bits of precision; errors by the guide's tables: rsqrtf 2 ulp, __expf 2 + |1.17 x| ulp */
        if (o[0] != to_bf16(x) || o[7] != to_bf16(x)) FAIL("bfloat16 of %g: %g", (double)x, (double)o[0]);
        if (fabsf(o[1] - x) > fabsf(x) * 0x1p-11f) FAIL("half of %g: %g", (double)x, (double)o[1]);
        if (fabs(o[2] - 1 / sqrt(fabs((double)x))) > o[2] * 0x1p-22)
            FAIL("rsqrtf(%g): %g", fabs((double)x), (double)o[2]);
        if (fabs(o[3] - exp((double)x / 64)) > o[3] * 0x1p-21) FAIL("__expf: %g", (double)o[3]);
        if (o[4] != fabsf(x) || o[5] != (float)(pop + 100 * clz + 10000 * ffs))
            FAIL("bits of lane %d: %g %g", l, (double)o[4], (double)o[5]);
        /* __logf: 2^-21.41 absolute in [0.5, 2], else 3 ulp (arguments up to 18); __fdividef: 2 ulp */
        if (fabs(o[8] - log(fabs((double)x) + 2)) > 0x1p-20) FAIL("__logf: %g", (double)o[8]);
        if (fabs(o[9] - (double)x / 3) > fabs((double)x) * 0x1p-22 || o[10] != o[9] || o[11] != (x > 0 ? x : 0))
            FAIL("__fdividef: %g %g", (double)o[9], (double)o[10]);
        if (o[6] != fmaf(x, 2.0f, 1.0f) + x) FAIL("fmaf, __ldg: %g", (double)o[6]);
    }
    return 0;
}

/* --- hardware approximations, PTX ISA: ex2.approx.ftz and rcp.approx.ftz --- */
static __global__ void approximation_kernel(const float *in, float *out)
{
    const int l = (int)threadIdx.x;
    out[2 * l] = dev_exp2(in[l]);
    out[2 * l + 1] = dev_rcp(in[l]);
}
static int approximations(char *text)
{
    /* .ftz: inputs and results below 2^-126 are 0 with their sign. Infinities occur in kernels as masked scores. */
    float in[32] = {0,    -0.0f,   0x1p-127f, -0x1p-127f, 0x1p-126f, 0x1p127f, -0x1.8p127f,
                    -127, -126.5f, -126,      127.5f,     129,       INFINITY, -INFINITY};
    float out[64] = {0};
    for (int i = 14; i < 32; i++) in[i] = (float)(i - 22) * 7.3f + 0.1f;
    if (launch(approximation_kernel, 1, 32, in, 32, out, 64, text)) return 1;
    for (int i = 0; i < 32; i++) {
        const double x = fabs((double)in[i]) < 0x1p-126 ? copysign(0.0, (double)in[i]) : (double)in[i];
        const double power = exp2(x), inverse = 1 / x;
        const double want[2] = {power < 0x1p-126  ? 0
                                : power > FLT_MAX ? (double)INFINITY
                                                  : power,
                                fabs(inverse) < 0x1p-126 ? copysign(0.0, inverse) : inverse};
        for (int j = 0; j < 2; j++) {
            const double got = (double)out[2 * i + j], w = want[j];
            const bool same = got == w && signbit(got) == signbit(w);
            if (!same && !(fabs(got - w) <= fabs(w) * (j ? 0x1p-23 : 0x1p-22)))
                FAIL("%s of %g: %g", j ? "dev_rcp" : "dev_exp2", (double)in[i], got);
        }
    }
    return 0;
}

/* --- blocks: indices, barriers, dynamic shared memory --- */
static __global__ void index_kernel(const int *, int *out)
{
    const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    SHARED_DYN(int, all);
    all[t] = (int)(1000 * b + t);
    DEV_SYNC();
    out[b * 24 + t] = all[23 - t];
}
static int blocks(char *text)
{
    int *out, host[24 * 12];
    CUDA(cudaMalloc((void **)&out, sizeof host));
    CUDA(dev_launch(index_kernel, dim3(2, 3, 2), dim3(4, 3, 2), 24 * sizeof(int), NULL, NULL, out));
    CUDA(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost));
    CUDA(cudaFree(out));
    for (int b = 0; b < 12; b++)
        for (int t = 0; t < 24; t++)
            if (host[b * 24 + t] != 1000 * b + 23 - t) FAIL("block %d, thread %d: %d", b, t, host[b * 24 + t]);
    return 0;
}

/* --- vector accesses: one access, little endian --- */
static __global__ void vector_kernel(const float *in, float *out)
{
    const int l = (int)threadIdx.x;
    const float4 v = dev_load16(in + 4 * l);
    dev_store16(out + 4 * l, make_float4(v.w, v.z, v.y, v.x));
    const uint2 u = dev_load8(in + 2 * l);
    dev_store8(out + 128 + 2 * l, make_uint2(u.y, u.x));
    __syncwarp();
}
static int vectors(char *text)
{
    float in[128], out[192] = {0};
    for (int i = 0; i < 128; i++) in[i] = (float)i;
    if (launch(vector_kernel, 1, 32, in, 128, out, 192, text)) return 1;
    for (int i = 0; i < 128; i++)
        if (out[i] != in[i ^ 3] || (i < 64 && out[128 + i] != in[i ^ 1])) FAIL("element %d: %g", i, (double)out[i]);
    return 0;
}

extern "C" const struct probe probes[] = {
    {"shuffles", probe_shuffles},
    {"wide and sums", probe_wide_and_sums},
    {"votes", probe_votes},
    {"atomics", probe_atomics},
    {"types of atomics", probe_atomic_types},
    {"products", products},
    {"matrices", matrices},
    {"copies", copies},
    {"numbers", numbers},
    {"approximations", approximations},
    {"blocks", blocks},
    {"vectors", vectors},
};
extern "C" const int n_probes = sizeof probes / sizeof *probes;
