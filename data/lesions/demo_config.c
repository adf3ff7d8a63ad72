#include "data/lesions/demo_config.h"

#include <stddef.h>

struct demo_config mcs_demo_config_default(void)
{
    const struct demo_config c = {
#define X(structure, member, field, key, def, lo, hi, help) .field = def,
        MCS_DEMO_CONFIG_LIST(X, , )
#undef X
    };
    return c;
}

enum mcs_status mcs_demo_config_check(const struct demo_config *c)
{
    const struct {
        const char *key;
        double low, high;
    } ranges[] = {
        {"image.noise", c->noise_low, c->noise_high},        {"lesion.small", c->small_low, c->small_high},
        {"lesion.large", c->large_low, c->large_high},       {"lesion.contrast", c->contrast_low, c->contrast_high},
        {"lookalike.vessel", c->vessel_low, c->vessel_high}, {"lookalike.dot", c->dot_low, c->dot_high},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        MCS_REQUIRE(ranges[i].low <= ranges[i].high, MCS_E_USAGE, "%s-low is %g and %s-high %g: want low <= high",
                    ranges[i].key, ranges[i].low, ranges[i].key, ranges[i].high);
    MCS_REQUIRE(c->two + c->three <= 1, MCS_E_USAGE, "share.two %g and share.three %g: want a sum of at most 1", c->two,
                c->three);
    MCS_REQUIRE(c->start_two + c->start_three <= 1, MCS_E_USAGE,
                "start.two %g and start.three %g: want a sum of at most 1", c->start_two, c->start_three);
    MCS_REQUIRE(c->start_none + c->start_region <= 1, MCS_E_USAGE,
                "start.none %g and start.region %g: want a sum of at most 1", c->start_none, c->start_region);
    return MCS_OK;
}
