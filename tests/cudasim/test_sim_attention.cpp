/* Attention kernels against the float64 oracle, in float and bfloat16, in several orders of threads that must give the
 * same bits; in checked mode without reports and without bank conflicts in the matrix products. The shapes exercise the
 * kernels' tiles; tests/cases/attention.def tests the op's features. */
#include <criterion/criterion.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>

#include <string>
#include <vector>

#include "kernels/common/kernels.h"
#include "tests/cudasim/cudasim.h"
extern "C" {
#include "engine/base/rng.h"
#include "tests/ref/ref.h"
}

typedef std::vector<double> values;

struct shape {
    const char *name;
    int heads, head_dim, n_seq, q_len, k_len; /* q_len 0: sequences by offsets */
    int packed;                               /* 1: q, k, v and their gradients are columns of one tensor */
    int grid_h, grid_w;
    float dropout_p, scale;
    std::vector<int> q_off, k_off;
    int q_rows, k_rows; /* rows where sequences are by offsets */
    int seeds;
};

static const shape shapes[] = {
    {"one tile, packed", 2, 16, 1, 40, 40, 1, 0, 0, 0, 0, {}, {}, 0, 0, 3},
    {"three key tiles, 64 columns", 1, 64, 2, 70, 150, 0, 0, 0, 0, 0, {}, {}, 0, 0, 2},
    {"two query blocks, 64 columns, packed", 1, 64, 1, 150, 150, 1, 0, 0, 0, 0, {}, {}, 0, 0, 1},
    {"80 columns, ragged", 2, 80, 1, 67, 67, 1, 0, 0, 0, 0, {}, {}, 0, 0, 2},
    {"32 columns, one query", 4, 32, 3, 1, 70, 0, 0, 0, 0, 0, {}, {}, 0, 0, 3},
    {"128 columns", 1, 128, 1, 20, 70, 0, 0, 0, 0, -0.05f, {}, {}, 0, 0, 1},
    {"24 columns, padded to 32", 1, 24, 1, 33, 65, 0, 0, 0, 0, 0, {}, {}, 0, 0, 1},
    {"rows off 16 bytes", 2, 10, 2, 33, 33, 1, 0, 0, 0, 0, {}, {}, 0, 0, 2},
    {"offsets, empty sequences, rows left over",
     2,
     16,
     5,
     0,
     0,
     0,
     0,
     0,
     0,
     0,
     {0, 0, 7, 77, 77, 80},
     {0, 5, 5, 80, 81, 90},
     150,
     91,
     3},
    {"dropout", 2, 16, 2, 20, 70, 0, 0, 0, 0.3f, 0, {}, {}, 0, 0, 2},
    {"dropout, 64 columns", 1, 64, 1, 20, 20, 1, 0, 0, 0.3f, 0, {}, {}, 0, 0, 1},
    {"dropout, 128 columns", 1, 128, 1, 20, 20, 1, 0, 0, 0.3f, 0, {}, {}, 0, 0, 1},
    {"grid of 2 x 5, 128 columns", 1, 128, 1, 10, 10, 1, 2, 5, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 2 x 5, dropout, 80 columns", 1, 80, 1, 10, 10, 1, 2, 5, 0.3f, 0, {}, {}, 0, 0, 1},
    {"grid of 6 x 5", 2, 16, 2, 30, 30, 1, 6, 5, 0, 0, {}, {}, 0, 0, 3},
    {"grid of 14 x 14, 64 columns", 1, 64, 1, 196, 196, 1, 14, 14, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 33 x 2", 1, 16, 1, 66, 66, 1, 33, 2, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 64 x 2: 127 rows of a table", 1, 16, 1, 128, 128, 1, 64, 2, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 3 x 33, 80 columns", 1, 80, 1, 99, 99, 1, 3, 33, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 2 x 70: two chunks", 1, 16, 1, 140, 140, 1, 2, 70, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 1 x 70: the second chunk takes the first one's stage", 1, 16, 1, 70, 70, 1, 1, 70, 0, 0, {}, {}, 0, 0, 1},
    {"grid of 2 x 70, 128 columns, negative scale", 1, 128, 1, 140, 140, 1, 2, 70, 0, -0.05f, {}, {}, 0, 0, 1},
    {"grid of 2 x 20, dropout, 80 columns", 1, 80, 1, 40, 40, 1, 2, 20, 0.3f, 0, {}, {}, 0, 0, 1},
    {"grid of 20 x 3, 60 columns, rows off 16 bytes", 1, 60, 2, 60, 60, 1, 20, 3, 0, -0.1f, {}, {}, 0, 0, 1},
    {"grid of 4 x 7, dropout", 1, 16, 2, 28, 28, 1, 4, 7, 0.25f, 0, {}, {}, 0, 0, 1},
};

static values draw(const char *name, size_t n, enum k_dtype t, double scale = 1)
{
    values v(n);
    for (size_t i = 0; i < n; i++) {
        const float f = (float)(scale * mcs_rng_normal({7, mcs_rng_site(name), 0, 0}, (uint32_t)i));
        v[i] = (double)(t == K_BF16 ? __bfloat162float(__float2bfloat16_rn(f)) : f);
    }
    return v;
}

struct on_device {
    void *at;
    enum k_dtype t;
    size_t n;
    on_device(size_t n_, enum k_dtype t_, const values *v = nullptr) : t(t_), n(n_)
    {
        cr_assert_eq(cudaMalloc(&at, (n ? n : 1) * (t == K_BF16 ? 2 : 4)), cudaSuccess);
        if (v) set(*v);
    }
    on_device(const on_device &) = delete;
    ~on_device()
    {
        cudaFree(at);
    }
    float *f() const
    {
        return (float *)at;
    }
    void set(const values &v)
    {
        std::vector<float> f(n);
        std::vector<__nv_bfloat16> h(n);
        for (size_t i = 0; i < n; i++) f[i] = (float)v[i], h[i] = __float2bfloat16_rn(f[i]);
        cudaMemcpy(at, t == K_BF16 ? (void *)h.data() : (void *)f.data(), n * (t == K_BF16 ? 2 : 4),
                   cudaMemcpyHostToDevice);
    }
    values get() const
    {
        std::vector<float> f(n);
        std::vector<__nv_bfloat16> h(n);
        cudaMemcpy(t == K_BF16 ? (void *)h.data() : (void *)f.data(), at, n * (t == K_BF16 ? 2 : 4),
                   cudaMemcpyDeviceToHost);
        values v(n);
        for (size_t i = 0; i < n; i++) v[i] = (double)(t == K_BF16 ? __bfloat162float(h[i]) : f[i]);
        return v;
    }
};

/* Tolerance. The oracle's mag is sum |terms| plus the probabilities' sensitivity to rounded scores
 * (tests/cases/attention.def): 16 float roundings forward, 32 backward. In bfloat16 there are further roundings of 2^-9
 * beside the result's: of the probabilities and, backward, of the scores' gradients, of y and dy (in delta) and of the
 * tables. */
static void check(const std::string &what, const values &got, const values &want, const values &mag, double k,
                  double bf16_roundings, const values *old = nullptr)
{
    double most = 0;
    for (double w : want) most = fmax(most, fabs(w));
    for (size_t i = 0; i < got.size(); i++) {
        const double w = want[i] + (old ? (*old)[i] : 0),
                     m = (mag[i] > 0 ? mag[i] : most) + (old ? fabs((*old)[i]) : 0);
        const double tol = (k * 0x1p-24 + bf16_roundings * 0x1p-9) * m + 1e-30;
        cr_assert(fabs(got[i] - w) <= tol, "%s[%zu]: %.9g, oracle %.9g, tolerance %.3g", what.c_str(), i, got[i], w,
                  tol);
    }
}
static void same(const std::string &what, const values &a, values &first)
{
    if (first.empty()) first = a;
    cr_assert(memcmp(a.data(), first.data(), a.size() * sizeof(double)) == 0, "%s depends on the order of threads",
              what.c_str());
}
static void expect_clean(const std::string &what)
{
    const cudaError_t e = cudaDeviceSynchronize();
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s: %s", what.c_str(), cudasim_report_text(i));
    cr_assert_eq(e, cudaSuccess, "%s: %s", what.c_str(), cudaGetErrorString(e));
    cudasim_reports_clear();
}

static ref_tensor tensor(int64_t r, int64_t c, values *v, values *mag)
{
    ref_tensor t = {};
    t.nd = 2, t.dim[0] = r, t.dim[1] = c;
    t.v = v ? v->data() : nullptr;
    t.mag = mag ? mag->data() : nullptr;
    return t;
}

/* Inputs of a case, and the oracle's results with the sums of the sizes of their terms (m...). */
struct oracle {
    int w, q_rows, k_rows; /* w: heads x head_dim */
    int64_t ld_q, ld_k;    /* packed: q, k, v side by side; else k and v */
    attention_attr attr = {};
    ref_step s = {};
    values q, kv, dy, dlse, rel_h, rel_w, off_q, off_k;
    values y, my, lse, ml, dq, mq, dkv, mkv, dh, mh, dw, mw;
    oracle(const shape &c, enum k_dtype t);
    oracle(const oracle &) = delete;
};

oracle::oracle(const shape &c, enum k_dtype t)
    : w(c.heads * c.head_dim), q_rows(c.q_len ? c.n_seq * c.q_len : c.q_rows),
      k_rows(c.q_len ? c.n_seq * c.k_len : c.k_rows), ld_q(c.packed ? 3 * w : w), ld_k(c.packed ? 3 * w : 2 * w),
      off_q(c.q_off.begin(), c.q_off.end()), off_k(c.k_off.begin(), c.k_off.end())
{
    q = draw("q", (size_t)(q_rows * ld_q), t), kv = c.packed ? q : draw("kv", (size_t)(k_rows * ld_k), t);
    dy = draw("dy", (size_t)(q_rows * w), t), dlse = draw("dlse", (size_t)(q_rows * c.heads), K_F32);
    rel_h = draw("h", (size_t)(c.grid_h ? (2 * c.grid_h - 1) * c.head_dim : 0), t, 0.3);
    rel_w = draw("w", (size_t)(c.grid_w ? (2 * c.grid_w - 1) * c.head_dim : 0), t, 0.3);
    y = my = values(dy.size()), lse = ml = values(dlse.size()), dq = mq = values(q.size());
    dkv = mkv = values(c.packed ? 0 : kv.size()), dh = mh = values(rel_h.size()), dw = mw = values(rel_w.size());
    attr.heads = c.heads, attr.head_dim = c.head_dim, attr.q_len = c.q_len, attr.k_len = c.k_len;
    attr.k_col = c.packed ? w : 0, attr.v_col = c.packed ? 2 * w : w;
    attr.grid_h = c.grid_h, attr.grid_w = c.grid_w, attr.scale = c.scale, attr.dropout_p = c.dropout_p, attr.site = 9;
    s.attr = &attr;
    s.seed = 0x123456789abcdefull, s.step = 3;
    s.in[0] = tensor(q_rows, ld_q, &q, nullptr);
    s.in[1] = s.in[2] = tensor(k_rows, ld_k, &kv, nullptr);
    if (!c.q_len) {
        s.in[3] = tensor(1, (int64_t)off_q.size(), &off_q, nullptr),
        s.in[4] = tensor(1, (int64_t)off_k.size(), &off_k, nullptr);
        for (int i = 3; i <= 4; i++) s.in[i].nd = 1, s.in[i].dim[0] = c.n_seq + 1;
    }
    if (c.grid_h) {
        s.in[5] = tensor(2 * c.grid_h - 1, c.head_dim, &rel_h, nullptr);
        s.in[6] = tensor(2 * c.grid_w - 1, c.head_dim, &rel_w, nullptr);
        s.din[5] = tensor(2 * c.grid_h - 1, c.head_dim, &dh, &mh);
        s.din[6] = tensor(2 * c.grid_w - 1, c.head_dim, &dw, &mw);
    }
    s.out[0] = tensor(q_rows, w, &y, &my), s.out[1] = tensor(q_rows, c.heads, &lse, &ml);
    s.dout[0] = tensor(q_rows, w, &dy, nullptr), s.dout[1] = tensor(q_rows, c.heads, &dlse, nullptr);
    s.din[0] = tensor(q_rows, ld_q, &dq, &mq);
    s.din[1] = s.din[2] = c.packed ? s.din[0] : tensor(k_rows, ld_k, &dkv, &mkv);
    ref_attention_fwd(&s);
    ref_attention_bwd(&s);
}

static void run(const shape &c, enum k_dtype t)
{
    const oracle o(c, t);
    const values zero_q(o.q.size()), zero_kv(o.dkv.size()),
        old_q = draw("old", o.q.size(), t), old_kv = draw("old2", o.dkv.size(), t),
        old_h = draw("old3", o.dh.size(), K_F32), old_w = draw("old4", o.dw.size(), K_F32);
    on_device xq(o.q.size(), t, &o.q), xkv(o.kv.size(), t, &o.kv), xdy(o.dy.size(), t, &o.dy),
        xdlse(o.dlse.size(), K_F32, &o.dlse);
    on_device xh(o.rel_h.size(), K_F32, &o.rel_h), xw(o.rel_w.size(), K_F32, &o.rel_w), xy(o.y.size(), t),
        xl(o.lse.size(), K_F32);
    on_device xdq(o.q.size(), t), xdkv(o.dkv.size(), t), xdh(o.dh.size(), K_F32), xdw(o.dw.size(), K_F32);
    int32_t *offs = nullptr;
    struct k_run *kr = nullptr;
    cudaMalloc((void **)&offs, 2 * 64 * 4);
    cudaMalloc((void **)&kr, sizeof *kr);
    const struct k_run hr = {o.s.seed, o.s.step};
    cudaMemcpy(kr, &hr, sizeof hr, cudaMemcpyHostToDevice);
    cudaMemcpy(offs, c.q_off.data(), c.q_off.size() * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(offs + 64, c.k_off.data(), c.k_off.size() * 4, cudaMemcpyHostToDevice);
    const int each = t == K_BF16 ? 2 : 4;
    const auto at = [&](const on_device &d, int64_t col) { return (void *)((char *)d.at + col * each); };
    struct k_attention a = {};
    a.dtype = t, a.heads = c.heads, a.head_dim = c.head_dim, a.n_seq = c.n_seq, a.q_rows = o.q_rows,
    a.k_rows = o.k_rows;
    a.q_len = c.q_len, a.k_len = c.k_len;
    if (!c.q_len) a.q_off = offs, a.k_off = offs + 64;
    const on_device &from = c.packed ? xq : xkv, &to = c.packed ? xdq : xdkv;
    a.q = xq.at, a.k = at(from, o.attr.k_col), a.v = at(from, o.attr.v_col);
    a.q_ld = o.ld_q, a.k_ld = a.v_ld = o.ld_k;
    if (c.grid_h) a.rel_h = xh.f(), a.rel_w = xw.f(), a.drel_h = xdh.f(), a.drel_w = xdw.f();
    a.grid_h = c.grid_h, a.grid_w = c.grid_w, a.scale = c.scale, a.dropout_p = c.dropout_p, a.site = 9, a.run = kr;
    a.y = xy.at, a.lse = xl.f(), a.dy = xdy.at, a.dlse = xdlse.f();
    a.dq = xdq.at, a.dk = at(to, o.attr.k_col), a.dv = at(to, o.attr.v_col);
    values first_y, first_l, first_q, first_kv, first_h;
    for (int seed = 0; seed < c.seeds; seed++) {
        const std::string what =
            std::string(c.name) + (t == K_BF16 ? " bf16" : " f32") + " seed " + std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        on_device work(k_attention_fwd_bytes(&a) / 4 + 1, K_F32), work_b(k_attention_bwd_bytes(&a) / 4 + 1, K_F32);
        a.workspace = work.at;
        cr_assert_eq(k_attention_fwd(&a, nullptr), cudaSuccess);
        expect_clean(what + " forward");
        check(what + " y", xy.get(), o.y, o.my, 16, t == K_BF16 ? 3 : 0);
        check(what + " lse", xl.get(), o.lse, o.ml, 16, t == K_BF16 && c.grid_h ? 1 : 0);
        same(what + " y", xy.get(), first_y);
        same(what + " lse", xl.get(), first_l);
        const int add = seed % 2;
        a.beta_q = a.beta_k = a.beta_v = a.beta_rel_h = a.beta_rel_w = (float)add;
        xdq.set(add ? old_q : zero_q), xdkv.set(add ? old_kv : zero_kv), xdh.set(old_h), xdw.set(old_w);
        a.workspace = work_b.at;
        cr_assert_eq(k_attention_bwd(&a, nullptr), cudaSuccess);
        expect_clean(what + " backward");
        const double r = t == K_BF16 ? 6 : 0;
        check(what + " dq", xdq.get(), o.dq, o.mq, 32, r, add ? &old_q : nullptr);
        check(what + " dkv", xdkv.get(), o.dkv, o.mkv, 32, r, add ? &old_kv : nullptr);
        check(what + " drel_h", xdh.get(), o.dh, o.mh, 32, r, add ? &old_h : nullptr);
        check(what + " drel_w", xdw.get(), o.dw, o.mw, 32, r, add ? &old_w : nullptr);
        if (seed != 1) {
            same(what + " dq", xdq.get(), first_q);
            same(what + " dkv", xdkv.get(), first_kv);
            same(what + " drel_h", xdh.get(), first_h);
        }
    }
    cudaFree(offs);
    cudaFree(kr);
}

static void run_all(enum k_dtype t)
{
    for (const shape &c : shapes) run(c, t);
    cr_expect_eq(cudasim_bytes_held(), 0);
}
Test(attention, f32)
{
    run_all(K_F32);
}
Test(attention, bf16)
{
    run_all(K_BF16);
}

/* Allowed bank conflicts of dq. Where a grid row wider than 16 ends within a tile of 8 queries and the grid's width is
 * odd, two of dq's diagonal reads can hit the same bank: one wavefront more for each of four words at every row end,
 * for each 16 rows of the table and each chunk of 64 columns. */
static int64_t passes_at_row_ends(const shape &c)
{
    if (c.grid_w <= 16 || c.grid_w % 2 == 0) return 0;
    return (int64_t)c.n_seq * c.heads * (c.grid_h - 1) * 4 * ((2 * c.grid_w - 1 + 63) / 64 * 4) *
           ((c.grid_w + 63) / 64);
}

/* Forward and backward matrix products. Stores of the result are counted with them. */
Test(attention, no_bank_conflicts)
{
    if (!cudasim_checked()) cr_skip_test("counters need the checked build");
    for (const shape &c : shapes) {
        if (!c.q_len || c.head_dim % 8) continue; /* only rows that start on multiples of 16 bytes */
        shape one = c;
        one.seeds = 1;
        cudasim_counters_clear();
        cudasim_count(1);
        run(one, K_BF16);
        cudasim_count(0);
        for (const char *kernel : {"attention_fwd", "attention_dq", "attention_dkv"}) {
            const struct cudasim_counters n = cudasim_counters_sum(kernel);
            const int64_t allowed = std::string(kernel) == "attention_dq" ? passes_at_row_ends(c) : 0;
            cr_expect_leq((int64_t)n.bank_conflicts, allowed, "%s, %s: %d conflicts in %d requests", c.name, kernel,
                          (int)n.bank_conflicts, (int)n.shared_requests);
            cr_expect_gt(n.mma, 0);
            if (getenv("SHOW_COUNTS"))
                printf("%s %s: requests %d conflicts %d mma %d sectors %.2f\n", c.name, kernel, (int)n.shared_requests,
                       (int)n.bank_conflicts, (int)n.mma, cudasim_sector_use(&n));
        }
    }
}
