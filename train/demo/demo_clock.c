#include "train/demo/demo_clock.h"

#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/path.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static double wall(const struct timespec *t)
{
    return (double)t->tv_sec + 1e-9 * (double)t->tv_nsec;
}

static enum mcs_status write_file(const struct demo_clock *c)
{
    struct timespec now;
    json_t *stages = json_object();
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < c->n_stages; i++) json_object_set_new(stages, c->stage[i].name, json_real(c->stage[i].seconds));
    json_t *root = json_pack("{s:f, s:o, s:f, s:s}", "seconds", mcs_demo_clock_total(c), "stages", stages, "written",
                             wall(&now), "stage", c->running < 0 ? "" : c->stage[c->running].name);
    return mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17), "%s", c->path);
}

/* Reads the times in the file and adds the time between its writing and the last heartbeat. A damaged file is ignored.
 */
static void read_file(struct demo_clock *c)
{
    struct stat info;
    json_t *root;
    if (stat(c->path, &info) != 0) return;
    if (mcs_json_read(c->path, 1 << 20, 0, &root) != MCS_OK) {
        mcs_error_clear();
        return;
    }
    const json_t *stages = json_object_get(root, "stages");
    const char *running = json_string_value(json_object_get(root, "stage"));
    const double beaten = wall(&info.st_mtim) - json_number_value(json_object_get(root, "written"));
    const double more = running && *running && beaten > 0 ? beaten : 0;
    c->before = json_number_value(json_object_get(root, "seconds")) + more;
    for (int i = 0; i < c->n_stages; i++) {
        c->stage[i].seconds = json_number_value(json_object_get(stages, c->stage[i].name));
        if (running && !strcmp(running, c->stage[i].name)) c->stage[i].seconds += more;
    }
    json_decref(root);
}

static void *beat(void *clock)
{
    struct demo_clock *c = clock;
    for (int k = 1; !c->over; k++) {
        nanosleep(&(struct timespec){0, 100000000}, NULL);
        if (k % 10 == 0 && !c->over) utimensat(AT_FDCWD, c->path, NULL, 0);
    }
    return NULL;
}

enum mcs_status mcs_demo_clock_open(struct demo_clock *c, const char *folder, const char *const *names, int n)
{
    *c = (struct demo_clock){.n_stages = n, .running = -1};
    MCS_TRY(mcs_path(c->path, "%s/.mcsam.seconds", folder));
    for (int i = 0; i < n; i++) c->stage[i].name = names[i];
    read_file(c);
    c->started = c->stage_started = mcs_seconds();
    MCS_TRY(write_file(c));
    c->beats = pthread_create(&c->beat, NULL, beat, c) == 0; /* if it fails, a killed run counts up to its last stage */
    return MCS_OK;
}

enum mcs_status mcs_demo_clock_stage(struct demo_clock *c, int i)
{
    const double now = mcs_seconds();
    if (c->running >= 0) c->stage[c->running].seconds += now - c->stage_started;
    c->running = i;
    c->stage_started = now;
    return write_file(c);
}

double mcs_demo_clock_total(const struct demo_clock *c)
{
    return c->before + mcs_seconds() - c->started;
}

void mcs_demo_clock_close(struct demo_clock *c)
{
    if (!*c->path) return;
    c->over = 1;
    if (c->beats) pthread_join(c->beat, NULL);
    if (mcs_demo_clock_stage(c, -1) != MCS_OK) mcs_error_clear();
    *c->path = '\0';
}
