/* Ten kills of each training, the project's requirement; tests/cli/test_resume.c has four. */
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>

enum { KILLS = 10 };

Test(full_resume, clip, .timeout = 600)
{
    tiny_kill_test(TINY_CLIP, MCS_BINARY, KILLS, 101);
}

Test(full_resume, sam, .timeout = 600)
{
    tiny_kill_test(TINY_SAM, MCS_BINARY, KILLS, 102);
}

Test(full_resume, unet, .timeout = 600)
{
    tiny_kill_test(TINY_UNET, MCS_BINARY, KILLS, 103);
}
