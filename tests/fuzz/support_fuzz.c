#include "tests/fuzz/support_fuzz.h"

#include "data/image/image.h"
#include "data/image/picture.h"
#include "data/weights/weight_file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/newfile.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { MAX_FILES = 48, PATH_BYTES = 128, MEMORY_MIB = 512 };

static char folder[64];
static struct {
    int n, fd[MAX_FILES];
    char path[MAX_FILES][PATH_BYTES];
} files;

static void remove_folder(void)
{
    for (int i = 0; i < files.n; i++) unlink(files.path[i]);
    rmdir(folder);
}

const char *fuzz_folder(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp"};
    for (int i = 0; i < 2 && !folder[0]; i++) {
        mcs_leftovers_remove(places[i], "mcsam-fuzz-");
        snprintf(folder, sizeof folder, "%s/mcsam-fuzz-XXXXXX", places[i]);
        if (!mkdtemp(folder)) folder[0] = '\0';
        if (!folder[0]) continue;
        flock(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), LOCK_EX | LOCK_NB); /* until the process ends */
        atexit(remove_folder);
        mcs_log_mute_here(1); /* suppresses warnings about thousands of inputs */
        mcs_memory_limit_set((int64_t)MEMORY_MIB << 20);
    }
    FUZZ_REQUIRE(folder[0], "no folder can be made in /dev/shm or /tmp");
    return folder;
}

const char *fuzz_file(const uint8_t *data, size_t size, const char *name)
{
    int i = 0;
    while (i < files.n && strcmp(strrchr(files.path[i], '/') + 1, name) != 0) i++;
    if (i == files.n) {
        FUZZ_REQUIRE(i < MAX_FILES, "more than %d names", MAX_FILES);
        snprintf(files.path[i], PATH_BYTES, "%s/%s", fuzz_folder(), name);
        files.fd[i] = open(files.path[i], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        files.n++;
    }
    FUZZ_REQUIRE(ftruncate(files.fd[i], (off_t)size) == 0 && pwrite(files.fd[i], data, size, 0) == (ssize_t)size,
                 "%s cannot be written", files.path[i]);
    return files.path[i];
}

char *fuzz_as_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    FUZZ_REQUIRE(text, "no memory");
    if (size) memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

int fuzz_ended(enum mcs_status st)
{
    const char *message = mcs_error_message();
    FUZZ_REQUIRE(st == MCS_OK || st == MCS_E_DATA || st == MCS_E_IO || st == MCS_E_USAGE, "status %d: %s", (int)st,
                 message);
    FUZZ_REQUIRE((st == MCS_OK) == !message[0], "status %d with the message '%s'", (int)st, message);
    for (const char *p = message; *p; p++)
        FUZZ_REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7F, "byte 0x%02x in '%s'", (unsigned char)*p, message);
    mcs_error_clear();
    return st == MCS_OK;
}

void fuzz_use(const void *bytes, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    __asm__ volatile("" : : "r"(sum));
}

void fuzz_image(const char *path)
{
    struct image img;
    for (int channels = 0; channels <= 3; channels += 3) { /* as stored, and as models want it */
        if (!fuzz_ended(mcs_image_read(path, channels, &img))) continue;
        FUZZ_REQUIRE(img.width > 0 && img.height > 0 && (img.channels == 1 || img.channels == 3), "%d x %d x %d",
                     img.width, img.height, img.channels);
        FUZZ_REQUIRE(!channels || img.channels == 3, "%d channels", img.channels);
        fuzz_use(img.pixels, (size_t)img.width * (size_t)img.height * (size_t)img.channels);
        mcs_image_free(&img);
    }
    struct stored_image s;
    if (!fuzz_ended(mcs_image_read_stored(path, &s))) return;
    FUZZ_REQUIRE(!s.alpha.pixels || (s.alpha.width == s.img.width && s.alpha.height == s.img.height), "alpha %d x %d",
                 s.alpha.width, s.alpha.height);
    if (s.img.width <= 256 && s.img.height <= 256) {
        FUZZ_REQUIRE(mcs_stored_resize(&s, 5, 7, MCS_BICUBIC, &img) == MCS_OK, "%s", mcs_error_message());
        fuzz_use(img.pixels, (size_t)(5 * 7 * img.channels));
        mcs_image_free(&img);
    }
    mcs_stored_free(&s);
}

void fuzz_picture(const char *path)
{
    struct picture p;
    float values[64];
    if (!fuzz_ended(mcs_picture_read(path, NULL, &p))) return;
    const int64_t n = mcs_picture_count(&p), some = n < 64 ? n : 64;
    FUZZ_REQUIRE(p.nx > 0 && p.ny > 0 && p.nz > 0 && p.channels >= 1 && p.channels <= 4, "%d x %d x %d x %d", p.nx,
                 p.ny, p.nz, p.channels);
    FUZZ_REQUIRE(isfinite(p.slope) && isfinite(p.inter) && p.orientation >= 1 && p.orientation <= 8, "%g %g %d",
                 p.slope, p.inter, p.orientation);
    for (int k = 0; k < 3; k++) FUZZ_REQUIRE(p.spacing[k] > 0, "axis %d: %g mm", k, p.spacing[k]);
    FUZZ_REQUIRE(p.format && strlen(p.notes) < sizeof p.notes, "no format");
    fuzz_use(p.values, (size_t)n * (size_t)mcs_picture_type_bytes(p.type));
    if (p.n_palette) fuzz_use(p.palette, (size_t)p.n_palette * 6);
    mcs_picture_to_float(&p, n - some, some, values);
    fuzz_use(values, (size_t)some * sizeof *values);
    FUZZ_REQUIRE(mcs_picture_upright(&p) == MCS_OK && p.orientation == 1, "%s", mcs_error_message());
    fuzz_use(p.values, (size_t)n * (size_t)mcs_picture_type_bytes(p.type));
    mcs_picture_free(&p);
}

static void check_tensor(const struct weight_file *f, const struct weight_tensor *t)
{
    enum { MOST = 1 << 20 }; /* a stride of 0 stands for any number of values */
    int64_t n = 1;
    FUZZ_REQUIRE(t->nd >= 0 && t->nd <= MCS_ARRAY_MAX_ND, "%d dimensions", t->nd);
    for (int d = 0; d < t->nd; d++) n *= t->dims[d];
    FUZZ_REQUIRE(n == t->n_values && n >= 0, "%lld values", (long long)t->n_values);
    FUZZ_REQUIRE(mcs_weight_file_find(f, t->name) == t, "%s is found elsewhere", t->name);
    if (n > MOST) return;
    float *values = malloc((size_t)n * sizeof *values + 1);
    int64_t *whole = malloc((size_t)n * sizeof *whole + 1);
    FUZZ_REQUIRE(values && whole, "no memory");
    if (fuzz_ended(mcs_weight_file_read_f32(f, t->name, t->nd, t->dims, values)))
        fuzz_use(values, (size_t)n * sizeof *values);
    if (fuzz_ended(mcs_weight_file_read_i64(f, t->name, t->nd, t->dims, whole)))
        fuzz_use(whole, (size_t)n * sizeof *whole);
    free(values);
    free(whole);
}

void fuzz_weights(const char *path)
{
    struct weight_file *f;
    if (!fuzz_ended(mcs_weight_file_open(path, &f))) return;
    for (int i = 0; i < mcs_weight_file_count(f); i++) check_tensor(f, mcs_weight_file_at(f, i));
    const char *note = mcs_weight_file_metadata(f, "format");
    if (note) fuzz_use(note, strlen(note));
    mcs_weight_file_close(f);
}
