/* Cases of the readers in data/ that other tests do not come to: which characters a repair may make, marks in the order
 * of their classes in short and long runs, grey PNG files of 16 bits and with alpha, limits of the demo's
 * configuration, the kinds of files that info tells apart. */
#include "data/image/image.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/lesions/demo_config.h"
#include "data/text/tokenizer.h"
#include "data/text/unicode.h"
#include "tests/support/support_jpeg.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(data_cases, .init = setup, .fini = shell_close, .timeout = 30);

/* ---- repaired text ---- */

/* "x", then UTF-8 of a code point whose bytes were taken for characters: by Latin-1, or by cp1252 where that has one.
 */
static void broken(uint32_t code, int cp1252, struct codes *text)
{
    static const uint32_t windows[32] = {0x20AC, 0,      0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                         0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0,      0x17D,  0,
                                         0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                         0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0,      0x17E,  0x178};
    char bytes[4];
    const int n = mcs_utf8_write(code, bytes);
    text->n = 0;
    OK(mcs_codes_add(text, 'x'));
    for (int i = 0; i < n; i++) {
        const uint32_t b = (unsigned char)bytes[i];
        OK(mcs_codes_add(text, cp1252 && b >= 0x80 && b < 0xA0 && windows[b - 0x80] ? windows[b - 0x80] : b));
    }
}

/* Every character below U+2401 and above U+F9FF, some of the many letters between; the hash is open_clip's
 * (tests/ref/tokens/make_clean.py). */
Test(data_cases, which_characters_a_repair_makes)
{
    struct codes text = {0}, all = {0};
    char hex[65];
    for (uint32_t code = 1; code < 0x10000; code++) {
        if (code >= 0xD800 && code < 0xE000) continue;
        if (code > 0x2400 && code < 0xFA00 && code % 97) continue;
        for (int k = 0; k < 2; k++) {
            broken(code, k, &text);
            OK(mcs_text_clean(&text));
            for (int64_t i = 0; i < text.n; i++) OK(mcs_codes_add(&all, text.v[i]));
        }
    }
    mcs_sha256(all.v, all.n * 4, hex);
    cr_expect_str_eq(hex, "ec1ec9d370a5683338cc425074c576b6b7de8cbf44f3507c8fe58994271bccf4");
    mcs_codes_free(&text);
    mcs_codes_free(&all);
}

/* ---- marks ---- */

/* The text's pieces by a vocabulary that has two marks which are kept, U+302E of class 224 and U+1D165 of class 216,
 * and the virama U+1B44 of class 9; U+0301 of class 230 is dropped, but takes part in the order. */
static const char *pieces(const uint32_t *codes, int n)
{
    static struct tokenizer *t;
    static char text[512];
    static const char *const names[] = {"P", "U", "C", "S", "a", "b", "V", "T", "M"};
    int32_t ids[64];
    int n_ids;
    if (!t) {
        shell_write("vocab",
                    "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n##\xE1\xAD\x84\n##\xF0\x9D\x85\xA5\n##\xE3\x80\xAE\n");
        OK(mcs_tokenizer_open(shell_path("vocab"), &t));
    }
    int at = 0;
    for (int i = 0; i < n; i++) at += mcs_utf8_write(codes[i], text + at);
    text[at] = 0;
    OK(mcs_tokenizer_encode_raw(t, text, 64, ids, &n_ids));
    for (int i = 0; i < n_ids; i++) text[i] = names[ids[i]][0];
    text[n_ids] = 0;
    return text;
}

/* Short runs are sorted, runs of more than 64 counted class by class: with the same result. */
Test(data_cases, marks_in_the_order_of_their_classes)
{
    static const int runs[] = {0, 1, 2, 60, 61, 62, 63, 64, 65, 66, 70};
    uint32_t c[100];
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++)
        for (int way = 0; way < 4; way++) {
            int n = 0;
            c[n++] = 'a';
            if (way == 1) c[n++] = 0x302E, c[n++] = 0x302E;
            if (way == 2) c[n++] = 0x302E, c[n++] = 0x1D165;
            for (int i = 0; i < runs[k]; i++) c[n++] = 0x301;
            if (way == 0) c[n++] = 0x302E;
            if (way == 1) c[n++] = 0x1D165, c[n++] = 0x1B44;
            if (way == 2) c[n++] = 0x302E, c[n++] = 0x1D165;
            if (way == 3) c[n++] = 0x1B44, c[n++] = 0x302E, c[n++] = 0x1D165, c[n++] = 0x302E;
            c[n++] = 'b';
            static const char *const want[] = {"CaMbS", "CaVTMMbS", "CaTTMMbS", "CaVTMMbS"};
            cr_expect_str_eq(pieces(c, n), want[way], "%d marks, way %d: %s", runs[k], way, pieces(c, n));
        }
    static const uint32_t two[] = {'a', 0x302E, 0x1D165, ' ', 'a', 0x302E, 0x1B44, 'b'}; /* two separate runs */
    cr_expect_str_eq(pieces(two, 8), "CaTMaVMbS");
}

/* Names in brackets stand for themselves wherever they are, where the vocabulary has them ([MASK] is not in this one);
 * the text between them is split as if it were alone. */
Test(data_cases, names_in_brackets)
{
    static const char *const rows[][2] = {
        {"[PAD]", "CPS"},           {"[UNK]", "CUS"},        {"a[SEP]ab", "CaSabS"}, {"a[SEP]b", "CaSUS"},
        {"a[CLS][PAD]a", "CaCPaS"}, {"[CLS] [SEP]", "CCSS"}, {"[PAD", "CUUS"},       {"[", "CUS"},
        {"PAD]", "CUUS"},           {"[pad]", "CUUUS"},      {"[MASK]", "CUUUS"},    {"[[PAD]]", "CUPUS"},
        {"[PA[PAD]", "CUUPS"},      {"a[PAD]", "CaPS"},      {"[PADx]", "CUUUS"},    {"a [SEP]", "CaSS"}};
    uint32_t codes[32];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int n = (int)strlen(rows[i][0]);
        for (int k = 0; k < n; k++) codes[k] = (unsigned char)rows[i][0][k];
        const char *got = pieces(codes, n);
        cr_expect_str_eq(got, rows[i][1], "%s: %s, want %s", rows[i][0], got, rows[i][1]);
    }
}

/* ---- PNG files that libspng gives as three channels ---- */

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xEDB88320 : c >> 1;
    }
    return ~c;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
    return p + 4;
}

static uint8_t *put_chunk(uint8_t *p, const char *kind, const uint8_t *data, uint32_t n)
{
    p = put32(p, n);
    memcpy(p, kind, 4);
    memcpy(p + 4, data, n);
    return put32(p + 4 + n, crc_of(p, n + 4));
}

/* A PNG of rows that each begin with filter 0, in one stored block. */
static int64_t write_png(uint8_t *to, uint32_t width, uint32_t height, int depth, int colour, const uint8_t *rows,
                         uint32_t n)
{
    uint8_t head[13] = {0}, data[256] = {0x78, 0x01, 1}, *p = to;
    uint32_t a = 1, b = 0;
    memcpy(p, "\x89PNG\r\n\x1a\n", 8);
    put32(head, width), put32(head + 4, height);
    head[8] = (uint8_t)depth, head[9] = (uint8_t)colour;
    p = put_chunk(p + 8, "IHDR", head, 13);
    data[3] = (uint8_t)n, data[5] = (uint8_t)~n, data[4] = 0, data[6] = 0xFF;
    memcpy(data + 7, rows, n);
    for (uint32_t i = 0; i < n; i++) a = (a + rows[i]) % 65521, b = (b + a) % 65521;
    put32(data + 7 + n, b << 16 | a);
    p = put_chunk(p, "IDAT", data, n + 11);
    p = put_chunk(p, "IEND", data, 0);
    return p - to;
}

Test(data_cases, grey_of_16_bits_and_with_alpha)
{
    static const uint8_t deep[] = {0, 1, 9, 50, 0, 255, 255, 0, 7, 8, 90, 1, 128, 0},
                         alpha[] = {0, 1, 255, 50, 0, 255, 9, 0, 7, 128, 90, 255, 128, 1},
                         rgb16[] = {0, 1, 9, 50, 0, 255, 255, 0, 7, 8, 90, 1, 128, 0},
                         grey[] = {1, 50, 255, 7, 90, 128}, bits[] = {0, 0xA0, 0, 0x40};
    uint8_t file[512];
    struct image img;
    OK(mcs_window_use("full")); /* v / 257, rounded */
    for (int k = 0; k < 2; k++) {
        const int64_t n = write_png(file, 3, 2, k ? 8 : 16, k ? 4 : 0, k ? alpha : deep, 14);
        OK(mcs_image_decode("x.png", file, n, 0, &img));
        cr_expect(img.width == 3 && img.height == 2 && img.channels == 1);
        for (int i = 0; i < 6; i++) cr_expect_eq(img.pixels[i], grey[i], "%d: pixel %d is %d", k, i, img.pixels[i]);
        mcs_image_free(&img);
    }
    OK(mcs_image_decode("x.png", file, write_png(file, 1, 2, 16, 2, rgb16, 14), 0, &img));
    cr_expect(img.width == 1 && img.height == 2 && img.channels == 3);
    cr_expect(!memcmp(img.pixels, (uint8_t[]){1, 50, 255, 7, 90, 128}, 6));
    mcs_image_free(&img);
    OK(mcs_image_decode("x.png", file, write_png(file, 3, 2, 1, 0, bits, 4), 0, &img));
    cr_expect(img.channels == 1 && !memcmp(img.pixels, (uint8_t[]){255, 0, 255, 0, 255, 0}, 6));
    mcs_image_free(&img);
}

/* ---- info ---- */

Test(data_cases, kinds_of_files)
{
    struct image img;
    uint8_t *bytes;
    int64_t n;
    OK(mcs_image_alloc(&img, 9, 4, 3));
    memset(img.pixels, 100, 9 * 4 * 3);
    OK(mcs_image_write_png(shell_path("a.dat"), &img));
    jpeg_encode(&img, 90, &bytes, &n);
    FILE *f = fopen(shell_path("b.dat"), "wb");
    cr_assert(f);
    fwrite(bytes, 1, (size_t)n, f);
    fclose(f);
    free(bytes);
    mcs_image_free(&img);
    expect("mcsam info a.dat b.dat", 0, "a.dat: PNG, 9 x 4, 3 channels");
    cr_expect(strstr(shell_output, "b.dat: JPEG, 9 x 4, 3 channels"), "%s", shell_output);
    expect("head -c 8 a.dat > c.dat; mcsam info c.dat 2>&1", 65, "c.dat: damaged PNG header");
    expect("head -c 7 a.dat > c.dat; mcsam info c.dat 2>&1", 65, "c.dat: none of the kinds that are known");
    expect("head -c 3 b.dat > c.dat; mcsam info c.dat 2>&1", 65, "c.dat: ");
    cr_expect_null(strstr(shell_output, "none of the kinds"), "%s", shell_output);
    expect("head -c 2 b.dat > c.dat; mcsam info c.dat 2>&1", 65, "none of the kinds");
    expect("printf '\\211HDF\\r\\n\\032\\n' > c.dat; mcsam info c.dat", 0, "c.dat: HDF5\n");
    expect("head -c 7 c.dat > d.dat; mcsam info d.dat 2>&1", 65, "none of the kinds");
    expect("echo text > e.nii.gz; mcsam info e.nii.gz 2>&1", 65, "e.nii.gz: ");
    cr_expect_null(strstr(shell_output, "none of the kinds"), "%s", shell_output);
}

/* ---- the demo's configuration ---- */

Test(data_cases, limits_of_the_demo)
{
    const struct demo_config good = mcs_demo_config_default();
    static const struct {
        const char *key;
        size_t low, high;
    } pairs[] = {
        {"image.noise", offsetof(struct demo_config, noise_low), offsetof(struct demo_config, noise_high)},
        {"lesion.small", offsetof(struct demo_config, small_low), offsetof(struct demo_config, small_high)},
        {"lesion.large", offsetof(struct demo_config, large_low), offsetof(struct demo_config, large_high)},
        {"lesion.contrast", offsetof(struct demo_config, contrast_low), offsetof(struct demo_config, contrast_high)},
        {"lookalike.vessel", offsetof(struct demo_config, vessel_low), offsetof(struct demo_config, vessel_high)},
        {"lookalike.dot", offsetof(struct demo_config, dot_low), offsetof(struct demo_config, dot_high)},
    };
    OK(mcs_demo_config_check(&good));
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct demo_config c = good;
        double *low = (double *)((char *)&c + pairs[i].low), *high = (double *)((char *)&c + pairs[i].high);
        *low = *high = 0.75;
        OK(mcs_demo_config_check(&c));
        *low = 0.7500001;
        cr_expect_eq(mcs_demo_config_check(&c), MCS_E_USAGE);
        cr_expect(strstr(mcs_error_message(), pairs[i].key), "%s", mcs_error_message());
        mcs_error_clear();
    }
    static const struct {
        size_t a, b;
        const char *message;
    } sums[] = {
        {offsetof(struct demo_config, two), offsetof(struct demo_config, three), "share.two 0.25 and share.three"},
        {offsetof(struct demo_config, start_two), offsetof(struct demo_config, start_three),
         "start.two 0.25 and start.three"},
        {offsetof(struct demo_config, start_none), offsetof(struct demo_config, start_region),
         "start.none 0.25 and start.region"},
    };
    for (size_t k = 0; k < sizeof sums / sizeof sums[0]; k++) {
        struct demo_config c = good;
        double *a = (double *)((char *)&c + sums[k].a), *b = (double *)((char *)&c + sums[k].b);
        *a = 0.75, *b = 0.25;
        OK(mcs_demo_config_check(&c));
        *a = 0.25, *b = 0.75;
        OK(mcs_demo_config_check(&c));
        *b = 0.7500001;
        cr_expect_eq(mcs_demo_config_check(&c), MCS_E_USAGE);
        cr_expect(strstr(mcs_error_message(), sums[k].message), "%s", mcs_error_message());
        mcs_error_clear();
    }
}
