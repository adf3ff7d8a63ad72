/* Matmul kernels: every transpose form, both tile sizes, split-k, misaligned pointers, against plain loops in double;
 * counters of the tensor-core main loop. */
#include "tests/cudasim/support_sim.h"

static const struct shape {
    int64_t batch, m, n, k;
    size_t skew;
    enum k_tile tile;
    int splits;
} shapes[] = {{1, 1, 1, 1, 0, K_TILE_CHOSEN, 0},    {2, 67, 35, 45, 0, K_TILE_CHOSEN, 0},
              {1, 72, 136, 104, 0, K_TILE_64, 0},   {1, 136, 200, 72, 0, K_TILE_128, 0},
              {1, 128, 128, 160, 0, K_TILE_128, 3}, {1, 16, 24, 640, 0, K_TILE_CHOSEN, 0},
              {2, 24, 40, 48, 1, K_TILE_CHOSEN, 2}, {1, 130, 131, 33, 0, K_TILE_128, 0},
              {3, 8, 64, 8, 4, K_TILE_CHOSEN, 0},   {1, 40, 16, 0, 0, K_TILE_CHOSEN, 0}};
enum { SEEDS = 2 };

static void product(const shape &s, enum k_matmul_form form, enum k_dtype t, enum k_dtype ty, bool bias)
{
    const size_t na = (size_t)(s.batch * s.m * s.k), nb = (size_t)(s.batch * s.n * s.k),
                 ny = (size_t)(s.batch * s.m * s.n);
    const values a = normals("a", (int64_t)na, t), b = normals("b", (int64_t)nb, t), c = normals("c", s.n, K_F32),
                 old = normals("old", (int64_t)ny, ty);
    values y(ny), mag(ny), first;
    for (int64_t z = 0; z < s.batch; z++)
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t j = 0; j < s.n; j++) {
                double sum = bias ? c[(size_t)j] : 0, m = fabs(sum);
                for (int64_t l = 0; l < s.k; l++) {
                    const int64_t ia = z * s.m * s.k + (form == K_MATMUL_TN ? l * s.m + i : i * s.k + l);
                    const int64_t ib = z * s.n * s.k + (form == K_MATMUL_NT ? j * s.k + l : l * s.n + j);
                    const double p = a[(size_t)ia] * b[(size_t)ib];
                    sum += p, m += fabs(p);
                }
                y[(size_t)((z * s.m + i) * s.n + j)] = sum, mag[(size_t)((z * s.m + i) * s.n + j)] = m;
            }
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = "form " + std::to_string(form) + " " + std::to_string(s.m) + "x" +
                                 std::to_string(s.n) + "x" + std::to_string(s.k) + (t == K_BF16 ? " bf16" : " f32") +
                                 (ty == K_BF16 ? " to bf16" : " to f32") + " seed " + std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        on_device ga(na, t, s.skew, &a), gb(nb, t, s.skew, &b), gc((size_t)s.n, K_F32, s.skew, &c), gy(ny, ty, s.skew);
        k_matmul p = {};
        p.dtype = t, p.dtype_y = ty, p.form = form, p.batch = s.batch, p.m = s.m, p.n = s.n, p.k = s.k;
        p.tile = s.tile, p.splits = s.splits;
        p.a = ga.at(), p.b = gb.at(), p.bias = bias ? gc.f() : NULL, p.y = gy.at();
        on_device work(k_matmul_bytes(&p) / sizeof(float), K_F32);
        p.workspace = work.f();
        cr_assert_eq(k_matmul_run(&p, NULL), cudaSuccess);
        expect_clean(what);
        /* a chain of at most k additions, usual error sqrt(k): twice that; split-k parts, bias and the last add */
        const double k = 2 * sqrt((double)s.k) + 8;
        check(what, gy.get(), y, mag, k, ty);
        same(what, gy.get(), first);
        gy.set(old);
        p.beta = 1;
        cr_assert_eq(k_matmul_run(&p, NULL), cudaSuccess);
        values sum = y, size = mag;
        for (size_t i = 0; i < ny; i++) sum[i] += old[i], size[i] += fabs(old[i]);
        check(what + " added", gy.get(), sum, size, k + 1, ty);
        expect_clean(what);
    }
}

static void all_shapes(enum k_matmul_form form)
{
    for (const shape &s : shapes) {
        product(s, form, K_F32, K_F32, true);
        product(s, form, K_BF16, K_BF16, true);
        product(s, form, K_BF16, K_F32, false);
    }
    cr_expect_eq(cudasim_bytes_held(), 0);
}
Test(matmul, nt)
{
    all_shapes(K_MATMUL_NT);
}
Test(matmul, nn)
{
    all_shapes(K_MATMUL_NN);
}
Test(matmul, tn)
{
    all_shapes(K_MATMUL_TN);
}

Test(matmul, zero_sizes)
{
    k_matmul nothing = {};
    cr_expect_eq(k_matmul_run(&nothing, NULL), cudaSuccess);
}

/* Whole tiles: no bank conflicts from ldmatrix, cp.async or the shared-memory stores, full sectors, and as many
 * mma.sync as the shape has. */
Test(matmul, counters)
{
    if (!cudasim_checked()) return;
    for (int form = K_MATMUL_NT; form <= K_MATMUL_TN; form++)
        for (int tile = K_TILE_64; tile <= K_TILE_128; tile++) {
            const int64_t m = 256, n = 128, k = 96;
            const values a = normals("a", m * k, K_BF16), b = normals("b", n * k, K_BF16);
            on_device ga(a.size(), K_BF16, 0, &a), gb(b.size(), K_BF16, 0, &b), gy((size_t)(m * n), K_BF16);
            k_matmul p = {};
            p.dtype = p.dtype_y = K_BF16, p.form = (enum k_matmul_form)form, p.batch = 1, p.m = m, p.n = n, p.k = k;
            p.a = ga.at(), p.b = gb.at(), p.y = gy.at(), p.tile = (enum k_tile)tile, p.splits = 1;
            cudasim_counters_clear();
            cudasim_count(1);
            cr_assert_eq(k_matmul_run(&p, NULL), cudaSuccess);
            cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
            cudasim_count(0);
            const cudasim_counters c = cudasim_counters_sum("tile_product");
            cr_expect_eq(c.mma, m / 16 * (n / 8) * (k / 16));
            cr_expect_eq(c.bank_conflicts, 0, "form %d tile %d: %d conflicts", form, tile, (int)c.bank_conflicts);
            cr_expect_gt(cudasim_sector_use(&c), 0.99, "form %d tile %d: %g of the sectors", form, tile,
                         cudasim_sector_use(&c));
            cr_expect_eq(c.partial_requests, 0);
            cr_log_info("form %d tile %d: tensor share %.2f, %d shared, %d global requests", form, tile,
                        cudasim_tensor_share(&c), (int)c.shared_requests, (int)c.global_requests);
        }
}
