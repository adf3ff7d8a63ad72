/* Data that ops of the CPU backend must refuse: row numbers outside a table, labels beyond the classes, attributes
 * beyond the limits. */
#include <criterion/criterion.h>

#include "engine/backend.h"

#include <math.h>

extern const struct op_impl mcs_cpu_gather, mcs_cpu_dice_ce, mcs_cpu_resize, mcs_cpu_gelu, mcs_cpu_quick_gelu,
    mcs_cpu_relu;

static struct tensor tensor(int nd, int64_t d0, int64_t d1, int64_t d2, int64_t d3, void *data)
{
    return (struct tensor){.name = "t", .nd = nd, .dim = {d0, d1, d2, d3}, .data = data};
}

static void expect(enum mcs_status got, enum mcs_status want)
{
    cr_expect_eq(got, want, "status %d, want %d: %s", got, want, mcs_error_message());
    mcs_error_clear();
}

Test(op_inputs, gather)
{
    float table[6] = {1, 2, 3, 4, 5, 6}, rows[4];
    int32_t index[2] = {2, -1};
    struct tensor x = tensor(2, 3, 2, 0, 0, table), i = tensor(1, 2, 0, 0, 0, index), y = tensor(2, 2, 2, 0, 0, rows);
    const struct step s = {.scope = "embedding", .in = {&x, &i}, .out = {&y}};
    expect(mcs_cpu_gather.fwd(&s), MCS_OK);
    cr_expect(rows[0] == 5 && rows[1] == 6 && rows[2] == 0 && rows[3] == 0);
    index[1] = 3;
    expect(mcs_cpu_gather.fwd(&s), MCS_E_DATA);
    index[1] = -2;
    expect(mcs_cpu_gather.fwd(&s), MCS_E_DATA);
}

Test(op_inputs, dice_ce)
{
    float logits[8] = {0}, loss, sums[6];
    int32_t target[4] = {0, 1, -1, 1};
    double workspace[64];
    const struct dice_ce_attr a = {0, 1e-5f, 1, 1};
    struct tensor x = tensor(4, 1, 2, 2, 2, logits), t = tensor(3, 1, 2, 2, 0, target),
                  l = tensor(1, 1, 0, 0, 0, &loss);
    struct tensor q = tensor(3, 1, 2, 3, 0, sums);
    struct step s = {.scope = "loss", .attr = &a, .in = {&x, &t}, .out = {&l, &q}, .workspace = workspace};
    expect(mcs_cpu_dice_ce.prepare(&s), MCS_OK);
    cr_assert(s.workspace_bytes <= sizeof workspace);
    expect(mcs_cpu_dice_ce.fwd(&s), MCS_OK);
    target[3] = 2;
    expect(mcs_cpu_dice_ce.fwd(&s), MCS_E_DATA);
    struct tensor many = tensor(4, 1, 1, 1, 1000, NULL);
    s.in[0] = &many;
    expect(mcs_cpu_dice_ce.prepare(&s), MCS_E_SHAPE);
}

Test(op_inputs, resize)
{
    const struct resize_attr a = {2, 2};
    struct tensor x = tensor(4, 1, 1, 1, 100000, NULL);
    struct step s = {.scope = "resize", .attr = &a, .in = {&x}};
    expect(mcs_cpu_resize.prepare(&s), MCS_E_SHAPE);
    mcs_cpu_resize.release(&s);
}

/* NaN must stay NaN: a finite result would hide the error. */
Test(op_inputs, activations_keep_nan)
{
    enum { N = 37 };
    const struct op_impl *const ops[] = {&mcs_cpu_gelu, &mcs_cpu_quick_gelu, &mcs_cpu_relu};
    const enum mcs_op op[] = {OP_gelu, OP_quick_gelu, OP_relu};
    for (int k = 0; k < 3; k++)
        for (int at = 0; at < N; at++) {
            float x[N], y[N], dy[N], dx[N];
            for (int i = 0; i < N; i++) x[i] = (float)(i % 5) - 2, dy[i] = 1, dx[i] = 0;
            x[at] = NAN;
            struct tensor tx = tensor(1, N, 0, 0, 0, x), ty = tensor(1, N, 0, 0, 0, y), tdy = tensor(1, N, 0, 0, 0, dy),
                          tdx = tensor(1, N, 0, 0, 0, dx);
            const struct step s = {
                .op = op[k], .scope = "act", .in = {&tx}, .out = {&ty}, .dout = {&tdy}, .din = {&tdx}};
            expect(ops[k]->fwd(&s), MCS_OK);
            for (int i = 0; i < N; i++) cr_expect_eq(isnan(y[i]) != 0, i == at, "op %d, %d of %d", k, i, at);
            if (k == 2) continue; /* relu's gradient depends on y > 0 alone */
            expect(ops[k]->bwd(&s), MCS_OK);
            for (int i = 0; i < N; i++) cr_expect_eq(isnan(dx[i]) != 0, i == at, "op %d, %d of %d", k, i, at);
        }
}
