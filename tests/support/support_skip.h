/* Skips a test that cannot run on this machine: ./run counts it as skipped and prints the reason.
 *
 *     if (!has_avx512()) mcs_test_skip("this processor has no AVX-512");
 *
 * Call it in the test or in its .init; it does not return. The reason is a printf format. */
#ifndef MCS_SUPPORT_SKIP_H
#define MCS_SUPPORT_SKIP_H

#include <criterion/criterion.h>

#define mcs_test_skip(...) cr_skip_test(__VA_ARGS__) /* tests/support/count_tests.c prints and counts it */

#endif
