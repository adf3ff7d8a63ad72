/* PyTorch's zip: STEM/data.pkl, the object; STEM/data/KEY, the storages; STEM/byteorder. With STEM/constants.pkl it is
 * TorchScript. */
#include "data/io/gzip.h"
#include "data/weights/weight_parts.h"
#include "data/weights/zip.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The folder in the archive, from the entry STEM/data.pkl. */
static enum mcs_status find_stem(struct weight_file *f, const struct zip_directory *d, const char **stem)
{
    static const char end[] = "/data.pkl";
    *stem = NULL;
    for (int i = 0; i < d->n; i++) {
        const char *name = d->entries[i].name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash, end) != 0) continue;
        MCS_REQUIRE(!*stem, MCS_E_DATA, "%s: has two objects, %.100s and %.100s%s", f->path, name, *stem, end);
        *stem = mcs_arena_printf(&f->arena, "%.*s", (int)(slash - name), name);
    }
    MCS_REQUIRE(*stem, MCS_E_DATA,
                "%s: a zip file without data.pkl: not written by torch.save; an archive is to be unpacked first",
                f->path);
    return mcs_arena_status(&f->arena);
}

static enum mcs_status check_byte_order(struct weight_file *f, const struct zip_directory *d, const char *stem)
{
    char text[16] = "";
    const struct zip_entry *e = mcs_zip_find(d, mcs_arena_printf(&f->arena, "%s/byteorder", stem));
    if (!e) return MCS_OK; /* before 2.1 it was always the machine's, of which none was big-endian in practice */
    if (e->n_bytes < (int64_t)sizeof text) MCS_TRY(mcs_input_read(f->parts[0].fd, f->path, text, e->n_bytes, e->at));
    MCS_REQUIRE(strcmp(text, "little") == 0, MCS_E_DATA,
                "%s: its byteorder is %.15s, want little: save it again on a little-endian machine (x86, ARM)", f->path,
                text[0] ? text : "not readable");
    return MCS_OK;
}

/* TorchScript (torch.jit.save) compresses its code, which is not read. Nothing else may be. */
static enum mcs_status check_stored(struct weight_file *f, const struct zip_directory *d, const char *stem)
{
    const char *code = mcs_arena_printf(&f->arena, "%s/code/", stem);
    f->script = mcs_zip_find(d, mcs_arena_printf(&f->arena, "%s/constants.pkl", stem)) != NULL;
    MCS_TRY(mcs_arena_status(&f->arena));
    for (int i = 0; i < d->n; i++)
        MCS_REQUIRE(!d->entries[i].method || (f->script && strncmp(d->entries[i].name, code, strlen(code)) == 0),
                    MCS_E_DATA,
                    "%s: %.200s: compressed; torch.save stores its entries: unpack the archive first, if it is one",
                    f->path, d->entries[i].name);
    return MCS_OK;
}

/* An entry without a checksum (0: torch.serialization.set_crc32_options(False)) is taken as it is, as is code. */
static enum mcs_status check_crc(const struct weight_file *f, const struct zip_entry *e)
{
    enum { PART = 1 << 16 };
    uint8_t *part = malloc(PART);
    uint32_t crc = 0;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(part, MCS_E_NOMEM, "%s: no memory to read it", f->path);
    for (int64_t i = 0; i < e->n_bytes && e->crc && !e->method && st == MCS_OK; i += PART) {
        const int64_t n = e->n_bytes - i < PART ? e->n_bytes - i : PART;
        st = mcs_input_read(f->parts[0].fd, f->path, part, n, e->at + i);
        if (st == MCS_OK) crc = mcs_crc32(crc, part, n);
    }
    free(part);
    MCS_TRY(st);
    MCS_REQUIRE(crc == e->crc || e->method, MCS_E_DATA, "%s: damaged: the checksum of %s differs; download it again",
                f->path, e->name);
    return MCS_OK;
}

enum mcs_status mcs_weight_file_verify(const struct weight_file *f)
{
    for (int i = 0; i < f->n_entries; i++) MCS_TRY(check_crc(f, &f->entries[i]));
    return MCS_OK;
}

enum mcs_status mcs_weight_torch_zip(struct weight_file *f)
{
    struct zip_directory d;
    struct torch_storage *storages;
    const char *stem;
    int n = 0;
    MCS_TRY(mcs_zip_read(f->parts[0].fd, f->path, f->parts[0].n_bytes, &f->arena, &d));
    f->n_entries = d.n;
    f->entries = d.entries;
    MCS_TRY(find_stem(f, &d, &stem));
    MCS_TRY(check_stored(f, &d, stem));
    MCS_TRY(check_byte_order(f, &d, stem));
    const struct zip_entry *object = mcs_zip_find(&d, mcs_arena_printf(&f->arena, "%s/data.pkl", stem));
    MCS_REQUIRE(object, MCS_E_NOMEM, "%s: no memory to open it", f->path);
    MCS_TRY(check_crc(f, object));
    struct pickle_source source = {f->parts[0].fd, f->path, object->at, object->at + object->n_bytes, f->script};
    MCS_TRY(mcs_pickle_read(&source, &f->arena, &f->object));

    const char *folder = mcs_arena_printf(&f->arena, "%s/data/", stem);
    MCS_TRY(mcs_arena_status(&f->arena));
    MCS_TRY(mcs_weight_alloc(f, d.n * (int64_t)sizeof *storages, &storages));
    for (int i = 0; i < d.n; i++)
        if (strncmp(d.entries[i].name, folder, strlen(folder)) == 0)
            storages[n++] =
                (struct torch_storage){d.entries[i].name + strlen(folder), d.entries[i].at, d.entries[i].n_bytes};
    mcs_torch_storages_sort(n, storages);
    return mcs_weight_torch_tensors(f, n, storages);
}
