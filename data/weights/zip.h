/* The table of contents of a zip archive, as torch.save writes it: its entries are stored without compression.
 * PKWARE's APPNOTE.TXT, sections 4.3 (structure) and 4.5.3 (zip64).
 *
 * Sizes come from the central directory, as PyTorch's own reader takes them. Compressed entries are
 * listed as such, and never unpacked, so that no small file expands to a large one. Refused: encrypted entries, several
 * disks, a name twice, entries that overlap each other or the directory, and local headers that do not agree with the
 * directory. */
#ifndef MCS_ZIP_H
#define MCS_ZIP_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

struct zip_entry {
    const char *name;
    int64_t at, n_bytes; /* where its contents lie in the file */
    uint32_t crc;        /* CRC-32 of the contents, unpacked; not compared here */
    int method;          /* 0: stored; else compressed */
};

struct zip_directory {
    int n;
    struct zip_entry *entries; /* (n), sorted by name */
};

/* Reads the directory of an open file of n_bytes; everything is owned by the arena. E_DATA, E_IO, E_NOMEM. */
enum mcs_status mcs_zip_read(int fd, const char *path, int64_t n_bytes, struct arena *arena,
                             struct zip_directory *directory);
const struct zip_entry *mcs_zip_find(const struct zip_directory *directory, const char *name); /* NULL: not there */

#endif
