/* Modules that tests give to the program instead of the real ones (tests/engine/test_cuda_badinput.c,
 * tests/engine/test_module.c): one of another version; with OTHER_EMPTY a library that is no module; with OTHER_THREE
 * one with three devices, which compute nothing, and which refuses each higher number. */
#ifdef OTHER_EMPTY
extern const int mcs_no_module;
const int mcs_no_module = 1;
#else
#include "engine/cuda/module.h"

#ifdef OTHER_THREE
#include <stdio.h>

static enum mcs_status check(int index)
{
    return index < 3 ? MCS_OK : MCS_FAIL(MCS_E_DEVICE, "there is no device %d", index);
}

static void close_unit(struct device *d)
{
    *d = (struct device){0};
}

static enum mcs_status open(int index, struct device *d)
{
    static const struct backend units[] = {{.name = "unit 0", .close = close_unit},
                                           {.name = "unit 1", .close = close_unit},
                                           {.name = "unit 2", .close = close_unit}};
    MCS_TRY(check(index));
    *d = (struct device){.backend = &units[index]};
    return MCS_OK;
}

static enum mcs_status count(int *n)
{
    *n = 3;
    return MCS_OK;
}

static enum mcs_status describe(int index, char *text, int room)
{
    MCS_TRY(check(index));
    snprintf(text, (size_t)room, "unit %d of 3", index);
    return MCS_OK;
}

const struct cuda_module mcs_cuda_module = {
    .version = MCS_VERSION, .open = open, .count = count, .check = check, .describe = describe};
#else
const struct cuda_module mcs_cuda_module = {.version = "0.0.0"};
#endif
#endif
