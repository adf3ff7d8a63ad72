/* The implementations chosen for convolutions on this processor: never oneDNN's reference implementation; and the
 * im2col fallback is correct. */
#include <criterion/criterion.h>
#include <omp.h>
#include <string.h>

#include "engine/cpu/conv.h"
#include "tests/support/support_cases.h"

Test(conv_impl, im2col_on_all_conv_cases)
{
    static struct device host;
    const struct case_backend im2col = {.name = "cpu, im2col convolution",
                                        .impl = {[OP_conv] = &mcs_cpu_conv_im2col},
                                        .device = &host,
                                        .set_threads = omp_set_num_threads};
    int n = 0;
    for (int i = 0; i < mcs_n_cases; i++)
        if (mcs_cases[i].op == OP_conv) {
            n++;
            cr_expect(mcs_case_run(&mcs_cases[i], &im2col) == 0, "%s", mcs_cases[i].name);
        }
    cr_assert(n > 0);
}

/* The convolutions of the full-size networks by kind; small spatial sizes, which do not change oneDNN's choice. */
static const struct planned {
    const char *name;
    int nsp;
    int64_t c, o, sp[3], k, stride;
} planned[] = {
    {"ViT patches", 2, 3, 768, {64, 64}, 16, 16},  {"SAM neck 1x1", 2, 768, 256, {16, 16}, 1, 1},
    {"SAM neck 3x3", 2, 256, 256, {16, 16}, 3, 1}, {"U-Net stem", 2, 1, 32, {32, 32}, 3, 1},
    {"U-Net", 2, 32, 32, {32, 32}, 3, 1},          {"U-Net down", 2, 32, 64, {32, 32}, 3, 2},
    {"U-Net deep", 2, 512, 512, {8, 8}, 3, 1},     {"U-Net head", 2, 32, 2, {32, 32}, 1, 1},
    {"3-D stem", 3, 1, 32, {16, 16, 16}, 3, 1},    {"3-D", 3, 32, 32, {16, 16, 16}, 3, 1},
    {"3-D down", 3, 32, 64, {16, 16, 16}, 3, 2},   {"3-D deep", 3, 320, 320, {4, 4, 4}, 3, 1},
    {"3-D head", 3, 32, 3, {16, 16, 16}, 1, 1},    {"odd channels", 3, 5, 7, {8, 8, 8}, 3, 1},
};

Test(conv_impl, no_reference_implementation_is_planned)
{
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++) {
        const struct planned *p = &planned[i];
        struct conv_attr a = {.nsp = p->nsp};
        struct tensor x = {.nd = p->nsp + 2, .dim = {1}}, w = {.nd = p->nsp + 2, .dim = {p->o, p->c}}, y;
        for (int k = 0; k < p->nsp; k++) {
            x.dim[1 + k] = p->sp[k];
            w.dim[2 + k] = p->k;
            a.stride[k] = p->stride;
            a.pad[k] = p->k == p->stride ? 0 : p->k / 2;
        }
        x.dim[p->nsp + 1] = p->c;
        struct tensor *in[MCS_MAX_IN] = {&x, &w};
        cr_assert(mcs_op_table[OP_conv].shape(p->name, in, &a, &y) == MCS_OK, "%s", mcs_error_message());
        struct step f = {.op = OP_conv, .scope = p->name, .attr = &a, .in = {&x, &w}, .out = {&y}};
        struct step b = {
            .op = OP_conv, .backward = 1, .scope = p->name, .attr = &a, .in = {&x, &w}, .dout = {&y}, .din = {&x, &w}};
        cr_assert(mcs_cpu_conv.prepare(&f) == MCS_OK, "%s", mcs_error_message());
        cr_assert(mcs_cpu_conv.prepare(&b) == MCS_OK, "%s", mcs_error_message());
        for (int pass = 0; pass < 3; pass++) {
            const char *impl = mcs_cpu_conv_impl_name(pass == 0 ? &f : &b, pass);
            cr_expect(impl && !strstr(impl, "ref"), "%s: pass %d is %s", p->name, pass, impl ? impl : "missing");
        }
        mcs_cpu_conv.release(&f);
        mcs_cpu_conv.release(&b);
    }
}
