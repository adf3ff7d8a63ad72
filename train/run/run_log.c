#include "train/run/run_log.h"

#include "data/io/file.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- TensorBoard: TFRecord framing (length, masked CRC-32C of both) around a hand-written Event protobuf ---- */

static uint32_t crc32c(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1u)));
    }
    return ~crc;
}

static uint32_t masked(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static void write_record(FILE *f, const uint8_t *body, uint64_t n)
{
    const uint32_t head_crc = masked(crc32c((const uint8_t *)&n, 8)), body_crc = masked(crc32c(body, n));
    fwrite(&n, 8, 1, f);
    fwrite(&head_crc, 4, 1, f);
    fwrite(body, 1, n, f);
    fwrite(&body_crc, 4, 1, f);
}

static uint8_t *varint(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *bytes_field(uint8_t *p, int field, const void *src, size_t n)
{
    p = varint(p, (uint64_t)field << 3 | 2);
    p = varint(p, n);
    memcpy(p, src, n);
    return p + n;
}

/* Event {1: wall_time double, 2: step int64, field: body}: field 3 is file_version, 5 a Summary {1: Value {1: tag, 2:
 * simple_value float}}. wall_time is the step, so that files are reproducible; step 0 is left out. */
static void write_event(FILE *f, int64_t step, int field, const void *body, size_t n)
{
    uint8_t event[400], *e = event;
    const double wall = (double)step;
    *e++ = 1 << 3 | 1;
    memcpy(e, &wall, 8);
    e += 8;
    if (step) {
        *e++ = 2 << 3;
        e = varint(e, (uint64_t)step);
    }
    e = bytes_field(e, field, body, n);
    write_record(f, event, (uint64_t)(e - event));
}

static void write_value(FILE *f, int64_t step, const char *tag, float value)
{
    uint8_t inner[300], summary[320], *p = inner;
    p = bytes_field(p, 1, tag, strnlen(tag, 200));
    *p++ = 2 << 3 | 5;
    memcpy(p, &value, 4);
    p += 4;
    write_event(f, step, 5, summary, (size_t)(bytes_field(summary, 1, inner, (size_t)(p - inner)) - summary));
}

/* ---- metrics.jsonl ---- */

/* Copies the old log's lines up to resumed_step to both new files; an incomplete last line (of a killed run) is
 * skipped.
 */
static enum mcs_status keep_lines(struct run_log *log, const char *old, int64_t resumed_step)
{
    char *text;
    int64_t n;
    MCS_TRY(mcs_file_read(old, (int64_t)1 << 32, &text, &n));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        json_t *object = json_loads(line, 0, NULL), *value;
        const int64_t step = json_integer_value(json_object_get(object, "step"));
        const char *name;
        if (object && step <= resumed_step) {
            fprintf(log->json, "%s\n", line);
            json_object_foreach(object, name, value) if (strcmp(name, "step") != 0 && json_is_number(value))
                write_value(log->events, step, name, (float)json_number_value(value));
        }
        json_decref(object);
    }
    free(text);
    return MCS_OK;
}

/* Opens a log for writing in place. Does not follow a symbolic link, whose target could be any file, and does not block
 * on a pipe or device. */
static enum mcs_status open_log(const char *path, FILE **f)
{
    struct stat info;
    const int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    int error = errno;
    if (fd >= 0) {
        if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && ftruncate(fd, 0) == 0 && (*f = fdopen(fd, "wb")))
            return MCS_OK;
        close(fd);
        error = EEXIST;
    }
    return MCS_FAIL(MCS_E_IO, "%s: cannot be written: %s; is something else than a log in its place?", path,
                    strerror(error));
}

enum mcs_status mcs_run_log_open(struct run_log *log, const char *run_folder, int64_t resumed_step)
{
    static const char version[] = "brain.Event:2";
    char events[MCS_PATH_BYTES], old[MCS_PATH_BYTES];
    memset(log, 0, sizeof *log);
    MCS_TRY(mcs_path(log->path, "%s/metrics.jsonl", run_folder));
    MCS_TRY(mcs_path(old, "%s/metrics.jsonl.old", run_folder));
    MCS_TRY(mcs_path(events, "%s/events.out.tfevents.mcsam", run_folder));
    /* The old file is renamed first and removed only after its lines have been copied; after a kill in between the next
     * run finds it. */
    const int resume =
        resumed_step >= 0 && (mcs_file_exists(old) || (mcs_file_exists(log->path) && rename(log->path, old) == 0));
    MCS_TRY(open_log(log->path, &log->json));
    MCS_TRY(open_log(events, &log->events));
    write_event(log->events, 0, 3, version, sizeof version - 1);
    if (resume) MCS_TRY(keep_lines(log, old, resumed_step));
    MCS_REQUIRE(fflush(log->json) == 0 && fflush(log->events) == 0, MCS_E_IO,
                "%s: writing failed: %s; is the disk full?", log->path, strerror(errno));
    remove(old);
    return MCS_OK;
}

void mcs_run_log_begin(struct run_log *log, int64_t step)
{
    log->step = step;
    fprintf(log->json, "{\"step\": %lld", (long long)step);
}

/* The event has the value as printed in the line, since a resumed run rewrites the events from the lines. */
void mcs_run_log_value(struct run_log *log, const char *name, double value)
{
    char text[32] = "null";
    if (isfinite(value)) {
        snprintf(text, sizeof text, "%.9g", value);
        write_value(log->events, log->step, name, (float)strtod(text, NULL));
    }
    fprintf(log->json, ", \"%s\": %s", name, text);
}

enum mcs_status mcs_run_log_end(struct run_log *log)
{
    fputs("}\n", log->json);
    MCS_REQUIRE(fflush(log->json) == 0 && fflush(log->events) == 0, MCS_E_IO,
                "%s: writing failed: %s; is the disk full?", log->path, strerror(errno));
    return MCS_OK;
}

enum mcs_status mcs_run_log_sync(struct run_log *log)
{
    MCS_REQUIRE(fsync(fileno(log->json)) == 0 && fsync(fileno(log->events)) == 0, MCS_E_IO,
                "%s: writing failed: %s; is the disk full?", log->path, strerror(errno));
    return MCS_OK;
}

void mcs_run_log_close(struct run_log *log)
{
    if (log->json) fclose(log->json);
    if (log->events) fclose(log->events);
    log->json = log->events = NULL;
}
