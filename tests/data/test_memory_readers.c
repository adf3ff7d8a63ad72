/* Small files that need much memory: each reader compares its need with --max-memory first. */
#include "data/image/image.h"
#include "data/io/json.h"
#include "data/io/npy.h"
#include "data/text/pairs.h"
#include "data/text/prompts.h"
#include "data/text/tokenizer.h"
#include "data/weights/weight_file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "tests/support/support_jpeg.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t MIB = 1 << 20;
static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/mcs_readers_XXXXXX");
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    mcs_log_quiet(1);
}

static void teardown(void)
{
    mcs_memory_limit_set(0);
    unlink(path);
}

TestSuite(memory_readers, .init = setup, .fini = teardown);

/* `begin`, then `unit` n times, then `end`. Returns the bytes. */
static char *repeated(const char *begin, const char *unit, const char *end, int64_t n, int64_t *n_bytes)
{
    const size_t head = strlen(begin), part = strlen(unit), tail = strlen(end);
    char *text = malloc(head + part * (size_t)n + tail + 1);
    cr_assert(text);
    memcpy(text, begin, head);
    for (int64_t i = 0; i < n; i++) memcpy(text + head + part * (size_t)i, unit, part);
    memcpy(text + head + part * (size_t)n, end, tail + 1);
    *n_bytes = (int64_t)(head + part * (size_t)n + tail);
    return text;
}

static void save(const void *bytes, int64_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(bytes, 1, (size_t)n, f) == (size_t)n);
    cr_assert_eq(fclose(f), 0);
}

static void save_repeated(const char *begin, const char *unit, const char *end, int64_t n)
{
    int64_t n_bytes;
    char *text = repeated(begin, unit, end, n, &n_bytes);
    save(text, n_bytes);
    free(text);
}

/* Allows so much more than the current resident memory. */
static void allow(int64_t more)
{
    mcs_memory_limit_set((int64_t)1 << 60);
    const int64_t resident = ((int64_t)1 << 60) - mcs_memory_left();
    mcs_memory_limit_set(resident + more);
}

static void too_large(enum mcs_status st, const char *what)
{
    cr_expect_eq(st, MCS_E_DATA, "%s: status %d: %s", what, st, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "--max-memory allows") && strstr(mcs_error_message(), path), "%s: %s", what,
              mcs_error_message());
    mcs_error_clear();
}

/* ---- images ---- */

Test(memory_readers, images)
{
    struct image img, again;
    uint8_t *bytes;
    int64_t n;
    cr_assert_eq(mcs_image_alloc(&img, 3000, 3000, 1), MCS_OK);
    cr_assert_eq(mcs_image_encode_png(&img, &bytes, &n), MCS_OK);
    save(bytes, n);
    cr_assert_lt(n, 200000);
    free(bytes);
    jpeg_encode(&img, 1, &bytes, &n);
    mcs_image_free(&img);
    allow(4 * MIB);
    too_large(mcs_image_read(path, 0, &again), "PNG: 9 MB of pixels");
    allow(16 * MIB);
    cr_assert_eq(mcs_image_read(path, 0, &again), MCS_OK, "%s", mcs_error_message());
    mcs_image_free(&again);
    save(bytes, n);
    free(bytes);
    allow(16 * MIB); /* 9 MB of pixels; a progressive image needs the same again for its coefficients */
    too_large(mcs_image_read(path, 0, &again), "JPEG");
    allow(48 * MIB);
    cr_assert_eq(mcs_image_read(path, 0, &again), MCS_OK, "%s", mcs_error_message());
    mcs_image_free(&again);

    allow(4 * MIB);
    cr_expect_eq(mcs_image_alloc(&img, 3000, 3000, 1), MCS_E_DATA);
    mcs_error_clear();
    struct map2 map;
    cr_expect_eq(mcs_map_alloc(&map, 1500, 1500), MCS_E_DATA);
}

/* ---- arrays ---- */

/* A sparse file of n bytes: a header, then a hole. */
static void save_sparse(const void *head, int64_t head_bytes, int64_t n)
{
    save(head, head_bytes);
    cr_assert_eq(truncate(path, n), 0);
}

Test(memory_readers, arrays)
{
    char head[128] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0};
    struct npy a;
    struct weight_file *f;
    memset(head + 10, ' ', 118);
    const int n = snprintf(head + 10, 118, "{'descr': '<f2', 'fortran_order': False, 'shape': (20971520,), }");
    head[10 + n] = ' ';
    save_sparse(head, 128, 128 + 2 * 20971520);
    allow(60 * MIB); /* the file's 40 MiB fit, its 80 MiB of float values do not */
    too_large(mcs_npy_read(path, &a), "npy: the values");
    allow(20 * MIB);
    too_large(mcs_npy_read(path, &a), "npy: the file");
    allow(200 * MIB);
    cr_assert_eq(mcs_npy_read(path, &a), MCS_OK, "%s", mcs_error_message());
    mcs_npy_free(&a);

    allow(100 * MIB);
    /* A header of 3 MB that would take 300 MB in jansson. */
    int64_t n_bytes;
    char *text = repeated("\x01\x01\x01\x01\x01\x01\x01\x01{\"a\":[", "{},", "0]}", 1 << 20, &n_bytes);
    const uint64_t header_bytes = (uint64_t)n_bytes - 8;
    memcpy(text, &header_bytes, 8);
    save(text, n_bytes);
    free(text);
    too_large(mcs_weight_file_open(path, &f), "safetensors: the header");
    /* A pickle of 2 MB that would take 250 MB. */
    text = repeated("\x80\x02(", "}", "t.", 1 << 21, &n_bytes);
    save(text, n_bytes);
    free(text);
    struct pickle_source source = {open(path, O_RDONLY | O_CLOEXEC), path, 0, n_bytes, 0};
    struct pickle_value *root;
    struct arena arena = {0};
    too_large(mcs_pickle_read(&source, &arena, &root), "pickle");
    mcs_arena_free(&arena);
    close(source.fd);
}

Test(memory_readers, npy_header_is_bounded)
{
    struct npy a;
    int64_t n;
    char *text =
        repeated("\x93NUMPY\x02#....{", " ", "'descr': '<f4', 'fortran_order': False, 'shape': (), }....", 70000, &n);
    const uint32_t header_bytes = (uint32_t)n - 12 - 4;
    text[7] = 0;
    memcpy(text + 8, &header_bytes, 4);
    save(text, n);
    free(text);
    cr_expect_eq(mcs_npy_read(path, &a), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "more than the 65536"), "%s", mcs_error_message());
}

/* ---- text ---- */

Test(memory_readers, texts)
{
    struct csv_table table;
    struct tokenizer *tok;
    struct prompts prompts;
    json_t *root;
    save_repeated("", ",", "\n", 16 * MIB);
    allow(100 * MIB);
    too_large(mcs_csv_read(path, ',', &table), "CSV: 16 Mi fields of 8 bytes each");
    save_repeated("[UNK]\n", "\n", "", 8 * MIB);
    too_large(mcs_tokenizer_open(path, &tok), "vocabulary");
    save_repeated("[", "{},", "0]", 2 * MIB);
    too_large(mcs_json_read(path, 64 * MIB, 0, &root), "JSON");
    too_large(mcs_prompts_read(path, &prompts), "prompts");
    mcs_memory_limit_set(0);
    save_repeated("[UNK]\n", "\n", "", 20 * MIB);
    cr_expect_eq(mcs_tokenizer_open(path, &tok), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "more than 16777216 lines"), "%s", mcs_error_message());
}

/* jansson's current and peak memory. Each block costs the allocator at most 16 bytes more than its usable size. */
static int64_t held, peak;

static void *counted_malloc(size_t n)
{
    void *p = malloc(n);
    held += p ? (int64_t)malloc_usable_size(p) + 16 : 0;
    if (held > peak) peak = held;
    return p;
}

static void counted_free(void *p)
{
    if (p) held -= (int64_t)malloc_usable_size(p) + 16;
    free(p);
}

Test(memory_readers, json_takes_what_is_foretold_at_most)
{
    static const struct {
        const char *begin, *unit, *end;
    } texts[] = {{"[", "{},", "0]"},        {"[", "[],", "0]"},    {"[", "1,", "0]"},
                 {"[", "1.5,", "0]"},       {"[", "\"\",", "0]"},  {"[", "\"\\u00e9\",", "0]"},
                 {"[", "true,", "0]"},      {"[", "[[]],", "0]"},  {"[", "{\"\":0},", "0]"},
                 {"[", "{\"\":{}},", "0]"}, {"[", "[0,0],", "0]"}, {"[", "{\"a\":1,\"b\":\"c\"},", "0]"},
                 {"\"", "long text ", "\""}};
    json_set_alloc_funcs(counted_malloc, counted_free);
    for (size_t i = 0; i <= sizeof texts / sizeof *texts; i++)
        for (int64_t n = 1; n <= 1 << 15; n = n * 3 + 1) { /* crosses the sizes at which tables double */
            int64_t n_bytes;
            char *text = NULL;
            if (i < sizeof texts / sizeof *texts) {
                text = repeated(texts[i].begin, texts[i].unit, texts[i].end, n, &n_bytes);
            } else { /* an object with n keys */
                text = malloc((size_t)n * 12 + 16);
                cr_assert(text);
                n_bytes = sprintf(text, "{\"x\":0");
                for (int64_t k = 0; k < n; k++) n_bytes += sprintf(text + n_bytes, ",\"%lld\":0", (long long)k);
                n_bytes += sprintf(text + n_bytes, "}");
            }
            json_error_t error;
            held = peak = 0;
            json_t *root = json_loadb(text, (size_t)n_bytes, JSON_DECODE_ANY, &error);
            cr_assert(root, "%s", error.text);
            const int64_t foretold = mcs_json_memory(text, n_bytes);
            cr_expect(peak <= foretold + 4096, "text %zu, %lld times: %lld bytes taken, %lld foretold", i, (long long)n,
                      (long long)peak, (long long)foretold);
            cr_expect(n < 1000 || foretold < 20 * peak, "text %zu, %lld times: %lld bytes taken, %lld foretold", i,
                      (long long)n, (long long)peak, (long long)foretold);
            json_decref(root);
            free(text);
        }
}
