#define _GNU_SOURCE /* dladdr */
#include "engine/devices.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/cuda/host_api.h"
#include "engine/cuda/module.h"
#include "engine/dist/comm.h"
#include "engine/dist/rendezvous.h"
#include "engine/optim.h"

static const char *const names[] = {"cpu", "cuda", "cudasim"};

static const struct host_api host = {.fail = mcs_vfail,
                                     .trace = mcs_trace,
                                     .error_message = mcs_error_message,
                                     .error_clear = mcs_error_clear,
                                     .seconds = mcs_seconds,
                                     .rng_below = mcs_rng_below,
                                     .optim_decimal = mcs_optim_decimal,
                                     .comm_lost = mcs_comm_lost,
                                     .rendezvous_lost = mcs_rendezvous_lost};

/* The folder of the program or shared object that holds this function, with a trailing slash; "" where the system does
 * not tell. The loader knows a program only by the name it was called by, but the kernel knows its path. */
static void engine_folder(char folder[MCS_PATH_BYTES])
{
    Dl_info engine, program;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): getauxval returns addresses as integers
    const void *headers = (const void *)getauxval(AT_PHDR); /* they lie in the program */
    char *path = NULL;
    if (dladdr(names, &engine) && dladdr(headers, &program))
        path = realpath(engine.dli_fbase == program.dli_fbase ? "/proc/self/exe" : engine.dli_fname, NULL);
    if (!mcs_path_fits(folder, "%s", path ? path : "")) *folder = '\0';
    free(path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[1] = 0;
}

/* Whether a library is shorter than its section table: opening a truncated one would end the program by SIGBUS. */
static int is_truncated(const char *path)
{
    Elf64_Ehdr head = {0};
    struct stat file = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const int whole = fd >= 0 && fstat(fd, &file) == 0 && read(fd, &head, sizeof head) == (ssize_t)sizeof head;
    if (fd >= 0) close(fd);
    return whole && memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 &&
           head.e_shoff + (uint64_t)head.e_shnum * head.e_shentsize > (uint64_t)file.st_size;
}

/* A module stays open until the program ends: libraries it registered with keep pointers into it. */
static enum mcs_status module_of(enum mcs_device_kind kind, const struct cuda_module **module)
{
    static const struct cuda_module *opened[3];
    char path[MCS_PATH_BYTES], folder[MCS_PATH_BYTES];
    *module = opened[kind];
    if (*module) return MCS_OK;
    const char *other = getenv("MCSAM_MODULES");
    if (other && other[0])
        MCS_TRY(mcs_path(folder, "%s/", other));
    else
        engine_folder(folder);
    MCS_TRY(mcs_path(path, "%slibmcsam_%s.so", folder, names[kind]));
    MCS_REQUIRE(access(path, R_OK) == 0, MCS_E_DEVICE,
                "--device %s: this build has no %s backend (%s is not there): it is built where a CUDA toolkit is; "
                "use --device cpu",
                names[kind], names[kind], path);
    MCS_REQUIRE(!is_truncated(path), MCS_E_DEVICE,
                "--device %s: the module cannot be opened: %s: the file is truncated; rebuild it", names[kind], path);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    MCS_REQUIRE(handle, MCS_E_DEVICE, "--device %s: the module cannot be opened: %s", names[kind], dlerror());
    const struct cuda_module *found = dlsym(handle, "mcs_cuda_module");
    MCS_REQUIRE(found, MCS_E_DEVICE, "--device %s: %s is no module of mcsam", names[kind], path);
    MCS_REQUIRE(!strcmp(found->version, MCS_VERSION), MCS_E_DEVICE,
                "--device %s: %s is of mcsam %s, this program is " MCS_VERSION "; build both together", names[kind],
                path, found->version);
    void (*attach)(const struct host_api *) = NULL;
    *(void **)&attach = dlsym(handle, "mcs_module_attach");
    MCS_REQUIRE(attach, MCS_E_DEVICE, "--device %s: %s is no module of mcsam", names[kind], path);
    attach(&host);
    opened[kind] = *module = found;
    return MCS_OK;
}

static enum mcs_status find_precision(const struct mcs_device_options *o, enum mcs_dtype *activations)
{
    const int half =
        o->precision == MCS_PRECISION_BF16 || (o->precision == MCS_PRECISION_AUTO && o->kind != MCS_DEVICE_CPU);
    MCS_REQUIRE(!half || o->kind != MCS_DEVICE_CPU, MCS_E_DEVICE,
                "--precision bf16: the cpu backend computes in fp32 alone; leave the option out");
    *activations = half ? MCS_BF16 : MCS_F32;
    return MCS_OK;
}

enum mcs_status mcs_device_open(const struct mcs_device_options *o, struct device *d)
{
    const struct cuda_module *m;
    enum mcs_dtype activations;
    MCS_TRY(find_precision(o, &activations));
    if (o->kind == MCS_DEVICE_CPU) return mcs_cpu_open((int)o->threads, d);
    MCS_TRY(module_of((enum mcs_device_kind)o->kind, &m));
    MCS_TRY(m->open((int)o->gpu, d));
    d->activations = activations;
    return MCS_OK;
}

enum mcs_status mcs_device_check(const struct mcs_device_options *o)
{
    const struct cuda_module *m;
    enum mcs_dtype activations;
    MCS_TRY(find_precision(o, &activations));
    if (o->kind == MCS_DEVICE_CPU) return MCS_OK;
    MCS_TRY(module_of((enum mcs_device_kind)o->kind, &m));
    MCS_TRY(m->check((int)o->gpu));
    return MCS_OK;
}

enum mcs_status mcs_device_count(enum mcs_device_kind kind, int *n)
{
    const struct cuda_module *m;
    *n = 1;
    if (kind == MCS_DEVICE_CPU) return MCS_OK;
    MCS_TRY(module_of(kind, &m));
    return m->count(n);
}

enum mcs_status mcs_device_describe(enum mcs_device_kind kind, int index, char *text, int text_bytes)
{
    const struct cuda_module *m;
    snprintf(text, (size_t)text_bytes, "this computer's processor");
    if (kind == MCS_DEVICE_CPU) return MCS_OK;
    MCS_TRY(module_of(kind, &m));
    return m->describe(index, text, text_bytes);
}
