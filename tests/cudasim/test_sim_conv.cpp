/* Convolution kernels: large tiles, for which tests/cases has too small shapes, the moments for an instance norm, and
 * counters of the main loops. */
#include "tests/cudasim/support_sim.h"

static const struct shape {
    int64_t n, c, o;
    int src[3], k[3], stride[3], pad[3];
    int k_forward; /* terms of a forward sum */
} shapes[] = {{1, 16, 24, {5, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, 432},
              {2, 8, 40, {1, 9, 17}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, 72},
              {1, 40, 72, {1, 10, 14}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, 360},
              {1, 24, 40, {5, 6, 7}, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}, 648},
              {1, 40, 24, {5, 6, 7}, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}, 1080},
              {1, 1, 32, {4, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, 27},
              {1, 1, 40, {4, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, 27},
              {1, 72, 72, {1, 12, 12}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, 72}};
static const int SEEDS = 2;

static k_conv conv_of(const shape &s, enum k_dtype t, enum k_tile tile)
{
    k_conv a = {};
    a.dtype = t, a.n = s.n, a.c = s.c, a.o = s.o, a.tile = tile;
    for (int i = 0; i < 3; i++) {
        a.src[i] = s.src[i], a.k[i] = s.k[i], a.stride[i] = s.stride[i], a.pad[i] = s.pad[i];
        a.dst[i] = (s.src[i] + 2 * s.pad[i] - s.k[i]) / s.stride[i] + 1;
    }
    return a;
}
static int64_t product(const int d[3])
{
    return (int64_t)d[0] * d[1] * d[2];
}

/* Mean and 1/sqrt(var + eps) combined from the moments of parts of `part_rows` rows (a part sums up to 128 rows),
 * against those of y (n, rows, o) as stored. */
static void check_moments(const std::string &what, const shape &s, int64_t rows, int64_t part_rows, const values &part,
                          const values &stored)
{
    const int64_t parts = (rows - 1) / part_rows + 1;
    values stats(2 * (size_t)(s.n * s.o)), want(stats.size()), mag(want.size());
    for (int64_t i = 0; i < s.n * s.o; i++) {
        double sum = 0, squares = 0;
        for (int64_t k = 0; k < parts; k++) {
            const size_t at = (size_t)(((i / s.o * parts + k) * s.o + i % s.o) * 2);
            const double count = (double)std::min(part_rows, rows - k * part_rows);
            sum += count * part[at], squares += part[at + 1] + count * part[at] * part[at];
        }
        stats[(size_t)(2 * i)] = sum / (double)rows;
        stats[(size_t)(2 * i + 1)] = 1 / sqrt((squares - sum * sum / (double)rows) / (double)rows + 1e-5);
        double mean = 0, var = 0, m = 0, most = 0;
        for (int64_t p = 0; p < rows; p++) {
            const size_t at = (size_t)((i / s.o * rows + p) * s.o + i % s.o);
            mean += stored[at] / (double)rows, m += fabs(stored[at]) / (double)rows;
            most = fmax(most, fabs(stored[at]));
        }
        for (int64_t p = 0; p < rows; p++)
            var += pow(stored[(size_t)((i / s.o * rows + p) * s.o + i % s.o)] - mean, 2) / (double)rows;
        const double rstd = 1 / sqrt(var + 1e-5);
        want[(size_t)(2 * i)] = mean, mag[(size_t)(2 * i)] = m;
        want[(size_t)(2 * i + 1)] = rstd, mag[(size_t)(2 * i + 1)] = rstd * (1 + most * rstd);
    }
    check(what + " moments", stats, want, mag, 24, K_F32);
}

static void all_passes(const shape &s, enum k_dtype t, enum k_tile tile)
{
    k_conv a = conv_of(s, t, tile);
    const size_t nx = (size_t)(s.n * product(a.src) * s.c), ny = (size_t)(s.n * product(a.dst) * s.o),
                 nw = (size_t)(s.o * s.c * product(a.k)), no = (size_t)s.o;
    values x = normals("x", (int64_t)nx, t), w = normals("w", (int64_t)nw, t), b = normals("b", s.o, K_F32),
           dy = normals("dy", (int64_t)ny, t);
    values y(ny), my(ny), dx(nx), mdx(nx), dw(nw), mdw(nw), db(no), mdb(no), first[4];
    conv_attr attr = {};
    attr.nsp = 3;
    for (int i = 0; i < 3; i++) attr.stride[i] = s.stride[i], attr.pad[i] = s.pad[i];
    ref_step r = {};
    r.attr = &attr;
    r.in[0] = tensor({s.n, a.src[0], a.src[1], a.src[2], s.c}, x, nullptr);
    r.in[1] = tensor({s.o, s.c, a.k[0], a.k[1], a.k[2]}, w, nullptr);
    r.in[2] = tensor({s.o}, b, nullptr);
    r.out[0] = tensor({s.n, a.dst[0], a.dst[1], a.dst[2], s.o}, y, &my);
    r.dout[0] = tensor({s.n, a.dst[0], a.dst[1], a.dst[2], s.o}, dy, nullptr);
    r.din[0] = tensor({s.n, a.src[0], a.src[1], a.src[2], s.c}, dx, &mdx);
    r.din[1] = tensor({s.o, s.c, a.k[0], a.k[1], a.k[2]}, dw, &mdw);
    r.din[2] = tensor({s.o}, db, &mdb);
    ref_conv_fwd(&r);
    ref_conv_bwd(&r);
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = "conv " + std::to_string(s.c) + " to " + std::to_string(s.o) +
                                 (t == K_BF16 ? " bf16" : " f32") + " tile " + std::to_string(tile) + " seed " +
                                 std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        on_device gx(nx, t, 0, &x), gw(nw, K_F32, 0, &w), gb(no, K_F32, 0, &b), gy(ny, t), gdy(ny, t, 0, &dy),
            gdx(nx, t), gdw(nw, K_F32), gdb(no, K_F32);
        a.x = gx.at(), a.w = gw.f(), a.bias = gb.f(), a.y = gy.at(), a.dy = gdy.at(), a.dx = gdx.at(), a.dw = gdw.f();
        a.db = gdb.f();
        const int64_t rows = product(a.dst), part_rows = k_conv_part_rows(&a), parts = (rows - 1) / part_rows + 1;
        on_device gm((size_t)(s.n * parts * s.o * 2), K_F32);
        a.moments = gm.f();
        const size_t bytes = k_conv_fwd_bytes(&a) > k_conv_bwd_bytes(&a) ? k_conv_fwd_bytes(&a) : k_conv_bwd_bytes(&a);
        on_device work(bytes / sizeof(float), K_F32);
        a.workspace = work.at();
        cr_assert_eq(k_conv_fwd(&a, NULL), cudaSuccess);
        expect_clean(what + " fwd");
        cr_assert_eq(k_conv_bwd(&a, NULL), cudaSuccess);
        expect_clean(what + " bwd");
        /* chains of at most k additions: an error of twice sqrt(k) roundings, and a few for split-k parts and bias */
        check(what + " y", gy.get(), y, my, 2 * sqrt((double)s.k_forward) + 8, t);
        check(what + " dx", gdx.get(), dx, mdx, 2 * sqrt((double)(s.o * product(a.k))) + 8, t);
        check(what + " dw", gdw.get(), dw, mdw, 2 * sqrt((double)(s.n * product(a.dst))) + 8, K_F32);
        check(what + " db", gdb.get(), db, mdb, 32, K_F32);
        same(what + " y", gy.get(), first[0]);
        same(what + " dx", gdx.get(), first[1]);
        same(what + " dw", gdw.get(), first[2]);
        check_moments(what, s, rows, part_rows, gm.get(), gy.get());
        same(what + " moments", gm.get(), first[3]);
        /* without moments split-k is allowed */
        a.moments = NULL;
        on_device more(k_conv_fwd_bytes(&a) / sizeof(float), K_F32);
        a.workspace = more.at();
        cr_assert_eq(k_conv_fwd(&a, NULL), cudaSuccess);
        check(what + " y alone", gy.get(), y, my, 2 * sqrt((double)s.k_forward) + 8, t);
        expect_clean(what + " without moments");
    }
}

static void all_shapes(enum k_dtype t, enum k_tile tile)
{
    for (const shape &s : shapes) all_passes(s, t, tile);
    cr_expect_eq(cudasim_bytes_held(), 0);
}
Test(conv, f32)
{
    all_shapes(K_F32, K_TILE_CHOSEN);
}
Test(conv, bf16_small_tiles)
{
    all_shapes(K_BF16, K_TILE_64);
}
Test(conv, bf16_large_tiles)
{
    all_shapes(K_BF16, K_TILE_128);
}

Test(conv, transpose_large_tiles)
{
    const int src[3] = {2, 6, 11}, k[3] = {2, 2, 1};
    const int64_t c = 24, o = 24, in = 132, out = 528;
    values x = normals("x", in * c, K_BF16), w = normals("w", c * o * 4, K_BF16), y((size_t)(out * o)), my(y.size());
    conv_attr attr = {};
    attr.nsp = 3;
    ref_step r = {};
    r.attr = &attr;
    r.in[0] = tensor({1, 2, 6, 11, c}, x, nullptr);
    r.in[1] = tensor({c, o, 2, 2, 1}, w, nullptr);
    r.out[0] = tensor({1, 4, 12, 11, o}, y, &my);
    ref_conv_transpose_fwd(&r);
    on_device gx(x.size(), K_BF16, 0, &x), gw(w.size(), K_F32, 0, &w), gy(y.size(), K_BF16);
    k_conv a = {};
    a.dtype = K_BF16, a.n = 1, a.c = c, a.o = o, a.tile = K_TILE_128, a.x = gx.at(), a.w = gw.f(), a.y = gy.at();
    for (int i = 0; i < 3; i++) a.src[i] = src[i], a.k[i] = k[i];
    on_device work(k_conv_transpose_fwd_bytes(&a) / sizeof(float), K_F32);
    a.workspace = work.at();
    cr_assert_eq(k_conv_transpose_fwd(&a, NULL), cudaSuccess);
    expect_clean("conv_transpose");
    check("conv_transpose", gy.get(), y, my, 2 * sqrt(24.0) + 8, K_BF16);
}

Test(conv, zero_sizes)
{
    k_conv a = {};
    cr_expect_eq(k_conv_fwd(&a, NULL), cudaSuccess);
    cr_expect_eq(k_conv_bwd(&a, NULL), cudaSuccess);
    cr_expect_eq(k_conv_transpose_fwd(&a, NULL), cudaSuccess);
    cr_expect_eq(k_conv_transpose_bwd(&a, NULL), cudaSuccess);
}

/* A 3 x 3 x 3 convolution of 32 to 64 channels: no bank conflicts in fprop, dgrad and wgrad, and full sectors. */
Test(conv, counters)
{
    if (!cudasim_checked()) return;
    const shape s = {1, 32, 64, {4, 4, 8}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, 0};
    for (int tile = K_TILE_64; tile <= K_TILE_128; tile++)
        for (int pass = 0; pass < 3; pass++) {
            k_conv a = conv_of(s, K_BF16, (enum k_tile)tile);
            const values x = normals("x", 128 * 32, K_BF16), w = normals("w", 27 * 32 * 64, K_F32),
                         dy = normals("dy", 128 * 64, K_BF16);
            on_device gx(x.size(), K_BF16, 0, &x), gw(w.size(), K_F32, 0, &w), gdy(dy.size(), K_BF16, 0, &dy),
                gy(dy.size(), K_BF16), gdx(x.size(), K_BF16), gdw(w.size(), K_F32);
            a.x = gx.at(), a.w = gw.f(), a.y = gy.at(), a.dy = gdy.at();
            a.dx = pass == 1 ? gdx.at() : NULL, a.dw = pass == 2 ? gdw.f() : NULL;
            on_device work((pass ? k_conv_bwd_bytes(&a) : k_conv_fwd_bytes(&a)) / sizeof(float), K_F32);
            a.workspace = work.at();
            cudasim_counters_clear();
            cudasim_count(1);
            cr_assert_eq(pass ? k_conv_bwd(&a, NULL) : k_conv_fwd(&a, NULL), cudaSuccess);
            cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
            cudasim_count(0);
            const cudasim_counters c = cudasim_counters_sum("tile_product");
            cr_expect_eq(c.bank_conflicts, 0, "pass %d tile %d: %d conflicts", pass, tile, (int)c.bank_conflicts);
            cr_expect_gt(cudasim_sector_use(&c), 0.9);
            cr_log_info("pass %d tile %d: %d mma, tensor share %.2f, %.2f of the sectors, %d partial", pass, tile,
                        (int)c.mma, cudasim_tensor_share(&c), cudasim_sector_use(&c), (int)c.partial_requests);
            cudasim_reports_clear();
        }
}
