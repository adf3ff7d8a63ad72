#include "tests/support/support_stop.h"

#include "data/io/file.h"
#include "infer/sam/sam_model.h"
#include "infer/unet/probability.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void nap(void)
{
    nanosleep(&(struct timespec){0, 200000}, NULL);
}

int stop_wait_file(pid_t pid, const char *path)
{
    while (!mcs_file_exists(path)) {
        if (ended(pid)) return mcs_file_exists(path);
        nap();
    }
    return 1;
}

int stop_wait_text(pid_t pid, const char *path, const char *part)
{
    for (;;) {
        char *text = NULL;
        int64_t n;
        const int over = ended(pid), there = mcs_file_exists(path) &&
                                             mcs_file_read(path, 1 << 24, &text, &n) == MCS_OK &&
                                             strstr(text, part) != NULL;
        mcs_error_clear();
        free(text);
        if (there || over) return there;
        nap();
    }
}

int stop_wait_log(pid_t pid, const char *folder, const char *part)
{
    while (!strstr(tiny_log(folder), part)) {
        if (ended(pid)) return strstr(tiny_log(folder), part) != NULL;
        nap();
    }
    return 1;
}

int stop_wait_blocked(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (;;) {
        unsigned long long blocked = 0;
        char line[256];
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f)) sscanf(line, "SigBlk: %llx", &blocked);
        if (f) fclose(f);
        if (blocked >> (SIGTERM - 1) & 1) return 1;
        if (ended(pid)) return 0;
        nap();
    }
}

void stop_make_models(const char *folder)
{
    const pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        struct device d;
        struct sam_model m;
        const struct sam_config sam = tiny_sam_config();
        tiny_clip_model(tiny_path(folder, "clip"));
        int good = mcs_cpu_open(1, &d) == MCS_OK && mcs_sam_model_new(&sam, 3, &d, &m) == MCS_OK;
        good = good && mcs_sam_model_save(&m, tiny_path(folder, "sam"), 0, NULL) == MCS_OK;
        _exit(good ? 0 : 1);
    }
    cr_assert_eq(tiny_wait(pid), 0);
}

void stop_make_images(const char *folder)
{
    tiny_pairs(tiny_path(folder, "made"), STOP_IMAGES);
    cr_assert_eq(
        tiny_shell("cd %s && mkdir img && cp $(find made -name '*.png') img/ && set -- $(ls img) && head -c 60 "
                   "img/$3 > img/cut && mv img/cut img/$3 && cp img/$3 img/zz_last.png",
                   folder),
        0);
}

void stop_make_probabilities(const char *folder, const char *name, uint32_t seed)
{
    cr_assert_eq(mcs_folder_make(tiny_path(folder, "%s", name)), MCS_OK);
    for (int k = 0; k < 2 * STOP_IMAGES; k++) {
        struct probability p;
        cr_assert_eq(mcs_probability_alloc(&p, 2, 1, 24, 20), MCS_OK);
        for (int i = 0; i < 480; i++) {
            const uint32_t mix = (uint32_t)(i * 2654435761u + (uint32_t)k * 40503u + seed * 69069u);
            p.values[480 + i] = (float)(mix >> 8 & 255) / 255;
            p.values[i] = 1 - p.values[480 + i];
        }
        cr_assert_eq(mcs_probability_write(tiny_path(folder, "%s/case_%03d.h5", name, k), &p), MCS_OK);
        mcs_probability_free(&p);
    }
}

int stop_run(const char *folder, const char *const *argv)
{
    return tiny_wait(tiny_spawn(MCS_BINARY, folder, argv, NULL));
}
