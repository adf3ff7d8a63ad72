/* The random numbers of engine/base/rng.h on the device: Philox4x32-10 (Salmon et al., 2011) with counter {block,
 * sample, step, stream} and key (seed, site). One draw gives elements 4 block .. 4 block + 3 of a filled array. Uniform
 * numbers equal the CPU's bit for bit; normal ones up to rounding, because the angle 2 pi u is reduced exactly here and
 * rounded on the CPU. */
#ifndef MCS_KERNELS_PHILOX_CUH
#define MCS_KERNELS_PHILOX_CUH

#include "kernels/common/device.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/sincos.cuh"

/* Last word of the counter: one value for each function of engine/base/rng.h. */
constexpr uint32_t PHILOX_BITS = 0, PHILOX_NORMAL = 2, PHILOX_UNIFORM = 3;

struct philox_key {
    uint32_t k0, k1;
};
static DEV_INLINE philox_key philox_key_of(uint64_t seed, uint32_t site)
{
    return {(uint32_t)seed, site ^ ((uint32_t)(seed >> 32) * 0x85EBCA6Bu)};
}

static DEV_INLINE uint4 philox(uint4 c, philox_key k)
{
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c.x, p1 = (uint64_t)0xCD9E8D57u * c.z;
        c = make_uint4((uint32_t)(p1 >> 32) ^ c.y ^ k.k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.w ^ k.k1,
                       (uint32_t)p0);
        k.k0 += 0x9E3779B9u;
        k.k1 += 0xBB67AE85u;
    }
    return c;
}

/* mcs_rng_bits; and mcs_rng_uniform, 53 bits in [0, 1). */
static DEV_INLINE uint64_t philox_bits(philox_key k, uint32_t index, uint32_t sample, uint32_t step)
{
    const uint4 o = philox(make_uint4(index, sample, step, PHILOX_BITS), k);
    return (uint64_t)o.x << 32 | o.y;
}
static DEV_INLINE double philox_uniform(philox_key k, uint32_t index, uint32_t sample, uint32_t step)
{
    return (double)(philox_bits(k, index, sample, step) >> 11) * 1.1102230246251565e-16; /* 2^-53 */
}

/* 24 bits in [0, 1). */
static DEV_INLINE float philox_unit(uint32_t word)
{
    return (float)(word >> 8) * 5.9604644775390625e-8f; /* 2^-24 */
}
/* Elements 4 block .. 4 block + 3 of mcs_rng_fill_uniform. */
static DEV_INLINE float4 philox_uniform4(philox_key k, uint32_t block, uint32_t sample, uint32_t step)
{
    const uint4 o = philox(make_uint4(block, sample, step, PHILOX_UNIFORM), k);
    return make_float4(philox_unit(o.x), philox_unit(o.y), philox_unit(o.z), philox_unit(o.w));
}

/* (sin, cos) of 2 pi u. Quarter turns are removed from u exactly, without rounding. */
static DEV_INLINE float2 philox_sincos(float u)
{
    const float q = floorf(fmaf(u, 4.0f, 0.5f));
    return sincos_quarters(fmaf(q, -0.25f, u) * 6.28318531f, (int)q);
}
/* Elements 4 block .. 4 block + 3 of mcs_rng_fill_normal. */
static DEV_INLINE float4 philox_normal4(philox_key k, uint32_t block, uint32_t sample, uint32_t step)
{
    const uint4 o = philox(make_uint4(block, sample, step, PHILOX_NORMAL), k);
    const float r0 = sqrtf(-2.0f * logf(philox_unit(o.x) + 5.9604644775390625e-8f));
    const float r1 = sqrtf(-2.0f * logf(philox_unit(o.z) + 5.9604644775390625e-8f));
    const float2 t0 = philox_sincos(philox_unit(o.y)), t1 = philox_sincos(philox_unit(o.w));
    return make_float4(r0 * t0.y, r0 * t0.x, r1 * t1.y, r1 * t1.x);
}

#endif
