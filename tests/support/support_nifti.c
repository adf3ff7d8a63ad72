#include "tests/support/support_nifti.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nifti_bits(int datatype)
{
    static const int table[][2] = {{1, 1},     {2, 8},      {4, 16},     {8, 32},     {16, 32},  {32, 64},
                                   {64, 64},   {128, 24},   {256, 8},    {512, 16},   {768, 32}, {1024, 64},
                                   {1280, 64}, {1536, 128}, {1792, 128}, {2048, 256}, {2304, 32}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i][0] == datatype) return table[i][1];
    return 0;
}

struct nifti_spec nifti_spec(void)
{
    return (struct nifti_spec){.version = 1,
                               .dim = {3, 4, 3, 2, 1, 1, 1, 1},
                               .datatype = 4,
                               .bitpix = 16,
                               .pixdim = {-1, 0.5, 0.75, 2.5, 1.5, 1.25, 1.125, 1.0625},
                               .vox_offset = 352,
                               .slope = 1,
                               .units = 2,
                               .qform_code = 1,
                               .sform_code = 2};
}

void nifti_put(uint8_t *at, const void *value, int n, int swapped)
{
    const uint8_t *p = value;
    for (int i = 0; i < n; i++) at[i] = p[swapped ? n - 1 - i : i];
}

static void put_int(struct nifti_file *f, int at, int64_t v, int bytes, int swapped)
{
    const int8_t v1 = (int8_t)v;
    const int16_t v2 = (int16_t)v;
    const int32_t v4 = (int32_t)v;
    nifti_put(f->bytes + at,
              bytes == 1   ? (const void *)&v1
              : bytes == 2 ? (const void *)&v2
              : bytes == 4 ? (const void *)&v4
                           : &v,
              bytes, swapped);
}

static void put_real(struct nifti_file *f, int at, double v, int bytes, int swapped)
{
    const float single = (float)v;
    nifti_put(f->bytes + at, bytes == 4 ? (const void *)&single : &v, bytes, swapped);
}

static void header_1(const struct nifti_spec *s, struct nifti_file *f)
{
    const int w = s->swapped;
    put_int(f, 0, 348, 4, w);
    put_int(f, 39, 0x39, 1, w); /* dim_info */
    for (int i = 0; i < 8; i++) put_int(f, 40 + 2 * i, s->dim[i], 2, w);
    for (int i = 0; i < 3; i++) put_real(f, 56 + 4 * i, 21.5 + i, 4, w); /* intent_p1 .. p3 */
    put_int(f, 68, 1002, 2, w);                                          /* intent_code: labels */
    put_int(f, 70, s->datatype, 2, w);
    put_int(f, 72, s->bitpix, 2, w);
    put_int(f, 74, 1, 2, w); /* slice_start */
    for (int i = 0; i < 8; i++) put_real(f, 76 + 4 * i, s->pixdim[i], 4, w);
    put_real(f, 108, s->vox_offset, 4, w);
    put_real(f, 112, s->slope, 4, w);
    put_real(f, 116, s->inter, 4, w);
    put_int(f, 120, 5, 2, w); /* slice_end */
    put_int(f, 122, 3, 1, w); /* slice_code */
    put_int(f, 123, s->units, 1, w);
    put_real(f, 124, 100, 4, w);  /* cal_max */
    put_real(f, 128, 10, 4, w);   /* cal_min */
    put_real(f, 132, 0.25, 4, w); /* slice_duration */
    put_real(f, 136, 9.5, 4, w);  /* toffset */
    memcpy(f->bytes + 148, "a description", 13);
    memcpy(f->bytes + 228, "other.file", 10);
    put_int(f, 252, s->qform_code, 2, w);
    put_int(f, 254, s->sform_code, 2, w);
    for (int i = 0; i < 3; i++) put_real(f, 256 + 4 * i, 0.125 * (i + 1), 4, w); /* quatern_b .. d */
    for (int i = 0; i < 3; i++) put_real(f, 268 + 4 * i, -40.5 - i, 4, w);       /* qoffset_x .. z */
    for (int i = 0; i < 12; i++) put_real(f, 280 + 4 * i, 0.5 * i - 2.25, 4, w); /* srow_x .. z */
    memcpy(f->bytes + 328, "labels", 6);
    memcpy(f->bytes + 344, s->paired ? "ni1" : "n+1", 4);
}

static void header_2(const struct nifti_spec *s, struct nifti_file *f)
{
    const int w = s->swapped;
    put_int(f, 0, 540, 4, w);
    memcpy(f->bytes + 4, s->paired ? "ni2\0\r\n\032\n" : "n+2\0\r\n\032\n", 8);
    put_int(f, 12, s->datatype, 2, w);
    put_int(f, 14, s->bitpix, 2, w);
    for (int i = 0; i < 8; i++) put_int(f, 16 + 8 * i, s->dim[i], 8, w);
    for (int i = 0; i < 3; i++) put_real(f, 80 + 8 * i, 21.5 + i, 8, w);
    for (int i = 0; i < 8; i++) put_real(f, 104 + 8 * i, s->pixdim[i], 8, w);
    put_int(f, 168, (int64_t)s->vox_offset, 8, w);
    put_real(f, 176, s->slope, 8, w);
    put_real(f, 184, s->inter, 8, w);
    put_real(f, 192, 100, 8, w);
    put_real(f, 200, 10, 8, w);
    put_real(f, 208, 0.25, 8, w);
    put_real(f, 216, 9.5, 8, w);
    put_int(f, 224, 1, 8, w);
    put_int(f, 232, 5, 8, w);
    memcpy(f->bytes + 240, "a description", 13);
    memcpy(f->bytes + 320, "other.file", 10);
    put_int(f, 344, s->qform_code, 4, w);
    put_int(f, 348, s->sform_code, 4, w);
    for (int i = 0; i < 3; i++) put_real(f, 352 + 8 * i, 0.125 * (i + 1), 8, w);
    for (int i = 0; i < 3; i++) put_real(f, 376 + 8 * i, -40.5 - i, 8, w);
    for (int i = 0; i < 12; i++) put_real(f, 400 + 8 * i, 0.5 * i - 2.25, 8, w);
    put_int(f, 496, 3, 4, w);
    put_int(f, 500, s->units, 4, w);
    put_int(f, 504, 1002, 4, w);
    memcpy(f->bytes + 508, "labels", 6);
    put_int(f, 524, 0x39, 1, w);
}

int nifti_header(const struct nifti_spec *s, struct nifti_file *f)
{
    f->n = s->version == 1 ? 352 : 544;
    memset(f->bytes, 0, (size_t)f->n);
    if (s->version == 1)
        header_1(s, f);
    else
        header_2(s, f);
    return f->n;
}

void nifti_append(const struct nifti_spec *s, struct nifti_file *f, const double *values, int n)
{
    const int bytes = nifti_bits(s->datatype) / 8;
    for (int i = 0; i < n; i++, f->n += bytes) {
        cr_assert_leq(f->n + bytes, NIFTI_FILE_BYTES);
        if (s->datatype == 16 || s->datatype == 64)
            put_real(f, f->n, values[i], bytes, s->swapped);
        else if (s->datatype == 1280) {
            const uint64_t v = (uint64_t)values[i];
            nifti_put(f->bytes + f->n, &v, 8, s->swapped);
        } else
            put_int(f, f->n, (int64_t)values[i], bytes, s->swapped);
    }
}

void nifti_save(const char *path, const void *bytes, int n, int packed)
{
    char command[600];
    snprintf(command, sizeof command, "gzip -nc > '%s'", path);
    FILE *f = packed ? popen(command, "w") : fopen(path, "wb");
    cr_assert(f, "%s", path);
    cr_assert_eq(fwrite(bytes, 1, (size_t)n, f), (size_t)n);
    cr_assert_eq(packed ? pclose(f) : fclose(f), 0);
}
