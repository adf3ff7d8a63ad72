/* Elementwise kernels, row gathers and instance norm against the float64 oracles of tests/ref, like
 * test_sim_kernels.cpp. */
#include "tests/cudasim/support_sim.h"

enum { SEEDS = 4 };

static std::string mark(const std::string &what, enum k_dtype t, int seed)
{
    return what + (t == K_BF16 ? " bf16" : " f32") + " seed " + std::to_string(seed);
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

/* Misaligned pointers: every op takes its scalar path, where its cases (all 64-byte aligned) take the vector path.
 * Results must equal the aligned run's bits, except sums over threads, whose order differs: those are compared within
 * the roundings of 300 terms. */
typedef void (*launch_t)(enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *work);

static void skewed(const char *name, launch_t run, int64_t nx, int64_t nx2, int64_t ny, int64_t ny2, int64_t work,
                   double k = 0)
{
    for (int t = K_F32; t <= K_BF16; t++) {
        const enum k_dtype d = (enum k_dtype)t;
        values x = normals("x", nx, d), x2 = normals("x2", nx2, d), old = normals("old", ny > ny2 ? ny : ny2, d), y, y2;
        for (size_t skew = 0; skew < 4; skew++) {
            cudasim_seed(skew);
            on_device gx((size_t)nx, d, skew, &x), gx2((size_t)nx2, d, skew ? skew - 1 : 0, &x2),
                gy((size_t)ny, d, skew), gy2((size_t)ny2, d, skew), w((size_t)work, K_F32);
            gy.set(old), gy2.set(old);
            run(d, gx.at(), gx2.at(), gy.at(), gy2.at(), w.at());
            expect_clean(mark(name, d, (int)skew));
            if (!skew) {
                y = gy.get(), y2 = gy2.get();
                continue;
            }
            check(std::string(name) + " y", gy.get(), y, values(y.size(), 1), k, k > 0 ? d : K_F32);
            check(std::string(name) + " y2", gy2.get(), y2, values(y2.size(), 1), k, k > 0 ? d : K_F32);
        }
    }
    cr_expect_eq(cudasim_bytes_held(), 0);
}

static void ok(cudaError_t e)
{
    cr_assert_eq(e, cudaSuccess);
}

Test(point, skewed)
{
    skewed(
        "relu",
        [](enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *) {
            struct k_relu a = {t, 1035, x, x2, y, y2, 1};
            ok(k_relu_fwd(&a, NULL)), ok(k_relu_bwd(&a, NULL));
        },
        1035, 1035, 1035, 1035, 1);
    skewed(
        "add",
        [](enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *work) {
            struct k_add a = {t, 40 * 24, 24, x, x2, x, y, y2, NULL, 1, 0, (float *)work};
            ok(k_add_fwd(&a, NULL)), ok(k_add_bwd(&a, NULL));
        },
        960, 24, 960, 960, 1);
    skewed(
        "add of two",
        [](enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *) {
            struct k_add a = {t, 517, 517, x, x2, x, y, y2, NULL, 1, 0, NULL};
            ok(k_add_fwd(&a, NULL)), ok(k_add_bwd(&a, NULL));
        },
        517, 517, 517, 517, 1);
    skewed(
        "rows",
        [](enum k_dtype t, const void *x, const void *, void *y, void *, void *work) {
            struct k_sum_rows a = {t, t, 300, 24, 32, x, 1, y, (float *)work};
            ok(k_sum_rows(&a, NULL));
        },
        300 * 32, 1, 24, 1, (int64_t)(k_sum_rows_bytes(300, 24) / sizeof(float)), 300 * 32);
    skewed(
        "window",
        [](enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *) {
            struct k_partition a = {t, 2, 5, 6, 16, 4, x, y, 1}, b = {t, 2, 5, 6, 16, 4, x2, y2, 1};
            ok(k_partition_split(&a, NULL)), ok(k_partition_join(&b, NULL));
        },
        2 * 5 * 6 * 16, 2 * 8 * 8 * 16, 2 * 8 * 8 * 16, 2 * 5 * 6 * 16, 1);
    skewed(
        "concat",
        [](enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *) {
            struct k_concat a = {t, 2, 5, {16, 24}, {0, 1}, {x, x2}, x, y, {y2, NULL}, {1}, NULL};
            ok(k_concat_fwd(&a, NULL)), ok(k_concat_bwd(&a, NULL));
        },
        5 * 40, 24, 5 * 40, 5 * 16, 1);
    skewed(
        "resize",
        [](enum k_dtype t, const void *x, const void *x2, void *y, void *y2, void *) {
            struct k_resize a = {t, 1, 5, 6, 9, 4, 16, x, x2, y, y2, 1};
            ok(k_resize_fwd(&a, NULL)), ok(k_resize_bwd(&a, NULL));
        },
        5 * 6 * 16, 9 * 4 * 16, 9 * 4 * 16, 5 * 6 * 16, 1);
}

/* Ops that stay in float32 in a graph (amp.h), run in bf16 on inputs that bf16 represents: the float32 kernel's
 * results, rounded to 8 bits, at most 2^-8 of the value. */
static void check_rounded(const char *what, const values &half, const values &full)
{
    for (size_t i = 0; i < full.size(); i++)
        cr_assert(fabs(half[i] - full[i]) <= 0x1p-8 * fabs(full[i]), "%s[%zu]: %.9g, want %.9g", what, i, half[i],
                  full[i]);
}

Test(point, softmax_in_bf16)
{
    static const int sizes[][2] = {{1, 1}, {7, 33}, {3, 260}, {2, 1031}};
    for (auto z : sizes)
        for (int seed = 0; seed < SEEDS; seed++) {
            const int64_t n = (int64_t)z[0] * z[1];
            const values x = normals("x", n, K_BF16, 2), dy = normals("dy", n, K_BF16);
            values y[2], dx[2];
            cudasim_seed((uint64_t)seed);
            for (int i = 0; i < 2; i++) {
                const enum k_dtype t = i ? K_BF16 : K_F32;
                on_device gx((size_t)n, t, 0, &x), gdy((size_t)n, t, 0, &dy), gy((size_t)n, t), gdx((size_t)n, t);
                struct k_softmax a = {t, z[0], z[1], gx.at(), gdy.at(), gy.at(), gdx.at(), 0};
                ok(k_softmax_fwd(&a, NULL));
                y[i] = gy.get();
                gy.set(normals("y", n, K_BF16)); /* any values, the same for both */
                ok(k_softmax_bwd(&a, NULL));
                expect_clean(mark("softmax", t, seed));
                dx[i] = gdx.get();
            }
            check_rounded("softmax y", y[1], y[0]);
            check_rounded("softmax dx", dx[1], dx[0]);
        }
}

Test(point, attn_guide_in_bf16)
{
    const int batch = 2, tokens = 37, heads = 3, head_dim = 16, used = 2;
    const int64_t n = (int64_t)batch * tokens * 3 * heads * head_dim;
    const values qkv = normals("qkv", n, K_BF16), one(1, 0.75);
    values cover = normals("cover", batch * tokens, K_F32), weight = {1, 0.5};
    for (double &c : cover) c = c > 0.3;
    for (int seed = 0; seed < SEEDS; seed++) {
        values dqkv[2], loss[2], attention[2];
        cudasim_seed((uint64_t)seed);
        for (int i = 0; i < 2; i++) {
            const enum k_dtype t = i ? K_BF16 : K_F32;
            on_device gq((size_t)n, t, 0, &qkv), gd((size_t)n, t), gc(cover.size(), K_F32, 0, &cover),
                gw(2, K_F32, 0, &weight), gl(1, K_F32), ga((size_t)(batch * used * tokens), K_F32),
                gdl(1, K_F32, 0, &one);
            struct k_attn_guide a = {t,      batch,   tokens, heads,  head_dim, used, gq.at(), gc.f(),
                                     gw.f(), gdl.f(), gl.f(), ga.f(), gd.at(),  0,    NULL};
            on_device work(k_attn_guide_bytes(&a) / sizeof(float) + 1, K_F32);
            a.workspace = work.at();
            ok(k_attn_guide_fwd(&a, NULL)), ok(k_attn_guide_bwd(&a, NULL));
            expect_clean(mark("attn_guide", t, seed));
            dqkv[i] = gd.get(), loss[i] = gl.get(), attention[i] = ga.get();
        }
        cr_assert(loss[0] == loss[1] && attention[0] == attention[1], "of the same numbers the same sums");
        check_rounded("attn_guide dqkv", dqkv[1], dqkv[0]);
    }
}

/* Gather by index: an invalid index gives NaN forward and is skipped backward, as -1 is. */
Test(point, gather)
{
    const std::vector<int32_t> index = {2, -1, 0, 3, -2, 2, 2147483647};
    for (size_t skew = 0; skew < 2; skew++)
        for (int t = K_F32; t <= K_BF16; t++) {
            const enum k_dtype d = (enum k_dtype)t;
            values x = normals("x", 24, d), dy = normals("dy", 56, d);
            on_device gx(24, d, skew, &x), gdy(56, d, skew, &dy), gy(56, d, skew), gdx(24, d, skew),
                work(k_gather_bwd_bytes(7) / 4, K_F32);
            ints_on_device at(index);
            struct k_gather a = {d, 3, 8, 7, gx.at(), gdy.at(), at.p, gy.at(), gdx.at(), (int32_t *)work.at(), 0};
            ok(k_gather_fwd(&a, NULL)), ok(k_gather_bwd(&a, NULL));
            expect_clean(mark("gather", d, 0));
            const values y = gy.get(), dx = gdx.get();
            for (size_t i = 0; i < 56; i++) {
                const int32_t r = index[i / 8];
                if (r < -1 || r > 2)
                    cr_expect(isnan(y[i]), "row %d is none", (int)r);
                else
                    cr_expect_eq(y[i], r < 0 ? 0 : x[(size_t)r * 8 + i % 8]);
            }
            for (size_t i = 0; i < 8; i++) {
                const float sum = (float)dy[i] + (float)dy[40 + i];
                cr_expect_eq(dx[i], dy[16 + i]);
                cr_expect_eq(dx[8 + i], 0);
                cr_expect_eq(dx[16 + i], (double)(d == K_BF16 ? __bfloat162float(__float2bfloat16_rn(sum)) : sum));
            }
        }
}

/* Row sums into either type, overwritten or added; zero, one and several parts; rows of a wider matrix. */
Test(point, sum_rows)
{
    static const struct {
        int64_t rows, n, gap;
    } sizes[] = {{900, 1, 8}, {900, 5, 8}, {900, 24, 8}, {270, 264, 8},
                 {1, 1, 0},   {3, 260, 0}, {200, 64, 0}, {0, 5, 0}};
    for (const auto &z : sizes)
        for (int way = 0; way < 8; way++)
            for (int seed = 0; seed < SEEDS; seed++) {
                const enum k_dtype from = (enum k_dtype)(way & 1), to = (enum k_dtype)(way >> 1 & 1);
                const int64_t stride = z.n + z.gap;
                const values x = normals("x", z.rows * stride, from), old = normals("old", z.n, to);
                values want((size_t)z.n), mag((size_t)z.n);
                for (int64_t c = 0; c < z.n; c++) {
                    double *sum = &want[(size_t)c], *size = &mag[(size_t)c];
                    if (way >> 2) *sum = old[(size_t)c], *size = fabs(*sum);
                    for (int64_t r = 0; r < z.rows; r++)
                        *sum += x[(size_t)(r * stride + c)], *size += fabs(x[(size_t)(r * stride + c)]);
                }
                cudasim_seed((uint64_t)seed);
                on_device gx((size_t)(z.rows * stride), from, 0, &x), gy((size_t)z.n, to),
                    work(k_sum_rows_bytes(z.rows, z.n) / sizeof(float), K_F32);
                if (way >> 2) gy.set(old);
                struct k_sum_rows a = {from, to, z.rows, z.n, stride, gx.at(), (float)(way >> 2), gy.at(), work.f()};
                ok(k_sum_rows(&a, NULL));
                expect_clean(mark("sum_rows", to, seed));
                /* at most 256 / 8 terms a thread, a reduction of 8, a few parts */
                check("sum_rows", gy.get(), want, mag, 45, to);
            }
}

/* Instance norm from a convolution's moments in parts of any size, fewer and more than one merge takes: the same as
 * from x. */
Test(point, instance_norm_from_moments)
{
    const int64_t n = 2, sp = 300, c = 40;
    for (int64_t part_rows : {300, 128, 7, 1})
        for (int seed = 0; seed < SEEDS; seed++) {
            const int64_t parts = (sp + part_rows - 1) / part_rows;
            const values x = normals("x", n * sp * c, K_F32, 1, 2), w = normals("w", c, K_F32),
                         b = normals("b", c, K_F32);
            values moments((size_t)(n * parts * c * 2));
            for (int64_t i = 0; i < n * parts * c; i++) {
                const int64_t first = i / c % parts * part_rows, last = std::min(first + part_rows, sp);
                const double *from = &x[(size_t)(i / c / parts * sp * c + i % c)];
                double mean = 0, squares = 0;
                for (int64_t r = first; r < last; r++) mean += from[r * c] / (double)(last - first);
                for (int64_t r = first; r < last; r++) squares += (from[r * c] - mean) * (from[r * c] - mean);
                moments[(size_t)(2 * i)] = mean, moments[(size_t)(2 * i + 1)] = squares;
            }
            cudasim_seed((uint64_t)seed);
            const size_t all = (size_t)(n * sp * c);
            on_device gx(all, K_F32, 0, &x), gw((size_t)c, K_F32, 0, &w), gb((size_t)c, K_F32, 0, &b),
                gm(moments.size(), K_F32, 0, &moments), y1(all, K_F32), y2(all, K_F32), st1((size_t)(n * c * 2), K_F32),
                st2((size_t)(n * c * 2), K_F32), work(k_instance_norm_bytes(n, sp, c, 0) / sizeof(float), K_F32);
            struct k_instance_norm a = {};
            a.n = n, a.sp = sp, a.c = c, a.eps = 1e-5f, a.slope = 0.01f;
            a.x = gx.at(), a.w = gw.f(), a.b = gb.f(), a.y = y1.at(), a.stats = st1.f(), a.workspace = work.f();
            ok(k_instance_norm_fwd(&a, NULL));
            a.moments = gm.f(), a.part_rows = (int)part_rows, a.y = y2.at(), a.stats = st2.f();
            ok(k_instance_norm_fwd(&a, NULL));
            expect_clean(mark("instance_norm from moments", K_F32, seed));
            /* means of about 2 and squares, one rounding each; y up to 6 */
            check("stats", st2.get(), st1.get(), values((size_t)(n * c * 2), 4), 16, K_F32);
            check("y", y2.get(), y1.get(), values(all, 12), 32, K_F32);
        }
    cr_expect_eq(cudasim_bytes_held(), 0);
}

/* Size 0 launches nothing; sizes beyond a 31-bit index are refused. */
Test(point, sizes)
{
    struct k_add add = {};
    struct k_relu relu = {};
    struct k_dropout dropout = {};
    struct k_partition window = {};
    struct k_gather gather = {};
    struct k_concat concat = {};
    struct k_resize resize = {};
    struct k_softmax softmax = {};
    struct k_fourier_pe pe = {};
    struct k_instance_norm norm = {};
    struct k_cast cast = {};
    struct k_rng rng = {};
    struct k_sum_rows sums = {};
    ok(k_add_fwd(&add, NULL)), ok(k_add_bwd(&add, NULL)), ok(k_relu_fwd(&relu, NULL)), ok(k_relu_bwd(&relu, NULL));
    ok(k_dropout(&dropout, NULL)), ok(k_partition_split(&window, NULL)), ok(k_partition_join(&window, NULL));
    ok(k_gather_fwd(&gather, NULL)), ok(k_gather_bwd(&gather, NULL)), ok(k_concat_fwd(&concat, NULL));
    ok(k_concat_bwd(&concat, NULL)), ok(k_resize_fwd(&resize, NULL)), ok(k_resize_bwd(&resize, NULL));
    ok(k_softmax_fwd(&softmax, NULL)), ok(k_softmax_bwd(&softmax, NULL)), ok(k_fourier_pe_fwd(&pe, NULL));
    ok(k_instance_norm_fwd(&norm, NULL)), ok(k_instance_norm_bwd(&norm, NULL)), ok(k_cast(&cast, NULL));
    ok(k_rng_uniform(&rng, NULL)), ok(k_rng_normal(&rng, NULL)), ok(k_sum_rows(&sums, NULL));
    ok(cudaDeviceSynchronize());
    add.n = add.period = (int64_t)1 << 34;
    cr_expect_eq(k_add_fwd(&add, NULL), cudaErrorInvalidValue);
    dropout.rows = (int64_t)1 << 33, dropout.n = 4;
    cr_expect_eq(k_dropout(&dropout, NULL), cudaErrorInvalidValue);
    dropout.rows = 1, dropout.p = 1;
    cr_expect_eq(k_dropout(&dropout, NULL), cudaErrorInvalidValue, "with p = 1 nothing could be scaled up");
    resize.n = 1, resize.c = 1, resize.in_h = resize.out_h = 1 << 15, resize.in_w = resize.out_w = 8;
    cr_expect_eq(k_resize_fwd(&resize, NULL), cudaErrorInvalidValue);
    norm.n = 70000, norm.sp = norm.c = 1;
    cr_expect_eq(k_instance_norm_fwd(&norm, NULL), cudaErrorInvalidValue);
    pe.n = (int64_t)1 << 30, pe.f = 4;
    cr_expect_eq(k_fourier_pe_fwd(&pe, NULL), cudaErrorInvalidValue);
}
