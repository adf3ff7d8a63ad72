#include "tests/support/support_tiny.h"

#include "data/image/image.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "infer/clip/clip_model.h"
#include "infer/weights.h"
#include "train/sam/sam_train.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

int tiny_shell(const char *fmt, ...)
{
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    cr_assert(n < (int)sizeof line);
    const int st = system(line);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

const char *tiny_path(const char *folder, const char *fmt, ...)
{
    enum { MOST = 256 };
    static char kept[MOST][192];
    static int n;
    char path[192];
    va_list ap;
    const int head = snprintf(path, sizeof path, "%s/", folder);
    va_start(ap, fmt);
    const int tail = vsnprintf(path + head, sizeof path - (size_t)head, fmt, ap);
    va_end(ap);
    cr_assert(head + tail < (int)sizeof path);
    for (int i = 0; i < n; i++)
        if (!strcmp(kept[i], path)) return kept[i];
    cr_assert_lt(n, MOST);
    memcpy(kept[n], path, sizeof path);
    return kept[n++];
}

const char *tiny_folder(const char *name)
{
    static char made[16][64];
    static int n;
    char *folder = made[n++ % 16];
    snprintf(folder, sizeof made[0], "/tmp/mcs_%s_XXXXXX", name);
    cr_assert(mkdtemp(folder), "%s", folder);
    return folder;
}

void tiny_remove(const char *folder)
{
    cr_expect_eq(tiny_shell("chmod -R u+w %s && rm -rf %s", folder, folder), 0);
}

int tiny_same(const char *a, const char *b)
{
    return tiny_shell("diff -r -x '*.tmp.*' %s %s >&2", a, b) == 0;
}

/* ---- models and data ---- */

struct clip_config tiny_clip_config(void)
{
    struct clip_config c = {.embed = 8, .image_size = 16, .patch = 8, .types = 2, .dropout = 0.1f};
    c.v_width = 16, c.v_depth = 3, c.v_heads = 2, c.v_mlp = 32, c.v_eps = 1e-6f;
    c.context = c.positions = 16, c.t_width = 16, c.t_depth = 2, c.t_heads = 2, c.t_mlp = 32, c.t_proj = 12;
    c.t_eps = 1e-12f;
    for (int k = 0; k < 3; k++) c.mean[k] = 0.5f, c.std[k] = 0.25f;
    return c;
}

void tiny_clip_model(const char *folder)
{
    const struct clip_config c = tiny_clip_config();
    struct device d;
    struct clip_model m;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11, &d, NULL, &m));
    OK(mcs_clip_model_save(&m, folder, 0));
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
}

/* Paints a grey image with noise and an ellipse, and its mask unless NULL. */
static void paint(int width, int height, uint32_t number, int bright, int right, struct image *img, struct image *mask)
{
    const struct mcs_rng r = {.seed = 21, .site = mcs_rng_site("tests.tiny"), .sample = number};
    OK(mcs_image_alloc(img, width, height, 1));
    if (mask) OK(mcs_image_alloc(mask, width, height, 1));
    const double cx = width * (right ? 0.7 : 0.3) + mcs_rng_range(r, 1, -1, 1),
                 cy = height * mcs_rng_range(r, 2, 0.35, 0.65), radius = mcs_rng_range(r, 3, 3, 5);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int in = (x - cx) * (x - cx) + (y - cy) * (y - cy) < radius * radius, at = y * width + x;
            const uint32_t noise = mcs_rng_below(r, 8 + (uint32_t)at, 20);
            img->pixels[at] = (uint8_t)((in ? bright ? 200 : 20 : 100) + noise);
            if (mask) mask->pixels[at] = in ? 255 : 0;
        }
}

void tiny_pairs(const char *folder, int n)
{
    cr_assert_eq(tiny_shell("mkdir -p %s", folder), 0);
    FILE *f = fopen(tiny_path(folder, "pairs.csv"), "w");
    cr_assert(f);
    fprintf(f, "filename,Caption\n");
    for (int i = 0; i < n; i++) {
        struct image img;
        const int bright = i & 1, right = i >> 1 & 1;
        paint(20, 18, (uint32_t)i, bright, right, &img, NULL);
        OK(mcs_image_write_png(tiny_path(folder, "p%02d.png", i), &img));
        mcs_image_free(&img);
        fprintf(f, "p%02d.png,%s lesion on the %s side of case %d\n", i, bright ? "bright" : "dark",
                right ? "right" : "left", i);
    }
    cr_assert_eq(fclose(f), 0);
}

void tiny_masks(const char *folder, int n)
{
    cr_assert_eq(tiny_shell("mkdir -p %s/images %s/labels", folder, folder), 0);
    for (int i = 0; i < n; i++) {
        struct image img, mask;
        paint(24, 24, (uint32_t)(100 + i), 1, i & 1, &img, &mask);
        OK(mcs_image_write_png(tiny_path(folder, "images/c%02d.png", i), &img));
        OK(mcs_image_write_png(tiny_path(folder, "labels/c%02d.png", i), &mask));
        mcs_image_free(&img);
        mcs_image_free(&mask);
    }
}

/* ---- trainings as processes ---- */

struct sam_config tiny_sam_config(void)
{
    return (struct sam_config){.image_size = 32,
                               .patch = 8,
                               .width = 16,
                               .depth = 2,
                               .heads = 2,
                               .window = 2,
                               .mlp = 32,
                               .n_global = 1,
                               .global = {1},
                               .embed = 16,
                               .d_heads = 2,
                               .d_mlp = 32,
                               .d_downsample = 2,
                               .mask_in = 8};
}

/* An image with a rectangle whose place and size depend on the key. */
static enum mcs_status draw_sam(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    const struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("tests.sam"), .sample = index, .step = step};
    const int size = tiny_sam_config().image_size, w = 8 + (int)mcs_rng_below(r, 0, 6),
              h = 8 + (int)mcs_rng_below(r, 1, 6), x = (int)mcs_rng_below(r, 2, (uint32_t)(size - w)),
              y = (int)mcs_rng_below(r, 3, (uint32_t)(size - h));
    memset(s->image, 60, (size_t)(size * size));
    memset(s->mask, 0, (size_t)(size * size));
    for (int k = y; k < y + h; k++) {
        memset(s->image + k * size + x, 200, (size_t)w);
        memset(s->mask + k * size + x, 1, (size_t)w);
    }
    s->n = 1;
    memcpy(s->box[0], (int[]){x, y, x + w - 1, y + h - 1}, sizeof s->box[0]);
    return MCS_OK;
}

/* Trains SAM on tiny data, as a verb would (there is none); returns the exit code. */
static int train_sam(void)
{
    struct device d;
    struct sam_model m;
    const struct sam_train_source source = {draw_sam, NULL};
    struct sam_train_options o = mcs_sam_train_defaults();
    o.steps = TINY_STEPS, o.warmup = 4, o.checkpoint_every = 7, o.images = 2, o.boxes = 2, o.lr = 3e-3, o.seed = 5;
    o.run = "run", o.config = "tiny";
    mcs_stop_install();
    enum mcs_status st = mcs_cpu_open(1, &d);
    const struct sam_config sam = tiny_sam_config();
    if (st == MCS_OK) st = mcs_sam_model_new(&sam, 3, &d, &m);
    if (st == MCS_OK) st = mcs_sam_train(&m, &o, &source);
    if (st == MCS_OK) st = mcs_sam_model_save(&m, "run/model", 0, NULL);
    if (st != MCS_OK) fprintf(stderr, "mcsam: error: %s\n", mcs_error_message());
    return mcs_exit_code(st);
}

/* Forks a process in `folder` with its messages in folder/log: returns 0 in the child, which must end by exec or _exit.
 */
static pid_t start_in(const char *folder, const struct tiny_limits *limits)
{
    fflush(NULL);
    const pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid) return pid;
    const int log = open(tiny_path(folder, "log"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (log < 0 || chdir(folder) != 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) _exit(99);
    close(log);
    setenv("OMP_WAIT_POLICY", "passive", 1); /* tests share their cores */
    if (limits && limits->file_bytes) {
        struct rlimit l;
        getrlimit(RLIMIT_FSIZE, &l);
        l.rlim_cur = (rlim_t)limits->file_bytes;
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &l) != 0) _exit(99);
        setenv("GCOV_PREFIX", folder, 1); /* ./run coverage: counts cut short must not be merged with the others */
    }
    if (limits && limits->as_nobody && geteuid() == 0 && setuid(65534) != 0) _exit(99);
    return 0;
}

pid_t tiny_spawn(const char *binary, const char *folder, const char *const *argv, const struct tiny_limits *limits)
{
    const char *all[64] = {binary};
    int n = 1;
    while (argv[n - 1] && n < 63) all[n] = argv[n - 1], n++;
    const int program = open(binary, O_RDONLY | O_CLOEXEC); /* opened before user `nobody` loses access to it */
    cr_assert(program >= 0, "%s", binary);
    const pid_t pid = start_in(folder, limits);
    if (pid) {
        close(program);
        return pid;
    }
    fexecve(program, (char *const *)(uintptr_t)all, environ);
    _exit(98);
}

/* clang-format off */
static const char *const clip_arguments[] = {
    "finetune", "-m", "model", "--pairs", "pairs/pairs.csv", "-o", "run", "--batch", "6", "--steps", "42", "--warmup", "4",
    "--lr", "1e-3", "--crop", "0.7", "--temperature", "learned", "--checkpoint-every", "7", "--seed", "3", "--threads", "1", NULL};
static const char *const unet_arguments[] = {
    "train", "-i", "data/images", "-l", "data/labels", "-o", "run", "--patch", "16x16", "--stages", "3", "--features", "4",
    "--max-features", "8", "--batch", "2", "--epochs", "6", "--iterations", "7", "--cycles", "2", "--checkpoints", "2",
    "--late", "0.5", "--checkpoint-every", "5", "--seed", "3", "--threads", "1", NULL};
/* clang-format on */

pid_t tiny_start(enum tiny_training t, const char *binary, const char *folder, const char *const *more,
                 const struct tiny_limits *limits)
{
    const char *argv[64];
    int n = 0;
    if (t == TINY_SAM) {
        const pid_t pid = start_in(folder, limits);
        if (pid) return pid;
        _exit(train_sam());
    }
    for (const char *const *a = t == TINY_CLIP ? clip_arguments : unet_arguments; *a; a++) argv[n++] = *a;
    for (; more && *more; more++) argv[n++] = *more;
    argv[n] = NULL;
    return tiny_spawn(binary, folder, argv, limits);
}

int tiny_wait(pid_t pid)
{
    int st;
    cr_assert_eq(waitpid(pid, &st, 0), pid);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

const char *tiny_log(const char *folder)
{
    static char text[1 << 15];
    FILE *f = fopen(tiny_path(folder, "log"), "r");
    const size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f) fclose(f);
    return text;
}

void tiny_training_folder(enum tiny_training t, const char *folder)
{
    if (t == TINY_UNET) tiny_masks(tiny_path(folder, "data"), 8);
    if (t != TINY_CLIP) return;
    tiny_pairs(tiny_path(folder, "pairs"), 24);
    const pid_t pid = fork(); /* a fork does not copy threads, so OpenMP may only be used in the child */
    cr_assert(pid >= 0);
    if (pid == 0) {
        tiny_clip_model(tiny_path(folder, "model"));
        _exit(0);
    }
    cr_assert_eq(tiny_wait(pid), 0);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void tiny_kill_test(enum tiny_training t, const char *binary, int kills, uint64_t seed)
{
    const struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("tests.kill")};
    const char *whole = tiny_folder("whole"), *killed = tiny_folder("killed");
    tiny_training_folder(t, whole);
    cr_assert_eq(tiny_shell("cp -r %s/. %s", whole, killed), 0);
    const double started = now();
    cr_assert_eq(tiny_wait(tiny_start(t, binary, whole, NULL, NULL)), 0, "%s", tiny_log(whole));
    const double seconds = now() - started;

    int done = 0;
    for (uint32_t round = 0; done < kills; round++) {
        cr_assert(round < (uint32_t)(6 * kills + 20), "%d of %d kills came before the end of a run", done, kills);
        const double delay = mcs_rng_range(r, round, 0.02, 0.75) * seconds;
        const pid_t pid = tiny_start(t, binary, killed, NULL, NULL);
        nanosleep(&(struct timespec){(time_t)delay, (long)(1e9 * (delay - (double)(time_t)delay))}, NULL);
        kill(pid, SIGKILL);
        const int code = tiny_wait(pid);
        cr_assert(code == 0 || code == 128 + SIGKILL, "exit %d: %s", code, tiny_log(killed));
        if (code) {
            done++;
            continue;
        }
        /* The training ended before the kill: compare it and start the next one. */
        cr_assert(tiny_same(tiny_path(whole, "run"), tiny_path(killed, "run")), "after %d kills", done);
        cr_assert_eq(tiny_shell("rm -r %s/run", killed), 0);
    }
    cr_assert_eq(tiny_wait(tiny_start(t, binary, killed, NULL, NULL)), 0, "%s", tiny_log(killed));
    cr_expect(tiny_same(tiny_path(whole, "run"), tiny_path(killed, "run")), "%d kills changed the result", kills);
    cr_expect_neq(tiny_shell("ls %s/run/checkpoint.h5.tmp.* %s/run/*.safetensors.tmp.* 2>/dev/null", killed, killed), 0,
                  "a killed process's large half files are still there");
    tiny_remove(whole);
    tiny_remove(killed);
}
