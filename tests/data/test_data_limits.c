/* Readers of data/ at their limits: concatenated gzip streams, sizes of images and volumes, cells of tables, the prompt
 * chosen for an image, contents of lock files. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "data/io/gzip.h"
#include "data/run/run_lock.h"
#include "data/text/pairs.h"
#include "data/text/prompts.h"
#include "engine/base/newfile.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(data_limits, .init = setup, .fini = shell_close, .timeout = 30);

static void refused(enum mcs_status st, enum mcs_status want, const char *part)
{
    cr_expect_eq(st, want, "status %d, want %d: %s", (int)st, (int)want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in %s", part, mcs_error_message());
    mcs_error_clear();
}

/* ---- gzip ---- */

enum { STREAM = 20000 };

/* Writes the stream's bytes as two concatenated parts, of which one may be empty. */
static void write_stream(const char *name, int packed, int64_t head_bytes)
{
    struct mcs_new_file f = MCS_NEW_FILE;
    static uint8_t bytes[STREAM];
    for (int i = 0; i < STREAM; i++) bytes[i] = (uint8_t)(i % 253);
    OK(mcs_file_begin(shell_path(name), &f));
    OK(mcs_gzip_write(&f, packed, bytes, head_bytes, bytes + head_bytes, STREAM - head_bytes));
    OK(mcs_file_commit(&f));
    mcs_file_abort(&f);
}

Test(data_limits, a_stream_read_in_pieces)
{
    static uint8_t got[STREAM + 1];
    struct gzip_input *in;
    int64_t n;
    for (int packed = 0; packed < 2; packed++)
        for (int way = 0; way < 3; way++) {
            write_stream("s", packed, way == 0 ? 0 : way == 1 ? 1 : STREAM);
            OK(mcs_gzip_open(shell_path("s"), &in));
            cr_expect_eq(mcs_gzip_is_compressed(in), packed);
            cr_expect(packed ? mcs_gzip_file_bytes(in) < STREAM : mcs_gzip_file_bytes(in) == STREAM);
            OK(mcs_gzip_read(in, got, 5, "it"));
            OK(mcs_gzip_skip(in, 0, "it"));
            OK(mcs_gzip_skip(in, 9000, "it")); /* more than its buffer, and not a multiple of it */
            OK(mcs_gzip_read_some(in, got + 5, 1, &n));
            cr_expect_eq(n, 1);
            cr_expect(got[0] == 0 && got[4] == 4 && got[5] == 9005 % 253);
            OK(mcs_gzip_read_some(in, got, STREAM + 1, &n));
            cr_expect_eq(n, STREAM - 9006);
            for (int i = 0; i < n; i++) cr_assert_eq(got[i], (i + 9006) % 253, "byte %d", i);
            OK(mcs_gzip_read_some(in, got, 1, &n));
            cr_expect_eq(n, 0);
            refused(mcs_gzip_read(in, got, 1, "the last slice"), MCS_E_DATA,
                    "/s: truncated or damaged: the last slice cannot be read");
            refused(mcs_gzip_skip(in, 1, "an extension"), MCS_E_DATA, "an extension cannot be read");
            mcs_gzip_close(in);
        }
}

/* mcs_gzip_finish with a limit on the bytes that follow: as many as there are pass, one less fails. It reads 4096 at a
 * time. */
Test(data_limits, a_stream_with_bytes_after_its_end)
{
    static const int64_t rests[] = {0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 12287, 12288, 12289, STREAM};
    struct gzip_input *in;
    for (int packed = 0; packed < 2; packed++) {
        write_stream("s", packed, 1);
        for (size_t i = 0; i < sizeof rests / sizeof *rests; i++)
            for (int64_t more = -1; more <= 1; more++) {
                if (rests[i] + more < 0) continue;
                OK(mcs_gzip_open(shell_path("s"), &in));
                OK(mcs_gzip_skip(in, STREAM - rests[i], "it"));
                const enum mcs_status st = mcs_gzip_finish(in, rests[i] + more);
                if (more < 0)
                    refused(st, MCS_E_DATA, "/s: too long: bytes follow where it should end");
                else
                    OK(st);
                mcs_gzip_close(in);
            }
    }
}

/* ---- images and volumes ---- */

Test(data_limits, sizes_of_images)
{
    static const struct {
        int64_t width, height;
        int taken;
    } rows[] = {{1, 1, 1},         {0, 1, 0},         {1, 0, 0},        {-1, 1, 0},       {1, -1, 0},
                {65536, 1, 1},     {65537, 1, 0},     {1, 65536, 1},    {1, 65537, 0},    {16384, 16384, 1},
                {16385, 16384, 0}, {16384, 16385, 0}, {65536, 4096, 1}, {65536, 4097, 0}, {4097, 65536, 0}};
    struct image img, part;
    struct map2 map;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_status st = mcs_image_check_size("x.png", rows[i].width, rows[i].height);
        cr_expect_eq(st, rows[i].taken ? MCS_OK : MCS_E_DATA, "%lld x %lld", (long long)rows[i].width,
                     (long long)rows[i].height);
        mcs_error_clear();
    }
    refused(mcs_image_check_size("x.png", 0, 7), MCS_E_DATA,
            "x.png: 0 x 7 pixels; want 1 to 65536 a side and at most 268435456 in all");
    for (int channels = 0; channels < 5; channels++) {
        const enum mcs_status st = mcs_image_alloc(&img, 2, 3, channels);
        if (channels == 1 || channels == 3) {
            OK(st);
            cr_expect(img.width == 2 && img.height == 3 && img.channels == channels);
            for (int i = 0; i < 6 * channels; i++) cr_assert_eq(img.pixels[i], 0);
            mcs_image_free(&img);
            cr_expect(!img.pixels && !img.width);
        } else
            refused(st, MCS_E_SHAPE, "channels; want 1 or 3");
    }
    OK(mcs_map_alloc(&map, 3, 2));
    cr_expect(map.width == 3 && map.height == 2 && map.values[5] == 0);
    mcs_map_free(&map);
    refused(mcs_map_alloc(&map, 0, 2), MCS_E_DATA, "map: 0 x 2");
    OK(mcs_image_alloc(&img, 4, 3, 3));
    for (int i = 0; i < 36; i++) img.pixels[i] = (uint8_t)i;
    OK(mcs_image_crop(&img, 1, 2, 3, 1, &part));
    cr_expect(part.width == 3 && part.height == 1 && part.channels == 3);
    for (int i = 0; i < 9; i++) cr_expect_eq(part.pixels[i], 27 + i);
    mcs_image_free(&part);
    static const int cuts[][4] = {{-1, 0, 2, 2}, {0, -1, 2, 2}, {0, 0, 0, 1}, {0, 0, 1, 0}, {2, 0, 3, 1}, {0, 2, 1, 2}};
    for (int i = 0; i < 6; i++)
        refused(mcs_image_crop(&img, cuts[i][0], cuts[i][1], cuts[i][2], cuts[i][3], &part), MCS_E_SHAPE,
                "is not inside 4 x 3");
    mcs_image_free(&img);
}

/* Grey is 0.299 R + 0.587 G + 0.114 B in 16 bits, rounded; grey becomes colour by repeating its value three times. */
Test(data_limits, channels_of_images)
{
    static const uint8_t colours[4][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {10, 200, 30}},
                         grey[4] = {76, 150, 29, 124};
    struct image img, other;
    OK(mcs_image_alloc(&img, 4, 1, 3));
    memcpy(img.pixels, colours, 12);
    OK(mcs_image_write_png(shell_path("c.png"), &img));
    OK(mcs_image_read(shell_path("c.png"), 1, &other));
    for (int i = 0; i < 4; i++) cr_expect_eq(other.pixels[i], grey[i], "%d: %d", i, other.pixels[i]);
    OK(mcs_image_write_png(shell_path("g.png"), &other));
    mcs_image_free(&other);
    OK(mcs_image_read(shell_path("g.png"), 3, &other));
    for (int i = 0; i < 12; i++) cr_expect_eq(other.pixels[i], grey[i / 3]);
    mcs_image_free(&other);
    OK(mcs_image_read(shell_path("c.png"), 0, &other));
    cr_expect(other.channels == 3 && !memcmp(other.pixels, colours, 12));
    mcs_image_free(&other);
    for (int channels = -1; channels < 5; channels++)
        if (channels < 0 || channels == 2 || channels == 4)
            refused(mcs_image_read(shell_path("c.png"), channels, &other), MCS_E_SHAPE, "channels wanted");
    OK(mcs_image_write_mask(shell_path("m.png"), (const uint8_t[]){0, 1, 2, 255}, 2, 2));
    OK(mcs_image_read(shell_path("m.png"), 0, &other));
    cr_expect(other.channels == 1 && !memcmp(other.pixels, (const uint8_t[]){0, 255, 255, 255}, 4));
    mcs_image_free(&other);
    mcs_image_free(&img);
}

Test(data_limits, sizes_and_names_of_volumes)
{
    static const int rows[][4] = {{1, 1, 1, 1},     {0, 1, 1, 0},     {1, 0, 1, 0},
                                  {1, 1, 0, 0},     {65535, 1, 1, 1}, {65536, 1, 1, 0},
                                  {1, 65535, 1, 1}, {1, 65536, 1, 0}, {65535, 65535, 3, 0}};
    const float spacing[3] = {0.5f, 2, 3};
    struct volume v;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_status st = mcs_volume_alloc(&v, rows[i][0], rows[i][1], rows[i][2], i ? NULL : spacing);
        if (!rows[i][3]) {
            refused(st, MCS_E_SHAPE, "a volume of ");
            continue;
        }
        OK(st);
        cr_expect(v.nx == rows[i][0] && v.ny == rows[i][1] && v.nz == rows[i][2] && v.values[0] == 0);
        for (int a = 0; a < 3; a++) cr_expect_eq(v.spacing[a], i ? 1 : spacing[a]);
        mcs_volume_free(&v);
    }
    OK(mcs_volume_alloc(&v, 2, 1, 1, spacing));
    refused(mcs_volume_write_f32(shell_path("v.hdr"), v.values, &v), MCS_E_USAGE, "v.hdr: a volume is written as .nii");
    OK(mcs_volume_write_f32(shell_path("v.nii"), v.values, &v));
    expect("head -c 2 v.nii | od -An -tx1", 0, "5c 01");
    mcs_volume_free(&v);
    OK(mcs_volume_read(shell_path("v.nii"), &v));
    v.nz = 2;
    refused(mcs_volume_write_f32(shell_path("w.nii"), v.values, &v), MCS_E_SHAPE,
            "w.nii: 2 x 1 x 2 voxels, but the geometry it should have is of 2 x 1 x 1");
    mcs_volume_free(&v);
}

/* ---- tables and prompts ---- */

/* The apostrophe before a cell that a spreadsheet would read as a formula is removed; any other apostrophe stays. */
Test(data_limits, cells_of_tables)
{
    static const char *const cells[][2] = {
        {"'=a", "=a"}, {"'+a", "+a"}, {"'-a", "-a"}, {"'@a", "@a"},    {"''=a", "'=a"},       {"'a", "'a"},
        {"'", "'"},    {"''", "''"},  {"=a", "=a"},  {"a'=b", "a'=b"}, {" \t'=a \v\f", "=a"}, {"'a=", "'a="}};
    enum { N = sizeof cells / sizeof *cells };
    char text[1024] = "\xEF\xBB\xBF Caption ;filename\n\n\r\n";
    struct pairs p;
    const struct pairs_options o = {.separator = ';'};
    expect("mkdir d; touch a.png d/b.png", 0, "");
    for (int i = 0; i < N; i++) sprintf(text + strlen(text), "%s;././a.png\r\n", cells[i][0]);
    sprintf(text + strlen(text), "here;%s", shell_path("d/b.png"));
    shell_write("t.csv", text);
    OK(mcs_pairs_read(shell_path("t.csv"), &o, &p));
    cr_assert_eq(p.n, N + 1);
    for (int i = 0; i < N; i++) {
        cr_expect_str_eq(p.v[i].caption, cells[i][1]);
        cr_expect_str_eq(p.v[i].image, shell_path("a.png"));
        cr_expect_str_eq(p.v[i].stem, "a");
    }
    cr_expect_str_eq(p.v[N].image, shell_path("d/b.png"));
    mcs_pairs_free(&p);
    /* a row that names an image of the folder by its absolute path counts as its row */
    char folder[256];
    snprintf(folder, sizeof folder, "%s", shell_path("d"));
    sprintf(text, "filename,Caption\n%s/b.png,x\n", folder);
    shell_write("t.csv", text);
    expect("touch d/c.jpeg d/d.npy d/e.nii d/f.nii.gz d/g.txt", 0, "");
    const struct pairs_options in_folder = {.image_folder = folder};
    OK(mcs_pairs_read(shell_path("t.csv"), &in_folder, &p));
    cr_expect_eq(p.n, 1);
    cr_assert_eq(p.n_left_out, 4);
    for (int i = 0; i < 4; i++) cr_expect(p.left_out[i].fault == MCS_PAIR_NO_ROW && p.left_out[i].line == 0);
    cr_expect(strstr(p.left_out[0].name, "/d/c.jpeg") && strstr(p.left_out[3].name, "/d/f.nii.gz"));
    mcs_pairs_free(&p);
    for (const char *bad = "\"\r\n\x80"; *bad; bad++) {
        const struct pairs_options wrong = {.separator = *bad};
        refused(mcs_pairs_read(shell_path("t.csv"), &wrong, &p), MCS_E_USAGE,
                "a separator must be one ASCII character");
    }
}

/* Ten rows are listed, the others only counted. */
Test(data_limits, left_out_rows_are_told)
{
    char text[4096] = "filename,Caption\na.png,x\n";
    expect("touch a.png", 0, "");
    for (int i = 0; i < 12; i++) {
        sprintf(text + strlen(text), "n%02d.png,x\n", i);
        if (i != 9 && i < 10) continue;
        shell_write("t.csv", text);
        expect("mcsam retrieve -m none --pairs t.csv --dry-run 2>&1", 0, "t.csv:12: n09.png left out: no such image");
        cr_expect_eq(!strstr(shell_output, " more rows or images left out"), i == 9);
        cr_expect_null(strstr(shell_output, "n10.png"));
    }
    cr_expect(strstr(shell_output, "t.csv: 2 more rows or images left out"), "%s", shell_output);
    static const struct {
        enum pair_fault fault;
        const char *text;
    } faults[] = {{MCS_PAIR_NO_IMAGE, "no such image"},
                  {MCS_PAIR_NO_NAME, "a caption without an image"},
                  {MCS_PAIR_EMPTY_CAPTION, "an image without a caption"},
                  {MCS_PAIR_SHORT_CAPTION, "the caption is too short"},
                  {MCS_PAIR_NO_ROW, "no row names this image"}};
    for (int i = 0; i < 5; i++) cr_expect_str_eq(mcs_pair_fault_text(faults[i].fault), faults[i].text);
}

/* An image's name takes precedence over its stem, the stem over "*", in any order; of several entries with its stem the
 * first counts. */
Test(data_limits, which_prompt_an_image_gets)
{
    struct prompts p;
    shell_write("p.json", "\xEF\xBB\xBF{\"*\": \"any\", \"a.jpg\": \"stem 1\", \"a\": \"stem 2\", \"a.png\": \"name\", "
                          "\"b.nii\": \"b\", \"c.d\": [\"dot\", \"two\"]}");
    OK(mcs_prompts_read(shell_path("p.json"), &p));
    static const char *const rows[][2] = {{"a.png", "name"},   {"x/a.png", "name"}, {"a.jpeg", "stem 1"},
                                          {"a.jpg", "stem 1"}, {"a", "stem 2"},     {"b.nii.gz", "b"},
                                          {"b.png", "b"},      {"bb.png", "any"},   {"c.d.png", "dot"},
                                          {"a.png/z", "any"},  {"A.png", "any"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_str_eq(mcs_prompts_find(&p, rows[i][0])->texts[0], rows[i][1], "%s", rows[i][0]);
    cr_expect_eq(p.n, 6);
    OK(mcs_prompts_write(shell_path("q.json"), &p));
    mcs_prompts_free(&p);
    cr_expect(!p.v && !p.n);
    expect("cat q.json", 0, "\"a.jpg\": \"stem 1\"");
    expect("tail -c 3 q.json | od -An -c; tr -d ' \\n' < q.json", 0, "\"c.d\":[\"dot\",\"two\"]}");
    const char *const blank[] = {"x", " \t\r\n"}, *const none[] = {"x"};
    refused(mcs_prompts_add(&p, "a", blank, 2), MCS_E_DATA, "prompts: \"a\": text 2 is empty");
    refused(mcs_prompts_add(&p, "a", none, 0), MCS_E_DATA, "prompts: \"a\" has no text");
    OK(mcs_prompts_add(&p, "a", none, 1));
    refused(mcs_prompts_add(&p, "a", none, 1), MCS_E_DATA, "prompts: \"a\" is there twice");
    cr_expect_null(mcs_prompts_find(&p, "b.png"));
    mcs_prompts_free(&p);
}

/* ---- locks ---- */

/* The contents of a lock file are shown without control characters; an empty one means another process. */
Test(data_limits, who_holds_a_lock)
{
    static const char *const rows[][2] = {{"", "results: is in use by another process; wait for it"},
                                          {"a\x1B[2Jb\tc\n", "is in use by a?[2Jb?c?; wait"},
                                          {"mcsam x, process 1", "is in use by mcsam x, process 1; wait"}};
    struct run_lock lock;
    for (int i = 0; i < 3; i++) {
        shell_write("lock", rows[i][0]);
        const int fd = open(shell_path("lock"), O_RDWR);
        cr_assert(fd >= 0 && flock(fd, LOCK_EX) == 0);
        refused(mcs_run_lock(shell_path("lock"), "results", "v", &lock), MCS_E_FAIL, rows[i][1]);
        close(fd);
    }
    OK(mcs_run_lock(shell_path("lock"), "results", "some verb", &lock));
    expect("cat lock", 0, "mcsam some verb, process ");
    cr_expect_null(strstr(shell_output, "process 1\n"));
    mcs_run_unlock(&lock);
    cr_expect_eq(lock.fd, -1);
    cr_expect(!mcs_file_exists(shell_path("lock")));
    mcs_run_unlock(&lock);
}
