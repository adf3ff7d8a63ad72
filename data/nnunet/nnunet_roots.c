/* nnU-Net's three root folders, and a data set found in them by its number. */
#include "data/nnunet/nnunet_dataset.h"

#include "data/io/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const variables[] = {"nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"};

enum mcs_status mcs_nnunet_root(enum nnunet_root which, const char *option, char path[MCS_PATH_BYTES])
{
    if (!option) option = getenv(variables[which]);
    return mcs_path(path, "%s", option ? option : "");
}

/* Adds the folders of `root` that begin with prefix to the one name that may be found. */
static enum mcs_status search(const char *root, const char *prefix, char name[MCS_PATH_BYTES])
{
    enum mcs_status st = MCS_OK;
    char path[MCS_PATH_BYTES];
    DIR *folder = opendir(root);
    if (!folder) return MCS_OK; /* a root may not exist yet */
    for (struct dirent *e; st == MCS_OK && (e = readdir(folder));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || !mcs_path_fits(path, "%s/%s", root, e->d_name) ||
            !mcs_folder_exists(path))
            continue;
        if (!*name)
            st = mcs_path(name, "%s", e->d_name);
        else if (strcmp(name, e->d_name) != 0)
            st = MCS_FAIL(MCS_E_DATA, "two data sets have the number %.3s: %s and %s; give the name", prefix + 7, name,
                          e->d_name);
    }
    closedir(folder);
    return st;
}

enum mcs_status mcs_nnunet_find(const char *id, const char roots[3][MCS_PATH_BYTES], char name[MCS_PATH_BYTES])
{
    char prefix[32], *end;
    if (!strncmp(id, "Dataset", 7)) return mcs_path(name, "%s", id);
    const long number = strtol(id, &end, 10);
    MCS_REQUIRE(*id && !*end && number >= 0 && number <= 999, MCS_E_USAGE,
                "%s: a data set is given by its number (5) or its folder's name (Dataset005_Prostate)", id);
    snprintf(prefix, sizeof prefix, "Dataset%03ld_", number);
    *name = '\0';
    for (int i = 0; i < 3; i++)
        if (*roots[i]) MCS_TRY(search(roots[i], prefix, name));
    MCS_REQUIRE(*name, MCS_E_NOINPUT,
                "there is no data set %s in nnUNet_raw (%s), nnUNet_preprocessed (%s) or "
                "nnUNet_results (%s)",
                prefix, *roots[0] ? roots[0] : "not set", *roots[1] ? roots[1] : "not set",
                *roots[2] ? roots[2] : "not set");
    return MCS_OK;
}
