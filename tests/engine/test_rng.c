/* Philox4x32-10 against the known answers of its authors' Random123, and the properties of the draws built on it. */
#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* kat_vectors of Random123 (https://github.com/DEShawResearch/random123), lines philox4x32 10. */
Test(rng, philox_known_answers)
{
    static const struct {
        uint32_t ctr[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        mcs_philox(known[i].ctr, known[i].key, out);
        cr_expect_arr_eq(out, known[i].out, sizeof out, "line %zu: %08x %08x %08x %08x", i, out[0], out[1], out[2],
                         out[3]);
    }
}

/* Each part of a key gives different numbers: two 64-bit draws agree by chance once in 2^64. */
Test(rng, every_part_of_the_key_counts)
{
    const struct mcs_rng base = {.seed = 1, .site = 2, .sample = 3, .step = 4};
    struct mcs_rng other[6] = {base, base, base, base, base, base};
    other[0].seed = 5;
    other[1].seed = 1 + (1ull << 32);
    other[2].site = 5;
    other[3].sample = 5;
    other[4].step = 5;
    uint64_t seen[7] = {mcs_rng_bits(base, 0)};
    for (int i = 0; i < 5; i++) seen[1 + i] = mcs_rng_bits(other[i], 0);
    seen[6] = mcs_rng_bits(base, 1);
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < i; j++) cr_expect_neq(seen[i], seen[j], "%d and %d", i, j);
    cr_expect_neq(mcs_rng_site("demo.lesion"), mcs_rng_site("demo.lesions"));
}

/* Sums over n independent draws have standard error s / sqrt(n); six standard errors are exceeded by chance once in
 * 5e8. */
static void expect_mean(const char *what, double sum, double n, double mean, double deviation)
{
    cr_expect_float_eq(sum / n, mean, 6 * deviation / sqrt(n), "%s: %g, want %g", what, sum / n, mean);
}

enum { MANY = 1 << 18 };

static void check_normals(const char *what, const float *x)
{
    double sum[5] = {0}, neighbour = 0;
    for (int i = 0; i < MANY; i++) {
        double power = 1;
        for (int k = 0; k < 5; k++, power *= (double)x[i]) sum[k] += power;
        if (i) neighbour += (double)x[i] * x[i - 1];
        cr_assert(isfinite(x[i]) && fabsf(x[i]) < 7, "%s: %g", what, (double)x[i]); /* 24 bits reach 5.8 */
    }
    /* The k-th power of a normal has variance E x^2k - (E x^k)^2: 1, 2, 15, 96. */
    expect_mean(what, sum[1], MANY, 0, 1);
    expect_mean(what, sum[2], MANY, 1, sqrt(2));
    expect_mean(what, sum[3], MANY, 0, sqrt(15));
    expect_mean(what, sum[4], MANY, 3, sqrt(96));
    expect_mean(what, neighbour, MANY - 1, 0, 1);
}

Test(rng, normals)
{
    static float x[MANY];
    const struct mcs_rng r = {.seed = 11, .site = mcs_rng_site("test")};
    mcs_rng_fill_normal(r, x, MANY);
    check_normals("filled", x);
    for (int i = 0; i < MANY; i++) x[i] = (float)mcs_rng_normal(r, (uint32_t)i);
    check_normals("one by one", x);
}

Test(rng, uniforms)
{
    static float x[MANY];
    const struct mcs_rng r = {.seed = 12, .site = mcs_rng_site("test")};
    double sum = 0, squares = 0, range = 0, filled = 0;
    int bins[16] = {0};
    mcs_rng_fill_uniform(r, x, MANY);
    for (int i = 0; i < MANY; i++) {
        const double u = mcs_rng_uniform(r, (uint32_t)i), v = mcs_rng_range(r, (uint32_t)i, -3, 5);
        cr_assert(u >= 0 && u < 1 && v >= -3 && v < 5 && x[i] >= 0 && x[i] < 1);
        sum += u, squares += u * u, range += v, filled += (double)x[i];
        bins[(int)(16 * u)]++;
    }
    expect_mean("uniform", sum, MANY, 0.5, sqrt(1.0 / 12));
    expect_mean("its square", squares, MANY, 1.0 / 3, sqrt(4.0 / 45));
    expect_mean("range", range, MANY, 1, 8 * sqrt(1.0 / 12));
    expect_mean("filled", filled, MANY, 0.5, sqrt(1.0 / 12));
    for (int b = 0; b < 16; b++) expect_mean("a sixteenth", bins[b], MANY, 1.0 / 16, sqrt(15.0 / 256));
}

/* Element i of a fill depends on (key, i) alone: not on the number of elements. */
Test(rng, a_fill_of_fewer_is_its_beginning)
{
    float all[103], part[103];
    const struct mcs_rng r = {.seed = 13, .site = 1, .sample = 7, .step = 9};
    for (int kind = 0; kind < 2; kind++) {
        void (*fill)(struct mcs_rng, float *, int64_t) = kind ? mcs_rng_fill_uniform : mcs_rng_fill_normal;
        fill(r, all, 103);
        for (int n = 0; n < 103; n++) {
            memset(part, 0x7f, sizeof part);
            const float after = part[n];
            fill(r, part, n);
            cr_assert_arr_eq(part, all, (size_t)n * sizeof *part, "%d of 103", n);
            cr_assert_arr_eq(&part[n], &after, sizeof after, "%d values were asked for, more were written", n);
        }
    }
}

Test(rng, below)
{
    const struct mcs_rng r = {.seed = 14};
    int seen[7] = {0};
    for (uint32_t i = 0; i < 70000; i++) {
        const uint32_t v = mcs_rng_below(r, i, 7);
        cr_assert_lt(v, 7u);
        seen[v]++;
        cr_assert_eq(mcs_rng_below(r, i, 1), 0u);
    }
    for (int k = 0; k < 7; k++) expect_mean("one of seven", seen[k], 70000, 1.0 / 7, sqrt(6.0 / 49));
    /* n = 2^32 - 1 must not overflow: the largest of 4096 draws is above 1 - 2^-6 except once in 1e28 */
    uint64_t top = 0;
    for (uint32_t i = 0; i < 4096; i++) {
        const uint32_t v = mcs_rng_below(r, i, ~0u);
        cr_assert_neq(v, ~0u);
        if (v > top) top = v;
    }
    cr_expect_gt(top, (1ull << 32) - (1ull << 26));
}

Test(rng, permutation)
{
    enum { N = 50, ROUNDS = 20000 };
    uint32_t p[N];
    static int at[N][N];
    for (uint32_t round = 0; round < ROUNDS; round++) {
        char seen[N] = {0};
        mcs_rng_permutation((struct mcs_rng){.seed = 15, .step = round}, p, N);
        for (int i = 0; i < N; i++) {
            cr_assert(p[i] < N && !seen[p[i]], "no permutation");
            seen[p[i]] = 1;
            at[i][p[i]]++;
        }
    }
    /* Every element is equally often at every position. */
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) expect_mean("element in place", at[i][k], ROUNDS, 1.0 / N, sqrt(49.0 / 2500));
    mcs_rng_permutation((struct mcs_rng){0}, p, 0);
    mcs_rng_permutation((struct mcs_rng){0}, p, 1);
    cr_expect_eq(p[0], 0u);
}

/* Results of runs depend on these exact numbers, so each function is compared with its formula over Philox. */
Test(rng, draws_by_their_formulas)
{
    static const struct mcs_rng rs[] = {{.seed = 1}, {.seed = 0x123456789ABCDEF0u, .site = 7, .sample = 8, .step = 9}};
    for (int i = 0; i < 2; i++) {
        const struct mcs_rng r = rs[i];
        const uint32_t key[2] = {(uint32_t)r.seed, r.site ^ (uint32_t)((r.seed >> 32) * 0x85EBCA6Bu)};
        uint32_t o[4], block[16], want[50], got[50];
        float normal[7], uniform[7];
        for (uint32_t k = 0; k < 20; k++) {
            mcs_philox((uint32_t[]){k, r.sample, r.step, 0}, key, o);
            const uint64_t bits = (uint64_t)o[0] << 32 | o[1];
            const double u = ldexp((double)(bits >> 11), -53);
            cr_expect_eq(mcs_rng_bits(r, k), bits);
            cr_expect_eq(mcs_rng_uniform(r, k), u);
            cr_expect_eq(mcs_rng_range(r, k, -3, 5), -3 + 8 * u);
            /* floor(bits * n / 2^64), by halves */
            const uint64_t n = 1000003, low = (bits & 0xFFFFFFFFu) * n, high = (bits >> 32) * n + (low >> 32);
            cr_expect_eq(mcs_rng_below(r, k, (uint32_t)n), (uint32_t)(high >> 32));
            mcs_philox((uint32_t[]){k, r.sample, r.step, 1}, key, o);
            const double z = sqrt(-2 * log(ldexp((double)o[0] + 1, -32))) * cos(2 * M_PI * ldexp((double)o[1], -32));
            cr_expect_float_eq(mcs_rng_normal(r, k), z, 1e-14 * 7); /* |z| < 7, one ulp each of log, sqrt and cos */
        }
        mcs_rng_fill_normal(r, normal, 7);
        mcs_rng_fill_uniform(r, uniform, 7);
        for (uint32_t b = 0; b < 2; b++) {
            mcs_philox((uint32_t[]){b, r.sample, r.step, 2}, key, o);
            for (int h = 0; h < 2; h++) {
                const double radius = sqrt(-2 * log(((o[2 * h] >> 8) + 1.0) / 16777216)),
                             angle = 2 * M_PI * (o[2 * h + 1] >> 8) / 16777216;
                /* float: the angle, up to 2 pi, has an error of 3 roundings; radius < 6 */
                for (int k = 0; k < 2 && 4 * b + 2 * (uint32_t)h + (uint32_t)k < 7; k++)
                    cr_expect_float_eq(normal[4 * b + 2 * (uint32_t)h + (uint32_t)k],
                                       radius * (k ? sin(angle) : cos(angle)), 6 * (3 * 6.3 + 4) * 0x1p-24);
            }
            mcs_philox((uint32_t[]){b, r.sample, r.step, 3}, key, block);
            for (uint32_t k = 0; k < 4 && 4 * b + k < 7; k++)
                cr_expect_eq(uniform[4 * b + k], (float)(block[k] >> 8) / 16777216);
        }
        for (uint32_t k = 0; k < 50; k++) want[k] = k;
        for (uint32_t k = 49; k > 0; k--) {
            const uint32_t j = mcs_rng_below(r, k + 1, k + 1), t = want[k];
            want[k] = want[j];
            want[j] = t;
        }
        mcs_rng_permutation(r, got, 50);
        cr_expect_arr_eq(got, want, sizeof want);
    }
    /* FNV-1a (64 bits) of the name, its halves combined. */
    cr_expect_eq(mcs_rng_site(""), 0xcbf29ce4u ^ 0x84222325u);
    cr_expect_eq(mcs_rng_site("a"), 0xaf63dc4cu ^ 0x8601ec8cu);
    cr_expect_eq(mcs_rng_site("foobar"), 0x85944171u ^ 0xf73967e8u);
}
