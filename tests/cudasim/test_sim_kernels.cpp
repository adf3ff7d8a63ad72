/* Kernels against the float64 oracles of tests/ref, in float and bfloat16, with threads in order and in three random
 * orders that must give the same bits. In checked mode without reports. */
#include "tests/cudasim/support_sim.h"

/* Rows, columns, misalignment of pointers in elements. Odd columns and odd pointers take the scalar path. */
static const struct shape {
    int64_t rows;
    int n;
    size_t skew;
} shapes[] = {{1, 1, 0}, {5, 37, 0}, {4, 64, 0}, {6, 64, 1}, {7, 768, 0}, {70, 36, 0}, {150, 33, 0}, {3, 260, 2}};
enum { SEEDS = 4 };

static std::string label(const char *op, const shape &s, enum k_dtype t, int seed)
{
    return std::string(op) + " " + std::to_string(s.rows) + "x" + std::to_string(s.n) + " skew " +
           std::to_string(s.skew) + (t == K_BF16 ? " bf16" : " f32") + " seed " + std::to_string(seed);
}

static void for_all(void (*run)(const shape &, enum k_dtype))
{
    for (const shape &s : shapes)
        for (int t = K_F32; t <= K_BF16; t++) run(s, (enum k_dtype)t);
    cr_expect_eq(cudasim_bytes_held(), 0);
}

static void gelu_or_quick(const shape &s, enum k_dtype t, int quick)
{
    const int64_t n = s.rows * s.n;
    values x = normals("x", n, t, 3), dy = normals("dy", n, t), old = normals("old", n, t), y((size_t)n), my((size_t)n);
    values dx((size_t)n), mdx((size_t)n), first_y, first_dx;
    struct no_attr a = {};
    ref_step r = {};
    r.attr = &a;
    r.in[0] = tensor({n}, x, nullptr);
    r.out[0] = tensor({n}, y, &my);
    r.dout[0] = tensor({n}, dy, nullptr);
    r.din[0] = tensor({n}, dx, &mdx);
    (quick ? ref_quick_gelu_fwd : ref_gelu_fwd)(&r);
    (quick ? ref_quick_gelu_bwd : ref_gelu_bwd)(&r);
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = label(quick ? "quick_gelu" : "gelu", s, t, seed);
        cudasim_seed((uint64_t)seed);
        on_device gx((size_t)n, t, s.skew, &x), gdy((size_t)n, t, s.skew, &dy), gy((size_t)n, t, s.skew),
            gdx((size_t)n, t, s.skew);
        k_gelu k = {t, quick, n, gx.at(), gdy.at(), gy.at(), gdx.at(), 0};
        cr_assert_eq(k_gelu_fwd(&k, NULL), cudaSuccess);
        cr_assert_eq(k_gelu_bwd(&k, NULL), cudaSuccess);
        expect_clean(what);
        /* erfc: 2 roundings, and its argument's, scaled by the slope to 1 + x^2 (in mag); three products.
         * QuickGELU: its sigmoid has 8 + 2 |v| (kernels/pointwise/gelu.cu), 1 + |v| is in mag; up to three products */
        check(what + " y", gy.get(), y, my, 12, t);
        check(what + " dx", gdx.get(), dx, mdx, 12, t);
        same(what, gy.get(), first_y);
        same(what, gdx.get(), first_dx);
        gdx.set(old);
        k.beta = 1;
        cr_assert_eq(k_gelu_bwd(&k, NULL), cudaSuccess);
        values sum = dx, size = mdx;
        for (size_t i = 0; i < sum.size(); i++) sum[i] += old[i], size[i] += fabs(old[i]);
        check(what + " dx added", gdx.get(), sum, size, 13, t);
        expect_clean(what);
    }
}

static void gelu(const shape &s, enum k_dtype t)
{
    gelu_or_quick(s, t, 0);
}
static void quick_gelu(const shape &s, enum k_dtype t)
{
    gelu_or_quick(s, t, 1);
}

static void l2norm(const shape &s, enum k_dtype t)
{
    const size_t n = (size_t)(s.rows * s.n);
    values x = normals("x", (int64_t)n, t), dy = normals("dy", (int64_t)n, t), y(n), my(n), norm((size_t)s.rows),
           mnorm((size_t)s.rows);
    values dx(n), mdx(n), first_y, first_dx;
    for (int i = 0; i < s.n && s.rows > 3; i++) x[(size_t)(3 * s.n + i)] = 0; /* a row of zeros */
    struct no_attr a = {};
    ref_step r = {};
    r.attr = &a;
    r.in[0] = tensor({s.rows, s.n}, x, nullptr);
    r.out[0] = tensor({s.rows, s.n}, y, &my);
    r.out[1] = tensor({s.rows}, norm, &mnorm);
    r.dout[0] = tensor({s.rows, s.n}, dy, nullptr);
    r.din[0] = tensor({s.rows, s.n}, dx, &mdx);
    ref_l2norm_fwd(&r);
    ref_l2norm_bwd(&r);
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = label("l2norm", s, t, seed);
        cudasim_seed((uint64_t)seed);
        on_device gx(n, t, s.skew, &x), gdy(n, t, s.skew, &dy), gy(n, t, s.skew), gdx(n, t, s.skew),
            gn((size_t)s.rows, K_F32);
        k_l2norm k = {t, s.rows, s.n, gx.at(), gdy.at(), gy.at(), gdx.at(), gn.f(), 0};
        cr_assert_eq(k_l2norm_fwd(&k, NULL), cudaSuccess);
        cr_assert_eq(k_l2norm_bwd(&k, NULL), cudaSuccess);
        expect_clean(what);
        /* sums are in double; norm, reciprocal and product are rounded, in the backward twice */
        check(what + " y", gy.get(), y, my, 4, t);
        check(what + " norm", gn.get(), norm, mnorm, 1, K_F32);
        check(what + " dx", gdx.get(), dx, mdx, 8, t, 2);
        same(what, gy.get(), first_y);
        same(what, gdx.get(), first_dx);
    }
}

static void layernorm(const shape &s, enum k_dtype t)
{
    const size_t n = (size_t)(s.rows * s.n), c = (size_t)s.n, rows = (size_t)s.rows;
    values x = normals("x", (int64_t)n, t, 1, 3), dy = normals("dy", (int64_t)n, t), w = normals("w", s.n, K_F32),
           b = normals("b", s.n, K_F32);
    values y(n), my(n), stats(2 * rows), mstats(2 * rows), dx(n), mdx(n), dw(c), mdw(c), db(c), mdb(c), first_y,
        first_dx, first_dw;
    struct norm_attr a = {};
    a.eps = 1e-5f;
    ref_step r = {};
    r.attr = &a;
    r.in[0] = tensor({s.rows, s.n}, x, nullptr);
    r.in[1] = tensor({s.n}, w, nullptr);
    r.in[2] = tensor({s.n}, b, nullptr);
    r.out[0] = tensor({s.rows, s.n}, y, &my);
    r.out[1] = tensor({s.rows, 2}, stats, &mstats);
    r.dout[0] = tensor({s.rows, s.n}, dy, nullptr);
    r.din[0] = tensor({s.rows, s.n}, dx, &mdx);
    r.din[1] = tensor({s.n}, dw, &mdw);
    r.din[2] = tensor({s.n}, db, &mdb);
    ref_layernorm_fwd(&r);
    ref_layernorm_bwd(&r);
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = label("layernorm", s, t, seed);
        cudasim_seed((uint64_t)seed);
        on_device gx(n, t, s.skew, &x), gdy(n, t, s.skew, &dy), gy(n, t, s.skew), gdx(n, t, s.skew),
            gw(c, K_F32, s.skew, &w), gb(c, K_F32, s.skew, &b), gs(2 * rows, K_F32), gdw(c, K_F32), gdb(c, K_F32),
            work(k_layernorm_bwd_bytes(s.rows, s.n) / sizeof(float), K_F32);
        k_layernorm k = {t,        s.rows, s.n,     a.eps,   gx.at(),  gdy.at(), gw.f(), gb.f(), gy.at(),
                         gdx.at(), gs.f(), gdw.f(), gdb.f(), work.f(), 0,        0,      0};
        cr_assert_eq(k_layernorm_fwd(&k, NULL), cudaSuccess);
        cr_assert_eq(k_layernorm_bwd(&k, NULL), cudaSuccess);
        expect_clean(what);
        /* rows: a lane adds n/32 terms, the warp reduction five more, and a dozen roundings around; columns: 8 rows a
         * thread, 8 threads, then parts */
        const double k_row = 16 + s.n / 32.0, k_column = 16 + 8 + 8 + (double)s.rows / 64;
        check(what + " y", gy.get(), y, my, k_row, t);
        check(what + " stats", gs.get(), stats, mstats, k_row, K_F32);
        check(what + " dx", gdx.get(), dx, mdx, k_row, t);
        check(what + " dw", gdw.get(), dw, mdw, k_column, K_F32);
        check(what + " db", gdb.get(), db, mdb, k_column, K_F32);
        same(what, gy.get(), first_y);
        same(what, gdx.get(), first_dx);
        same(what, gdw.get(), first_dw);
        /* beta 1: added to old values; of the weights only db is wanted */
        const values before = gdw.get();
        k.dx = NULL, k.dw = NULL, k.beta_b = 1;
        cr_assert_eq(k_layernorm_bwd(&k, NULL), cudaSuccess);
        values sum = db, size = mdb;
        for (size_t i = 0; i < c; i++) sum[i] *= 2, size[i] *= 2;
        check(what + " db added", gdb.get(), sum, size, k_column, K_F32);
        cr_expect(gdw.get() == before, "%s: dw was not wanted and has changed", what.c_str());
        expect_clean(what);
    }
}

Test(kernels, gelu)
{
    for_all(gelu);
}
Test(kernels, quick_gelu)
{
    for_all(quick_gelu);
}
Test(kernels, l2norm)
{
    for_all(l2norm);
}
Test(kernels, layernorm)
{
    for_all(layernorm);
}

/* Size 0 launches nothing and is no error. */
Test(kernels, zero_sizes)
{
    k_gelu g = {};
    k_l2norm l = {};
    k_layernorm n = {};
    cr_expect_eq(k_gelu_fwd(&g, NULL), cudaSuccess);
    cr_expect_eq(k_gelu_bwd(&g, NULL), cudaSuccess);
    cr_expect_eq(k_l2norm_fwd(&l, NULL), cudaSuccess);
    cr_expect_eq(k_l2norm_bwd(&l, NULL), cudaSuccess);
    cr_expect_eq(k_layernorm_fwd(&n, NULL), cudaSuccess);
    cr_expect_eq(k_layernorm_bwd(&n, NULL), cudaSuccess);
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
}

/* Counters for rows of 768: full sectors, no bank conflicts, no partial warps. */
Test(kernels, counters)
{
    if (!cudasim_checked()) return;
    const size_t n = 8 * 768;
    values x = normals("x", (int64_t)n, K_F32), w = normals("w", 768, K_F32);
    on_device gx(n, K_F32, 0, &x), gw(768, K_F32, 0, &w), gy(n, K_F32), gs(16, K_F32), gdw(768, K_F32), gdb(768, K_F32),
        gdx(n, K_F32), work(k_layernorm_bwd_bytes(8, 768) / sizeof(float), K_F32);
    k_layernorm k = {K_F32,    8,      768,     1e-5f,   gx.at(),  gx.at(), gw.f(), gw.f(), gy.at(),
                     gdx.at(), gs.f(), gdw.f(), gdb.f(), work.f(), 0,       0,      0};
    cudasim_count(1);
    cr_assert_eq(k_layernorm_fwd(&k, NULL), cudaSuccess);
    cr_assert_eq(k_layernorm_bwd(&k, NULL), cudaSuccess);
    cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
    cudasim_count(0);
    const cudasim_counters f = cudasim_counters_sum("layernorm_fwd"), p = cudasim_counters_sum("layernorm_bwd_parts");
    cr_expect_eq(f.launches, 1);
    cr_expect_eq(f.blocks, 2);
    /* 6 float4 a lane: x three times, w, b, y; and two statistics by one lane */
    cr_expect_eq(f.global_requests, 8 * (6 * 6 + 2), "%d requests", (int)f.global_requests);
    cr_expect_eq(f.sectors, 8 * (6 * 6 * 16 + 2), "%d sectors", (int)f.sectors);
    cr_expect_eq(f.partial_requests, 16);
    cr_expect_eq(f.collectives, 8 * 3 * 5);
    cr_expect_gt(cudasim_sector_use(&f), 0.99);
    /* 6 blocks of 32 float4: 8 warps write two sums each, two warps read 8 */
    cr_expect_eq(p.barriers, 6);
    cr_expect_eq(p.shared_requests, 6 * (8 * 2 * 4 + 2 * 8 * 4));
    cr_expect_eq(p.bank_conflicts, 0);
}
