/* The golden weights' formula: values printed by formula.py, compared bit for bit, one for each rule. */
#include <criterion/criterion.h>

#include "tests/golden/formula.h"

static void expect(const char *name, const int64_t *dims, int nd, const float *want, int n)
{
    float got[4];
    mcs_golden_weight(name, dims, nd, got);
    for (int i = 0; i < n; i++)
        cr_expect(got[i] == want[i], "%s[%d]: got %a, want %a", name, i, (double)got[i], (double)want[i]);
}

Test(golden, weights_equal_the_generators)
{
    const int64_t three[] = {3}, pos[] = {1, 3, 1}, square[] = {2, 2};
    expect("logit_scale", NULL, 0, (const float[]){0x1.5463f2p+1f}, 1);
    expect("visual.trunk.norm.weight", three, 1, (const float[]){0x1.fc1eep-1f, 0x1.0eaa54p+0f, 0x1.125p+0f}, 3);
    expect("visual.trunk.norm.bias", three, 1, (const float[]){-0x1.7983cp-5f, 0x1.89a816p-4f, 0x1.30dd34p-4f}, 3);
    expect("visual.trunk.pos_embed", pos, 3, (const float[]){0x1.c2045cp-1f, -0x1.d3dd98p-2f, -0x1.6dc53p-3f}, 3);
    expect("text.proj.0.weight", square, 2,
           (const float[]){0x1.3bb404p-1f, -0x1.1e354p-2f, 0x1.a000e2p-2f, -0x1.1d5fc2p+0f}, 4);
}

Test(golden, inputs_equal_the_generators)
{
    const float want[] = {-0x1.bf96p-1f, -0x1.86886p-3f, -0x1.c180f8p-1f};
    float got[3];
    mcs_golden_input("input.image", got, 3);
    for (int i = 0; i < 3; i++)
        cr_expect(got[i] == want[i], "input.image[%d]: got %a, want %a", i, (double)got[i], (double)want[i]);
}
