/* A helper program that decodes images and lies: every number of its replies is checked, and it costs one file. */
#include "data/helper/helper.h"
#include "data/image/imageread_protocol.h"
#include "data/image/picture.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *folder;

static void setup(void)
{
    mcs_log_quiet(1);
    folder = tiny_folder("mcs_picture_liars");
    cr_assert_eq(
        tiny_shell("mkdir %s/bin && cp %s/tests/golden/pictures/uint8.tif %s/a.tif", folder, MCS_SOURCE_DIR, folder),
        0);
}

static void teardown(void)
{
    tiny_remove(folder);
}

TestSuite(picture_liars, .init = setup, .fini = teardown, .timeout = 60);

/* Installs a shell script as the helper: after a true hello it runs `then`. */
static void put_script(const char *then)
{
    struct helper_hello hello = {.request_bytes = sizeof(struct imageread_request),
                                 .reply_bytes = sizeof(struct imageread_reply)};
    char script[2048];
    memcpy(hello.magic, IMAGEREAD_MAGIC, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s", MCS_VERSION);
    cr_assert_eq(mcs_file_write(tiny_path(folder, "hello"), &hello, sizeof hello), MCS_OK);
    snprintf(script, sizeof script, "#!/bin/sh\ncd %s\ncat hello >&4\n%s\n", folder, then);
    const char *program = tiny_path(folder, "bin/%s", IMAGEREAD_NAME);
    cr_assert_eq(mcs_file_write(program, script, (int64_t)strlen(script)), MCS_OK);
    cr_assert_eq(chmod(program, 0755), 0);
    setenv("MCSAM_LIBEXEC", tiny_path(folder, "bin"), 1);
}

static void fails(enum mcs_status want, const char *part)
{
    struct picture p;
    cr_expect_eq(mcs_picture_read(tiny_path(folder, "a.tif"), NULL, &p), want, "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "no '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
}

/* The helper answers each request with this reply. */
static void put_reply(const struct imageread_reply *reply)
{
    cr_assert_eq(mcs_file_write(tiny_path(folder, "reply"), reply, sizeof *reply), MCS_OK);
    put_script("while dd bs=65536 count=1 <&4 of=request 2>/dev/null && [ -s request ]; do cat reply >&4; done");
}

static struct imageread_info plain(void)
{
    return (struct imageread_info){
        .type = MCS_PICTURE_U8, .bits = 8, .channels = 1, .orientation = 1, .nx = 2, .ny = 2, .nz = 1, .slope = 1};
}

Test(picture_liars, every_number_is_checked)
{
    struct picture p;
    struct imageread_reply good = {.info = plain()};
    put_reply(&good);
    cr_assert_eq(mcs_picture_read(tiny_path(folder, "a.tif"), NULL, &p), MCS_OK, "%s", mcs_error_message());
    cr_expect(p.nx == 2 && mcs_picture_value(&p, 3) == 0); /* nothing was written: zeros */
    mcs_picture_free(&p);
#define LIE(part, change)                                                                                              \
    do {                                                                                                               \
        struct imageread_reply lie = good;                                                                             \
        lie.info.change;                                                                                               \
        put_reply(&lie);                                                                                               \
        fails(MCS_E_DATA, part);                                                                                       \
    } while (0)
    LIE("nonsense", type = 99);
    LIE("nonsense", type = -1);
    LIE("nonsense", channels = 5);
    LIE("nonsense", bits = 9);
    LIE("nonsense", format = 7);
    LIE("nonsense", slope = NAN);
    LIE("nonsense", inverted = 2);
    LIE("nonsense", orientation = 9);
    LIE("nonsense", n_palette = 1 << 20);
    LIE("nonsense", n_palette = -1);
    LIE("nonsense", has_spacing = 1); /* of 0 mm */
    LIE("nonsense", has_affine = 1);
    LIE("nonsense", has_window = 1); /* from 0 to 0 */
    LIE("want 1 to", nx = 0);
    LIE("want 1 to", nz = (int64_t)1 << 40);
    LIE("", ny = -5);
#undef LIE
}

Test(picture_liars, a_helper_that_fails_costs_one_file)
{
    struct imageread_reply refusal = {.status = MCS_E_USAGE, .message = "a\x1b[31mred"};
    put_reply(&refusal);
    fails(MCS_E_DATA, "a.tif: a?[31mred");
    put_script("exit 0");
    fails(MCS_E_DATA, "its decoder failed on it (it crashed)");
    put_script("head -c 99 hello >&4; head -c 50 hello >&4; sleep 30");
    fails(MCS_E_DATA, "nonsense");
    mcs_helper_timeout_ms = 200;
    put_script("sleep 30");
    fails(MCS_E_DATA, "it took too long");
    setenv("MCSAM_LIBEXEC", folder, 1);
    fails(MCS_E_FAIL, "want the full path of a folder with the program mcsam-imageread");
}
