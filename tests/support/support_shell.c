#include "tests/support/support_shell.h"

#include "data/io/file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

char shell_output[SHELL_OUTPUT_BYTES];
static char folder[64], head[2048];

const char *shell_open(const char *binary, const char *more)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_shell_XXXXXX");
    cr_assert(mkdtemp(folder));
    const int n = snprintf(head, sizeof head, "cd %s && export DEMO=%s/data/demo && mcsam() { %s \"$@\" %s; }", folder,
                           MCS_SOURCE_DIR, binary, more);
    cr_assert(n < (int)sizeof head);
    return folder;
}

void shell_close(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}

int shell(const char *line)
{
    char whole[8192];
    const int n = snprintf(whole, sizeof whole, "%s && { %s\n} 2>&1", head, line);
    cr_assert(n < (int)sizeof whole);
    FILE *p = popen(whole, "r");
    cr_assert(p);
    shell_output[fread(shell_output, 1, SHELL_OUTPUT_BYTES - 1, p)] = '\0';
    for (char sink[4096]; fread(sink, 1, sizeof sink, p) > 0;) continue;
    const int st = pclose(p);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

void expect(const char *line, int code, const char *part)
{
    const int got = shell(line);
    cr_expect_eq(got, code, "%s: exit %d, want %d:\n%s", line, got, code, shell_output);
    cr_expect(strstr(shell_output, part), "%s: want '%s' in:\n%s", line, part, shell_output);
}

const char *shell_path(const char *name)
{
    static char paths[4][512];
    static int at;
    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", folder, name);
    return paths[at];
}

void shell_write(const char *name, const char *text)
{
    cr_assert_eq(mcs_file_write(shell_path(name), text, (int64_t)strlen(text)), MCS_OK, "%s", mcs_error_message());
}
