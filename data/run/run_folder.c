/* Locks and records of run folders. */
#include "data/run/run_folder.h"

#include "data/io/file.h"
#include "data/run/run_lock.h"
#include "data/run/run_record.h"
#include "engine/base/log.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run_folder {
    const struct mcs_command *command;
    char folder[MCS_PATH_BYTES], real[MCS_PATH_BYTES]; /* as given; after realpath */
    char path[MCS_PATH_BYTES];                         /* of the record */
    char name[NAME_MAX + 1];                           /* of the only file; "" for a folder */
    struct run_lock lock;
    struct run_record record;
    struct run_more late;       /* lines NULL: none */
    const char *verb, *options; /* the options that affect results; NULL: not known yet */
    char options_hash[65];
    int made;        /* this run created the folder */
    int fd;          /* the record, for appending; -1: not open yet */
    json_t *waiting; /* lines of cases to be appended by mcs_run_flush */
    struct arena arena;
    struct run_folder *next;
};

/* The open runs of this process. The lock also guards their tables: jansson's reference counts are not atomic. */
static struct run_folder *open_runs;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

/* ---- the record ---- */

/* Appends lines (an array, released here) in one write and syncs them to the disk. */
static enum mcs_status append_lines(struct run_folder *run, json_t *lines)
{
    char *text = NULL;
    enum mcs_status st = MCS_OK;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    MCS_REQUIRE_GOTO(f, MCS_E_NOMEM, st, done, "%s: no memory", run->path);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        json_dumpf(json_array_get(lines, i), f, RECORD_DUMP);
        fputc('\n', f);
    }
    MCS_REQUIRE_GOTO(fclose(f) == 0, MCS_E_NOMEM, st, done, "%s: no memory", run->path);
    if (run->fd < 0) {
        run->fd = open(run->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        MCS_REQUIRE_GOTO(run->fd >= 0, MCS_E_IO, st, done, "%s: cannot write: %s", run->path, strerror(errno));
    }
    MCS_REQUIRE_GOTO(!run->record.cut || write(run->fd, "\n", 1) == 1, MCS_E_IO, st, done, "%s: cannot write: %s",
                     run->path, strerror(errno));
    run->record.cut = 0;
    const ssize_t put = write(run->fd, text, n);
    if (put != (ssize_t)n) run->record.cut = put > 0;
    MCS_REQUIRE_GOTO(put == (ssize_t)n && fdatasync(run->fd) == 0, MCS_E_IO, st, done, "%s: cannot write: %s",
                     run->path, put >= 0 ? "disk full" : strerror(errno));
    for (size_t i = 0; i < json_array_size(lines); i++)
        mcs_record_line(&run->record, json_incref(json_array_get(lines, i)));
done:
    free(text);
    json_decref(lines);
    return st;
}

/* 1 for a case or options of this verb with other options than this run's. */
static int is_outdated(const struct run_folder *run, const json_t *line)
{
    return run->options && !strcmp(mcs_record_get(line, "verb"), run->verb) &&
           strcmp(mcs_record_get(line, "options"), run->options_hash) != 0;
}

/* Removes from the record: this verb's cases and options of other option sets, and files that no longer exist. */
static void drop_old(struct run_folder *run)
{
    const char *key;
    json_t *line;
    void *next;
    struct arena a = {0};
    json_object_foreach_safe(run->record.cases, next, key, line)
    {
        if (is_outdated(run, line)) json_object_del(run->record.cases, key);
    }
    json_object_foreach_safe(run->record.options, next, key, line)
    {
        if (is_outdated(run, line)) json_object_del(run->record.options, key);
    }
    json_object_foreach_safe(run->record.files, next, key, line)
    {
        const char *path = mcs_arena_printf(&a, "%s/%s", run->folder, mcs_record_decode(&a, key));
        if (!mcs_file_exists(path)) json_object_del(run->record.files, key);
    }
    mcs_arena_free(&a);
}

/* ---- opening and closing ---- */

/* Warns where cases exist that were made with other options. */
static void warn_other_options(const struct run_folder *run)
{
    const char *key, *differ = "", *hash = "";
    struct arena a = {0};
    json_t *line;
    int n = 0;
    json_object_foreach(run->record.cases, key, line)
    {
        if (!is_outdated(run, line)) continue;
        hash = mcs_record_get(line, "options");
        n++;
    }
    if (n) {
        const json_t *old = json_object_get(run->record.options, mcs_arena_printf(&a, "%s/%s", run->verb, hash));
        if (old) mcs_options_differ(run->options, mcs_record_get(old, "text"), 0, &a, &differ);
        mcs_warn("%s: %d finished cases were made by other options and are made again%s%s", run->folder, n,
                 *differ ? ": " : "", differ);
    }
    mcs_arena_free(&a);
}

/* Completes the run's options with the lines that may be known late. */
static enum mcs_status complete_options(struct run_folder *run, const char *more)
{
    if (run->options) return MCS_OK;
    if (run->late.lines) MCS_TRY(run->late.lines(run->late.context, &run->arena, &more));
    const char *text = mcs_arena_printf(&run->arena, "%s%s", run->command->options, more ? more : "");
    const char *options = mcs_options_filter(mcs_record_encode(&run->arena, text), 0, &run->arena);
    MCS_TRY(mcs_arena_status(&run->arena));
    mcs_sha256(options, (int64_t)strlen(options), run->options_hash);
    run->options = options;
    warn_other_options(run);
    return MCS_OK;
}

static int has_cases(const struct run_folder *run)
{
    const char *key;
    json_t *line;
    json_object_foreach(run->record.cases, key, line)
    {
        if (!strcmp(mcs_record_get(line, "verb"), run->verb)) return 1;
    }
    return 0;
}

static enum mcs_status open_run(const struct mcs_command *command, const char *folder, const char *name,
                                const char *more, struct run_more late, struct run_folder **out)
{
    struct run_folder *run = calloc(1, sizeof *run);
    char lock[MCS_PATH_BYTES], what[MCS_PATH_BYTES];
    enum mcs_status st;
    *out = NULL;
    MCS_REQUIRE(run, MCS_E_NOMEM, "%s: no memory", folder);
    run->command = command;
    run->verb = command->verb;
    run->late = late;
    run->fd = run->lock.fd = -1;
    run->waiting = json_array();
    MCS_TRY_GOTO(mcs_path_room(folder), st, fail);
    MCS_TRY_GOTO(mcs_path(what, *name ? "%s/%s" : "%s", folder, name), st, fail);
    MCS_REQUIRE_GOTO(strlen(name) + sizeof "..record" - 1 <= NAME_MAX, MCS_E_IO, st, fail,
                     "%s: cannot write: the name is too long", what);
    memcpy(run->name, name, strlen(name) + 1);
    MCS_TRY_GOTO(mcs_path(run->path, "%s/.%s.record", folder, *name ? name : "mcsam"), st, fail);
    MCS_TRY_GOTO(mcs_path(run->folder, "%s", folder), st, fail);
    MCS_TRY_GOTO(mcs_path(lock, "%s/.%s.lock", folder, *name ? name : "mcsam"), st, fail);
    run->made = !mcs_folder_exists(folder);
    MCS_TRY_GOTO(mcs_folder_make(folder), st, fail);
    MCS_REQUIRE_GOTO(realpath(folder, run->real), MCS_E_IO, st, fail, "%s: cannot write: %s", folder, strerror(errno));
    MCS_TRY_GOTO(mcs_run_lock(lock, what, run->verb, &run->lock), st, fail);
    MCS_TRY_GOTO(mcs_record_read(run->path, &run->record), st, fail);
    if (!late.lines || has_cases(run)) MCS_TRY_GOTO(complete_options(run, more), st, fail);
    pthread_mutex_lock(&guard);
    run->next = open_runs;
    open_runs = run;
    pthread_mutex_unlock(&guard);
    *out = run;
    return MCS_OK;
fail:
    mcs_run_unlock(&run->lock);
    json_decref(run->waiting);
    mcs_record_free(&run->record);
    mcs_arena_free(&run->arena);
    free(run);
    return st;
}

enum mcs_status mcs_run_open(const struct mcs_command *command, const char *folder, const char *more,
                             struct run_folder **run)
{
    return open_run(command, folder, "", more, (struct run_more){0}, run);
}

enum mcs_status mcs_run_open_late(const struct mcs_command *command, const char *folder, struct run_more more,
                                  struct run_folder **run)
{
    return open_run(command, folder, "", NULL, more, run);
}

enum mcs_status mcs_run_open_file(const struct mcs_command *command, const char *path, const char *more,
                                  struct run_folder **run)
{
    char folder[MCS_PATH_BYTES];
    const char *name;
    MCS_TRY(mcs_path_split(path, folder, &name));
    return open_run(command, folder, name, more, (struct run_more){0}, run);
}

enum mcs_status mcs_run_save_config(struct run_folder *run)
{
    char path[MCS_PATH_BYTES], *old = NULL;
    struct arena a = {0};
    struct stat given, written;
    int64_t n;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_path(path, "%s/config.yaml", run->folder));
    const char *config = run->command->config, *text = run->command->options;
    const int own = config && stat(config, &given) == 0 && stat(path, &written) == 0 &&
                    given.st_dev == written.st_dev && given.st_ino == written.st_ino;
    if (own) {
        MCS_TRY_GOTO(mcs_file_read(path, 1 << 24, &old, &n), st, done);
        MCS_REQUIRE_GOTO(
            !strcmp(old, text), MCS_E_USAGE, st, done,
            "%s: is read (--config) and would be overwritten by this run's own options; copy it to another "
            "name, or choose another folder",
            config);
    } else {
        const int read = mcs_file_exists(path) && mcs_file_read(path, 1 << 24, &old, &n) == MCS_OK;
        const char *verb = read ? mcs_options_verb(old, &a) : NULL;
        mcs_error_clear();
        MCS_REQUIRE_GOTO(!verb || !strcmp(verb, run->verb), MCS_E_USAGE, st, done,
                         "%s: has the results of mcsam %s (config.yaml); choose another folder", run->folder, verb);
        st = mcs_file_write(path, text, (int64_t)strlen(text));
    }
done:
    free(old);
    mcs_arena_free(&a);
    return st;
}

enum mcs_status mcs_run_close(struct run_folder *run, enum mcs_status st)
{
    if (!run) return st;
    const enum mcs_status flushed = mcs_run_flush(run);
    if (flushed != MCS_OK && (st == MCS_OK || st == MCS_E_PARTIAL)) st = flushed;
    pthread_mutex_lock(&guard);
    for (struct run_folder **at = &open_runs; *at; at = &(*at)->next)
        if (*at == run) {
            *at = run->next;
            break;
        }
    pthread_mutex_unlock(&guard);
    if (run->fd >= 0) close(run->fd);
    if (st == MCS_OK || st == MCS_E_PARTIAL) {
        drop_old(run);
        const enum mcs_status wrote = mcs_record_write(run->path, &run->record);
        if (wrote != MCS_OK && st == MCS_OK) st = wrote;
    }
    mcs_run_unlock(&run->lock);
    if (run->made && st != MCS_OK) rmdir(run->folder); /* only if it is still empty */
    json_decref(run->waiting);
    mcs_record_free(&run->record);
    mcs_arena_free(&run->arena);
    free(run);
    return st;
}

/* ---- cases ---- */

/* 1 if all files, {NAME: SHA-256}, exist with the recorded contents. */
static int files_unchanged(const struct run_folder *run, json_t *files)
{
    const char *name;
    char hex[65];
    json_t *want;
    struct arena a = {0};
    int whole = json_is_object(files);
    json_object_foreach(files, name, want)
    {
        const char *path = mcs_arena_printf(&a, "%s/%s", run->folder, mcs_record_decode(&a, name));
        whole = whole && mcs_file_exists(path) && mcs_file_sha256(path, hex) == MCS_OK && json_is_string(want) &&
                !strcmp(hex, json_string_value(want));
    }
    mcs_error_clear();
    mcs_arena_free(&a);
    return whole;
}

static enum mcs_status hash_source(const struct run_source *source, char hex[65])
{
    char one[65];
    struct arena a = {0};
    const char *all = "";
    enum mcs_status st = MCS_OK;
    for (const char *const *f = source->files; f && *f; f++) {
        MCS_TRY_GOTO(mcs_path_sha256(*f, one), st, done);
        all = mcs_arena_printf(&a, "%s%s\n", all, one);
    }
    for (const char *const *t = source->texts; t && *t; t++) {
        mcs_sha256(*t, (int64_t)strlen(*t), one);
        all = mcs_arena_printf(&a, "%s%s\n", all, one);
    }
    MCS_TRY_GOTO(mcs_arena_status(&a), st, done);
    mcs_sha256(all, (int64_t)strlen(all), hex);
done:
    mcs_arena_free(&a);
    return st;
}

int mcs_run_case_done(struct run_folder *run, const char *stem, const struct run_source *source, json_t **result)
{
    struct arena a = {0};
    char hex[65];
    const char *key = mcs_arena_printf(&a, "%s/%s", run->verb, mcs_record_encode(&a, stem));
    pthread_mutex_lock(&guard);
    json_t *line = json_object_get(run->record.cases, key);
    pthread_mutex_unlock(&guard);
    mcs_arena_free(&a);
    int done = line && !strcmp(mcs_record_get(line, "options"), run->options_hash);
    done = done && hash_source(source, hex) == MCS_OK && !strcmp(mcs_record_get(line, "input"), hex) &&
           files_unchanged(run, json_object_get(line, "files"));
    mcs_error_clear();
    if (result) *result = done ? json_object_get(line, "result") : NULL;
    return done;
}

enum mcs_status mcs_run_case_add(struct run_folder *run, const char *stem, const struct run_source *source,
                                 const char *const *files, json_t *result)
{
    struct arena a = {0};
    json_t *hashes = json_object();
    enum mcs_status st = MCS_OK;
    char hex[65];
    MCS_TRY_GOTO(complete_options(run, NULL), st, done);
    for (; *files; files++) {
        MCS_TRY_GOTO(mcs_file_sha256(mcs_arena_printf(&a, "%s/%s", run->folder, *files), hex), st, done);
        json_object_set_new(hashes, mcs_record_encode(&a, *files), json_string(hex));
    }
    MCS_TRY_GOTO(hash_source(source, hex), st, done);
    MCS_TRY_GOTO(mcs_arena_status(&a), st, done);
    json_array_append_new(run->waiting, json_pack("{s:s, s:s, s:s, s:s, s:O, s:O*}", "verb", run->verb, "case",
                                                  mcs_record_encode(&a, stem), "options", run->options_hash, "input",
                                                  hex, "files", hashes, "result", result));
done:
    json_decref(hashes);
    json_decref(result);
    mcs_arena_free(&a);
    return st;
}

enum mcs_status mcs_run_flush(struct run_folder *run)
{
    struct arena a = {0};
    json_t *lines = run->waiting;
    enum mcs_status st = MCS_OK;
    if (!json_array_size(lines)) return MCS_OK;
    run->waiting = json_array();
    pthread_mutex_lock(&guard);
    /* The options' line comes before the first case that refers to it. */
    if (!json_object_get(run->record.options, mcs_arena_printf(&a, "%s/%s", run->verb, run->options_hash)))
        json_array_insert_new(
            lines, 0,
            json_pack("{s:s, s:s, s:s}", "verb", run->verb, "options", run->options_hash, "text", run->options));
    st = append_lines(run, lines);
    pthread_mutex_unlock(&guard);
    mcs_arena_free(&a);
    return st;
}

void mcs_run_tell_done(int n_done, int n)
{
    if (n_done == n && n) mcs_log("all %d cases are finished already", n);
    if (n_done && n_done < n) mcs_log("%d of %d cases are finished already; going on with %d", n_done, n, n - n_done);
}

enum mcs_status mcs_run_stopped(int n_done, int n)
{
    return MCS_FAIL(MCS_E_STOPPED, "stopped: %d of %d cases are finished and kept; run the same command again to go on",
                    n_done, n);
}

/* ---- HDF5 files ---- */

/* The open run whose folder contains the file folder/name, innermost first; *relative: its name in that folder. */
static struct run_folder *run_of(const char *folder, const char *name, char relative[MCS_PATH_BYTES])
{
    struct run_folder *best = NULL;
    for (struct run_folder *r = open_runs; r; r = r->next) {
        const size_t n = strlen(r->real);
        if (strncmp(folder, r->real, n) != 0 || (folder[n] && folder[n] != '/' && n > 1)) continue;
        if (*r->name && (strcmp(r->name, name) != 0 || folder[n])) continue;
        if (best && strlen(best->real) >= n && !*r->name) continue;
        if (mcs_path_fits(relative, "%s%s%s", folder[n] == '/' ? folder + n + 1 : folder + n, folder[n] ? "/" : "",
                          name))
            best = r;
    }
    return best;
}

enum mcs_status mcs_run_record_bytes(const char *path, const void *bytes, int64_t n_bytes)
{
    char folder[MCS_PATH_BYTES], real[MCS_PATH_BYTES], relative[MCS_PATH_BYTES], hex[65];
    const char *name;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_path_split(path, folder, &name));
    if (!realpath(folder, real)) return MCS_OK; /* the write will report why */
    pthread_mutex_lock(&guard);
    struct run_folder *run = run_of(real, name, relative);
    if (run) {
        struct arena a = {0};
        mcs_sha256(bytes, n_bytes, hex);
        const char *stored = mcs_record_encode(&a, relative);
        const char *before = json_string_value(json_object_get(run->record.files, stored));
        if (!before || strcmp(before, hex) != 0)
            st = append_lines(run, json_pack("[{s:s, s:s}]", "file", stored, "sha256", hex));
        mcs_arena_free(&a);
    }
    pthread_mutex_unlock(&guard);
    return st;
}

int mcs_run_knows_sha256(const char *path, const char hex[65])
{
    char folder[MCS_PATH_BYTES], real[MCS_PATH_BYTES], relative[MCS_PATH_BYTES], record[MCS_PATH_BYTES];
    const char *name = mcs_path_name(path);
    if (!mcs_path_fits(folder, "%.*s", name > path ? (int)(name - path) : 1, name > path ? path : ".")) return 0;
    if (!realpath(folder, real)) return 0;
    pthread_mutex_lock(&guard);
    const struct run_folder *run = run_of(real, name, relative);
    int knows = run && json_object_get(run->record.known, hex);
    if (!knows && mcs_path_fits(record, "%s/.%s.record", real, name)) knows = mcs_record_knows(record, hex);
    for (int up = 0; up < 3 && !knows; up++) {
        knows = mcs_path_fits(record, "%s/.mcsam.record", real) && mcs_record_knows(record, hex);
        char *last = strrchr(real, '/');
        if (!last || last == real) break;
        *last = '\0';
    }
    pthread_mutex_unlock(&guard);
    return knows;
}
