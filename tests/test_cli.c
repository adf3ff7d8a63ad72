/* The program itself: verbs, suggestions, exit codes, and the examples of docs/cli.md. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_BYTES = 1 << 16 };
static char output[OUTPUT_BYTES]; /* standard output and error of the last command together */
static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_cli_%ld", (long)getpid());
    char line[128];
    snprintf(line, sizeof line, "mkdir -p %s", folder);
    cr_assert_eq(system(line), 0);
}
static void teardown(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(cli, .init = setup, .fini = teardown);

/* Runs a shell line in the test's folder, "mcsam" being the program; returns its exit code, 128 + n for a signal. */
static int shell(const char *line)
{
    char whole[8192];
    const int n =
        snprintf(whole, sizeof whole, "cd %s && export DEMO=%s/data/demo && mcsam() { %s \"$@\"; } && { %s\n} 2>&1",
                 folder, MCS_SOURCE_DIR, MCS_BINARY, line);
    cr_assert(n < (int)sizeof whole);
    FILE *p = popen(whole, "r");
    cr_assert(p);
    const size_t used = fread(output, 1, OUTPUT_BYTES - 1, p);
    output[used] = '\0';
    for (char sink[4096]; fread(sink, 1, sizeof sink, p) > 0;) continue;
    const int st = pclose(p);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static void expect(const char *line, int code, const char *part)
{
    const int got = shell(line);
    cr_expect_eq(got, code, "%s: exit %d, want %d:\n%s", line, got, code, output);
    cr_expect(strstr(output, part), "%s: want '%s' in:\n%s", line, part, output);
}

Test(cli, help)
{
    expect("mcsam --help", 0, "devices");
    expect("mcsam help devices", 0, "--threads N");
    expect("mcsam devices --help", 0, "--threads N");
    expect("mcsam devices -h --nonsense", 0, "--threads N");
    expect("mcsam --version", 0, "mcsam 0.");
    expect("mcsam", 2, "Usage: mcsam VERB");
    expect("MCSAM_THREADS=1 mcsam devices", 0, "1 threads");
    expect("mcsam devices --json --threads 2", 0, "\"threads\": 2");
}

Test(cli, every_verb_has_help)
{
    cr_assert_eq(shell("mcsam --help | sed -n 's/^  \\([a-z0-9-]*\\)  *.*/\\1/p' > verbs; wc -l < verbs"), 0, "%s",
                 output);
    cr_expect(atoi(output) >= 1, "%s", output);
    expect("for v in $(cat verbs); do mcsam $v --help > help && grep -q \"^Usage: mcsam $v\" help || echo \"bad: $v\"; "
           "done; echo end",
           0, "end");
    cr_expect(!strstr(output, "bad:"), "%s", output);
}

Test(cli, wrong_use)
{
    expect("mcsam devics", 2, "did you mean 'devices'?");
    expect("mcsam devices --tread 3", 2, "did you mean --threads?");
    expect("mcsam devices --threads", 2, "needs a value");
    expect("mcsam devices --threads 1e9", 2, "whole number");
    expect("mcsam devices word", 2, "'word'");
    expect("mcsam --threads 3 devices", 2, "the verb comes first");
    expect("mcsam help nothing", 2, "unknown verb 'nothing'");
    expect("echo 'tread: 3' > c.yaml; mcsam devices --config c.yaml", 2,
           "c.yaml:1: tread: unknown key; did you mean 'threads'?");
    expect("mcsam devices --config none.yaml", 66, "none.yaml");
    expect("printf 'a: [' > d.yaml; mcsam devices --config d.yaml", 65, "d.yaml");
    expect("mcsam devices --device cuda", 69, "no cuda backend");
    expect("mcsam devices --device gpu", 2, "cpu|cuda|cudasim");
    expect("mcsam devices > /dev/full", 74, "standard output");
}

Test(cli, info)
{
    expect("mcsam info", 2, "FILE...");
    expect("mcsam info none.png", 66, "none.png");
    expect("mcsam info .", 65, ".");
    expect("echo text > a.txt; mcsam info a.txt", 65, "a.txt: none of the kinds that are known");
    expect("printf '\\211PNG\\r\\n\\032\\n' > b.png; mcsam info b.png", 65, "b.png");
    expect("echo x > c.safetensors; echo y > d.nii; mcsam info c.safetensors d.nii", 3,
           "2 of 2 files could not be read");
    expect("h='{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}'; "
           "{ printf '\\100\\0\\0\\0\\0\\0\\0\\0%-64s' \"$h\"; printf '\\0\\0\\0\\0\\0\\0\\0\\0'; } > w.safetensors; "
           "mcsam info w.safetensors",
           0, "1 arrays, 2 values, 8 bytes\n  F32   (2, 1) a\n");
    expect("mcsam info --json --filter b w.safetensors", 0, "\"list\": []");
}

Test(cli, one_error_line_and_no_trace_unless_asked)
{
    cr_expect_eq(shell("mcsam devices --threads x | wc -l"), 0);
    cr_expect_eq(shell("mcsam devices --threads x"), 2);
    cr_expect(strncmp(output, "mcsam: error: ", 14) == 0, "%s", output);
    cr_expect_eq(strchr(output, '\n') - output, (long)strlen(output) - 1, "more than one line:\n%s", output);
    cr_expect(!strstr(output, "config.c"), "%s", output);
    expect("MCSAM_TRACE_ERRORS=1 mcsam devices --threads x", 2, "config.c:");
}

/* Each indented line of docs/cli.md that begins with "mcsam" and stands under a "<!-- run -->" mark, in order, in one
 * folder: an example may use what an earlier one wrote. $DEMO is data/demo. A line may end in "# exit N". */
Test(cli, documented_examples_run, .timeout = 300)
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
        cr_expect_eq(got, want, "docs/cli.md: %s: exit %d, want %d:\n%s", line + 4, got, want, output);
        ran++;
    }
    fclose(f);
    cr_expect(ran > 0, "no example is marked to be run");
}

/* A verb has its section, so that docs and program do not drift apart. */
Test(cli, every_verb_is_documented)
{
    cr_assert_eq(shell("mcsam --help | sed -n 's/^  \\([a-z0-9-]*\\)  *.*/\\1/p'"), 0);
    char verbs[OUTPUT_BYTES], command[512];
    memcpy(verbs, output, sizeof verbs);
    for (char *rest = NULL, *v = strtok_r(verbs, "\n", &rest); v; v = strtok_r(NULL, "\n", &rest)) {
        snprintf(command, sizeof command, "grep -c '^## %s$' %s/docs/cli.md", v, MCS_SOURCE_DIR);
        shell(command);
        cr_expect_eq(atoi(output), 1, "docs/cli.md has %d sections '## %s'", atoi(output), v);
    }
}
