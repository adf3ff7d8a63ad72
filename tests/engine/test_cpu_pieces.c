/* Operations of the CPU backend that work in chunks of a fixed size, with one row more than a whole number of chunks.
 * All values are small integers, so that sums are exact in any order. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/cpu/conv.h"
#include "engine/cpu/rowops.h"
#include "tests/support/support_cpu_op.h"

extern const struct op_impl mcs_cpu_conv_transpose, mcs_cpu_resize, mcs_cpu_attention;

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* n integers from -2 to 2 without a simple pattern. */
static float *integers(int64_t n, uint32_t seed)
{
    float *v = malloc((size_t)n * sizeof *v);
    cr_assert(v);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = (float)(seed >> 24) - 5 * (float)((seed >> 24) / 5) - 2;
    }
    return v;
}

static void expect_same(const char *what, const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        cr_assert_eq(got[i], want[i], "%s [%lld]: got %g, want %g", what, (long long)i, (double)got[i],
                     (double)want[i]);
}

/* ---- transposed convolution ---- */

/* x (1,1,rows,2), kernel (1,k), o channels. The CPU's chunks have 2^19 / (k o) rows, at least 16. */
static void conv_transpose(int64_t rows, int64_t k, int64_t o)
{
    enum { C = 2 };
    const int64_t n_y = rows * k * o, n_w = C * o * k;
    float *x = integers(rows * C, 1), *w = integers(n_w, 2), *b = integers(o, 3), *dy = integers(n_y, 4);
    float *y = integers(n_y, 5), *dx = integers(rows * C, 6), *dw = integers(n_w, 7), *db = integers(o, 8);
    float *want_y = integers(n_y, 5), *want_dx = calloc((size_t)(rows * C), 4), *want_dw = integers(n_w, 7),
          *want_db = integers(o, 8);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t t = 0; t < k; t++)
            for (int64_t i = 0; i < o; i++) {
                const int64_t at = (r * k + t) * o + i;
                want_y[at] = b[i];
                want_db[i] += dy[at];
                for (int64_t c = 0; c < C; c++) {
                    want_y[at] += x[r * C + c] * w[(c * o + i) * k + t];
                    want_dx[r * C + c] += dy[at] * w[(c * o + i) * k + t];
                    want_dw[(c * o + i) * k + t] += dy[at] * x[r * C + c];
                }
            }
    struct tensor tx = cpu_op_tensor(4, (int64_t[]){1, 1, rows, C}, x),
                  tw = cpu_op_tensor(4, (int64_t[]){C, o, 1, k}, w), tb = cpu_op_tensor(1, &o, b),
                  ty = cpu_op_tensor(4, (int64_t[]){1, 1, rows * k, o}, y), tdx = tx, tdw = tw, tdb = tb, tdy = ty;
    tdx.data = dx, tdw.data = dw, tdb.data = db, tdy.data = dy;
    const struct conv_attr a = {.nsp = 2};
    struct step f = {.scope = "up", .attr = &a, .in = {&tx, &tw, &tb}, .out = {&ty}};
    struct step back = {.scope = "up",
                        .backward = 1,
                        .attr = &a,
                        .in = {&tx, &tw},
                        .dout = {&tdy},
                        .din = {&tdx, &tdw, &tdb},
                        .beta = {0, 1, 1}};
    cpu_op_run(&mcs_cpu_conv_transpose, &f);
    cpu_op_run(&mcs_cpu_conv_transpose, &back);
    expect_same("y", y, want_y, n_y);
    expect_same("dx", dx, want_dx, rows * C);
    expect_same("dw", dw, want_dw, n_w);
    expect_same("db", db, want_db, o);
    float *const all[] = {x, w, b, dy, y, dx, dw, db, want_y, want_dx, want_dw, want_db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

Test(cpu_pieces, transposed_convolution)
{
    conv_transpose(17, 2, 20000); /* 16 rows and one */
    conv_transpose(33, 4, 4096);  /* 32 rows and one */
    conv_transpose(32, 4, 4096);
}

/* ---- convolution by im2col ---- */

/* A 1 x 2 kernel with stride 2 over (1,1,2 rows,c). The CPU's chunks have 2^20 / (2 c) rows, at least 64. */
static void conv(int64_t rows, int64_t c)
{
    enum { O = 2 };
    const int64_t n_x = rows * 2 * c, n_w = O * c * 2;
    float *x = integers(n_x, 1), *w = integers(n_w, 2), *b = integers(O, 3), *dy = integers(rows * O, 4);
    float *y = integers(rows * O, 5), *dx = integers(n_x, 6), *dw = integers(n_w, 7), *db = integers(O, 8);
    float *want_y = integers(rows * O, 5), *want_dx = integers(n_x, 6), *want_dw = calloc((size_t)n_w, 4), want_db[O];
    for (int o = 0; o < O; o++) want_db[o] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int o = 0; o < O; o++) {
            const int64_t at = r * O + o;
            want_y[at] = b[o];
            want_db[o] += dy[at];
            for (int64_t t = 0; t < 2; t++)
                for (int64_t i = 0; i < c; i++) {
                    const int64_t from = (2 * r + t) * c + i, by = ((int64_t)o * c + i) * 2 + t;
                    want_y[at] += x[from] * w[by];
                    want_dx[from] += dy[at] * w[by];
                    want_dw[by] += dy[at] * x[from];
                }
        }
    struct tensor tx = cpu_op_tensor(4, (int64_t[]){1, 1, 2 * rows, c}, x),
                  tw = cpu_op_tensor(4, (int64_t[]){O, c, 1, 2}, w), tb = cpu_op_tensor(1, (int64_t[]){O}, b),
                  ty = cpu_op_tensor(4, (int64_t[]){1, 1, rows, O}, y), tdx = tx, tdw = tw, tdb = tb, tdy = ty;
    tdx.data = dx, tdw.data = dw, tdb.data = db, tdy.data = dy;
    const struct conv_attr a = {.nsp = 2, .stride = {1, 2}};
    struct step f = {.scope = "conv", .attr = &a, .in = {&tx, &tw, &tb}, .out = {&ty}};
    struct step back = {.scope = "conv",
                        .backward = 1,
                        .attr = &a,
                        .in = {&tx, &tw},
                        .dout = {&tdy},
                        .din = {&tdx, &tdw, &tdb},
                        .beta = {1, 0, 0}};
    cpu_op_run(&mcs_cpu_conv_im2col, &f);
    cpu_op_run(&mcs_cpu_conv_im2col, &back);
    expect_same("y", y, want_y, rows * O);
    expect_same("dx", dx, want_dx, n_x);
    expect_same("dw", dw, want_dw, n_w);
    expect_same("db", db, want_db, O);
    float *const all[] = {x, w, b, dy, y, dx, dw, db, want_y, want_dx, want_dw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

Test(cpu_pieces, convolution_by_im2col)
{
    conv(65, 8300);  /* 64 rows and one */
    conv(129, 4096); /* 128 rows and one */
    conv(128, 4096);
}

/* ---- sums over rows: blocks of 64 rows, at most 64 groups of whole blocks ---- */

Test(cpu_pieces, sums_over_rows)
{
    static const int64_t rows[] = {1, 63, 64, 65, 4095, 4096, 4097, 8191, 8192, 8193};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
        for (int64_t n = 1; n < 6; n += 2) {
            float *x = integers(rows[k] * n, 9), *out = integers(n, 10), want[2][5];
            void *workspace = malloc(mcs_rows_sum_workspace(rows[k], n));
            for (int64_t j = 0; j < n; j++) want[0][j] = 0, want[1][j] = 0;
            for (int64_t i = 0; i < rows[k] * n; i++) want[0][i % n] += x[i], want[1][i % n] += 2 * x[i];
            mcs_rows_sum(x, rows[k], n, 0, out, workspace);
            expect_same("sum", out, want[0], n);
            mcs_rows_sum(x, rows[k], n, 1, out, workspace);
            expect_same("sum, added", out, want[1], n);
            free(x), free(out), free(workspace);
        }
}

Test(cpu_pieces, a_bias_for_each_row)
{
    static const int64_t rows[] = {1, 2, 1365, 1366, 1367, 2733}, wide[] = {1, 3, 4095, 4096, 4097};
    for (int k = 0; k < 6; k++)
        for (int m = 0; m < 5; m++) {
            const int64_t n = wide[m], r = n > 3 ? k + 1 : rows[k];
            float *y = integers(r * n, 11), *b = integers(n, 12), *want = integers(r * n, 11);
            for (int64_t i = 0; i < r * n; i++) want[i] += b[i % n];
            mcs_rows_add_bias(y, b, r, n);
            expect_same("biased", y, want, r * n);
            free(y), free(b), free(want);
        }
}

/* ---- resizing to twice the width: tiles of 4096 floats of the output ---- */

Test(cpu_pieces, gradient_of_a_wide_image)
{
    static const int64_t sizes[][2] = {{2048, 1}, {2049, 1}, {2100, 1}, {683, 3}, {700, 3}, {1, 4096}, {2, 4095}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int64_t w = sizes[k][0], c = sizes[k][1];
        float *dy = integers(2 * w * c, 13), *dx = integers(w * c, 14), *want = integers(w * c, 14);
        for (int64_t p = 0; p < 2 * w; p++) /* output p reads (p - 1/2) / 2: 3/4 of one pixel, 1/4 of its neighbour */
            for (int64_t i = 0; i < c; i++) {
                const int64_t near = p / 2, next = p % 2 ? near + 1 : near - 1;
                want[near * c + i] += 0.75f * dy[p * c + i];
                want[(next < 0 || next >= w ? near : next) * c + i] += 0.25f * dy[p * c + i];
            }
        struct tensor tdx = cpu_op_tensor(4, (int64_t[]){1, 1, w, c}, dx),
                      tdy = cpu_op_tensor(4, (int64_t[]){1, 1, 2 * w, c}, dy);
        const struct resize_attr a = {1, 2 * w};
        struct step s = {.scope = "resize", .backward = 1, .attr = &a, .dout = {&tdy}, .din = {&tdx}, .beta = {1}};
        cpu_op_run(&mcs_cpu_resize, &s);
        expect_same("dx", dx, want, w * c);
        free(dy), free(dx), free(want);
    }
}

/* ---- attention: offsets that leave the tensors, forward and backward ---- */

Test(cpu_pieces, attention_refuses_offsets_outside)
{
    static const int32_t bad[][2][3] = {{{0, 2, 5}, {0, 2, 4}},  {{0, 2, 4}, {0, 2, 5}}, {{-1, 2, 4}, {0, 2, 4}},
                                        {{0, 2, 4}, {-1, 2, 4}}, {{0, 3, 2}, {0, 2, 4}}, {{0, 2, 4}, {0, 3, 2}}};
    const struct attention_attr a = {.heads = 1, .head_dim = 2};
    for (int k = -1; k < 6; k++)
        for (int back = 0; back < 2; back++) {
            float *q = integers(8, 1), lse[4] = {0}, y[8] = {0}, dq[8];
            int32_t offset[2][3] = {{0, 2, 4}, {0, 2, 4}};
            if (k >= 0) memcpy(offset, bad[k], sizeof offset);
            struct tensor t = cpu_op_tensor(2, (int64_t[]){4, 2}, q), ty = cpu_op_tensor(2, (int64_t[]){4, 2}, y),
                          tl = cpu_op_tensor(2, (int64_t[]){4, 1}, lse), td = cpu_op_tensor(2, (int64_t[]){4, 2}, dq),
                          from = {.nd = 1, .dim = {3}, .dt = MCS_I32, .data = offset[0]},
                          to = {.nd = 1, .dim = {3}, .dt = MCS_I32, .data = offset[1]};
            struct step s = {.scope = "attn",
                             .backward = back,
                             .attr = &a,
                             .in = {&t, &t, &t, &from, &to},
                             .out = {&ty, &tl},
                             .dout = {back ? &ty : NULL},
                             .din = {back ? &td : NULL}};
            OK(mcs_cpu_attention.prepare(&s));
            s.workspace = aligned_alloc(64, (s.workspace_bytes + 127) / 64 * 64);
            cr_assert(s.workspace);
            const enum mcs_status st = back ? mcs_cpu_attention.bwd(&s) : mcs_cpu_attention.fwd(&s);
            cr_expect_eq(st, k < 0 ? MCS_OK : MCS_E_DATA, "offsets %d, backward %d: %d", k, back, st);
            mcs_error_clear();
            free(s.workspace);
            free(q);
        }
}
