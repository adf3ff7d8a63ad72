#include "data/image/media.h"

#include "data/image/picture.h"
#include "engine/base/log.h"
#include "engine/base/path.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 300 };

static int is_volume_format(const char *format)
{
    return !strcmp(format, "NIfTI") || !strcmp(format, "NRRD") || !strcmp(format, "MetaImage") ||
           !strcmp(format, "npy");
}

int mcs_media_holds_series(const char *folder)
{
    enum { LOOKED_AT = 8 };
    struct file_list inside;
    int found = 0;
    if (mcs_folder_list(folder, NULL, &inside) != MCS_OK) {
        mcs_error_clear();
        return 0;
    }
    for (int i = 0; i < inside.n && i < LOOKED_AT && !found; i++) {
        char path[MCS_PATH_BYTES];
        const char *format;
        found = mcs_path_fits(path, "%s/%s", folder, inside.names[i]) && mcs_picture_known(path, &format) &&
                !strcmp(format, "DICOM");
    }
    mcs_file_list_free(&inside);
    return found;
}

static enum mcs_status add(struct file_list *list, const char *name, const char *end)
{
    char **larger = realloc(list->names, ((size_t)list->n + 1) * sizeof *larger);
    const size_t bytes = strlen(name) + strlen(end) + 1;
    char *text = malloc(bytes);
    if (larger) list->names = larger;
    if (!larger || !text) {
        free(text);
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory for the list of files", name);
    }
    snprintf(text, bytes, "%s%s", name, end);
    list->names[list->n++] = text;
    return MCS_OK;
}

static void show(char shown[SHOWN_BYTES], const char *name)
{
    const size_t at = strlen(shown);
    if (at + strlen(name) + 8 < SHOWN_BYTES)
        snprintf(shown + at, SHOWN_BYTES - at, "%s%s", at ? ", " : "", name);
    else if (at < SHOWN_BYTES - 6 && at > 3 && strcmp(shown + at - 3, "...") != 0)
        snprintf(shown + at, SHOWN_BYTES - at, ", ...");
}

/* Folders that hold a series, as "NAME/". */
static enum mcs_status add_series(const char *folder, struct file_list *list)
{
    enum mcs_status st = MCS_OK;
    DIR *d = opendir(folder);
    MCS_REQUIRE(d, MCS_E_IO, "%s: cannot list the folder", folder);
    for (struct dirent *e; st == MCS_OK && (e = readdir(d));) {
        char path[MCS_PATH_BYTES];
        if (e->d_name[0] == '.' || !mcs_path_fits(path, "%s/%s", folder, e->d_name) || !mcs_folder_exists(path))
            continue;
        if (mcs_media_holds_series(path)) st = add(list, e->d_name, "/");
    }
    closedir(d);
    return st;
}

enum mcs_status mcs_media_list(const char *folder, const char *endings, struct file_list *list)
{
    enum mcs_status st;
    struct file_list all = {0};
    char shown[SHOWN_BYTES] = "";
    int n_other = 0;
    *list = (struct file_list){0};
    MCS_TRY(mcs_folder_list(folder, NULL, &all));
    for (int i = 0; i < all.n; i++) {
        char path[MCS_PATH_BYTES];
        const char *format = NULL;
        int taken = mcs_file_has_ending(all.names[i], endings);
        if (!taken && !mcs_file_has_ending(all.names[i], MCS_MEDIA_ENDINGS ";.hdr;.img;.hdr.gz;.img.gz;.raw;.npy") &&
            mcs_path_fits(path, "%s/%s", folder, all.names[i]))
            taken = mcs_picture_known(path, &format) && !is_volume_format(format);
        if (taken) {
            MCS_TRY_GOTO(add(list, all.names[i], ""), st, done);
        } else if (!mcs_file_has_ending(all.names[i], ".json;.jsonl;.yaml;.csv;.h5;.html")) { /* of mcsam's runs */
            n_other++;
            show(shown, all.names[i]);
        }
    }
    st = strstr(endings, MCS_VOLUME_ENDINGS) ? add_series(folder, list) : MCS_OK;
    if (list->n) qsort(list->names, (size_t)list->n, sizeof *list->names, mcs_text_compare);
    if (n_other && list->n) mcs_log("%s: not read, %d other files: %s", folder, n_other, shown);
done:
    mcs_file_list_free(&all);
    if (st != MCS_OK) mcs_file_list_free(list);
    return st;
}
