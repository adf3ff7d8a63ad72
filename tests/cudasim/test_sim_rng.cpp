/* The random numbers of the kernels against engine/base/rng.c, and the counters of elementwise kernels: full sectors,
 * no bank conflicts. Results: test_sim_point.cpp. */
#include "tests/cudasim/support_sim.h"

enum { SEEDS = 4 };

static void ok(cudaError_t e)
{
    cr_assert_eq(e, cudaSuccess);
}

/* Philox on the device gives the numbers of engine/base/rng.c: all 64 bits of the seed matter, and each row has its
 * sample's stream. */
Test(point, rng)
{
    static const struct {
        int64_t rows, n;
        uint64_t seed;
        uint32_t step, first;
        size_t skew;
        int ids, copies;
    } cases[] = {{1, 1, 7, 0, 0, 0, 0, 0},
                 {1, 1027, 0xfedcba9876543210ull, 3, 5, 0, 0, 1},
                 {5, 64, 1, 0xffffffffu, 0, 0, 1, 0},
                 {3, 37, 99, 2, 9, 0, 1, 1},
                 {4, 40, 12, 1, 0, 1, 0, 2},
                 {300, 6, 5, 4, 0, 0, 1, 3}};
    for (auto c : cases)
        for (int seed = 0; seed < SEEDS; seed++) {
            cudasim_seed((uint64_t)seed);
            std::vector<int32_t> ids;
            for (int64_t r = 0; c.ids && r < c.rows; r++) ids.push_back((int32_t)(1000 - 7 * r));
            run_on_device run(c.seed, c.step);
            ints_on_device sample(ids);
            const size_t n = (size_t)(c.rows * c.n);
            on_device y(n, K_F32, c.skew);
            const k_rng k = {run.p, 4711, c.first, sample.p, c.rows, c.n, y.f(), c.copies};
            std::vector<float> row((size_t)c.n);
            for (int normal = 0; normal < 2; normal++) {
                cr_assert_eq((normal ? k_rng_normal : k_rng_uniform)(&k, NULL), cudaSuccess);
                expect_clean("rng");
                const values got = y.get();
                for (int64_t r = 0; r < c.rows; r++) {
                    const uint32_t copies = c.copies ? (uint32_t)c.copies : 1, of = (uint32_t)r / copies;
                    const struct mcs_rng g = {c.seed, 4711 + (uint32_t)r % copies,
                                              c.ids ? (uint32_t)ids[of] : c.first + of, c.step};
                    (normal ? mcs_rng_fill_normal : mcs_rng_fill_uniform)(g, row.data(), c.n);
                    /* the CPU's angle, below 8, is off by 2^-22 (rounding, and one bit of pi); the radius is below 6 */
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

/* Counters for shapes of the models: full sectors, no bank conflicts. */
static void counted(const char *name, double least)
{
    ok(cudaDeviceSynchronize());
    const cudasim_counters f = cudasim_counters_sum(name);
    cr_expect_gt(f.launches, 0, "%s", name);
    cr_expect_geq(cudasim_sector_use(&f), least, "%s: %.3f of the sectors' bytes are used", name,
                  cudasim_sector_use(&f));
    cr_expect_eq(f.bank_conflicts, 0, "%s: %d bank conflicts", name, (int)f.bank_conflicts);
}

Test(point, counters)
{
    if (!cudasim_checked()) return;
    const int64_t all = 2 * 640 * 32;
    run_on_device run(1, 2);
    const std::vector<int32_t> rows = {5, 3, 5, 1, 0, 7, 5, 2, 2, 3};
    ints_on_device index(rows);
    for (int t = K_F32; t <= K_BF16; t++) {
        const enum k_dtype d = (enum k_dtype)t;
        values v = normals("x", all, d), f = normals("f", 4096, K_F32);
        on_device x((size_t)all, d, 0, &v), x2((size_t)all, d, 0, &v), y((size_t)all, d), y2((size_t)all, d),
            w(4096, K_F32, 0, &f), b(4096, K_F32, 0, &f), st(4096, K_F32), dw(4096, K_F32), db(4096, K_F32),
            work((size_t)all, K_F32);
        cudasim_counters_clear();
        cudasim_count(1);
        struct k_relu relu = {d, all, x.at(), x2.at(), y.at(), y2.at(), 0};
        ok(k_relu_fwd(&relu, NULL)), ok(k_relu_bwd(&relu, NULL)), counted("relu_", 0.99);
        struct k_add add = {d, all, 64, x.at(), x2.at(), x.at(), y.at(), y2.at(), NULL, 0, 0, work.f()};
        ok(k_add_fwd(&add, NULL)), counted("add_fwd", 0.99);
        struct k_cast cast = {d, K_F32, all, x.at(), work.at(), 0};
        ok(k_cast(&cast, NULL)), counted("cast_each", 0.99);
        struct k_sum_rows sums = {d, K_F32, 640, 64, 64, x.at(), 0, dw.at(), work.f()};
        ok(k_sum_rows(&sums, NULL)), counted("sum_rows", 0.9);
        struct k_dropout drop = {d, 640, 64, 0.1f, 3, run.p, NULL, x.at(), y.at(), 0};
        ok(k_dropout(&drop, NULL)), counted("dropout_rows", 0.9);
        struct k_partition window = {d, 1, 14, 14, 64, 7, x.at(), y.at(), 0};
        ok(k_partition_split(&window, NULL)), ok(k_partition_join(&window, NULL)), counted("partition_", 0.99);
        struct k_gather gather = {d, 8, 768, 10, x.at(), x2.at(), index.p, y.at(), y2.at(), (int32_t *)work.at(), 0};
        ok(k_gather_fwd(&gather, NULL)), counted("gather_fwd", 0.9);
        /* each warp also reads three row indices, one sector each */
        ok(k_gather_bwd(&gather, NULL)), counted("gather_bwd", 0.6);
        struct k_concat concat = {d,   2,   300, {32, 32}, {0, 0}, {x.at(), x2.at()}, x.at(), y.at(), {y2.at(), NULL},
                                  {0}, NULL};
        ok(k_concat_fwd(&concat, NULL)), ok(k_concat_bwd(&concat, NULL)), counted("concat_", 0.99);
        struct k_resize resize = {d, 1, 8, 8, 16, 16, 64, x.at(), x2.at(), y.at(), y2.at(), 0};
        ok(k_resize_fwd(&resize, NULL)), ok(k_resize_bwd(&resize, NULL)), counted("resize_", 0.99);
        struct k_softmax soft = {d, 100, 64, x.at(), x2.at(), y.at(), y2.at(), 0};
        ok(k_softmax_fwd(&soft, NULL)), ok(k_softmax_bwd(&soft, NULL)), counted("softmax_", 0.99);
        struct k_instance_norm norm = {d,       2,        640,   32,     1e-5f,   0.01f,  x.at(),
                                       x2.at(), w.f(),    b.f(), y.at(), y2.at(), st.f(), dw.f(),
                                       db.f(),  work.f(), 0,     0,      0,       NULL,   0};
        ok(k_instance_norm_fwd(&norm, NULL)), ok(k_instance_norm_bwd(&norm, NULL));
        for (const char *name :
             {"instance_norm_parts", "instance_norm_apply", "instance_norm_bwd_parts", "instance_norm_bwd_x"})
            counted(name, 0.9);
        counted("instance_norm_stats", 0.4);
        counted("instance_norm_bwd_totals", 0.4);
        cudasim_count(0);
    }
}
