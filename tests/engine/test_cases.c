/* Tests the runner of op cases: it must detect an op that is wrong in each relevant way. The op is relu: three lines
 * with selectable errors. Also the errors of attention for offsets outside its rows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/support_cases.h"

enum flaw {
    RIGHT,
    WRONG_VALUE,
    NAN_VALUE,
    WRONG_SIGN,
    NO_BETA,
    BETA_READS_GARBAGE,
    OVERRUN,
    UNSTEADY,
    LEAVES_ROWS,
    FAILS
};
static enum flaw flaw;

static enum mcs_status fwd(const struct step *s)
{
    static int calls;
    const float *x = mcs_f32(s->in[0]);
    float *y = mcs_f32(s->out[0]);
    const int64_t n = mcs_count(s->out[0]);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
    if (flaw == WRONG_VALUE) y[n - 1] += 1e-4f;
    if (flaw == NAN_VALUE) y[n / 2] = 0.0f / 0.0f;
    if (flaw == OVERRUN) y[n] = 1;
    if (flaw == UNSTEADY) y[0] *= 1 + 1e-7f * (float)(calls++ % 2);
    MCS_REQUIRE(flaw != FAILS, MCS_E_FAIL, "refused");
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const float *y = mcs_f32(s->out[0]), *dy = mcs_f32(s->dout[0]), beta = flaw == NO_BETA ? 0 : s->beta[0];
    float *dx = mcs_f32(s->din[0]);
    for (int64_t i = flaw == LEAVES_ROWS, n = mcs_count(s->din[0]); i < n; i++) {
        const float g = y[i] > 0 ? dy[i] : 0, sign = flaw == WRONG_SIGN ? -1 : 1;
        const float old = flaw == BETA_READS_GARBAGE ? beta * dx[i] : beta != 0 ? dx[i] : 0;
        dx[i] = old + sign * g;
    }
    return MCS_OK;
}

Test(cases, the_runner_sees_every_flaw)
{
    static const struct op_impl impl = {NULL, fwd, bwd, NULL};
    static struct device host;
    const struct op_case c = {.op = OP_relu,
                              .name = "flawed",
                              .in = {DIMS(3, 11)},
                              .fill = {POSITIVE(1)},
                              .attr = &(struct no_attr){0},
                              .k = 1};
    const struct case_backend b = {.name = "test", .impl = {[OP_relu] = &impl}, .device = &host};
    fprintf(stderr, "(complaints of the runner follow: they are wanted)\n");
    for (flaw = RIGHT; flaw <= FAILS; flaw++) {
        const int failed = mcs_case_run(&c, &b);
        cr_expect(flaw == RIGHT ? failed == 0 : failed > 0, "flaw %d: %d checks failed", (int)flaw, failed);
    }
}

Test(cases, attention_refuses_offsets_outside_its_rows)
{
    static const int32_t bad[][3] = {{0, 3, 9}, {-1, 3, 4}, {0, 3, 2}, {0, 1 << 30, 4}};
    static float data[64], lse[16];
    struct attention_attr a = {.heads = 1, .head_dim = 4};
    struct tensor x = {.nd = 2, .dim = {4, 4}, .data = data}, y = x, l = {.nd = 2, .dim = {4, 1}, .data = lse};
    struct tensor good = {.dt = MCS_I32, .nd = 1, .dim = {3}, .data = (int32_t[]){0, 2, 4}}, off = good;
    struct device d;
    cr_assert(mcs_cpu_open(1, &d) == MCS_OK);
    const struct op_impl *impl = &d.backend->ops[OP_attention];
    for (size_t i = 0; i < 2 * sizeof bad / sizeof *bad; i++) {
        off.data = (void *)bad[i / 2];
        struct step s = {
            .op = OP_attention, .scope = "text", .attr = &a, .in = {&x, &x, &x, &good, &good}, .out = {&y, &l}};
        s.in[3 + i % 2] = &off;
        cr_assert(impl->prepare(&s) == MCS_OK);
        s.workspace = mcs_aligned_alloc(s.workspace_bytes);
        cr_expect(impl->fwd(&s) == MCS_E_DATA);
        cr_expect(strstr(mcs_error_message(), "text: attention: sequence"), "%s", mcs_error_message());
        mcs_error_clear();
        mcs_aligned_free(s.workspace);
    }
    mcs_cpu_close(&d);
}
