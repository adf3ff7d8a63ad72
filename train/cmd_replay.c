/* mcsam replay RUN: runs a run folder's saved options again and compares what comes out. */
#include "data/file.h"
#include "engine/config.h"
#include "engine/escape.h"
#include "engine/log.h"
#include "infer/diff.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PATH_BYTES = 4096 };

struct replay_command {
    struct mcs_common common;
    const char *output;
    double tolerance;
};

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(replay_command, output), .value = "DIR",
     .help = "folder for the second run, which must not exist; default: RUN.replay"},
    {"tolerance", 0, MCS_FIELD(replay_command, tolerance), .def = "0", .lo = 0, .hi = 1e9, .value = "X",
     .help = "relative error, of masks 1 - Dice, up to which two are equal"},
    {0},
};

/* The program's own options in the environment would win over the saved ones. */
static void forget_environment(void)
{
    for (char **e = environ; *e;) {
        char name[256];
        const size_t n = strcspn(*e, "=");
        if (strncmp(*e, "MCSAM_", 6) != 0 || n >= sizeof name) {
            e++;
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)n, *e);
        unsetenv(name);
        e = environ;
    }
}

/* The same program as a child, since a verb is main's to run; its results are not ours to print. */
static enum mcs_status run_again(const char *verb, const char *config, const char *output)
{
    const pid_t child = fork();
    MCS_REQUIRE(child >= 0, MCS_E_FAIL, "no process for the second run");
    if (child == 0) {
        forget_environment();
        if (!freopen("/dev/null", "w", stdout)) _exit(126);
        execl("/proc/self/exe", "mcsam", verb, "--config", config, "--output", output, (char *)NULL);
        _exit(127);
    }
    int how;
    MCS_REQUIRE(waitpid(child, &how, 0) == child, MCS_E_FAIL, "the second run was lost");
    MCS_REQUIRE(WIFEXITED(how), MCS_E_FAIL, "the second run ended by signal %d", WTERMSIG(how));
    const int code = WEXITSTATUS(how);
    MCS_REQUIRE(code == 0 || code == MCS_E_PARTIAL, MCS_E_FAIL, "mcsam %s --config %s ended with exit code %d", verb,
                config, code);
    return MCS_OK;
}

/* The folder itself and, one level below, its folders. Those without comparable files are passed over. */
static enum mcs_status compare(const char *a, const char *b, double tolerance, int depth, struct diff *d)
{
    enum mcs_status st = mcs_diff_paths(a, b, tolerance, d);
    if (st == MCS_E_NOINPUT && mcs_folder_exists(b)) {
        mcs_error_clear();
        st = MCS_OK;
    }
    MCS_TRY(st);
    struct dirent **names;
    const int n = depth ? scandir(a, &names, NULL, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        char p[PATH_BYTES], q[PATH_BYTES];
        snprintf(p, sizeof p, "%s/%s", a, names[i]->d_name);
        snprintf(q, sizeof q, "%s/%s", b, names[i]->d_name);
        if (st == MCS_OK && names[i]->d_name[0] != '.' && mcs_folder_exists(p))
            st = compare(p, q, tolerance, depth - 1, d);
        free(names[i]);
    }
    if (n > 0) free(names);
    return st;
}

static enum mcs_status verdict(const struct replay_command *c, const char *verb, const char *output,
                               const struct diff *d)
{
    const char *run = c->common.args.v[0];
    MCS_REQUIRE(d->n, MCS_E_DATA, "%s: has no arrays, masks or maps to compare", run);
    if (c->common.json)
        printf("{\"verb\": \"%s\", \"compared\": %d, \"different\": %d}\n", verb, d->n, d->n_different);
    else
        printf("%s: %d arrays, maps and masks compared with %s: %s\n", verb, d->n, mcs_text_shown(output),
               d->n_different ? "NOT the same" : "the same");
    for (int i = 0; i < d->n && !c->common.json; i++)
        if (d->rows[i].differs)
            printf("  %s%s%s\n", mcs_text_shown(d->rows[i].name), d->rows[i].fault ? ": " : "",
                   mcs_text_shown(d->rows[i].fault ? d->rows[i].fault : ""));
    MCS_REQUIRE(!d->n_different, MCS_E_FAIL, "%s: the second run differs in %d of %d", run, d->n_different, d->n);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct replay_command *c = command;
    struct arena a = {0};
    struct diff d = {0};
    const char *verb, *folder = c->common.args.v[0];
    const char *config = mcs_arena_printf(&a, "%s/config.yaml", folder);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    const char *output = c->output ? c->output : mcs_arena_printf(&a, "%.*s.replay", (int)n, folder);
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_config_verb(config, &a, &verb), st, done);
    MCS_REQUIRE_GOTO(!mcs_folder_exists(output) && !mcs_file_exists(output), MCS_E_USAGE, st, done,
                     "%s exists: choose another --output, or remove it", output);
    MCS_REQUIRE_GOTO(strcmp(verb, "replay") != 0, MCS_E_DATA, st, done, "%s: a replay is not replayed", config);
    if (c->common.dry_run) {
        printf("mcsam %s --config %s --output %s\n", verb, mcs_text_shown(config), mcs_text_shown(output));
        goto done;
    }
    mcs_log("replay: mcsam %s --config %s --output %s", verb, config, output);
    MCS_TRY_GOTO(run_again(verb, config, output), st, done);
    MCS_TRY_GOTO(compare(folder, output, c->tolerance, 1, &d), st, done);
    st = verdict(c, verb, output, &d);
done:
    mcs_diff_free(&d);
    mcs_arena_free(&a);
    return st;
}

const struct mcs_verb mcs_verb_replay = {.name = "replay",
                                         .line = "runs a run folder's options again and compares",
                                         .options = options,
                                         .options_bytes = sizeof(struct replay_command),
                                         .run = run,
                                         .args = "RUN",
                                         .min_args = 1,
                                         .max_args = 1};
