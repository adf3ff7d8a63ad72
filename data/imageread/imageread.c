/* mcsam-imageread: decodes one TIFF, DICOM or JPEG 2000 file for mcsam, which starts it (data/helper/helper.h). It can
 * open nothing and write nowhere but into the shared memory. */
#include "data/imageread/imageread.h"

#include "data/helper/helper_limits.h"
#include "data/helper/helper_side.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static imageread_decode decode; /* of the open file */
static struct imageread_info info;

/* The file, mapped. One that becomes shorter meanwhile ends the program. */
static enum mcs_status map_file(struct imageread_file *f)
{
    struct stat about;
    MCS_REQUIRE(fstat(MCS_HELPER_FILE, &about) == 0 && about.st_size > 0, MCS_E_DATA, ": empty");
    f->n = about.st_size;
    void *p = mmap(NULL, (size_t)f->n, PROT_READ, MAP_PRIVATE, MCS_HELPER_FILE, 0);
    MCS_REQUIRE(p != MAP_FAILED, MCS_E_NOMEM, ": no memory to read it");
    f->bytes = p;
    return MCS_OK;
}

static int is_tiff(const uint8_t *b, int64_t n)
{
    return n > 4 && (memcmp(b, "II*\0", 4) == 0 || memcmp(b, "MM\0*", 4) == 0 || memcmp(b, "II+\0", 4) == 0 ||
                     memcmp(b, "MM\0+", 4) == 0);
}

static enum mcs_status open_file(void)
{
    struct imageread_file f;
    MCS_TRY(map_file(&f));
    mcs_helper_allow(f.n, f.n / 2); /* DCMTK copies the file, a compressed frame is copied again */
    if (is_tiff(f.bytes, f.n)) {
        decode = mcs_imageread_tiff_values;
        return mcs_imageread_tiff(&f, &info);
    }
    if (mcs_imageread_is_j2k(f.bytes, f.n)) {
        decode = mcs_imageread_j2k_values;
        return mcs_imageread_j2k(&f, &info);
    }
    decode = mcs_imageread_dicom_values;
    return mcs_imageread_dicom(&f, &info);
}

static enum mcs_status get_values(int64_t bytes)
{
    const int64_t n = info.nx * info.ny * info.nz * info.channels;
    const int64_t value_bytes = n * mcs_picture_type_bytes((enum picture_type)info.type);
    const int64_t wanted = value_bytes + 6 * (int64_t)info.n_palette;
    MCS_REQUIRE(decode && bytes == wanted, MCS_E_FAIL, ": a request that does not fit together");
    mcs_helper_allow(bytes, 2 * bytes);
    uint8_t *memory = mcs_helper_map(bytes);
    MCS_REQUIRE(memory, MCS_E_NOMEM, ": no memory for its values");
    static uint16_t palette[3 * IMAGEREAD_MAX_PALETTE];
    const enum mcs_status st = decode(memory, palette);
    memcpy(memory + value_bytes, palette, 6 * (size_t)info.n_palette);
    munmap(memory, (size_t)bytes);
    return st;
}

static enum mcs_status serve(const struct imageread_request *q)
{
    if (q->op == IMAGEREAD_OP_INFO && !decode) return open_file();
    if (q->op == IMAGEREAD_OP_GET) return get_values(q->bytes);
    return MCS_FAIL(MCS_E_FAIL, ": an unknown request");
}

int main(void)
{
    static struct imageread_request request;
    static struct imageread_reply reply;
    if (!mcs_helper_was_started()) {
        fprintf(stderr, IMAGEREAD_NAME " " MCS_VERSION " decodes images for mcsam, which starts it itself\n");
        return 2;
    }
    static uint8_t head[2048];
    const ssize_t n = pread(MCS_HELPER_FILE, head, sizeof head, 0);
    const int other = n >= 12 && (is_tiff(head, n) || mcs_imageread_is_j2k(head, n));
    if (!other) mcs_imageread_dicom_prepare(head, n);
    if (!mcs_helper_limit() || !mcs_helper_send_hello(IMAGEREAD_MAGIC, sizeof request, sizeof reply)) return 1;
    while (recv(MCS_HELPER_SOCKET, &request, sizeof request, 0) == (ssize_t)sizeof request) {
        memset(&reply, 0, sizeof reply);
        const enum mcs_status st = serve(&request);
        reply.status = (int32_t)st;
        if (st != MCS_OK) mcs_helper_tell(reply.message);
        reply.info = info;
        if (send(MCS_HELPER_SOCKET, &reply, sizeof reply, MSG_NOSIGNAL) != (ssize_t)sizeof reply || st != MCS_OK) break;
    }
    _exit(0); /* nothing is closed: a library may crash in it after a damaged file */
}
