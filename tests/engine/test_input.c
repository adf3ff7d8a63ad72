/* Inputs that are not regular files: every reader refuses named pipes, devices, sockets and folders at once. A reader
 * that waits is ended by an alarm. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/io/npy.h"
#include "data/text/pairs.h"
#include "data/text/prompts.h"
#include "data/text/tokenizer.h"
#include "data/weights/weight_file.h"
#include "engine/base/input.h"
#include "engine/base/log.h"
#include "engine/cli/config.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_nifti.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SECONDS = 20 };

static void setup(void)
{
    test_folder_open("input");
    mcs_log_quiet(1);
    alarm(SECONDS);
}

static void teardown(void)
{
    alarm(0);
    test_folder_close();
}

TestSuite(input, .init = setup, .fini = teardown);

static enum mcs_status read_bytes(const char *path)
{
    char *bytes;
    int64_t n;
    return mcs_file_read(path, 1 << 20, &bytes, &n);
}

static enum mcs_status read_hash(const char *path)
{
    char hex[65];
    return mcs_file_sha256(path, hex);
}

static enum mcs_status read_image(const char *path)
{
    struct image img;
    return mcs_image_read(path, 0, &img);
}

static enum mcs_status read_npy(const char *path)
{
    struct npy a;
    return mcs_npy_read(path, &a);
}

static enum mcs_status read_safetensors(const char *path)
{
    struct weight_file *f;
    return mcs_weight_file_open(path, &f);
}

static enum mcs_status read_vocabulary(const char *path)
{
    struct tokenizer *t;
    return mcs_tokenizer_open(path, &t);
}

static enum mcs_status read_json(const char *path)
{
    json_t *root;
    return mcs_json_read(path, 1 << 20, 0, &root);
}

static enum mcs_status read_volume(const char *path)
{
    struct volume v;
    return mcs_volume_read(path, &v);
}

static enum mcs_status read_table(const char *path)
{
    struct csv_table table;
    return mcs_csv_read(path, ',', &table);
}

static enum mcs_status read_prompts(const char *path)
{
    struct prompts prompts;
    return mcs_prompts_read(path, &prompts);
}

static enum mcs_status read_config(const char *path)
{
    struct arena arena = {0};
    const char *verb;
    const enum mcs_status st = mcs_config_verb(path, &arena, &verb);
    mcs_arena_free(&arena);
    return st;
}

static const struct {
    const char *name, *ending;
    enum mcs_status (*read)(const char *path);
} readers[] = {
    {"bytes", "", read_bytes},        {"hash", "", read_hash},
    {"image", ".png", read_image},    {"npy", ".npy", read_npy},
    {"json", ".json", read_json},     {"safetensors", ".safetensors", read_safetensors},
    {"config", ".yaml", read_config}, {"vocabulary", ".txt", read_vocabulary},
    {"volume", ".nii", read_volume},  {"packed volume", ".nii.gz", read_volume},
    {"table", ".csv", read_table},    {"prompts", ".json", read_prompts},
    {"header", ".hdr", read_volume},  {"voxels", ".img", read_volume},
};
enum { N_READERS = sizeof readers / sizeof *readers };

/* Makes a file of a kind under `path`. */
static void make_pipe(const char *path)
{
    cr_assert_eq(mkfifo(path, 0666), 0);
}

static void make_folder(const char *path)
{
    cr_assert_eq(mkdir(path, 0777), 0);
}

static void make_device(const char *path)
{
    cr_assert_eq(symlink("/dev/zero", path), 0);
}

static void make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cr_assert_lt(snprintf(address.sun_path, sizeof address.sun_path, "%s", path), (int)sizeof address.sun_path);
    const int s = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert(s >= 0 && bind(s, (const struct sockaddr *)&address, sizeof address) == 0);
    close(s);
}

Test(input, every_reader_refuses_what_is_no_file)
{
    static const struct {
        const char *name, *word;
        void (*make)(const char *path);
    } kinds[] = {{"pipe", "is a named pipe", make_pipe},
                 {"folder", "is a folder", make_folder},
                 {"device", "is a device", make_device},
                 {"socket", "is a socket", make_socket}};
    for (int r = 0; r < N_READERS; r++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            char name[64];
            snprintf(name, sizeof name, "%s%d%s", kinds[k].name, r, readers[r].ending);
            const char *path = in_folder(name);
            kinds[k].make(path);
            const enum mcs_status st = readers[r].read(path);
            cr_expect_eq(st, MCS_E_IO, "%s of a %s: status %d", readers[r].name, kinds[k].name, st);
            cr_expect(strstr(mcs_error_message(), kinds[k].word) && strstr(mcs_error_message(), name), "%s: %s",
                      readers[r].name, mcs_error_message());
            mcs_error_clear();
        }
}

Test(input, every_reader_says_what_is_missing)
{
    for (int r = 0; r < N_READERS; r++) {
        char name[64];
        snprintf(name, sizeof name, "absent%s", readers[r].ending);
        const enum mcs_status st = readers[r].read(in_folder(name));
        cr_expect_eq(st, MCS_E_NOINPUT, "%s: status %d", readers[r].name, st);
        cr_expect(strstr(mcs_error_message(), name), "%s: %s", readers[r].name, mcs_error_message());
        mcs_error_clear();
    }
}

/* A symbolic link to a file is a file; a link to nothing is missing. */
Test(input, links_are_followed)
{
    int fd;
    int64_t n;
    cr_assert_eq(mcs_file_write(in_folder("a"), "12345", 5), MCS_OK);
    cr_assert_eq(symlink("a", in_folder("link")), 0);
    cr_assert_eq(symlink("nothing", in_folder("torn")), 0);
    cr_assert_eq(mcs_input_open(in_folder("link"), &fd, &n), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(n, 5);
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC, "a program that is started must not hold the file");
    close(fd);
    cr_expect_eq(mcs_input_open(in_folder("torn"), &fd, &n), MCS_E_NOINPUT);
    cr_expect_eq(fd, -1);
}

Test(input, reads_the_bytes_asked_for)
{
    char got[4] = "....";
    int fd;
    int64_t n;
    cr_assert_eq(mcs_file_write(in_folder("a"), "12345", 5), MCS_OK);
    cr_assert_eq(mcs_input_open(in_folder("a"), &fd, &n), MCS_OK);
    cr_assert_eq(mcs_input_read(fd, "a", got, 3, 1), MCS_OK);
    cr_expect_arr_eq(got, "234.", 4);
    cr_assert_eq(truncate(in_folder("a"), 2), 0);
    cr_expect_eq(mcs_input_read(fd, "a", got, 3, 1), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a: truncated: 2 bytes are missing; it became shorter"), "%s",
              mcs_error_message());
    close(fd);
}

/* The verbs: one line, a clear exit code, and no wait. `timeout` ends a waiting one with 124. */
Test(input, verbs_do_not_wait)
{
    static const struct {
        const char *command;
        int exit;
    } runs[] = {
        {"info p.nii", 74},         {"info p.png", 74},
        {"info p.safetensors", 74}, {"info --config p.yaml a", 74},
        {"diff p.png p.png", 74},   {"evaluate -i pred -r ref -o out", 3},
    };
    char command[1024];
    snprintf(command, sizeof command,
             "cd %s && mkfifo p.nii p.png p.safetensors p.yaml && mkdir pred ref && mkfifo pred/a.png ref/a.png",
             test_folder);
    cr_assert_eq(system(command), 0);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        snprintf(command, sizeof command, "cd %s && timeout 10 %s %s 2>log >out.txt", test_folder, MCS_BINARY,
                 runs[i].command);
        const int status = system(command), code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        char *log;
        int64_t n;
        cr_assert_eq(mcs_file_read(in_folder("log"), 1 << 20, &log, &n), MCS_OK);
        cr_expect_eq(code, runs[i].exit, "mcsam %s: exit %d: %s", runs[i].command, code, log);
        cr_expect(strstr(log, "is a named pipe"), "mcsam %s: %s", runs[i].command, log);
        free(log);
    }
}

/* A small file that needs more memory than allowed fails only its case; the others are compared. */
Test(input, a_memory_bomb_is_one_failed_case)
{
    static struct nifti_file f;
    const double values[24] = {0, 1};
    struct nifti_spec s = nifti_spec();
    char command[1024], *text;
    int64_t n;
    cr_assert_eq(mkdir(in_folder("pred"), 0777) + mkdir(in_folder("ref"), 0777), 0);
    nifti_header(&s, &f);
    nifti_append(&s, &f, values, 24);
    nifti_save(in_folder("pred/good.nii.gz"), f.bytes, f.n, 1);
    nifti_save(in_folder("ref/good.nii.gz"), f.bytes, f.n, 1);
    s.dim[1] = s.dim[2] = s.dim[3] = 400; /* 64 MB of uint8 in the file, and as many for the labels */
    s.datatype = 2;
    s.bitpix = 8;
    nifti_header(&s, &f);
    nifti_save(in_folder("head"), f.bytes, f.n, 0);
    snprintf(command, sizeof command,
             "cd %s && (cat head; head -c 64000000 /dev/zero) | gzip -nc1 > pred/bomb.nii.gz && "
             "cp pred/bomb.nii.gz ref && %s evaluate -i pred -r ref -o out --max-memory 100M 2>log >out.txt",
             test_folder, MCS_BINARY);
    const int status = system(command);
    cr_assert_eq(mcs_file_read(in_folder("log"), 1 << 20, &text, &n), MCS_OK);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 3, "exit %d: %s", WEXITSTATUS(status), text);
    free(text);
    cr_assert_eq(mcs_file_read(in_folder("out/failures.csv"), 1 << 20, &text, &n), MCS_OK);
    cr_expect(strstr(text, "pred/bomb.nii.gz: labels of 64000000 voxels: needs 61") &&
                  strstr(text, "--max-memory allows 100.0 MiB"),
              "%s", text);
    free(text);
    cr_assert_eq(mcs_file_read(in_folder("out/cases.csv"), 1 << 20, &text, &n), MCS_OK);
    cr_expect(strstr(text, "\ngood,1,1,1,"), "%s", text);
    free(text);
    snprintf(command, sizeof command, "cd %s && %s info pred/bomb.nii.gz --max-memory 50M 2>log", test_folder,
             MCS_BINARY);
    cr_expect_eq(WEXITSTATUS(system(command)), 65);
}
