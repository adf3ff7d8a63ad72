#include "data/io/zip_write.h"

#include <string.h>

enum { CENTRAL_BYTES = 46, ZIP64_CENTRAL = 28 };

void mcs_put_little(FILE *f, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) putc((int)(v >> 8 * i & 0xff), f);
}

static void put_sizes(FILE *f, const struct zip_out *e, int field_bytes)
{
    mcs_put_little(f, 1, 2);
    mcs_put_little(f, (uint64_t)field_bytes - 4, 2);
    mcs_put_little(f, (uint64_t)e->n_bytes, 8);
    mcs_put_little(f, (uint64_t)e->n_bytes, 8);
}

void mcs_zip_put_local_sizes(FILE *f, const struct zip_out *e)
{
    put_sizes(f, e, ZIP64_LOCAL);
}

int64_t mcs_zip_put_central(FILE *f, const struct zip_out *e, uint16_t date)
{
    fputs("PK\1\2", f);
    mcs_put_little(f, 45, 2); /* made by, and needs, version 4.5: zip64 */
    mcs_put_little(f, 45, 2);
    mcs_put_little(f, 0, 6); /* flags, method, time */
    mcs_put_little(f, date, 2);
    mcs_put_little(f, e->crc, 4);
    mcs_put_little(f, 0xffffffff, 4); /* both sizes are in the zip64 field */
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, strlen(e->name), 2);
    mcs_put_little(f, ZIP64_CENTRAL, 2);
    mcs_put_little(f, 0, 6); /* comment, disk, internal attributes */
    mcs_put_little(f, 0, 4); /* external attributes */
    mcs_put_little(f, 0xffffffff, 4);
    fputs(e->name, f);
    put_sizes(f, e, ZIP64_CENTRAL);
    mcs_put_little(f, (uint64_t)e->at, 8);
    return CENTRAL_BYTES + (int64_t)strlen(e->name) + ZIP64_CENTRAL;
}

void mcs_zip_put_end(FILE *f, int n, int64_t n_bytes, int64_t at)
{
    const uint64_t n_short = n < 0xffff ? (uint64_t)n : 0xffff;
    fputs("PK\6\6", f);
    mcs_put_little(f, 44, 8);
    mcs_put_little(f, 45, 2);
    mcs_put_little(f, 45, 2);
    mcs_put_little(f, 0, 8);
    mcs_put_little(f, (uint64_t)n, 8);
    mcs_put_little(f, (uint64_t)n, 8);
    mcs_put_little(f, (uint64_t)n_bytes, 8);
    mcs_put_little(f, (uint64_t)at, 8);
    fputs("PK\6\7", f);
    mcs_put_little(f, 0, 4);
    mcs_put_little(f, (uint64_t)(at + n_bytes), 8);
    mcs_put_little(f, 1, 4);
    fputs("PK\5\6", f);
    mcs_put_little(f, 0, 4);
    mcs_put_little(f, n_short, 2);
    mcs_put_little(f, n_short, 2);
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, 0, 2);
}
