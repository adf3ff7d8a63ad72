/* A read-only file driver for libhdf5 over an open descriptor. The library's drivers open files by name, so that the
 * file could be exchanged between its check and its use, and other files that it refers to could be opened. */
#include "data/io/hdf5_library.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The driver's maxaddr: above any file's size, below HDF5's undefined address. */
static const haddr_t LARGEST_ADDRESS = ((haddr_t)1 << 62);

/* State of this driver, handed to open_file through the file access property list. */
struct fd_source {
    int fd;
    int64_t size;
    int *opens;
};
struct fd_file {
    H5FD_t driver; /* first member: the part that the library knows */
    int fd;
    haddr_t size;      /* end of the file (EOF) */
    haddr_t allocated; /* end of the addresses that the library uses (EOA) */
};

/* Refuses every open after the first, whatever the name: those are files that this file refers to. */
static H5FD_t *open_file(const char *name, unsigned flags, hid_t access, haddr_t largest)
{
    const struct fd_source *source = H5Pget_driver_info(access);
    if (!source || (*source->opens)++ || (flags & H5F_ACC_RDWR)) return NULL;
    struct fd_file *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->fd = source->fd;
    f->size = (haddr_t)source->size;
    return &f->driver;
}

static herr_t close_file(H5FD_t *f)
{
    free(f);
    return 0;
}

static herr_t query(const H5FD_t *f, unsigned long *flags)
{
    *flags = 0;
    return 0;
}

static haddr_t get_allocated(const H5FD_t *f, H5FD_mem_t type)
{
    return ((const struct fd_file *)f)->allocated;
}

static herr_t set_allocated(H5FD_t *f, H5FD_mem_t type, haddr_t allocated)
{
    ((struct fd_file *)f)->allocated = allocated;
    return 0;
}

static haddr_t get_end(const H5FD_t *f, H5FD_mem_t type)
{
    return ((const struct fd_file *)f)->size;
}

static herr_t read_bytes(H5FD_t *driver, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t n, void *dst)
{
    const struct fd_file *f = (const struct fd_file *)driver;
    if (at > f->size || n > f->size - at) return -1;
    for (char *to = dst; n > 0;) {
        const ssize_t got = pread(f->fd, to, n < (size_t)1 << 30 ? n : (size_t)1 << 30, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return -1; /* 0: the file was truncated while it was read */
        to += got;
        at += (haddr_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static herr_t write_bytes(H5FD_t *f, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t n, const void *src)
{
    return -1;
}

// NOLINTNEXTLINE(readability-non-const-parameter): open_file counts in it, through struct fd_source
hid_t mcs_hdf5_fd_access(int fd, int64_t size, int *opens)
{
    static const H5FD_class_t class = {.name = "mcsam_fd",
                                       .maxaddr = LARGEST_ADDRESS,
                                       .fc_degree = H5F_CLOSE_WEAK,
                                       .fapl_size = sizeof(struct fd_source),
                                       .open = open_file,
                                       .close = close_file,
                                       .query = query,
                                       .get_eoa = get_allocated,
                                       .set_eoa = set_allocated,
                                       .get_eof = get_end,
                                       .read = read_bytes,
                                       .write = write_bytes,
                                       .fl_map = H5FD_FLMAP_DICHOTOMY};
    static hid_t driver = -1; /* one thread at a time: mcs_hdf5_enter */
    const struct fd_source source = {fd, size, opens};
    if (driver < 0) driver = H5FDregister(&class);
    const hid_t access = driver < 0 ? -1 : H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_driver(access, driver, &source) < 0) {
        H5Pclose(access);
        return -1;
    }
    return access;
}
