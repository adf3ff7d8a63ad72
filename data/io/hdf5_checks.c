/* Checks that a dataset is stored in its file. HDF5 has four ways to refer to other files: external links (a name that
 * leads into another file), user-defined links, external storage (the values are in other files, possibly system files)
 * and virtual datasets (the values are those of datasets in other files). None is followed. Filters outside the library
 * are shared objects that it would load from a folder; they are not loaded. */
#include "data/io/hdf5_library.h"

#include "data/io/bounds.h"

#include <string.h>

enum { PATH_BYTES = 2048, SOFT_LINKS = 16, NAME_BYTES = 256 };
static const int64_t MAX_CHUNK_BYTES = (int64_t)1 << 30;

/* The target file of an external link, for a message. */
static const char *external_file(hid_t file, const char *path, size_t n_bytes, char value[PATH_BYTES])
{
    const char *name = NULL, *object;
    unsigned flags;
    if (n_bytes >= PATH_BYTES || H5Lget_val(file, path, value, PATH_BYTES, H5P_DEFAULT) < 0 ||
        H5Lunpack_elink_val(value, n_bytes, &flags, &name, &object) < 0)
        return "another file";
    return name;
}

/* Replaces the soft link at path[0..end) by its target: relative to the root where it begins with "/", else to the
 * link's group. `rest` is the remainder of the path after the link. 0 where it does not fit. */
static int resolve_soft(hid_t file, char path[PATH_BYTES], size_t end, size_t n_bytes)
{
    char target[PATH_BYTES], rest[PATH_BYTES], link[PATH_BYTES];
    size_t group = end;
    if (n_bytes > PATH_BYTES) return 0; /* its terminating zero counts */
    memcpy(rest, path + end, strlen(path + end) + 1);
    memcpy(link, path, end);
    link[end] = 0;
    if (H5Lget_val(file, link, target, PATH_BYTES, H5P_DEFAULT) < 0 || !memchr(target, 0, n_bytes)) return 0;
    while (group > 0 && path[group - 1] != '/') group--;
    if (target[0] == '/') group = 0;
    const size_t n_target = strlen(target);
    if (group + n_target + strlen(rest) >= PATH_BYTES) return 0;
    memcpy(path + group, target, n_target + 1);
    memcpy(path + group + n_target, rest, strlen(rest) + 1);
    return 1;
}

enum mcs_status mcs_hdf5_check_path(const char *label, hid_t file, const char *name)
{
    char path[PATH_BYTES], part[PATH_BYTES], value[PATH_BYTES];
    int hops = 0;
    MCS_REQUIRE(*name && strlen(name) < PATH_BYTES, MCS_E_DATA, "%s: a dataset's name of %zu bytes", label,
                strlen(name));
    memcpy(path, name, strlen(name) + 1);
    for (size_t at = 0; path[at];) {
        at += strspn(path + at, "/");
        const size_t end = at + strcspn(path + at, "/");
        H5L_info_t info;
        if (end == at) break;
        memcpy(part, path, end);
        part[end] = 0;
        at = end;
        if (strcmp(part, ".") == 0 || (end > 1 && strcmp(part + end - 2, "/.") == 0)) continue;
        MCS_REQUIRE(H5Lget_info(file, part, &info, H5P_DEFAULT) >= 0, MCS_E_DATA, "%s: no dataset %s", label, name);
        if (info.type == H5L_TYPE_HARD) continue;
        MCS_REQUIRE(info.type != H5L_TYPE_EXTERNAL, MCS_E_DATA,
                    "%s: dataset %s: %s is a link into another file, %s, which is not followed; copy the dataset into "
                    "this file",
                    label, name, part, external_file(file, part, info.u.val_size, value));
        MCS_REQUIRE(info.type == H5L_TYPE_SOFT, MCS_E_DATA, "%s: dataset %s: %s is a link of an unknown kind", label,
                    name, part);
        MCS_REQUIRE(++hops <= SOFT_LINKS && resolve_soft(file, path, end, info.u.val_size), MCS_E_DATA,
                    "%s: dataset %s: %s is a soft link that leads nowhere, or over more than %d others", label, name,
                    part, SOFT_LINKS);
        at = 0;
    }
    return MCS_OK;
}

struct found_link {
    const char *label;
    enum mcs_status st;
};

static herr_t refuse_external(hid_t group, const char *name, const H5L_info_t *info, void *user)
{
    struct found_link *found = user;
    char value[PATH_BYTES];
    if (info->type == H5L_TYPE_HARD || info->type == H5L_TYPE_SOFT) return 0;
    found->st = MCS_FAIL(
        MCS_E_DATA, "%s: %s is a link into another file, %s, which is not followed", found->label, name,
        info->type == H5L_TYPE_EXTERNAL ? external_file(group, name, info->u.val_size, value) : "of an unknown kind");
    return -1;
}

enum mcs_status mcs_hdf5_check_links(const char *label, hid_t file)
{
    struct found_link found = {label, MCS_OK};
    if (H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, refuse_external, &found) < 0 && found.st == MCS_OK)
        return MCS_FAIL(MCS_E_DATA, "%s: its list of links is damaged: %s", label, HDF5_REASON);
    return found.st;
}

static enum mcs_status check_filters(const char *label, hid_t properties, const char *name)
{
    static const H5Z_filter_t built_in[] = {H5Z_FILTER_DEFLATE, H5Z_FILTER_SHUFFLE, H5Z_FILTER_FLETCHER32,
                                            H5Z_FILTER_SZIP,    H5Z_FILTER_NBIT,    H5Z_FILTER_SCALEOFFSET};
    const int n = H5Pget_nfilters(properties);
    MCS_REQUIRE(n >= 0, MCS_E_DATA, "%s: dataset %s: its filters are damaged: %s", label, name, HDF5_REASON);
    for (int i = 0; i < n; i++) {
        char text[NAME_BYTES] = "";
        unsigned flags, set_up;
        size_t n_values = 0, known = 0;
        const H5Z_filter_t id =
            H5Pget_filter2(properties, (unsigned)i, &flags, &n_values, NULL, sizeof text, text, &set_up);
        while (known < sizeof built_in / sizeof *built_in && built_in[known] != id) known++;
        text[sizeof text - 1] = 0;
        MCS_REQUIRE(known < sizeof built_in / sizeof *built_in && H5Zfilter_avail(id) > 0, MCS_E_DATA,
                    "%s: dataset %s is stored with filter %d (%s), which is not built in, and plugins are not loaded; "
                    "store it again with gzip, or without a filter",
                    label, name, (int)id, text[0] ? text : "no name");
    }
    return MCS_OK;
}

static enum mcs_status check_chunks(const char *label, hid_t set, hid_t properties, const char *name,
                                    int64_t *chunk_bytes)
{
    hsize_t dims[H5S_MAX_RANK];
    const hid_t type = H5Dget_type(set);
    int64_t bytes = type >= 0 ? (int64_t)H5Tget_size(type) : 0;
    const int nd = H5Pget_chunk(properties, H5S_MAX_RANK, dims);
    if (type >= 0) H5Tclose(type);
    MCS_REQUIRE(nd > 0 && nd <= H5S_MAX_RANK && bytes > 0, MCS_E_DATA, "%s: dataset %s: its chunks are damaged: %s",
                label, name, HDF5_REASON);
    for (int i = 0; i < nd; i++) bytes = mcs_size_mul(bytes, dims[i] > INT64_MAX ? -1 : (int64_t)dims[i]);
    MCS_REQUIRE(bytes > 0 && bytes <= MAX_CHUNK_BYTES, MCS_E_DATA,
                "%s: dataset %s: has chunks of more than 1 GiB; store it again in smaller ones", label, name);
    *chunk_bytes = bytes;
    return MCS_OK;
}

/* Checks layout, external files, filters and chunks in an open dataset's creation property list. */
static enum mcs_status check_properties(const char *label, hid_t set, hid_t properties, const char *name,
                                        int64_t *chunk_bytes)
{
    const H5D_layout_t layout = H5Pget_layout(properties);
    const int n_external = H5Pget_external_count(properties);
    char file[NAME_BYTES] = "";
    off_t offset;
    hsize_t size;
    MCS_REQUIRE(layout != H5D_VIRTUAL, MCS_E_DATA,
                "%s: dataset %s is a virtual dataset: its values lie in other files, which are not opened; copy them "
                "into this file",
                label, name);
    MCS_REQUIRE(layout == H5D_COMPACT || layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED, MCS_E_DATA,
                "%s: dataset %s: its layout is damaged: %s", label, name, HDF5_REASON);
    if (n_external > 0) H5Pget_external(properties, 0, sizeof file - 1, file, &offset, &size);
    file[sizeof file - 1] = 0;
    MCS_REQUIRE(n_external == 0, MCS_E_DATA,
                "%s: dataset %s has external storage: its values lie in %s, which is not opened; copy them into this "
                "file",
                label, name, file[0] ? file : "another file");
    MCS_TRY(check_filters(label, properties, name));
    if (layout == H5D_CHUNKED) MCS_TRY(check_chunks(label, set, properties, name, chunk_bytes));
    return MCS_OK;
}

enum mcs_status mcs_hdf5_check_storage(const char *label, hid_t set, const char *name, int64_t *chunk_bytes)
{
    *chunk_bytes = 0;
    const hid_t properties = H5Dget_create_plist(set);
    MCS_REQUIRE(properties >= 0, MCS_E_DATA, "%s: dataset %s is damaged: %s", label, name, HDF5_REASON);
    const enum mcs_status st = check_properties(label, set, properties, name, chunk_bytes);
    H5Pclose(properties);
    return st;
}
