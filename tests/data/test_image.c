/* PNG, JPEG and resampling: round trips, each kind of damage, and Pillow's resize against a float64 version. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/image/bilinear.h"
#include "tests/support/support_jpeg.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void setup(void)
{
    mcs_log_quiet(1);
}

TestSuite(image, .init = setup);

/* A smooth image with an edge, so that wrong filters show. */
static void paint(struct image *img, int width, int height, int channels)
{
    cr_assert_eq(mcs_image_alloc(img, width, height, channels), MCS_OK);
    for (int i = 0; i < width * height * channels; i++) {
        int x = i / channels % width, y = i / channels / width, c = i % channels;
        img->pixels[i] = (uint8_t)(x > width / 2 ? 240 - 3 * c : (x * 5 + y * 3 + c * 40 + (x * y) % 17) & 255);
    }
}

Test(image, png_round_trip)
{
    for (int c = 1; c <= 3; c += 2) {
        struct image a, b;
        uint8_t *first, *second;
        int64_t n_first, n_second;
        paint(&a, 37, 23, c);
        cr_assert_eq(mcs_image_encode_png(&a, &first, &n_first), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_image_encode_png(&a, &second, &n_second), MCS_OK);
        cr_assert(n_first == n_second && memcmp(first, second, (size_t)n_first) == 0, "the same pixels, other bytes");
        cr_assert_eq(mcs_image_decode("x.png", first, n_first, 0, &b), MCS_OK, "%s", mcs_error_message());
        cr_assert(b.width == 37 && b.height == 23 && b.channels == c);
        cr_assert_arr_eq(a.pixels, b.pixels, 37 * 23 * (size_t)c);
        free(first);
        free(second);
        mcs_image_free(&a);
        mcs_image_free(&b);
    }
}

Test(image, files)
{
    char path[] = "/tmp/mcs_image_XXXXXX";
    struct image a, b;
    close(mkstemp(path));
    paint(&a, 9, 7, 3);
    cr_assert_eq(mcs_image_write_png(path, &a), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_image_read(path, 1, &b), MCS_OK);
    cr_assert(b.channels == 1);
    for (int i = 0; i < 63; i++) {
        const uint8_t *p = a.pixels + 3 * i;
        int want = (19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 32768) >> 16;
        cr_assert_eq(b.pixels[i], want);
    }
    mcs_image_free(&b);
    unlink(path);
    memset(&b, 0x55, sizeof b); /* an image that could not be read is empty, and may be freed */
    cr_assert_eq(mcs_image_read(path, 0, &b), MCS_E_NOINPUT);
    cr_assert(!b.pixels && !b.width && !b.height && !b.channels);
    mcs_error_clear();
    cr_assert_eq(mcs_image_read("/tmp", 0, &b), MCS_E_IO);
    mcs_error_clear();
    mcs_image_free(&a);
}

/* Suppresses hundreds of warnings about deliberately damaged files; a sanitizer's report must still be visible. */
static void hush(void)
{
#ifndef MCS_SANITIZE
    if (!freopen("/dev/null", "w", stderr)) cr_log_warn("stderr stays");
#endif
}

Test(image, jpeg_round_trip)
{
    hush();
    struct image a, b;
    uint8_t *bytes;
    int64_t n;
    for (int c = 1; c <= 3; c += 2) {
        double sum = 0;
        paint(&a, 48, 40, c);
        jpeg_encode(&a, 100, &bytes, &n);
        cr_assert_eq(mcs_image_decode("x.jpg", bytes, n, 0, &b), MCS_OK, "%s", mcs_error_message());
        cr_assert(b.width == 48 && b.height == 40 && b.channels == c);
        for (int i = 0; i < 48 * 40 * c; i++) sum += abs(a.pixels[i] - b.pixels[i]);
        /* Quality 100 quantises coefficients to integers: the mean error is below one level, and below two with the
         * colour transform, which rounds once more each way. */
        cr_assert_lt(sum / (48 * 40 * c), 2.0);
        mcs_image_free(&b);

        cr_assert_eq(mcs_image_decode("cut.jpg", bytes, n / 2, 0, &b), MCS_E_DATA);
        cr_assert(strstr(mcs_error_message(), "cut.jpg") && strstr(mcs_error_message(), "truncated"));
        mcs_error_clear();
        cr_assert_eq(mcs_image_decode("cut.jpg", bytes, 12, 0, &b), MCS_E_DATA);
        mcs_error_clear();
        for (int64_t at = 0; at < n; at++) { /* each byte damaged in turn: pixels or a refusal, nothing out of bounds */
            uint8_t kept = bytes[at];
            bytes[at] = (uint8_t)~kept;
            if (mcs_image_decode("evil.jpg", bytes, n, 0, &b) == MCS_OK) mcs_image_free(&b);
            mcs_error_clear();
            bytes[at] = kept;
            if (n > 800) at += n / 400;
        }
        free(bytes);
        mcs_image_free(&a);
    }
}

static uint32_t crc32_of(const uint8_t *p, int n)
{
    uint32_t crc = ~0u;
    for (int i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void big_endian(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(x >> (24 - 8 * i));
}

Test(image, png_damage_is_refused)
{
    struct image a, b;
    uint8_t *bytes;
    int64_t n;
    paint(&a, 64, 48, 3);
    cr_assert_eq(mcs_image_encode_png(&a, &bytes, &n), MCS_OK);
    cr_assert_eq(mcs_image_decode("half.png", bytes, n / 2, 0, &b), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "half.png") && strstr(mcs_error_message(), "truncated"));
    mcs_error_clear();
    cr_assert_eq(mcs_image_decode("head.png", bytes, 20, 0, &b), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_image_decode("text.png", "no image", 8, 0, &b), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "neither"));
    mcs_error_clear();
    cr_assert_eq(mcs_image_decode("none.png", bytes, 0, 0, &b), MCS_E_DATA);
    mcs_error_clear();
    for (int64_t at = 8; at < 29; at++) { /* the header is protected by its CRC */
        bytes[at] ^= 0x55;
        cr_assert_eq(mcs_image_decode("bad.png", bytes, n, 0, &b), MCS_E_DATA, "byte %d", (int)at);
        mcs_error_clear();
        bytes[at] ^= 0x55;
    }
    bytes[n / 2] ^= 0x10; /* inside the pixels */
    cr_assert_eq(mcs_image_decode("bad.png", bytes, n, 0, &b), MCS_E_DATA);
    mcs_error_clear();
    bytes[n / 2] ^= 0x10;
    static const uint32_t sizes[][2] = {{0, 48},        {64, 0},        {70000, 8},
                                        {60000, 60000}, {16384, 16384}, {0x7fffffff, 0x7fffffff}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) { /* a correct CRC and impossible sizes */
        big_endian(bytes + 16, sizes[i][0]);
        big_endian(bytes + 20, sizes[i][1]);
        big_endian(bytes + 29, crc32_of(bytes + 12, 17));
        cr_assert_eq(mcs_image_decode("huge.png", bytes, n, 0, &b), MCS_E_DATA, "size %d", (int)i);
        cr_assert(!b.pixels);
        mcs_error_clear();
    }
    for (uint32_t more = 0; more < 2; more++) { /* as many pixels as deflate can pack into n bytes, and a row more */
        big_endian(bytes + 16, 1032 / 3);
        big_endian(bytes + 20, 3 * ((uint32_t)n + more));
        big_endian(bytes + 29, crc32_of(bytes + 12, 17));
        cr_assert_eq(mcs_image_decode("deep.png", bytes, n, 0, &b), MCS_E_DATA);
        cr_assert_eq(strstr(mcs_error_message(), "cannot hold") != NULL, more == 1, "%s", mcs_error_message());
        mcs_error_clear();
    }
    free(bytes);
    mcs_image_free(&a);
}

static double kernel(double x, enum mcs_filter f)
{
    x = fabs(x);
    if (f == MCS_BILINEAR) return x < 1 ? 1 - x : 0;
    return x < 1 ? 1.5 * x * x * x - 2.5 * x * x + 1 : x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

/* One axis of the antialiased resampling in float64, directly from its definition, visiting every source pixel. */
static void axis(const double *src, int n_in, int stride, int n_out, enum mcs_filter f, double *dst)
{
    double scale = (double)n_in / n_out, stretch = fmax(scale, 1), reach = (f == MCS_BICUBIC ? 2 : 1) * stretch;
    for (int i = 0; i < n_out; i++) {
        double sum = 0, weights = 0, centre = (i + 0.5) * scale;
        int lo = (int)fmax(0, (int)(centre - reach + 0.5)), hi = (int)fmin(n_in, (int)(centre + reach + 0.5));
        for (int k = lo; k < hi; k++) {
            double w = kernel((k + 0.5 - centre) / stretch, f);
            sum += w * src[k * stride];
            weights += w;
        }
        dst[i * stride] = fmin(255, fmax(0, floor(sum / weights + 0.5)));
    }
}

Test(image, resize_against_float64)
{
    static const int sizes[][2] = {{20, 15}, {61, 47}, {90, 30}, {41, 60}, {13, 33}, {41, 33}};
    for (int c = 1; c <= 3; c += 2)
        for (int f = MCS_BILINEAR; f <= MCS_BICUBIC; f++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                int w = sizes[s][0], h = sizes[s][1];
                struct image a, b;
                paint(&a, 41, 33, c);
                cr_assert_eq(mcs_image_resize(&a, w, h, (enum mcs_filter)f, &b), MCS_OK);
                double *in = malloc(41 * 33 * (size_t)c * sizeof *in), *mid = malloc((size_t)w * 33 * c * sizeof *mid),
                       *out = malloc((size_t)w * h * c * sizeof *out), *t = calloc(400, sizeof *t),
                       *u = calloc(400, sizeof *u);
                for (int i = 0; i < 41 * 33 * c; i++) in[i] = a.pixels[i];
                for (int y = 0; y < 33; y++)
                    for (int k = 0; k < c; k++) {
                        for (int x = 0; x < 41; x++) t[x] = in[(y * 41 + x) * c + k];
                        axis(t, 41, 1, w, (enum mcs_filter)f, u);
                        for (int x = 0; x < w; x++) mid[(y * w + x) * c + k] = u[x];
                    }
                for (int x = 0; x < w * c; x++) {
                    for (int y = 0; y < 33; y++) t[y] = mid[y * w * c + x];
                    axis(t, 33, 1, h, (enum mcs_filter)f, u);
                    for (int y = 0; y < h; y++) out[y * w * c + x] = u[y];
                }
                /* Weights of 22 bits change a sum by less than 255 * 9 / 2^23 < 3e-4 levels, so only a value that close
                 * to a half may round the other way in pass one; it then changes pass two by at most one level. */
                int off = 0;
                for (int i = 0; i < w * h * c; i++) {
                    int d = abs((int)out[i] - b.pixels[i]);
                    cr_assert_leq(d, 1, "filter %d, %d x %d, at %d: %g, %d", f, w, h, i, out[i], b.pixels[i]);
                    off += d;
                }
                cr_assert_leq(off, w * h * c / 50, "filter %d, %d x %d: %d of %d differ", f, w, h, off, w * h * c);
                free(in), free(mid), free(out), free(t), free(u);
                mcs_image_free(&a);
                mcs_image_free(&b);
            }
}

Test(image, resize_identity_flat_and_nearest)
{
    struct image a, b;
    paint(&a, 41, 33, 3);
    for (int f = MCS_NEAREST; f <= MCS_BICUBIC; f++) {
        cr_assert_eq(mcs_image_resize(&a, 41, 33, (enum mcs_filter)f, &b), MCS_OK);
        cr_assert_arr_eq(a.pixels, b.pixels, 41 * 33 * 3);
        mcs_image_free(&b);
    }
    cr_assert_eq(mcs_image_resize(&a, 82, 99, MCS_NEAREST, &b), MCS_OK);
    for (int y = 0; y < 99; y++)
        for (int x = 0; x < 82; x++)
            cr_assert_arr_eq(b.pixels + 3 * (y * 82 + x), a.pixels + 3 * (y / 3 * 41 + x / 2), 3);
    mcs_image_free(&b);
    memset(a.pixels, 201, 41 * 33 * 3); /* weights whose sum is not one would show here */
    for (int f = MCS_NEAREST; f <= MCS_BICUBIC; f++) {
        cr_assert_eq(mcs_image_resize(&a, 224, 17, (enum mcs_filter)f, &b), MCS_OK);
        for (int i = 0; i < 224 * 17 * 3; i++) cr_assert_eq(b.pixels[i], 201);
        mcs_image_free(&b);
    }
    cr_assert_neq(mcs_image_resize(&a, 0, 5, MCS_BILINEAR, &b), MCS_OK);
    mcs_error_clear();
    mcs_image_free(&a);
}

/* The first 16 digits of the SHA-256 of Pillow 13.0.0's result for the painted image (tests/golden/make_resize.py):
 * byte for byte. */
Test(image, resize_as_pillow)
{
    static const struct {
        int channels, width, height, new_width, new_height;
        enum mcs_filter filter;
        const char *sha256;
    } cases[] = {
        {1, 301, 260, 259, 224, MCS_NEAREST, "c67683627751568c"},
        {1, 301, 260, 259, 224, MCS_BILINEAR, "5d6e5a78beaa39f2"},
        {1, 301, 260, 259, 224, MCS_BICUBIC, "e37223181cdaa996"},
        {1, 57, 33, 224, 388, MCS_NEAREST, "c2da35c08896bc88"},
        {1, 57, 33, 224, 388, MCS_BILINEAR, "a1275d68b65d9db5"},
        {1, 57, 33, 224, 388, MCS_BICUBIC, "5958f2c98e6de62b"},
        {1, 41, 33, 20, 15, MCS_NEAREST, "22386762d60695a4"},
        {1, 41, 33, 20, 15, MCS_BILINEAR, "19d43054cdb4f429"},
        {1, 41, 33, 20, 15, MCS_BICUBIC, "36d88bba709ab1d2"},
        {1, 90, 64, 90, 31, MCS_NEAREST, "094fde703da458c2"},
        {1, 90, 64, 90, 31, MCS_BILINEAR, "0e02f44a41733b50"},
        {1, 90, 64, 90, 31, MCS_BICUBIC, "ace20d436623ec2b"},
        {3, 301, 260, 259, 224, MCS_NEAREST, "77676763d35da34e"},
        {3, 301, 260, 259, 224, MCS_BILINEAR, "0c32d8fd34aca3ae"},
        {3, 301, 260, 259, 224, MCS_BICUBIC, "f4a022d8e07ea088"},
        {3, 57, 33, 224, 388, MCS_NEAREST, "767e7192d90168db"},
        {3, 57, 33, 224, 388, MCS_BILINEAR, "dc26ef485352a78e"},
        {3, 57, 33, 224, 388, MCS_BICUBIC, "2f7274005a195f29"},
        {3, 41, 33, 20, 15, MCS_NEAREST, "40d8ee33004fce6d"},
        {3, 41, 33, 20, 15, MCS_BILINEAR, "66c88a270a010386"},
        {3, 41, 33, 20, 15, MCS_BICUBIC, "eb8e301d4a550890"},
        {3, 90, 64, 90, 31, MCS_NEAREST, "7f17da545633c159"},
        {3, 90, 64, 90, 31, MCS_BILINEAR, "099771b23fef995f"},
        {3, 90, 64, 90, 31, MCS_BICUBIC, "27d6a0e54fc32f9d"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct image a, b;
        char hex[65];
        paint(&a, cases[i].width, cases[i].height, cases[i].channels);
        cr_assert_eq(mcs_image_resize(&a, cases[i].new_width, cases[i].new_height, cases[i].filter, &b), MCS_OK);
        mcs_sha256(b.pixels, (int64_t)b.width * b.height * b.channels, hex);
        cr_assert(strncmp(hex, cases[i].sha256, 16) == 0, "case %zu: %.16s, Pillow %s", i, hex, cases[i].sha256);
        mcs_image_free(&a);
        mcs_image_free(&b);
    }
}

Test(image, crop)
{
    struct image a, b;
    paint(&a, 10, 8, 3);
    cr_assert_eq(mcs_image_crop(&a, 3, 2, 7, 6, &b), MCS_OK);
    cr_assert_arr_eq(b.pixels, a.pixels + 3 * (2 * 10 + 3), 21);
    cr_assert_arr_eq(b.pixels + 3 * 7 * 5, a.pixels + 3 * (7 * 10 + 3), 21);
    mcs_image_free(&b);
    memset(&b, 0x55, sizeof b);
    cr_assert_eq(mcs_image_crop(&a, 4, 2, 7, 6, &b), MCS_E_SHAPE);
    cr_assert(!b.pixels && !b.width && !b.height && !b.channels);
    mcs_error_clear();
    mcs_image_free(&a);
}

/* torch.nn.functional.interpolate(scale 2, bilinear, align_corners=False): weights 1, 3/4, 1/4 and 0 along each axis */
Test(image, bilinear_rows)
{
    const float two[4] = {0, 4, 8, 12}, row[4] = {0, 1, 3, 4}, part[4] = {0, 0.25f, 0.75f, 1};
    const struct bilinear up = {2, 2, 4, 4}, down = {2, 2, 1, 1}, same = {2, 2, 2, 2};
    float got[4];
    for (int y = 0; y < 4; y++) {
        mcs_bilinear_row(&up, two, y, 4, got);
        for (int x = 0; x < 4; x++) cr_assert_eq(got[x], row[x] + 8 * part[y]); /* exact in float */
    }
    mcs_bilinear_row(&down, two, 0, 1, got);
    cr_assert_eq(got[0], 6);
    mcs_bilinear_row(&same, two, 1, 2, got);
    cr_assert(got[0] == 8 && got[1] == 12);
}
