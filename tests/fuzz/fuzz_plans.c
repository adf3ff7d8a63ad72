#include "infer/unet/unet_model.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

/* The input is plans.json up to the first NUL, then dataset.json, after another NUL checkpoints.json; missing ones are
 * copies of the first. */
FUZZ(plans)
{
    static struct unet_checkpoint checkpoints[UNET_MAX_CHECKPOINTS];
    struct unet_plans p;
    const uint8_t *part[3] = {data, data, data};
    size_t bytes[3] = {size, size, size};
    for (int i = 0; i < 2; i++) {
        const uint8_t *nul = bytes[i] ? memchr(part[i], 0, bytes[i]) : NULL;
        if (!nul) break;
        part[i + 1] = nul + 1;
        bytes[i + 1] = (size_t)(part[i] + bytes[i] - part[i + 1]);
        bytes[i] = (size_t)(nul - part[i]);
    }
    fuzz_file(part[0], bytes[0], "plans.json");
    fuzz_file(part[1], bytes[1], "dataset.json");
    fuzz_file(part[2], bytes[2], "checkpoints.json");
    if (fuzz_ended(mcs_unet_plans_read(fuzz_folder(), &p))) {
        FUZZ_REQUIRE(p.net.n_stages >= 2 && p.net.n_stages <= UNET_MAX_STAGES, "%d stages", p.net.n_stages);
        FUZZ_REQUIRE(p.net.classes >= 2 && p.net.in_channels >= 1 && p.batch >= 0 && p.patch[0] >= 1 && p.patch[1] >= 1,
                     "%d classes, %d channels", p.net.classes, p.net.in_channels);
        for (int s = 0; s < p.net.n_stages; s++)
            FUZZ_REQUIRE(p.net.features[s] > 0 && p.net.n_conv[s] > 0, "stage %d", s);
    }
    int n;
    if (!fuzz_ended(mcs_unet_checkpoints_read(fuzz_folder(), checkpoints, &n))) return;
    FUZZ_REQUIRE(n >= 0 && n <= UNET_MAX_CHECKPOINTS, "%d checkpoints", n);
    for (int i = 0; i < n; i++)
        FUZZ_REQUIRE(!strchr(checkpoints[i].file, '/') && strlen(checkpoints[i].file) < sizeof checkpoints[i].file,
                     "checkpoint %d", i);
}
