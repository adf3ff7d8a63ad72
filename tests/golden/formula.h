/* Weights and inputs of the golden files, from a formula: the same bits as formula.py. README.md lists its uses. */
#ifndef MCS_TESTS_GOLDEN_FORMULA_H
#define MCS_TESTS_GOLDEN_FORMULA_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* FNV-1a, 64 bits, of a tensor's reference name. */
static inline uint64_t mcs_golden_hash(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* Element i (row-major) of the uniform numbers for a hash; in [-1, 1), a multiple of 2^-23: exact in float. */
static inline double mcs_golden_uniform(uint64_t hash, uint64_t i)
{
    uint64_t z = hash + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) * 0x1p-23 - 1.0;
}

/* An input tensor: dst (n) = the uniform numbers of its name. */
static inline void mcs_golden_input(const char *name, float *dst, size_t n)
{
    const uint64_t h = mcs_golden_hash(name);
    for (size_t i = 0; i < n; i++) dst[i] = (float)mcs_golden_uniform(h, i);
}

/* A parameter: dst (product of dims) by reference name and shape. nd 0 is a scalar.
 * logit_scale: 2.6593. One dimension and a name ending in ".weight" (a norm): 1 + 0.1 u. Other nd <= 1: 0.1 u.
 * nd >= 2: u sqrt(3 / (product of dims[1..])), the variance that keeps activations near 1. */
static inline void mcs_golden_weight(const char *name, const int64_t *dims, int nd, float *dst)
{
    const uint64_t h = mcs_golden_hash(name);
    const size_t len = strlen(name);
    const int is_norm = nd == 1 && len >= 7 && !strcmp(name + len - 7, ".weight");
    size_t n = 1, fan = 1;
    for (int d = 0; d < nd; d++) {
        n *= (size_t)dims[d];
        if (d > 0) fan *= (size_t)dims[d];
    }
    const double scale = nd >= 2 ? sqrt(3.0 / (double)fan) : 0.1;
    if (!strcmp(name, "logit_scale")) {
        for (size_t i = 0; i < n; i++) dst[i] = (float)2.6593;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        /* volatile: no fused multiply-add, whose single rounding could differ from the reference's two */
        volatile double v = scale * mcs_golden_uniform(h, i);
        dst[i] = (float)(is_norm ? 1.0 + v : v);
    }
}

#endif
