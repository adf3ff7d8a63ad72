/* Writes pickles by their opcodes (CPython, pickletools.py). */
#include "data/nnunet/nnunet_npz.h"

#include "data/io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mcs_status mcs_pickle_begin(struct pickle_out *p)
{
    *p = (struct pickle_out){0};
    p->stream = open_memstream(&p->bytes, &p->n_bytes);
    MCS_REQUIRE(p->stream, MCS_E_NOMEM, "no memory for a pickle");
    fputs("\x80\x03", p->stream);
    return MCS_OK;
}

static void put_little(FILE *f, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) putc((int)(v >> 8 * i & 0xff), f);
}

/* An empty dict or list is filled from a mark on; a tuple is made of all after its mark. */
void mcs_pickle_open(struct pickle_out *p, char kind)
{
    fputs(kind == '{' ? "}(" : kind == '[' ? "](" : "(", p->stream);
}

void mcs_pickle_close(struct pickle_out *p, char kind)
{
    putc(kind == '{' ? 'u' : kind == '[' ? 'e' : 't', p->stream);
}

void mcs_pickle_put_text(struct pickle_out *p, const char *text)
{
    putc('X', p->stream);
    put_little(p->stream, strlen(text), 4);
    fputs(text, p->stream);
}

void mcs_pickle_put_int(struct pickle_out *p, int64_t v)
{
    const int fits = v >= INT32_MIN && v <= INT32_MAX;
    fputs(fits ? "J" : "\x8a\x08", p->stream);
    put_little(p->stream, (uint64_t)v, fits ? 4 : 8);
}

void mcs_pickle_put_real(struct pickle_out *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    putc('G', p->stream);
    for (int i = 7; i >= 0; i--) putc((int)(bits >> 8 * i & 0xff), p->stream);
}

void mcs_pickle_put_array(struct pickle_out *p, enum mcs_array_type type, int nd, const int64_t *dims,
                          const void *values)
{
    const int64_t n = mcs_array_count(nd, dims) * mcs_array_type_bytes(type);
    fputs("cnumpy\nndarray\n(", p->stream);
    mcs_pickle_open(p, '(');
    for (int i = 0; i < nd; i++) mcs_pickle_put_int(p, dims[i]);
    mcs_pickle_close(p, '(');
    mcs_pickle_put_text(p, type == MCS_ARRAY_F64 ? "<f8" : "<i8");
    putc('B', p->stream);
    put_little(p->stream, (uint64_t)n, 4);
    fwrite(values, 1, (size_t)n, p->stream);
    fputs("tR", p->stream);
}

enum mcs_status mcs_pickle_end(struct pickle_out *p, const char *path)
{
    putc('.', p->stream);
    const int good = !ferror((FILE *)p->stream), closed = fclose(p->stream) == 0;
    enum mcs_status st = MCS_OK;
    if (path && (!good || !closed)) st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory to write it", path);
    if (path && st == MCS_OK) st = mcs_file_write(path, p->bytes, (int64_t)p->n_bytes);
    free(p->bytes);
    *p = (struct pickle_out){0};
    return st;
}
