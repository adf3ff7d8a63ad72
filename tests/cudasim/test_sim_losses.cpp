/* Cases beyond the case runner (test_sim_ops.c): contrastive losses in bfloat16 and over several ranks, labels out of
 * range, optimizer updates, the gradient norm. */
#include "tests/cudasim/support_array.h"

extern "C" {
#include "engine/tape/op.h"
}

enum { SEEDS = 3 };

/* ---- contrastive ---- */

struct loss_case {
    const char *name;
    int64_t batch;
    int d, ranks;
    size_t skew; /* misalignment of image and text in elements: no 16-byte loads */
    contrastive_attr attr;
    int learned; /* the scale is the input log_scale */
};
static const loss_case loss_cases[] = {
    {"one tile", 64, 64, 1, 0, {1, 0, 0, 4, 0}, 0},
    {"InfoNCE, ragged", 67, 24, 3, 0, {1, 0, 0, 0, 0}, 1},
    {"DHN-NCE, one row more than two tiles", 129, 40, 2, 0, {0, 0.15f, 0.3f, 1 / 0.6f, 0}, 0},
    {"HN-NCE, odd width", 70, 33, 2, 0, {0.5f, 0.15f, 0.2f, 2, 0}, 0},
    {"released, pointers off", 66, 16, 4, 1, {0, 0.15f, 0.3f, 1 / 0.6f, 1}, 0},
    {"two slabs", 20, 136, 2, 0, {0, 0.15f, 0.15f, 0, 0}, 1},
    {"two slabs, the last odd", 9, 131, 3, 0, {1, 0.1f, 0.2f, 3, 0}, 0},
    {"seven columns", 9, 7, 1, 0, {1, 0.1f, 0.2f, 3, 0}, 0},
};

/* beta 1: dtext is added to old values (here those of dimage); the other gradients are not wanted. */
static void add_dtext(k_contrastive a, const std::string &what, enum k_dtype t, size_t skew, size_t n,
                      const values &dimage, const values &dtext, const values &mtext, double k)
{
    on_device more(n, t, skew, &dimage);
    dev_array<char> work(k_contrastive_bwd_bytes(a.batch, a.rows));
    a.workspace = work.p, a.dimage = nullptr, a.dtext = more.at(), a.dlog_scale = nullptr, a.beta_text = 1;
    cr_assert_eq(k_contrastive_bwd(&a, NULL), cudaSuccess);
    values sum = dtext, size = mtext;
    for (size_t i = 0; i < n; i++) sum[i] += dimage[i], size[i] += fabs(dimage[i]);
    check(what + " dtext added", more.get(), sum, size, k, t, 2);
    expect_clean(what);
}

static void contrastive(const loss_case &c, enum k_dtype t)
{
    const size_t b = (size_t)c.batch, n = b * (size_t)c.d;
    /* similarities as small as normalised embeddings have, so that no softmax saturates */
    values image = normals("image", (int64_t)n, t, 1.3 / sqrt(c.d)),
           text = normals("text", (int64_t)n, t, 1.3 / sqrt(c.d));
    values loss(1), mloss(1), stats(4 * b), mstats(4 * b), log_scale(1, (double)logf(2.5f)), dloss(1, 0.75);
    values dimage(n), mimage(n), dtext(n), mtext(n), dscale(1), mscale(1);
    values first_loss, first_image, first_text;
    ref_step r = {};
    r.attr = &c.attr;
    r.in[0] = tensor({c.batch, c.d}, image, nullptr);
    r.in[1] = tensor({c.batch, c.d}, text, nullptr);
    if (c.learned) r.in[2] = tensor({1}, log_scale, nullptr), r.din[2] = tensor({1}, dscale, &mscale);
    r.out[0] = tensor({1}, loss, &mloss);
    r.out[1] = tensor({2, c.batch, 2}, stats, &mstats);
    r.dout[0] = tensor({1}, dloss, nullptr);
    r.din[0] = tensor({c.batch, c.d}, dimage, &mimage);
    r.din[1] = tensor({c.batch, c.d}, dtext, &mtext);
    ref_contrastive_fwd(&r);
    ref_contrastive_bwd(&r);
    /* d products, and exponentials of their sum, as in tests/cases/contrastive.def; in bfloat16 the logits' gradient is
     * rounded for the second matmul, and the result */
    const double k = 32 + c.d / 8.0;
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what =
            std::string(c.name) + (t == K_BF16 ? " bf16" : " f32") + " seed " + std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        on_device gi(n, t, c.skew, &image), gt(n, t, c.skew, &text), gs(4 * b, K_F32), gscale(1, K_F32, 0, &log_scale),
            gloss(1, K_F32), gdloss(1, K_F32, 0, &dloss), gdscale(1, K_F32);
        values all(1), di, dt, ds(1);
        k_contrastive a = {};
        a.dtype = t;
        a.batch = c.batch;
        a.d = c.d;
        a.released = c.attr.released;
        a.a = c.attr.a, a.b_image = c.attr.b_image, a.b_text = c.attr.b_text, a.inv_tau = c.attr.inv_tau;
        a.image = gi.at(), a.text = gt.at(), a.stats = gs.f(), a.loss = gloss.f(), a.dloss = gdloss.f();
        a.log_scale = c.learned ? gscale.f() : nullptr;
        /* ranks with unequal numbers of rows, one after the other: first all statistics, then all gradients */
        for (int pass = 0; pass < 2; pass++)
            for (int i = 0; i < c.ranks; i++) {
                a.row0 = c.batch * i * i / (c.ranks * c.ranks);
                a.rows = c.batch * (i + 1) * (i + 1) / (c.ranks * c.ranks) - a.row0;
                const size_t mine = (size_t)(a.rows * c.d);
                dev_array<char> work(pass ? k_contrastive_bwd_bytes(a.batch, a.rows)
                                          : k_contrastive_fwd_bytes(a.batch, a.rows));
                on_device gdi(mine, t, c.skew), gdt(mine, t, c.skew);
                a.workspace = work.p;
                a.dimage = gdi.at(), a.dtext = gdt.at(), a.dlog_scale = c.learned ? gdscale.f() : nullptr;
                cr_assert_eq(pass ? k_contrastive_bwd(&a, NULL) : k_contrastive_fwd(&a, NULL), cudaSuccess);
                expect_clean(what);
                if (a.rows == 0) continue;
                if (pass == 0) {
                    all[0] += gloss.get()[0];
                    continue;
                }
                for (double v : gdi.get()) di.push_back(v);
                for (double v : gdt.get()) dt.push_back(v);
                if (c.learned) ds[0] += gdscale.get()[0];
            }
        check(what + " loss", all, loss, mloss, k, K_F32);
        check(what + " stats", gs.get(), stats, mstats, k, K_F32);
        check(what + " dimage", di, dimage, mimage, k, t, 1);
        check(what + " dtext", dt, dtext, mtext, k, t, 1);
        if (c.learned) check(what + " dscale", ds, dscale, mscale, k, K_F32);
        same(what, all, first_loss);
        same(what, di, first_image);
        same(what, dt, first_text);
        if (c.ranks > 1) continue;
        add_dtext(a, what, t, c.skew, n, dimage, dtext, mtext, k);
    }
}
Test(losses, contrastive_f32)
{
    for (const loss_case &c : loss_cases) contrastive(c, K_F32);
}
Test(losses, contrastive_bf16)
{
    for (const loss_case &c : loss_cases) contrastive(c, K_BF16);
}

/* Both matmuls of a bf16 loss on the tensor cores, full sectors, no bank conflicts in the float and in the tensor-core
 * kernels. */
Test(losses, contrastive_counters)
{
    if (!cudasim_checked()) return;
    for (int t = K_F32; t <= K_BF16; t++) {
        const size_t b = 128, d = 128;
        values image = normals("image", b * d, (enum k_dtype)t), text = normals("text", b * d, (enum k_dtype)t),
               one(1, 1);
        on_device gi(b * d, (enum k_dtype)t, 0, &image), gt(b * d, (enum k_dtype)t, 0, &text), gs(4 * b, K_F32),
            gl(1, K_F32), gdl(1, K_F32, 0, &one), gdi(b * d, (enum k_dtype)t), gdt(b * d, (enum k_dtype)t);
        dev_array<char> work(k_contrastive_bwd_bytes(b, b) + k_contrastive_fwd_bytes(b, b));
        k_contrastive a = {};
        a.dtype = (enum k_dtype)t, a.batch = a.rows = b, a.d = d, a.a = 1, a.inv_tau = 1;
        a.image = gi.at(), a.text = gt.at(), a.stats = gs.f(), a.loss = gl.f(), a.dloss = gdl.f();
        a.dimage = gdi.at(), a.dtext = gdt.at(), a.workspace = work.p;
        cudasim_counters_clear();
        cudasim_count(1);
        cr_assert_eq(k_contrastive_fwd(&a, NULL), cudaSuccess);
        cr_assert_eq(k_contrastive_bwd(&a, NULL), cudaSuccess);
        cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
        cudasim_count(0);
        const cudasim_counters f = cudasim_counters_sum("contrastive_rows"),
                               g = cudasim_counters_sum("contrastive_bwd");
        /* a tile of 64 x 64 x 128: 4 x 8 x 8 mma.sync.m16n8k16; 2 directions of 2 x 2 tiles */
        cr_expect_eq(f.mma, t == K_BF16 ? 8u * 256 : 0u, "%d products", (int)f.mma);
        /* and as many for the second matmul, 64 x 128 x 64 */
        cr_expect_eq(g.mma, t == K_BF16 ? 8u * 512 : 0u, "%d products", (int)g.mma);
        cr_expect_eq(f.bank_conflicts, 0, "%d conflicts", (int)f.bank_conflicts);
        cr_expect_eq(g.bank_conflicts, 0, "%d conflicts", (int)g.bank_conflicts);
        cr_expect_gt(cudasim_sector_use(&f), 0.9, "%g", cudasim_sector_use(&f));
        /* mma results are stored from registers by half sectors: a tenth of all sectors at this size */
        cr_expect_gt(cudasim_sector_use(&g), t == K_BF16 ? 0.89 : 0.95, "%g", cudasim_sector_use(&g));
    }
}

/* ---- dice_ce ---- */

/* A label out of range: the loss and that voxel's gradient are NaN; nothing else changes. */
Test(losses, dice_ce_label_out_of_range)
{
    const int64_t voxels = 300;
    for (int c = 2; c <= 5; c += 3) {
        const size_t n = (size_t)(voxels * c);
        values x = normals("x", (int64_t)n, K_F32), one(1, 1);
        std::vector<int32_t> label((size_t)voxels);
        for (size_t i = 0; i < label.size(); i++) label[i] = (int32_t)i % c;
        label[260] = c;
        on_device gx(n, K_F32, 0, &x), gl(1, K_F32), gs(3 * (size_t)c, K_F32), gd(1, K_F32, 0, &one), gdx(n, K_F32);
        dev_array<int32_t> gt(label);
        dev_array<char> work(k_dice_ce_fwd_bytes(1, voxels, c) + k_dice_ce_bwd_bytes(1, c));
        k_dice_ce a = {};
        a.n = 1, a.voxels = voxels, a.c = c, a.smooth = 1e-5f, a.weight_ce = a.weight_dice = 1;
        a.logits = gx.f(), a.target = gt.p, a.loss = gl.f(), a.sums = gs.f(), a.dloss = gd.f(), a.dlogits = gdx.f();
        a.workspace = work.p;
        cr_assert_eq(k_dice_ce_fwd(&a, NULL), cudaSuccess);
        cr_assert_eq(k_dice_ce_bwd(&a, NULL), cudaSuccess);
        expect_clean("label out of range");
        cr_expect(isnan(gl.get()[0]));
        const values dx = gdx.get();
        for (size_t i = 0; i < n; i++)
            cr_expect_eq((bool)isnan(dx[i]), i / (size_t)c == 260, "%d classes, voxel %d", c, (int)i / c);
    }
    k_dice_ce a = {};
    a.n = a.voxels = 1, a.c = K_DICE_CLASSES + 1;
    cr_expect_eq(k_dice_ce_fwd(&a, NULL), cudaErrorInvalidValue);
}

/* ---- optimizers ---- */

/* Ranges with gaps, odd starts and ends, more of them than one launch takes, and one of several blocks that is read as
 * float4. */
static std::vector<k_range> some_ranges(int n, int64_t *floats)
{
    std::vector<k_range> r;
    int64_t at = 5;
    for (int i = 0; i < n; i++) {
        const int64_t count = i % 160 == 1 ? 9000 : i % 7 == 3 ? 0 : 5 + 3 * (i % 11);
        r.push_back({at, count, i % 3 == 0 ? 0.05f : 0.0f});
        at += count + (i % 2 ? 16 - (at + count) % 16 : 2);
    }
    *floats = at + 5;
    return r;
}
static k_optim_state state_of(dev_array<k_optim_state> &s)
{
    return s.get()[0];
}

static void norms(int n_ranges)
{
    int64_t floats;
    const std::vector<k_range> r = some_ranges(n_ranges, &floats);
    values g = normals("g", floats, K_F32, 0.1);
    double want = 0, first = 0;
    for (const k_range &k : r)
        for (int64_t i = k.first; i < k.first + k.n; i++) want += g[(size_t)i] * g[(size_t)i];
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = std::to_string(n_ranges) + " ranges, seed " + std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        on_device gg((size_t)floats, K_F32, 0, &g);
        dev_array<char> work(K_SQUARES_BYTES);
        dev_array<k_optim_state> s(1);
        cr_assert_eq(k_optim_set(k_optim_state{}, s.p, NULL), cudaSuccess);
        cr_assert_eq(k_sum_squares(gg.f(), r.data(), n_ranges, work.p, s.p, NULL), cudaSuccess);
        expect_clean(what);
        const double squares = state_of(s).squares;
        if (!seed) first = squares;
        cr_expect_eq(squares, first, "%s: the sum depends on the order", what.c_str());
        /* sums in double of positive terms: some hundred roundings */
        cr_expect_leq(fabs(squares - want), 300 * 0x1p-53 * want, "%s: %.17g, want %.17g", what.c_str(), squares, want);
        cr_expect_eq(state_of(s).finite, 0);
        const float clips[] = {0, 0.5f, 1e6f};
        for (float clip : clips) {
            cr_assert_eq(k_grad_norm(gg.f(), r.data(), n_ranges, clip, work.p, s.p, NULL), cudaSuccess);
            const k_optim_state v = state_of(s);
            const double scale = clip > 0 ? fmin(1, (double)clip / (sqrt(want) + 1e-6)) : 1;
            cr_expect_leq(fabs(v.norm - sqrt(want)), 300 * 0x1p-53 * sqrt(want));
            cr_expect_leq(fabs((double)v.scale - scale), 0x1p-23 * scale, "clip %g: scale %.9g, want %.9g",
                          (double)clip, (double)v.scale, scale);
            cr_expect_eq(v.finite, 1);
        }
        expect_clean(what);
    }
}
Test(optim, norms)
{
    norms(1);
    norms(20);
    norms(300);
}

/* Three updates against the formulas in double; gaps between the ranges keep their values. One update is clipped; then
 * a non-finite gradient. */
static void updates(int adam, int n_ranges)
{
    int64_t floats;
    const std::vector<k_range> r = some_ranges(n_ranges, &floats);
    const size_t n = (size_t)floats;
    const double beta1 = 0.9, beta2 = 0.98, eps = 1e-6, lr = 0.01, momentum = 0.99;
    values w0 = normals("w", floats, K_F32), first;
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what =
            std::string(adam ? "adamw " : "sgd ") + std::to_string(n_ranges) + " ranges, seed " + std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        values w = w0, m(n), v(n), mag(n), mag_m(n), mag_v(n);
        on_device gw(n, K_F32, 0, &w), gm(n, K_F32, 0, &m), gv(n, K_F32, 0, &v), gg(n, K_F32);
        dev_array<char> work(K_SQUARES_BYTES);
        dev_array<k_optim_state> s(1);
        k_optim a = {};
        a.ranges = r.data(), a.n_ranges = n_ranges;
        a.w = gw.f(), a.m = gm.f(), a.v = adam ? gv.f() : nullptr, a.g = gg.f();
        a.beta2 = (float)beta2, a.one1 = (float)(1 - beta1), a.one2 = (float)(1 - beta2), a.eps = (float)eps;
        a.momentum = (float)momentum, a.state = s.p;
        for (int step = 1; step <= 3; step++) {
            const values g = normals(("g" + std::to_string(step)).c_str(), floats, K_F32);
            gg.set(g);
            k_optim_state now = {};
            now.lr = lr;
            now.step = (float)(lr / (1 - pow(beta1, step)));
            now.rbias = (float)(1 / sqrt(1 - pow(beta2, step)));
            cr_assert_eq(k_optim_set(now, s.p, NULL), cudaSuccess);
            cr_assert_eq(k_grad_norm(gg.f(), r.data(), n_ranges, step == 2 ? 0.25f : 0, work.p, s.p, NULL),
                         cudaSuccess);
            cr_assert_eq(adam ? k_adamw(&a, NULL) : k_sgd_nesterov(&a, NULL), cudaSuccess);
            expect_clean(what);
            double squares = 0;
            for (const k_range &k : r)
                for (int64_t i = k.first; i < k.first + k.n; i++) squares += g[(size_t)i] * g[(size_t)i];
            const double scale = step == 2 ? fmin(1, 0.25 / (sqrt(squares) + 1e-6)) : 1;
            for (const k_range &k : r)
                for (size_t i = (size_t)k.first; i < (size_t)(k.first + k.n); i++) {
                    const double e = scale * g[i] + (adam ? 0 : (double)k.decay * w[i]);
                    m[i] = adam ? beta1 * m[i] + (1 - beta1) * e : momentum * m[i] + e;
                    v[i] = beta2 * v[i] + (1 - beta2) * e * e;
                    w[i] = adam ? w[i] * (1 - lr * (double)k.decay) -
                                      lr / (1 - pow(beta1, step)) * m[i] / (sqrt(v[i] / (1 - pow(beta2, step))) + eps)
                                : w[i] - lr * (e + momentum * m[i]);
                    mag_m[i] += fabs(e) + fabs(m[i]), mag_v[i] += v[i];
                }
        }
        for (size_t i = 0; i < n; i++) mag[i] = 3 * fabs(w0[i]) + 3 * lr * (adam ? 4 : 2 * mag_m[i]);
        /* a dozen roundings in each of three steps */
        check(what + " w", gw.get(), w, mag, 12, K_F32);
        check(what + " m", gm.get(), m, mag_m, 12, K_F32);
        if (adam) check(what + " v", gv.get(), v, mag_v, 12, K_F32);
        same(what, gw.get(), first);
        /* non-finite gradient: no weight changes, and state.finite is 0 */
        const values before = gw.get();
        values g(n, 0.5);
        g[(size_t)r[0].first] = NAN;
        gg.set(g);
        cr_assert_eq(k_grad_norm(gg.f(), r.data(), n_ranges, 1, work.p, s.p, NULL), cudaSuccess);
        cr_assert_eq(adam ? k_adamw(&a, NULL) : k_sgd_nesterov(&a, NULL), cudaSuccess);
        expect_clean(what);
        cr_expect_eq(state_of(s).finite, 0);
        cr_expect(gw.get() == before, "%s: an update with NaN", what.c_str());
    }
}
Test(optim, adamw)
{
    updates(1, 1);
    updates(1, 20);
    updates(1, 140);
}
Test(optim, sgd)
{
    updates(0, 20);
}
