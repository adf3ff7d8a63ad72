/* The examples of docs/cli.md run. */
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    shell_open(MCS_BINARY, "");
}

/* Runs each indented line of docs/cli.md that begins with "mcsam" and is under a "<!-- run -->" mark, in order, in one
 * folder: an example may use results of an earlier one. $DEMO is data/demo. A line may end in "# exit N". */
Test(docs, examples_run, .init = setup, .fini = shell_close, .timeout = 500)
{
    FILE *f = fopen(MCS_SOURCE_DIR "/docs/cli.md", "r");
    cr_assert(f, "no docs/cli.md");
    char line[2048];
    int on = 0, ran = 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (strstr(line, "<!-- run -->"))
            on = 1;
        else if (line[0] && strncmp(line, "    ", 4) != 0)
            on = 0;
        if (!on || strncmp(line, "    ", 4) != 0) continue;
        const char *mark = strstr(line, "# exit ");
        const int want = mark ? atoi(mark + 7) : 0, got = shell(line + 4);
        cr_expect_eq(got, want, "docs/cli.md: %s: exit %d, want %d:\n%s", line + 4, got, want, shell_output);
        ran++;
    }
    fclose(f);
    cr_expect(ran > 0, "no example is marked to be run");
}
