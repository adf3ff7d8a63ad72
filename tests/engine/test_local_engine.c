/* The engine in a shared object that is loaded with RTLD_LOCAL: its module is found beside it and gets the engine's
 * functions, so that a device opens and its errors reach this copy of the engine. */
#include "engine/base/status.h"
#include "tests/support/local_engine.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

Test(local_engine, opens_a_simulated_gpu, .timeout = 120)
{
    char message[1024] = "";
    int (*use)(int, char *, int) = NULL;
    if (access(MCS_BUILD "/liblocal_engine.so", R_OK) != 0) cr_skip_test("it is built with the simulation of CUDA");
    unsetenv("MCSAM_MODULES");
    void *library = dlopen(MCS_BUILD "/liblocal_engine.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert(library, "%s", dlerror());
    *(void **)&use = dlsym(library, "local_engine_use");
    cr_assert(use);
    cr_expect_eq(use(0, message, sizeof message), MCS_OK, "%s", message);
    cr_expect_eq(use(77, message, sizeof message), MCS_E_DEVICE);
    cr_expect(strstr(message, "GPU 77 does not exist"), "%s", message);
    cr_expect_str_eq(mcs_error_message(), "", "the test's copy of the engine has no error");
}
