/* A shared object with a copy of the engine, as a program that embeds it would load: test_local_engine.c loads it with
 * RTLD_LOCAL, so that no symbol of the engine can be found by a module. */
#include "tests/support/local_engine.h"
#include "engine/devices.h"

#include <stdio.h>
#include <string.h>

static enum mcs_status use(const struct mcs_device_options *o)
{
    struct device d;
    void *p = NULL;
    float sent[64], back[64];
    enum mcs_status st;
    for (int i = 0; i < 64; i++) sent[i] = (float)i;
    MCS_TRY(mcs_device_open(o, &d));
    MCS_TRY_GOTO(d.backend->alloc(&d, sizeof sent, &p), st, done);
    MCS_TRY_GOTO(d.backend->upload(&d, p, sent, sizeof sent), st, done);
    MCS_TRY_GOTO(d.backend->download(&d, back, p, sizeof back), st, done);
    MCS_REQUIRE_GOTO(memcmp(sent, back, sizeof sent) == 0, MCS_E_FAIL, st, done, "other values came back");
done:
    d.backend->free(&d, p);
    mcs_device_close(&d);
    return st;
}

int local_engine_use(int gpu, char *message, int message_bytes)
{
    const enum mcs_status st = use(&(struct mcs_device_options){.kind = MCS_DEVICE_CUDASIM, .gpu = gpu});
    snprintf(message, (size_t)message_bytes, "%s", mcs_error_message());
    mcs_error_clear();
    return (int)st;
}
