/* Protects inputs from being overwritten. Files are replaced by rename, which destroys a directory entry: an input is
 * in danger where its real directory entry, after all symbolic links, has the folder and the name of an output. */
#include "data/run/run_folder.h"

#include "data/io/file.h"
#include "engine/base/path.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* A folder that may not exist yet. */
struct place {
    char path[MCS_PATH_BYTES]; /* real, absolute */
    int exists;
    dev_t device;
    ino_t inode;
};

/* Appends the components of `rest`, which do not exist, to a real path. E_IO: too long. */
static enum mcs_status append(char path[MCS_PATH_BYTES], const char *rest)
{
    while (*rest) {
        const size_t n = strcspn(rest, "/"), used = strlen(path);
        if (n == 2 && !strncmp(rest, "..", 2)) {
            char *slash = strrchr(path, '/');
            slash[slash == path] = '\0';
        } else if (n && !(n == 1 && *rest == '.')) {
            char longer[MCS_PATH_BYTES];
            MCS_TRY(mcs_path(longer, "%s%s%.*s", path, path[used - 1] == '/' ? "" : "/", (int)n, rest));
            memcpy(path, longer, strlen(longer) + 1);
        }
        rest += n;
        rest += strspn(rest, "/");
    }
    return MCS_OK;
}

static enum mcs_status place_of(const char *folder, struct place *p)
{
    char given[MCS_PATH_BYTES];
    struct stat info;
    *p = (struct place){.exists = 0};
    MCS_TRY(mcs_path(given, "%s%s", *folder == '/' ? "" : "./", folder));
    const char *rest = ""; /* after the longest existing part */
    for (char *cut = given + strlen(given);;) {
        if (realpath(given, p->path)) break;
        while (cut > given && *cut != '/') cut--;
        if (cut == given) {
            MCS_TRY(mcs_path(p->path, "/"));
            break;
        }
        rest = folder + (cut + 1 - given) - (*folder == '/' ? 0 : 2);
        *cut = '\0';
    }
    MCS_TRY(append(p->path, rest));
    p->exists = stat(p->path, &info) == 0;
    if (p->exists) p->device = info.st_dev, p->inode = info.st_ino;
    return MCS_OK;
}

static int same_place(const struct place *a, const struct place *b)
{
    if (!strcmp(a->path, b->path)) return 1;
    return a->exists && b->exists && a->device == b->device && a->inode == b->inode;
}

/* The folder and name of the directory entry that `path` resolves to. */
static enum mcs_status entry_of(const char *path, struct place *folder, char name[NAME_MAX + 1])
{
    char real[MCS_PATH_BYTES];
    *folder = (struct place){.exists = 0};
    *name = '\0';
    if (!realpath(path, real)) return MCS_OK; /* missing: its reader will report it */
    char *slash = strrchr(real, '/');
    snprintf(name, NAME_MAX + 1, "%s", slash + 1);
    slash[slash == real] = '\0';
    return place_of(real, folder);
}

static int ends_in(const char *name, const char *ending, size_t n)
{
    const size_t m = strlen(name);
    return m >= n && strncasecmp(name + m - n, ending, n) == 0;
}

/* 1 where one of the ";"-separated words is this name, or a "*" and its ending. */
static int is_written(const char *names, const char *name)
{
    for (const char *at = names; *at;) {
        const size_t n = strcspn(at, ";");
        if (*at == '*' ? ends_in(name, at + 1, n - 1) : strlen(name) == n && !strncmp(name, at, n)) return 1;
        at += n;
        at += *at == ';';
    }
    return 0;
}

/* Checks one input file, at `path`, against one output folder. */
static enum mcs_status check_file(const struct run_output *out, const struct place *place, const struct run_input *in,
                                  const char *path)
{
    struct place folder;
    struct stat read, written;
    char name[NAME_MAX + 1], target[MCS_PATH_BYTES];
    MCS_TRY(entry_of(path, &folder, name));
    int hit = *name && same_place(&folder, place) && is_written(out->names, name);
    /* Files that are written in place, such as a trace, also change under other names (hard links). */
    if (!hit && !strpbrk(out->names, "*;") && stat(path, &read) == 0) {
        hit = mcs_path_fits(target, "%s/%s", place->path, out->names) && stat(target, &written) == 0 &&
              read.st_dev == written.st_dev && read.st_ino == written.st_ino;
    }
    MCS_REQUIRE(!hit, MCS_E_USAGE, "%s: is read (%s) and would be overwritten; choose another place for the results",
                path, in->option);
    return MCS_OK;
}

/* Checks every file of an input folder. Only a symbolic link can refer to another folder. */
static enum mcs_status check_folder(const struct run_output *out, const struct place *place, const struct run_input *in)
{
    struct place folder;
    MCS_TRY(place_of(in->path, &folder));
    const int same = same_place(&folder, place);
    MCS_REQUIRE(!same || (in->endings && !strchr(out->names, '*')), MCS_E_USAGE,
                "%s: is read (%s), and results would be written into it; choose another folder", in->path, in->option);
    DIR *d = opendir(in->path);
    if (!d) return MCS_OK; /* its reader will report why */
    enum mcs_status st = MCS_OK;
    for (struct dirent *e; st == MCS_OK && (e = readdir(d));) {
        char path[MCS_PATH_BYTES];
        if (e->d_name[0] == '.' || !mcs_file_has_ending(e->d_name, in->endings)) continue;
        if (!same && e->d_type != DT_LNK && e->d_type != DT_UNKNOWN) continue;
        if (!mcs_path_fits(path, "%s/%s", in->path, e->d_name)) continue; /* cannot be read either */
        if (!mcs_folder_exists(path)) st = check_file(out, place, in, path);
    }
    closedir(d);
    return st;
}

static enum mcs_status check_output(const struct run_output *out, const struct run_input *in, int n_in)
{
    struct place place;
    if (!out->folder) return MCS_OK;
    MCS_TRY(place_of(out->folder, &place));
    for (int i = 0; i < n_in; i++) {
        if (!in[i].path) continue;
        if (mcs_folder_exists(in[i].path))
            MCS_TRY(check_folder(out, &place, &in[i]));
        else
            MCS_TRY(check_file(out, &place, &in[i], in[i].path));
    }
    return MCS_OK;
}

enum mcs_status mcs_run_check_paths(const struct mcs_command *command, const struct run_output *out, int n_out,
                                    const struct run_input *in, int n_in)
{
    const char *name = command->config ? mcs_path_name(command->config) : NULL;
    /* A run's config.yaml is a valid --config: mcs_run_open ensures that it does not change. */
    const struct run_input config = {"--config", name && strcmp(name, "config.yaml") != 0 ? command->config : NULL,
                                     NULL};
    for (int i = 0; i < n_out; i++) {
        MCS_TRY(check_output(&out[i], in, n_in));
        MCS_TRY(check_output(&out[i], &config, 1));
    }
    return MCS_OK;
}
