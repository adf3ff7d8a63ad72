/* The log of a training: lines of metrics.jsonl, and the same values as TensorBoard reads them, decoded here by the
 * formats' definitions: TFRecord frames with masked CRC-32C, and in each the protobuf Event {1 wall_time: double, 2
 * step: varint, 3 file_version: text, 5 summary {1 value {1 tag: text, 2 simple_value: float}}}. */
#include "train/run/run_log.h"

#include "data/io/file.h"
#include "engine/base/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static char folder[] = "/tmp/mcs_run_log_XXXXXX";

static void setup(void)
{
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
}

static void teardown(void)
{
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(run_log, .init = setup, .fini = teardown);

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void expect_lines(const char *want)
{
    char *text;
    int64_t n;
    OK(mcs_file_read(in_folder("metrics.jsonl"), 1 << 20, &text, &n));
    cr_expect_str_eq(text, want);
    free(text);
}

/* ---- a reader of events ---- */

/* CRC-32C (Castagnoli) by a table of bytes. */
static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t table[256], crc = ~0u;
    for (uint32_t b = 0; b < 256; b++) {
        table[b] = b;
        for (int k = 0; k < 8; k++) table[b] = table[b] & 1 ? table[b] >> 1 ^ 0x82F63B78u : table[b] >> 1;
    }
    for (size_t i = 0; i < n; i++) crc = crc >> 8 ^ table[(crc ^ p[i]) & 255];
    return ~crc;
}

static uint32_t masked(uint32_t crc)
{
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

struct event {
    double wall;
    int64_t step;
    char version[32], tag[300];
    float value;
};

static uint64_t read_varint(const uint8_t **p)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        const uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return v;
    }
}

/* Fields of one message; `depth` 0: the event, 1: its summary, 2: a value of it. */
static void read_message(const uint8_t *p, const uint8_t *end, int depth, struct event *e)
{
    while (p < end) {
        const uint64_t key = read_varint(&p);
        const int field = (int)(key >> 3), wire = (int)(key & 7);
        if (wire == 0) {
            const uint64_t v = read_varint(&p);
            cr_assert(depth == 0 && field == 2, "varint field %d at depth %d", field, depth);
            e->step = (int64_t)v;
        } else if (wire == 1) {
            cr_assert(depth == 0 && field == 1);
            memcpy(&e->wall, p, 8);
            p += 8;
        } else if (wire == 5) {
            cr_assert(depth == 2 && field == 2);
            memcpy(&e->value, p, 4);
            p += 4;
        } else {
            cr_assert_eq(wire, 2);
            const size_t n = read_varint(&p);
            cr_assert(p + n <= end);
            char *text = depth == 0 && field == 3 ? e->version : depth == 2 && field == 1 ? e->tag : NULL;
            if (text) {
                memcpy(text, p, n);
                text[n] = '\0';
                cr_assert_eq(strlen(text), n);
            } else {
                cr_assert((depth == 0 && field == 5) || (depth == 1 && field == 1));
                read_message(p, p + n, depth + 1, e);
            }
            p += n;
        }
    }
    cr_assert_eq(p, end);
}

/* Events of the file, the version's first; returns how many. */
static int read_events(struct event *e, int capacity)
{
    char *bytes;
    int64_t n, at = 0;
    int k = 0;
    OK(mcs_file_read(in_folder("events.out.tfevents.mcsam"), 1 << 20, &bytes, &n));
    const uint8_t *b = (const uint8_t *)bytes;
    while (at < n) {
        uint64_t length;
        uint32_t crc;
        cr_assert(k < capacity && at + 16 <= n);
        memcpy(&length, b + at, 8);
        memcpy(&crc, b + at + 8, 4);
        cr_assert_eq(crc, masked(crc_of(b + at, 8)), "checksum of the length of event %d", k);
        cr_assert(at + 16 + (int64_t)length <= n);
        memcpy(&crc, b + at + 12 + length, 4);
        cr_assert_eq(crc, masked(crc_of(b + at + 12, length)), "checksum of event %d", k);
        e[k] = (struct event){.step = -1, .wall = -1, .value = NAN};
        read_message(b + at + 12, b + at + 12 + length, 0, &e[k++]);
        at += 16 + (int64_t)length;
    }
    cr_assert_eq(at, n);
    cr_assert_str_eq(e[0].version, "brain.Event:2");
    cr_assert(e[0].wall == 0 && !e[0].tag[0]);
    free(bytes);
    return k;
}

static void expect_event(const struct event *e, int64_t step, const char *tag, float value)
{
    cr_expect(e->step == step && e->wall == (double)step && !strcmp(e->tag, tag) && e->value == value,
              "step %lld, wall %g, %s %g: want step %lld, %s %g", (long long)e->step, e->wall, e->tag, (double)e->value,
              (long long)step, tag, (double)value);
}

/* ---- tests ---- */

/* Steps whose varint has one, two and three bytes; NaN becomes null in the line and has no event. */
Test(run_log, lines_and_events_hold_the_same)
{
    struct run_log log;
    struct event e[8];
    OK(mcs_run_log_open(&log, folder, -1));
    mcs_run_log_begin(&log, 1);
    mcs_run_log_value(&log, "loss", 0.1);
    mcs_run_log_value(&log, "norm", NAN);
    OK(mcs_run_log_end(&log));
    mcs_run_log_begin(&log, 128);
    mcs_run_log_value(&log, "loss", -1234567.8912345);
    mcs_run_log_value(&log, "norm", INFINITY);
    OK(mcs_run_log_end(&log));
    mcs_run_log_begin(&log, 70000);
    mcs_run_log_value(&log, "a longer name", 3);
    OK(mcs_run_log_end(&log));
    OK(mcs_run_log_sync(&log));
    mcs_run_log_close(&log);
    cr_expect(!log.json && !log.events);
    expect_lines("{\"step\": 1, \"loss\": 0.1, \"norm\": null}\n"
                 "{\"step\": 128, \"loss\": -1234567.89, \"norm\": null}\n"
                 "{\"step\": 70000, \"a longer name\": 3}\n");
    cr_assert_eq(read_events(e, 8), 4);
    expect_event(&e[1], 1, "loss", 0.1f);
    expect_event(&e[2], 128, "loss", -1234567.89f);
    expect_event(&e[3], 70000, "a longer name", 3);
}

/* The length of a name of more than 127 bytes takes two bytes; the event has the first 200 bytes. */
Test(run_log, long_names)
{
    struct run_log log;
    struct event e[4];
    char name[251];
    memset(name, 'n', 250), name[250] = '\0';
    OK(mcs_run_log_open(&log, folder, -1));
    mcs_run_log_begin(&log, 5);
    mcs_run_log_value(&log, name, 0.5);
    mcs_run_log_value(&log, name + 100, 0.25);
    OK(mcs_run_log_end(&log));
    mcs_run_log_close(&log);
    cr_assert_eq(read_events(e, 4), 3);
    cr_expect(strlen(e[1].tag) == 200 && strlen(e[2].tag) == 150);
    cr_expect(e[1].value == 0.5f && e[2].value == 0.25f);
}

static const char THREE[] = "{\"step\": 1, \"loss\": 0.5}\n"
                            "{\"step\": 6, \"loss\": 0.25, \"word\": \"x\", \"norm\": null}\n"
                            "{\"step\": 11, \"loss\": 0.125}\n"
                            "{\"step\": 12, \"lo";

/* A resumed run keeps the lines up to its step and rewrites their events. */
static void check_resumed(const char *left_over)
{
    struct run_log log;
    struct event e[8];
    OK(mcs_file_write(in_folder(left_over), THREE, (int64_t)strlen(THREE)));
    OK(mcs_run_log_open(&log, folder, 6));
    mcs_run_log_begin(&log, 11);
    mcs_run_log_value(&log, "loss", 0.75);
    OK(mcs_run_log_end(&log));
    mcs_run_log_close(&log);
    expect_lines("{\"step\": 1, \"loss\": 0.5}\n"
                 "{\"step\": 6, \"loss\": 0.25, \"word\": \"x\", \"norm\": null}\n"
                 "{\"step\": 11, \"loss\": 0.75}\n");
    cr_assert_eq(read_events(e, 8), 4);
    expect_event(&e[1], 1, "loss", 0.5f);
    expect_event(&e[2], 6, "loss", 0.25f);
    expect_event(&e[3], 11, "loss", 0.75f);
    cr_expect(!mcs_file_exists(in_folder("metrics.jsonl.old")));
}

Test(run_log, a_resumed_run_goes_on_after_its_step)
{
    check_resumed("metrics.jsonl");
}

/* A run that was killed while it was being resumed left its old log under another name. */
Test(run_log, a_resumed_run_that_was_killed_at_its_start)
{
    OK(mcs_file_write(in_folder("metrics.jsonl"), "{\"step\": 1", 10));
    check_resumed("metrics.jsonl.old");
}

/* A run resumed after step 0 keeps nothing of the old log; a new run removes the old log. */
Test(run_log, a_new_run_starts_with_nothing)
{
    struct run_log log;
    struct event e[2];
    for (int resumed = -1; resumed <= 0; resumed++) {
        OK(mcs_file_write(in_folder("metrics.jsonl"), THREE, (int64_t)strlen(THREE)));
        OK(mcs_run_log_open(&log, folder, resumed));
        mcs_run_log_close(&log);
        expect_lines("");
        cr_expect_eq(read_events(e, 2), 1);
    }
    OK(mcs_file_write(in_folder("metrics.jsonl.old"), THREE, (int64_t)strlen(THREE)));
    OK(mcs_run_log_open(&log, folder, -1));
    mcs_run_log_close(&log);
    expect_lines("");
    cr_expect(!mcs_file_exists(in_folder("metrics.jsonl.old")));
}

Test(run_log, a_folder_that_is_not_there)
{
    struct run_log log;
    cr_expect_eq(mcs_run_log_open(&log, in_folder("nowhere"), -1), MCS_E_IO);
    cr_expect(strstr(mcs_error_message(), "nowhere/metrics.jsonl: cannot be written"), "%s", mcs_error_message());
    mcs_run_log_close(&log);
}

/* One open file is replaced by /dev/full, so that writes and fsync fail. */
Test(run_log, a_full_disk)
{
    for (int k = 0; k < 2; k++) {
        struct run_log log;
        OK(mcs_run_log_open(&log, folder, -1));
        const int full = open("/dev/full", O_WRONLY);
        cr_assert(full >= 0 && dup2(full, fileno(k ? log.events : log.json)) >= 0);
        close(full);
        mcs_run_log_begin(&log, 1);
        mcs_run_log_value(&log, "loss", 0.5);
        cr_expect_eq(mcs_run_log_end(&log), MCS_E_IO, "file %d", k);
        cr_expect(strstr(mcs_error_message(), "writing failed"), "%s", mcs_error_message());
        mcs_error_clear();
        cr_expect_eq(mcs_run_log_sync(&log), MCS_E_IO, "file %d cannot be synchronised", k);
        cr_expect(strstr(mcs_error_message(), "writing failed"), "%s", mcs_error_message());
        mcs_error_clear();
        mcs_run_log_close(&log);
    }
}
