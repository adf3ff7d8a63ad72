/* engine/devices.c with a module of three devices made for this test: how the program finds and opens a module, the
 * number of the device that is opened, libraries that are refused. */
#include "engine/backend.h"
#include "engine/devices.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_module_XXXXXX");
    cr_assert(mkdtemp(folder));
    setenv("MCSAM_MODULES", folder, 1);
    mcs_error_clear();
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) cr_log_warn("%s was left behind", folder);
}
TestSuite(module, .init = setup, .fini = teardown);

/* Puts a library that was built for this into the folder, as the module of a kind of device. */
static void give(const char *library, const char *kind)
{
    char to[256];
    snprintf(to, sizeof to, "%s/libmcsam_%s.so", folder, kind);
    unlink(to);
    cr_assert_eq(symlink(library, to), 0);
}

static void refused(enum mcs_status st, const char *part)
{
    cr_expect_eq(st, MCS_E_DEVICE, "status %d: %s", (int)st, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
}

Test(module, three_devices)
{
    static const enum mcs_device_kind kinds[] = {MCS_DEVICE_CUDASIM, MCS_DEVICE_CUDA};
    static const char *const names[] = {"cudasim", "cuda"};
    for (int k = 0; k < 2; k++) { /* the second is looked for although the first is open */
        struct mcs_device_options c = {.kind = kinds[k], .precision = MCS_PRECISION_FP32, .threads = 1};
        struct device d;
        char text[64] = "", want[256];
        int n = 0;
        snprintf(want, sizeof want, "--device %s: this build has no %s backend (%s/libmcsam_%s.so is not there)",
                 names[k], names[k], folder, names[k]);
        refused(mcs_device_check(&c), want);
        refused(mcs_device_open(&c, &d), want);
        refused(mcs_device_count(kinds[k], &n), want);
        cr_expect_eq(n, 1);
        refused(mcs_device_describe(kinds[k], 1, text, sizeof text), want);
        give(MCS_BUILD "/three_devices/libmodule.so", names[k]);
        OK(mcs_device_count(kinds[k], &n));
        cr_expect_eq(n, 3);
        for (int i = 0; i < 3; i++) {
            c.gpu = i;
            OK(mcs_device_check(&c));
            snprintf(want, sizeof want, "unit %d of 3", i);
            OK(mcs_device_describe(kinds[k], i, text, sizeof text));
            cr_expect_str_eq(text, want);
            OK(mcs_device_describe(kinds[k], i, text, 5));
            cr_expect_str_eq(text, "unit");
            snprintf(want, sizeof want, "unit %d", i);
            OK(mcs_device_open(&c, &d));
            cr_expect_str_eq(d.backend->name, want);
            cr_expect_eq(d.activations, MCS_F32);
            mcs_device_close(&d);
        }
        c.gpu = 3;
        refused(mcs_device_check(&c), "there is no device 3");
        refused(mcs_device_open(&c, &d), "there is no device 3");
        refused(mcs_device_describe(kinds[k], 5, text, sizeof text), "there is no device 5");
        setenv("MCSAM_MODULES", "/nonexistent", 1); /* a module stays open */
        OK(mcs_device_count(kinds[k], &n));
        setenv("MCSAM_MODULES", folder, 1);
        c.precision = MCS_PRECISION_BF16;
        c.gpu = 1;
        OK(mcs_device_check(&c));
        for (int i = 0; i < 2;
             i++) { /* bf16 by name and by default; the precision is the device's, not the process's */
            struct device other;
            OK(mcs_device_open(&c, &d));
            OK(mcs_device_open(&(struct mcs_device_options){.threads = 1}, &other));
            cr_expect_eq(d.activations, MCS_BF16);
            cr_expect_eq(other.activations, MCS_F32);
            mcs_device_close(&other);
            mcs_device_close(&d);
            c.precision = MCS_PRECISION_AUTO;
        }
    }
}

/* One library a test, since the loader remembers a library by its path. */
static void expect_refused(const char *library, const char *part)
{
    struct mcs_device_options c = {.kind = MCS_DEVICE_CUDASIM};
    struct device d;
    char text[64];
    int n;
    give(library, "cudasim");
    refused(mcs_device_check(&c), part);
    refused(mcs_device_open(&c, &d), part);
    refused(mcs_device_count((enum mcs_device_kind)c.kind, &n), part);
    refused(mcs_device_describe((enum mcs_device_kind)c.kind, 0, text, sizeof text), part);
}

Test(module, a_library_that_is_none)
{
    expect_refused(MCS_BUILD "/other_version/libno_module.so", "libmcsam_cudasim.so is no module of mcsam");
}

Test(module, one_of_another_version)
{
    expect_refused(MCS_BUILD "/other_version/libmcsam_cudasim.so",
                   "libmcsam_cudasim.so is of mcsam 0.0.0, this program is ");
}
