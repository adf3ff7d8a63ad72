/* Runs a test on AVX2 and on AVX-512, or counts it as skipped where the processor lacks one of them. */
#ifndef MCS_SUPPORT_ISA_H
#define MCS_SUPPORT_ISA_H

#include "tests/support/support_skip.h"

#include <stdlib.h>

enum test_isa { TEST_AVX2, TEST_AVX512 };

/* Limits oneDNN to this instruction set; to be called before the test's first use of a device. Our own vector code
 * takes the best that the processor has, whatever is asked for here (simd.h). */
static inline void test_isa(enum test_isa isa)
{
#ifdef __x86_64__
    if (!(isa == TEST_AVX2 ? __builtin_cpu_supports("avx2") : __builtin_cpu_supports("avx512bw")))
        mcs_test_skip("this processor has no %s", isa == TEST_AVX2 ? "AVX2" : "AVX-512");
    const char *limit = isa == TEST_AVX2 ? "AVX2" : "ALL";
    setenv("DNNL_MAX_CPU_ISA", limit, 1);
    setenv("ONEDNN_MAX_CPU_ISA", limit, 1);
#else
    (void)isa;
    mcs_test_skip("AVX2 and AVX-512 are x86-64's");
#endif
}

#endif
