/* Kernels by element, moves of rows and instance norm against the float64 oracles of tests/ref, as
 * test_sim_kernels.cpp. */
#include "tests/cudasim/support_sim.h"

enum { SEEDS = 4 };

/* A struct k_run on the device. */
struct run_on_device {
    k_run *p;
    run_on_device(uint64_t seed, uint32_t step)
    {
        const k_run r = {seed, step};
        cr_assert_eq(cudaMalloc((void **)&p, sizeof r), cudaSuccess);
        cudaMemcpy(p, &r, sizeof r, cudaMemcpyHostToDevice);
    }
    run_on_device(const run_on_device &) = delete;
    ~run_on_device()
    {
        cudaFree(p);
    }
};

struct ints_on_device {
    int32_t *p = nullptr;
    ints_on_device(const std::vector<int32_t> &v)
    {
        if (v.empty()) return;
        cr_assert_eq(cudaMalloc((void **)&p, v.size() * sizeof *p), cudaSuccess);
        cudaMemcpy(p, v.data(), v.size() * sizeof *p, cudaMemcpyHostToDevice);
    }
    ints_on_device(const ints_on_device &) = delete;
    ~ints_on_device()
    {
        if (p) cudaFree(p);
    }
};

static std::string mark(const std::string &what, enum k_dtype t, int seed)
{
    return what + (t == K_BF16 ? " bf16" : " f32") + " seed " + std::to_string(seed);
}

/* Philox on the device gives the numbers of engine/rng.c: all 64 bits of the seed count, rows have samples of their
 * own. */
Test(point, rng)
{
    static const struct {
        int64_t rows, n;
        uint64_t seed;
        uint32_t step, first;
        size_t skew;
        int ids;
    } cases[] = {{1, 1, 7, 0, 0, 0, 0},
                 {1, 1027, 0xfedcba9876543210ull, 3, 5, 0, 0},
                 {5, 64, 1, 0xffffffffu, 0, 0, 1},
                 {3, 37, 99, 2, 9, 0, 1},
                 {4, 40, 12, 1, 0, 1, 0},
                 {300, 6, 5, 4, 0, 0, 1}};
    for (auto c : cases)
        for (int seed = 0; seed < SEEDS; seed++) {
            cudasim_seed((uint64_t)seed);
            std::vector<int32_t> ids;
            for (int64_t r = 0; c.ids && r < c.rows; r++) ids.push_back((int32_t)(1000 - 7 * r));
            run_on_device run(c.seed, c.step);
            ints_on_device sample(ids);
            const size_t n = (size_t)(c.rows * c.n);
            on_device y(n, K_F32, c.skew);
            const k_rng k = {run.p, 4711, c.first, sample.p, c.rows, c.n, y.f()};
            std::vector<float> row((size_t)c.n);
            for (int normal = 0; normal < 2; normal++) {
                cr_assert_eq((normal ? k_rng_normal : k_rng_uniform)(&k, NULL), cudaSuccess);
                expect_clean("rng");
                const values got = y.get();
                for (int64_t r = 0; r < c.rows; r++) {
                    const struct mcs_rng g = {c.seed, 4711, c.ids ? (uint32_t)ids[(size_t)r] : c.first + (uint32_t)r,
                                              c.step};
                    (normal ? mcs_rng_fill_normal : mcs_rng_fill_uniform)(g, row.data(), c.n);
                    /* the CPU's angle below 8 has an error of 2^-22 by its rounding and a bit by pi's; a radius below 6
                     */
                    for (int64_t i = 0; i < c.n; i++)
                        cr_assert(fabs(got[(size_t)(r * c.n + i)] - (double)row[(size_t)i]) <=
                                      (normal ? 6 * 0x1p-21 : 0),
                                  "row %d element %d: %.9g, the CPU's is %.9g", (int)r, (int)i,
                                  got[(size_t)(r * c.n + i)], (double)row[(size_t)i]);
                }
            }
        }
    cr_expect_eq(cudasim_bytes_held(), 0);
}

Test(point, cast)
{
    static const struct {
        int64_t n;
        size_t skew_x, skew_y;
    } cases[] = {{1, 0, 0}, {7, 0, 0}, {1024, 0, 0}, {2061, 0, 0}, {100, 1, 0}, {100, 0, 3}};
    for (auto c : cases)
        for (int way = 0; way < 4; way++)
            for (int seed = 0; seed < SEEDS; seed++) {
                const enum k_dtype from = (enum k_dtype)(way & 1), to = (enum k_dtype)(way >> 1);
                cudasim_seed((uint64_t)seed);
                values x = normals("x", c.n, from, 100), old = normals("old", c.n, to), want = x;
                on_device gx((size_t)c.n, from, c.skew_x, &x), gy((size_t)c.n, to, c.skew_y);
                struct k_cast k = {from, to, c.n, gx.at(), gy.at(), 0};
                for (int beta = 0; beta < 2; beta++) {
                    k.beta = (float)beta;
                    if (beta) gy.set(old);
                    for (size_t i = 0; i < want.size(); i++) {
                        const float v = (float)x[i] + (beta ? (float)old[i] : 0.0f);
                        want[i] = (double)(to == K_BF16 ? __bfloat162float(__float2bfloat16_rn(v)) : v);
                    }
                    cr_assert_eq(k_cast(&k, NULL), cudaSuccess);
                    expect_clean(mark("cast", to, seed));
                    cr_assert(gy.get() == want, "cast of %d from %d to %d, beta %d", (int)c.n, from, to, beta);
                }
            }
    cr_expect_eq(cudasim_bytes_held(), 0);
}
