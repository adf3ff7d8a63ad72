/* Runs a test with AVX2 or AVX-512, or skips it if the processor lacks it. */
#ifndef MCS_SUPPORT_ISA_H
#define MCS_SUPPORT_ISA_H

#include "tests/support/support_skip.h"

#include <stdlib.h>

enum test_isa { TEST_AVX2, TEST_AVX512 };

/* Limits oneDNN to this instruction set; called before the first use of a device. It does not limit engine/cpu/simd.h,
 * which always uses the best instruction set of the processor. */
static inline void test_isa(enum test_isa isa)
{
#ifdef __x86_64__
    if (!(isa == TEST_AVX2 ? __builtin_cpu_supports("avx2") : __builtin_cpu_supports("avx512bw")))
        mcs_test_skip("this processor has no %s", isa == TEST_AVX2 ? "AVX2" : "AVX-512");
    const char *limit = isa == TEST_AVX2 ? "AVX2" : "ALL";
    setenv("DNNL_MAX_CPU_ISA", limit, 1);
    setenv("ONEDNN_MAX_CPU_ISA", limit, 1);
#else
    mcs_test_skip("AVX2 and AVX-512 are x86-64's");
#endif
}

#endif
