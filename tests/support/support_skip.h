/* A test that cannot run on this machine says so: ./run counts it as skipped and prints the reason.
 *
 *     if (!has_avx512()) mcs_test_skip("this processor has no AVX-512");
 *
 * Call it in the test itself or in its .init; what follows is not run. The reason is a printf format. */
#ifndef MCS_SUPPORT_SKIP_H
#define MCS_SUPPORT_SKIP_H

#include <criterion/criterion.h>

#define mcs_test_skip(...) cr_skip_test(__VA_ARGS__) /* tests/support/count_tests.c prints and counts it */

#endif
