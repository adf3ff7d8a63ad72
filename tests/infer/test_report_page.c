/* The whole page of a report, against tests/expected/report. The style sheet is left out, and pictures are replaced by
 * their pixels. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "infer/report/chart.h"
#include "infer/report/html.h"
#include "infer/report/report.h"
#include "tests/support/support_expected.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES MCS_SOURCE_DIR "/tests/expected/report"

static void open_folder(void)
{
    shell_open(":", "");
    expect("cp -r " PAGES "/whole " PAGES "/sparse . && mkdir whole/cases", 0, "");
}
TestSuite(report_page, .init = open_folder, .fini = shell_close);

/* A picture by a function of the pixel coordinates. */
static void put_picture(const char *name, int w, int h, int (*value)(int x, int y))
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, w, h, 1), MCS_OK);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) img.pixels[y * w + x] = (uint8_t)value(x, y);
    cr_assert_eq(mcs_image_write_png(shell_path(name), &img), MCS_OK, "%s", mcs_error_message());
    mcs_image_free(&img);
}

static int grey(int x, int y)
{
    return 40 * x + 3 * y;
}
static int heat(int x, int y)
{
    return 51 * x + y; /* both colour scales in steps of a fifth */
}
static int corner(int x, int y)
{
    return x < 2 && y < 2 ? 255 : 0; /* touches the picture's border */
}
static int ring_and_corner(int x, int y)
{
    const int ring = x >= 1 && x <= 3 && y >= 1 && y <= 3 && !(x == 2 && y == 2);
    return ring || (x == 4 && y == 4) ? 128 : 127; /* 128 is the smallest value of the mask; a hole, a diagonal */
}
static int everything(int x, int y)
{
    return 255;
}
static int two_parts(int x, int y)
{
    return (x == 0 && y == 4) || (x >= 4 && y <= 1) ? 200 : 10;
}
static int quarter(int x, int y)
{
    return x < 300 + y ? 0 : 255;
}
static int stripes(int x, int y)
{
    return (x / 4 + y) % 2 ? 250 : 5;
}

static void put_pictures(void)
{
    put_picture("whole/cases/image.png", 6, 5, grey);
    put_picture("whole/cases/heat.png", 6, 5, heat);
    put_picture("whole/cases/coarse.png", 6, 5, corner);
    put_picture("whole/cases/sam.png", 6, 5, ring_and_corner);
    put_picture("whole/cases/..sam.png", 1024, 3, quarter);
    put_picture("whole/cases/network.png", 6, 5, everything);
    put_picture("whole/cases/truth.png", 6, 5, two_parts);
    put_picture("whole/cases/small.png", 5, 5, corner);
    put_picture("whole/cases/low.png", 6, 4, corner);
    put_picture("whole/cases/wide.png", 1024, 3, stripes);
    put_picture("whole/cases/wide_mask.png", 1024, 3, quarter);
    put_picture("whole/cases/high.png", 3, 513, stripes);
    put_picture("whole/..png", 512, 2, stripes);
}

/* ---- the page as a text that can be compared ---- */

static void write_pixels(FILE *out, const char *base64, size_t n)
{
    struct image img;
    char *text = strndup(base64, n);
    shell_write("encoded", text);
    free(text);
    expect("base64 -d encoded > decoded.png", 0, "");
    cr_assert_eq(mcs_image_read(shell_path("decoded.png"), 0, &img), MCS_OK, "%s", mcs_error_message());
    const int64_t n_values = (int64_t)img.width * img.height * img.channels;
    fprintf(out, "PIXELS %d x %d x %d:", img.width, img.height, img.channels);
    if (n_values > 200) { /* their sum, and the sum of each times its number */
        int64_t sum = 0, weighted = 0;
        for (int64_t i = 0; i < n_values; i++) sum += img.pixels[i], weighted += (i + 1) * img.pixels[i];
        fprintf(out, " sum %lld, weighted %lld", (long long)sum, (long long)weighted);
    } else {
        for (int64_t i = 0; i < n_values; i++) fprintf(out, " %d", img.pixels[i]);
    }
    mcs_image_free(&img);
}

static char *comparable(const char *html)
{
    static const char start[] = "data:image/png;base64,";
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    const char *style = strstr(html, "<style>"), *style_end = strstr(html, "</style>");
    cr_assert(style && style_end);
    fwrite(html, 1, (size_t)(style - html), out);
    for (const char *at = style_end, *picture; *at;) {
        picture = strstr(at, start);
        if (!picture) {
            fputs(at, out);
            break;
        }
        fwrite(at, 1, (size_t)(picture - at), out);
        picture += sizeof start - 1;
        at = picture + strcspn(picture, "\"");
        write_pixels(out, picture, (size_t)(at - picture));
    }
    fclose(out);
    return text;
}

static void expect_page(const char *text, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "report/%s", name);
    expected_check_within(path, text, 0);
}

static void expect_report(const char *folder, const char *name)
{
    char *html;
    int64_t n;
    cr_assert_eq(mcs_report_render(shell_path(folder), &html, &n), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(n, (int64_t)strlen(html));
    char *text = comparable(html);
    expect_page(text, name);
    free(text);
    free(html);
}

Test(report_page, every_figure_of_a_whole_run)
{
    put_pictures();
    expect_report("whole", "whole.html");
}

Test(report_page, page_of_a_sparse_run)
{
    expect_report("sparse", "sparse.html");
}

/* ---- charts of chosen values ---- */

static void lines(FILE *out, const char *title, const double *x, const double *y, int n)
{
    const struct chart_frame f = {.title = title, .x_label = "x & y", .y_label = "<y>"};
    const struct chart_series s = {.name = "a <name>", .x = x, .y = y, .n = n, .colour = 2, .faint = 1};
    mcs_chart_lines(out, &f, &s, 1);
}

static void axes_of_odd_ranges(FILE *out)
{
    const double x[] = {0, 1, 2, 3}, late[] = {1, 20, 30, 40}, later[] = {2, 20, 30, 40}, negative[] = {-7, -1, -3, -2};
    const double same[] = {2, 2, 2, 2}, zero[] = {0, 0, 0, 0}, tiny[] = {1e-9, 2e-9, 3e-9, 0},
                 huge[] = {1e99, 2, 1e101, 3e99};
    const double dozens[] = {12, 47, 31, -15}, big[] = {2e7, 5e7, 1e7, 3e7}, holes[] = {NAN, 0.31, INFINITY, 0.38};
    const double *const ys[] = {negative, same, zero, tiny, huge, dozens, big, holes};
    lines(out, "begins at 0", late, x, 4);
    lines(out, "begins at 2", later, x, 4);
    for (int i = 0; i < 8; i++) lines(out, "y", x, ys[i], 4);
    lines(out, "x has a hole", holes, dozens, 4);
    lines(out, "one value", x + 1, dozens + 1, 1);
    lines(out, "none", x, dozens, 0);
}

static void areas_and_bars(FILE *out)
{
    struct chart_frame f = {.title = "t & t", .x_label = "steps", .y_label = "MiB", .note = "a <note>"};
    const double y[] = {3, 3, NAN, 0, 0, 12}, none[] = {NAN, INFINITY};
    const struct chart_level levels[] = {{"zero", 10}, {"one", NAN}, {"two", 15}, {"three", 2}, {"four", 5}};
    mcs_chart_area(out, &f, y, 6, levels, 5);
    mcs_chart_area(out, &f, none, 2, levels, 5);
    f.y_from_zero = 1;
    mcs_chart_area(out, &f, y, 1, levels, 0);
    struct chart_bar bars[] = {
        {"exactly thirty-eight characters, no mo", 1.5, 1, 2, CHART_BAR},
        {"thirty-nine characters, one too many: x", 3, NAN, 4, CHART_BAR_QUIET},
        {"\xC3\xA9 counts as one character, so it fits.", 0, 0, NAN, CHART_BAR_OUTLINE},
        {"not measured", NAN, 1, 2, CHART_BAR},
        {"the interval sets the axis", 2, 1, 9.25, CHART_BAR},
    };
    f.note = NULL;
    mcs_chart_bars(out, &f, bars, 5, " s");
    f.is_count = 1;
    mcs_chart_bars(out, &f, bars, 5, "");
    mcs_chart_bars(out, &f, bars + 2, 1, "");
    f.is_count = 0;
    f.y_lo = -1, f.y_hi = 2; /* a given axis: values beyond it are cut */
    mcs_chart_bars(out, &f, bars, 2, "");
    mcs_chart_bars(out, &f, bars + 3, 1, "");
    mcs_chart_lines(out, &f, &(struct chart_series){.x = y, .y = y, .n = 2, .colour = 1}, 1);
}

Test(report_page, axes_and_marks_of_charts)
{
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    axes_of_odd_ranges(out);
    areas_and_bars(out);
    fclose(out);
    expect_page(text, "charts.html");
    free(text);
}

/* ---- text, byte by byte ---- */

static void expect_text(const char *text, const char *want)
{
    char *got;
    size_t n;
    FILE *out = open_memstream(&got, &n);
    mcs_html_text(out, text);
    fclose(out);
    cr_expect_str_eq(got, want, "%s: %s, want %s", text, got, want);
    free(got);
}

/* The first and last code point of each UTF-8 length, and the neighbours of each range that is not shown. */
Test(report_page, which_characters_are_shown)
{
#define NOT_SHOWN "\xEF\xBF\xBD"
    static const char *const shown[] = {
        "\t\n",         " ~",           "\xC2\xA0",     "\xDF\xBF",         "\xE0\xA0\x80",
        "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
        "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\xA5", "\xE2\x81\xAA"};
    static const char *const hidden[] = {"\x08",     "\x0B",         "\x1F",         "\x7F",         "\xC2\x80",
                                         "\xC2\x9F", "\xE2\x80\xAA", "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA9"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) expect_text(shown[i], shown[i]);
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) expect_text(hidden[i], NOT_SHOWN);
    expect_text("\xC1\xBF", NOT_SHOWN NOT_SHOWN);                             /* two bytes for a 7-bit character */
    expect_text("\xE0\x9F\xBF", NOT_SHOWN NOT_SHOWN NOT_SHOWN);               /* three bytes for an 11-bit one */
    expect_text("\xF0\x8F\xBF\xBF", NOT_SHOWN NOT_SHOWN NOT_SHOWN NOT_SHOWN); /* four bytes for a 16-bit one */
    expect_text("\xF4\x90\x80\x80", NOT_SHOWN NOT_SHOWN NOT_SHOWN NOT_SHOWN); /* beyond U+10FFFF */
    expect_text("\xED\xA0\x80\xED\xBF\xBF",
                NOT_SHOWN NOT_SHOWN NOT_SHOWN NOT_SHOWN NOT_SHOWN NOT_SHOWN); /* surrogates */
    expect_text("\xE2\x82", NOT_SHOWN NOT_SHOWN);                             /* cut short */
    expect_text("\xE2"
                "A",
                NOT_SHOWN "A");
    expect_text("\xF8\x80", NOT_SHOWN NOT_SHOWN);
    expect_text("<>&\"'", "&lt;&gt;&amp;&quot;&#39;");
#undef NOT_SHOWN
}

Test(report_page, long_formatted_text_is_cut)
{
    char *got;
    size_t n;
    FILE *out = open_memstream(&got, &n);
    mcs_html_textf(out, "%05000d", 7);
    fclose(out);
    cr_expect_eq(n, 4095);
    free(got);
}

/* Pictures with encoded lengths of 0, 1 and 2 modulo 3 are decoded correctly by base64 -d. */
Test(report_page, base64_of_every_length)
{
    int seen[3] = {0};
    for (int w = 1; w <= 24 && !(seen[0] && seen[1] && seen[2]); w++) {
        struct image img;
        char *text, *bytes;
        uint8_t *png;
        int64_t n_png, n_read;
        size_t n;
        cr_assert_eq(mcs_image_alloc(&img, w, 3, 1), MCS_OK);
        for (int i = 0; i < 3 * w; i++) img.pixels[i] = (uint8_t)((unsigned)(i + w) * 2654435761u >> 13);
        cr_assert_eq(mcs_image_encode_png(&img, &png, &n_png), MCS_OK);
        FILE *out = open_memstream(&text, &n);
        cr_assert_eq(mcs_html_png(out, &img), MCS_OK);
        fclose(out);
        cr_assert_eq(strncmp(text, "data:image/png;base64,", 22), 0);
        cr_expect_eq((int64_t)n - 22, (n_png + 2) / 3 * 4);
        const int padding = (int)((3 - n_png % 3) % 3);
        cr_expect_eq((int)strlen(text + strcspn(text, "=")), padding, "%lld bytes: %s", (long long)n_png, text);
        /* the unused bits of the last digit are 0 */
        const char last = text[n - 1 - (size_t)padding];
        cr_expect(!padding || strchr(padding == 2 ? "AQgw" : "AEIMQUYcgkosw048", last), "%s", text);
        shell_write("encoded", text + 22);
        expect("base64 -d encoded > decoded", 0, "");
        cr_assert_eq(mcs_file_read(shell_path("decoded"), 1 << 20, &bytes, &n_read), MCS_OK);
        cr_expect(n_read == n_png && memcmp(bytes, png, (size_t)n_png) == 0, "width %d", w);
        seen[n_png % 3] = 1;
        free(bytes);
        free(text);
        free(png);
        mcs_image_free(&img);
    }
    cr_expect(seen[0] && seen[1] && seen[2]);
}
