/* Records of a zip archive of stored (not compressed) entries, with zip64 sizes throughout, so that no size is a limit:
 * PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3. The writer puts each local header, whose extra field may align the
 * contents; the central directory and the records that end the file are the same for every archive. Errors are those
 * of f (ferror). */
#ifndef MCS_ZIP_WRITE_H
#define MCS_ZIP_WRITE_H

#include <stdint.h>
#include <stdio.h>

enum { ZIP_LOCAL_BYTES = 30, ZIP64_LOCAL = 20 }; /* a local header without its name; its zip64 field */

struct zip_out {
    char name[64];
    int64_t at, n_bytes; /* of the local header; of the contents */
    uint32_t crc;        /* CRC-32 of the contents */
};

/* The n lowest bytes of v, least significant first. */
void mcs_put_little(FILE *f, uint64_t v, int n);
/* An entry's zip64 field in its local header: its number, its length and both sizes. */
void mcs_zip_put_local_sizes(FILE *f, const struct zip_out *e);
/* An entry of the central directory; date in MS-DOS form. Returns its bytes. */
int64_t mcs_zip_put_central(FILE *f, const struct zip_out *e, uint16_t date);
/* The end of an archive of n entries, whose directory has n_bytes and begins at `at`. */
void mcs_zip_put_end(FILE *f, int n, int64_t n_bytes, int64_t at);

#endif
