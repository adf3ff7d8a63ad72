/* The protocol between mcsam (data/io/h5_helper.c) and the helper program that reads HDF5 files for it (data/h5read).
 *
 * The helper has three descriptors: the file, one end of a socket pair that preserves message boundaries
 * (SOCK_SEQPACKET), and shared memory (memfd) that mcsam makes as large as an answer needs and that cannot shrink. The
 * helper sends a hello, opens the file and replies with the result; from then on one reply follows each request. Values
 * are written to the shared memory before the reply is sent. Both programs come from one build, so messages are
 * structures.
 *
 * The helper is assumed to be under the control of the file's author: mcsam checks the length of each message and
 * every number in it, and prints no control characters from it. */
#ifndef MCS_H5_PROTOCOL_H
#define MCS_H5_PROTOCOL_H

#include "data/io/store.h"

#include <stdint.h>

enum { H5_FD_FILE = 3, H5_FD_SOCKET = 4, H5_FD_MEMORY = 5 };
enum { H5_NAME_BYTES = 1024, H5_MESSAGE_BYTES = 2048, H5_VERSION_BYTES = 32 };
#define H5_HELPER_NAME "mcsam-h5read"
#define H5_MAGIC "mcsam-h5"

struct h5_hello {
    char magic[8]; /* H5_MAGIC */
    char version[H5_VERSION_BYTES];
    uint32_t request_bytes, reply_bytes;
};

enum h5_op {
    H5_OP_INFO,   /* type, nd, dims and chunk_bytes of dataset `name` */
    H5_OP_GET,    /* its values as `type`, shape nd and dims, `bytes` in total, into the shared memory */
    H5_OP_TEXTS,  /* n texts in `bytes` bytes, kept for FETCH */
    H5_OP_TEXT,   /* the text attribute `name`, shorter than `bytes`: one text, kept for FETCH */
    H5_OP_NUMBER, /* the number attribute `name` */
    H5_OP_LIST,   /* n names of datasets in `bytes` bytes, kept for FETCH */
    H5_OP_FETCH,  /* copies the kept texts into the shared memory, which holds `bytes` */
    H5_N_OPS
};

struct h5_request {
    uint32_t op;
    int32_t type, nd;
    int64_t dims[MCS_STORE_MAX_ND], bytes;
    char name[H5_NAME_BYTES];
};

struct h5_reply {
    int32_t status; /* enum mcs_status */
    int32_t type, nd;
    int64_t dims[MCS_STORE_MAX_ND], chunk_bytes, n, bytes;
    double number;
    char message[H5_MESSAGE_BYTES]; /* the text after the file's name and ": " */
};

#endif
