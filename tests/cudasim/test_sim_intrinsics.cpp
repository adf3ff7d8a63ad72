/* Every intrinsic of kernels/common/device.cuh against its documentation (probes.cu), with threads in order and in
 * three random orders. */
#include <criterion/criterion.h>

#include "tests/cudasim/cudasim.h"
#include "tests/cudasim/probes.h"

Test(intrinsics, match_documentation)
{
    for (int i = 0; i < n_probes; i++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            char text[256] = "";
            cudasim_seed(seed);
            cr_expect(probes[i].run(text) == 0, "%s, seed %d: %s", probes[i].name, (int)seed, text);
        }
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
    cr_expect_eq(cudasim_bytes_held(), 0);
}
