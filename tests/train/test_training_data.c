/* The lines that identify a training's inputs in its checkpoint: the first 16 digits of the SHA-256 of the parts'
 * SHA-256s (65 bytes each, including the terminating 0), computed here from the bytes that the documentation and the
 * header specify. */
#include "train/run/training_data.h"

#include "data/io/file.h"
#include "engine/base/log.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* Formats the line of parts (n, 65). */
static void want_line(char *line, size_t capacity, const char *key, const char *what, const char (*parts)[65], int n)
{
    char hex[65];
    mcs_sha256(parts, (int64_t)n * 65, hex);
    snprintf(line, capacity, "%s contents: %d %s, sha256 %.16s\n", key, n, what, hex);
}

Test(training_data, atlas_and_weights)
{
    struct arena a = {0};
    float value[12];
    uint8_t label[12], brain[12];
    char parts[3][65], want[128], first[128];
    const struct demo_atlas atlas = {.nx = 2, .ny = 3, .nz = 2, .value = value, .label = label, .brain = brain};
    for (int i = 0; i < 12; i++) value[i] = 0.25f * (float)i, label[i] = (uint8_t)(3 * i), brain[i] = i & 1;
    mcs_sha256(value, sizeof value, parts[0]);
    mcs_sha256(label, sizeof label, parts[1]);
    mcs_sha256(brain, sizeof brain, parts[2]);
    want_line(want, sizeof want, "atlas", "volumes", parts, 3);
    cr_expect_str_eq(mcs_training_atlas_lines(&atlas, &a), want);
    snprintf(first, sizeof first, "%s", want);
    value[11] += 1;
    cr_expect_str_neq(mcs_training_atlas_lines(&atlas, &a), first);
    value[11] -= 1, label[11]++;
    cr_expect_str_neq(mcs_training_atlas_lines(&atlas, &a), first);
    label[11]--, brain[11] ^= 1;
    cr_expect_str_neq(mcs_training_atlas_lines(&atlas, &a), first);
    cr_expect_str_eq(mcs_training_weights_line("clip", parts[0], &a),
                     (snprintf(want, sizeof want, "clip weights: sha256 %.16s\n", parts[0]), want));
    mcs_arena_free(&a);
}

/* Hash of a file: its size, the first 32 KiB, four evenly spaced blocks of 4 KiB, the last 16 KiB; a file of at most 64
 * KiB is hashed whole. */
static void file_digest(const uint8_t *bytes, int64_t size, char hex[65])
{
    uint8_t *read = malloc(8 + (1 << 16));
    int64_t n = 8;
    cr_assert(read);
    memcpy(read, &size, 8);
    if (size <= 1 << 16) {
        memcpy(read + n, bytes, (size_t)size), n += size;
    } else {
        const int64_t between = size - 32768 - 16384;
        memcpy(read + n, bytes, 32768), n += 32768;
        for (int k = 0; k < 4; k++) memcpy(read + n, bytes + 32768 + between / 4 * k, 4096), n += 4096;
        memcpy(read + n, bytes + size - 16384, 16384), n += 16384;
    }
    mcs_sha256(read, n, hex);
    free(read);
}

Test(training_data, pairs)
{
    static const int64_t sizes[] = {0, 5, 1 << 16, (1 << 16) + 1, 200003};
    enum { N = sizeof sizes / sizeof *sizes };
    struct arena a = {0};
    struct pair v[N];
    char folder[] = "/tmp/mcs_training_data_XXXXXX", path[N][64], stem[N][8], caption[N][16], images[N][65], want[256];
    char line[128];
    const char *lines;
    cr_assert(mkdtemp(folder));
    mcs_log_quiet(1);
    memset(v, 0, sizeof v);
    for (int i = 0; i < N; i++) {
        uint8_t *bytes = malloc((size_t)sizes[i] + 1);
        cr_assert(bytes);
        for (int64_t k = 0; k < sizes[i]; k++) bytes[k] = (uint8_t)(k * 131 >> 3 ^ k * (i + 1));
        snprintf(path[i], sizeof path[i], "%s/%d", folder, i);
        OK(mcs_file_write(path[i], (const char *)bytes, sizes[i]));
        file_digest(bytes, sizes[i], images[i]);
        snprintf(stem[i], sizeof stem[i], "stem%d", i);
        snprintf(caption[i], sizeof caption[i], "caption %d", i);
        v[i].image = path[i], v[i].stem = stem[i], v[i].caption = caption[i];
        free(bytes);
    }
    struct pairs pairs = {.n = N, .v = v};
    OK(mcs_training_pairs_lines(&pairs, &a, &lines));
    want_line(want, sizeof want, "images", "files", images, N);
    char table[2 * N][65], hex[65];
    for (int i = 0; i < N; i++) {
        mcs_sha256(stem[i], (int64_t)strlen(stem[i]), table[2 * i]);
        mcs_sha256(caption[i], (int64_t)strlen(caption[i]), table[2 * i + 1]);
    }
    mcs_sha256(table, sizeof table, hex);
    snprintf(line, sizeof line, "pairs contents: %d rows, sha256 %.16s\n", N, hex);
    cr_expect(!strncmp(lines, line, strlen(line)) && !strcmp(lines + strlen(line), want), "want %s%s, got %s", line,
              want, lines);
    char first[512];
    snprintf(first, sizeof first, "%s", lines);
    v[2].caption = "another";
    OK(mcs_training_pairs_lines(&pairs, &a, &lines));
    cr_expect(strcmp(lines, first) && strstr(lines, want), "a caption is no part of the images: %s", lines);
    v[2].caption = caption[2], v[4].stem = "other";
    OK(mcs_training_pairs_lines(&pairs, &a, &lines));
    cr_expect(strcmp(lines, first) && strstr(lines, want), "nor a stem: %s", lines);
    v[4].stem = stem[4];
    OK(mcs_training_pairs_lines(&pairs, &a, &lines));
    cr_expect_str_eq(lines, first);
    v[1].image = "/nowhere";
    cr_expect_eq(mcs_training_pairs_lines(&pairs, &a, &lines), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "/nowhere"), "%s", mcs_error_message());
    mcs_error_clear();
    v[1].image = folder;
    cr_expect_eq(mcs_training_pairs_lines(&pairs, &a, &lines), MCS_E_IO);
    for (int i = 0; i < N; i++) unlink(path[i]);
    rmdir(folder);
    mcs_arena_free(&a);
}

/* The hash of a slice: of its size as text and the hash of its values. The hash of labels is of their bytes. */
static void case_digest(int height, int width, const void *values, int64_t bytes, char digest[65])
{
    char hex[65], text[160];
    mcs_sha256(values, bytes, hex);
    snprintf(text, sizeof text, "%d x %d x 1 %s", height, width, hex);
    mcs_sha256(text, (int64_t)strlen(text), digest);
}

Test(training_data, cases)
{
    enum { H = 3, W = 5 };
    struct unet_cases cases;
    struct arena a = {0};
    uint8_t pixels[H * W], labels[2 * H * W];
    float volume[2 * H * W];
    char images[3][65], marks[3][65], want[256];
    for (int i = 0; i < 2 * H * W; i++) volume[i] = 0.5f * (float)i, labels[i] = i % 7 == 0;
    for (int i = 0; i < H * W; i++) pixels[i] = (uint8_t)(17 * i);
    const struct image image = {W, H, 1, pixels};
    mcs_unet_cases_init(&cases, 1, 2);
    OK(mcs_unet_cases_add_image(&cases, "image", &image, labels));
    OK(mcs_unet_cases_add_volume(&cases, "volume", volume, labels, 2, H, W));
    case_digest(H, W, pixels, sizeof pixels, images[0]);
    mcs_sha256(labels, H * W, marks[0]);
    for (int z = 0; z < 2; z++) {
        case_digest(H, W, volume + z * H * W, H * W * (int64_t)sizeof(float), images[1 + z]);
        mcs_sha256(labels + z * H * W, H * W, marks[1 + z]);
    }
    want_line(want, sizeof want, "images", "slices", images, 3);
    want_line(want + strlen(want), sizeof want - strlen(want), "labels", "slices", marks, 3);
    cr_expect_str_eq(mcs_training_cases_lines(&cases, &a), want);
    mcs_unet_cases_free(&cases);
    mcs_arena_free(&a);
}
