/* The active mutant, and the record of sources that launched a kernel. Compiled without the simulation's checks. */
#include "tests/mutants/mutant.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int now;
static const char *launches;

__attribute__((constructor)) static void mcs_mutant_open(void)
{
    const char *text = getenv("MUTANT");
    now = text ? atoi(text) : 0;
    launches = getenv("MUTANT_LAUNCHES");
}

int mcs_mutant_now(void)
{
    return now;
}

int mcs_mutant_launch(const char *file)
{
    static const char *known[256];
    static int n;
    if (!launches) return 0;
    for (int i = 0; i < n; i++)
        if (strcmp(known[i], file) == 0) return 0;
    if (n < 256) known[n++] = file;
    const int f = open(launches, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (f < 0) return 0;
    char line[512];
    const size_t length = strlen(file);
    if (length < sizeof line) {
        memcpy(line, file, length);
        line[length] = '\n';
        if (write(f, line, length + 1) < 0) launches = NULL;
    }
    close(f);
    return 0;
}

/* Handlers of -fsanitize=bounds-strict,shift-exponent: mutants that index or shift out of range crash here instead of
 * having undefined behaviour. */
#define CRASH(name, ...)                                                                                               \
    void name(__VA_ARGS__);                                                                                            \
    __attribute__((weak)) void name(__VA_ARGS__)                                                                       \
    {                                                                                                                  \
        abort();                                                                                                       \
    }
CRASH(__ubsan_handle_out_of_bounds, void *, unsigned long)
CRASH(__ubsan_handle_out_of_bounds_abort, void *, unsigned long)
CRASH(__ubsan_handle_shift_out_of_bounds, void *, unsigned long, unsigned long)
CRASH(__ubsan_handle_shift_out_of_bounds_abort, void *, unsigned long, unsigned long)
