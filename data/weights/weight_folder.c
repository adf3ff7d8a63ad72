/* The file of weights in a model's folder. */
#include "data/io/file.h"
#include "data/weights/weight_file.h"

#include <stdlib.h>
#include <string.h>

static const char ENDINGS[] = ".safetensors;.pt;.pth;.bin;.ckpt";

/* "a, b or c". */
static const char *list_names(struct arena *a, const char *const *names)
{
    const char *text = names[0];
    for (int i = 1; names[i]; i++) text = mcs_arena_printf(a, "%s%s%s", text, names[i + 1] ? ", " : " or ", names[i]);
    return text;
}

/* The only file with one of these endings: its path, or "" where there are none or several. */
static enum mcs_status find_only(const char *folder, const char *endings, struct file_list *files,
                                 char path[MCS_PATH_BYTES])
{
    path[0] = 0;
    MCS_TRY(mcs_folder_list(folder, endings, files));
    return files->n == 1 ? mcs_path(path, "%s/%s", folder, files->names[0]) : MCS_OK;
}

enum mcs_status mcs_weight_folder_find(const char *folder, const char *const *names, char path[MCS_PATH_BYTES])
{
    struct arena arena = {0};
    struct file_list files = {0}, indexes = {0};
    enum mcs_status st = MCS_OK;
    for (int i = 0; names[i]; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", folder, names[i]));
        if (mcs_file_exists(path)) return MCS_OK;
    }
    MCS_TRY_GOTO(find_only(folder, ENDINGS, &files, path), st, done);
    if (path[0]) goto done;
    MCS_TRY_GOTO(find_only(folder, ".index.json", &indexes, path), st, done);
    if (path[0]) goto done;
    MCS_REQUIRE_GOTO(files.n, MCS_E_NOINPUT, st, done,
                     "%s: has no weights: want %s; docs/models.md lists "
                     "the files of each model",
                     folder, list_names(&arena, names));
    st = MCS_FAIL(MCS_E_NOINPUT, "%s: has several files of weights (%s, %s%s), none of a name that says which: want %s",
                  folder, files.names[0], files.names[1], files.n > 2 ? ", ..." : "", list_names(&arena, names));
done:
    mcs_file_list_free(&indexes);
    mcs_file_list_free(&files);
    mcs_arena_free(&arena);
    return st;
}
