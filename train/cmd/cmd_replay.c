/* mcsam replay RUN: runs a run folder's saved options again and compares the outputs. */
#include "data/io/file.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "infer/metrics/diff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct replay_command {
    struct mcs_common common;
    const char *output;
    double tolerance;
};

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(replay_command, output), .value = "DIR",
     .help = "folder for the second run, which must not exist; default: RUN.replay"},
    {"tolerance", 0, MCS_FIELD(replay_command, tolerance), .def = "0", .lo = 0, .hi = 1e9, .value = "X",
     .help = "largest relative error (masks: 1 - Dice) of equal arrays"},
    {0},
};

/* The environment without mcsam's option variables, which would override the saved options. NULL: no memory. */
static char **other_environment(struct arena *a)
{
    int n = 0, kept = 0;
    while (environ[n]) n++;
    char **list = mcs_arena_alloc(a, ((size_t)n + 1) * sizeof *list);
    for (int i = 0; list && i < n; i++)
        if (strncmp(environ[i], "MCSAM_", 6) != 0) list[kept++] = environ[i];
    return list;
}

/* Starts this program as a child that runs the verb with its output discarded. The child has a separate process group,
 * so a terminal's Ctrl-C reaches it only once, forwarded by this process. */
static enum mcs_status start_child(const char *verb, const char *config, const char *output, pid_t *child)
{
    struct arena a = {0};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    char *const argv[] = {"mcsam",    mcs_arena_strdup(&a, verb),   "--config", mcs_arena_strdup(&a, config),
                          "--output", mcs_arena_strdup(&a, output), NULL};
    char **environment = other_environment(&a);
    if (mcs_arena_status(&a) != MCS_OK) {
        mcs_arena_free(&a);
        return MCS_FAIL(MCS_E_NOMEM, "no memory for the second run");
    }
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    const int error = posix_spawn(child, "/proc/self/exe", &files, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    mcs_arena_free(&a);
    MCS_REQUIRE(!error, MCS_E_FAIL, "no process for the second run: %s", strerror(error));
    return MCS_OK;
}

/* Runs the child and waits for it; forwards a request to stop. */
static enum mcs_status run_again(const char *verb, const char *config, const char *output)
{
    pid_t child, ended;
    int how = 0, told = 0;
    MCS_TRY(start_child(verb, config, output, &child));
    while ((ended = waitpid(child, &how, WNOHANG)) == 0) {
        if (mcs_stop_requested() && !told++) kill(child, SIGTERM);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    MCS_REQUIRE(ended == child, MCS_E_FAIL, "the second run was lost");
    MCS_REQUIRE(WIFEXITED(how), MCS_E_FAIL, "the second run ended by signal %d", WTERMSIG(how));
    const int code = WEXITSTATUS(how);
    MCS_REQUIRE(code != MCS_E_STOPPED, MCS_E_STOPPED,
                "stopped: what the second run did is kept in %s; run the same command again to go on", output);
    MCS_REQUIRE(code == 0 || code == MCS_E_PARTIAL, MCS_E_FAIL, "mcsam %s --config %s ended with exit code %d", verb,
                config, code);
    return MCS_OK;
}

/* A marker file in the replay's folder names the run that it replays, until both have been compared. A stopped replay
 * is resumed in a folder with this marker; any other existing folder is refused. */
static const char *mark_path(struct arena *a, const char *output)
{
    return mcs_arena_printf(a, "%s/.mcsam.replay", output);
}

static enum mcs_status mark_text(struct arena *a, const char *folder, const char *config, const char **text)
{
    char hex[65], real[MCS_PATH_BYTES];
    MCS_TRY(mcs_file_sha256(config, hex));
    MCS_REQUIRE(realpath(folder, real), MCS_E_IO, "%s: %s", folder, strerror(errno));
    *text = mcs_arena_printf(a, "%s\n%s\n", real, hex);
    return MCS_OK;
}

/* Creates the folder with its marker, or accepts one that a stopped replay of the same run left. */
static enum mcs_status take_folder(struct arena *a, const char *folder, const char *config, const char *output)
{
    const char *text, *mark = mark_path(a, output);
    char *old = NULL;
    int64_t n;
    MCS_TRY(mark_text(a, folder, config, &text));
    if (!mcs_folder_exists(output) && !mcs_file_exists(output)) {
        MCS_TRY(mcs_path_room(output));
        MCS_TRY(mcs_folder_make(output));
        return mcs_file_write(mark, text, (int64_t)strlen(text));
    }
    const int same = mcs_file_exists(mark) && mcs_file_read(mark, 1 << 16, &old, &n) == MCS_OK && !strcmp(old, text);
    mcs_error_clear();
    free(old);
    MCS_REQUIRE(same, MCS_E_USAGE, "%s exists: choose another --output, or remove it", output);
    mcs_log("%s: going on with a replay that was stopped", output);
    return MCS_OK;
}

/* Compares the folder and its sub-folders, one level deep. Folders without comparable files are skipped. */
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
        char p[MCS_PATH_BYTES], q[MCS_PATH_BYTES];
        if (st == MCS_OK) st = mcs_path(p, "%s/%s", a, names[i]->d_name);
        if (st == MCS_OK) st = mcs_path(q, "%s/%s", b, names[i]->d_name);
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
    MCS_REQUIRE_GOTO(strcmp(verb, "replay") != 0, MCS_E_DATA, st, done, "%s: a replay is not replayed", config);
    if (c->common.dry_run) {
        MCS_REQUIRE_GOTO(!mcs_file_exists(output), MCS_E_USAGE, st, done, "%s is a file, a folder is needed", output);
        printf("mcsam %s --config %s --output %s\n", verb, mcs_text_shown(config), mcs_text_shown(output));
        goto done;
    }
    mcs_log("replay: mcsam %s --config %s --output %s", verb, config, output);
    MCS_TRY_GOTO(take_folder(&a, folder, config, output), st, done);
    MCS_TRY_GOTO(run_again(verb, config, output), st, done);
    MCS_TRY_GOTO(compare(folder, output, c->tolerance, 1, &d), st, done);
    remove(mark_path(&a, output));
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
