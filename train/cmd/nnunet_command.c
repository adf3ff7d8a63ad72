#include "train/cmd/nnunet_command.h"

#include "data/io/file.h"

#include <stdlib.h>

enum { MAX_JSON_BYTES = 1 << 28 };

enum mcs_status mcs_nnunet_place_find(const struct nnunet_roots *roots, struct nnunet_place *place)
{
    char where[3][MCS_PATH_BYTES];
    MCS_TRY(mcs_nnunet_root(NNUNET_RAW, roots->raw, where[0]));
    MCS_TRY(mcs_nnunet_root(NNUNET_PREPROCESSED, roots->preprocessed, where[1]));
    MCS_TRY(mcs_nnunet_root(NNUNET_RESULTS, NULL, where[2]));
    MCS_REQUIRE(*where[0], MCS_E_USAGE, "where are the raw data sets? Give --raw DIR, or set the variable nnUNet_raw");
    MCS_REQUIRE(*where[1], MCS_E_USAGE,
                "where are preprocessed data sets? Give --preprocessed DIR, or set the variable nnUNet_preprocessed");
    MCS_REQUIRE(mcs_folder_exists(where[0]), MCS_E_NOINPUT, "%s: no such folder", where[0]);
    MCS_TRY(mcs_nnunet_find(roots->dataset, (const char(*)[MCS_PATH_BYTES])where, place->name));
    MCS_TRY(mcs_path(place->raw, "%s/%s", where[0], place->name));
    MCS_TRY(mcs_path(place->preprocessed, "%s/%s", where[1], place->name));
    return mcs_path(place->description, "%s/dataset.json", place->raw);
}

static enum mcs_status copy_file(const char *from, const char *to)
{
    char *bytes;
    int64_t n;
    MCS_TRY(mcs_file_read(from, MAX_JSON_BYTES, &bytes, &n));
    const enum mcs_status st = mcs_file_write(to, bytes, n);
    free(bytes);
    return st;
}

enum mcs_status mcs_nnunet_place_begin(const struct nnunet_place *place)
{
    char from[MCS_PATH_BYTES], to[MCS_PATH_BYTES];
    MCS_TRY(mcs_folder_make(place->preprocessed));
    MCS_TRY(mcs_path(to, "%s/dataset.json", place->preprocessed));
    MCS_TRY(copy_file(place->description, to));
    MCS_TRY(mcs_path(from, "%s/splits_final.json", place->raw));
    MCS_TRY(mcs_path(to, "%s/splits_final.json", place->preprocessed));
    return mcs_file_exists(from) && !mcs_file_exists(to) ? copy_file(from, to) : MCS_OK;
}
