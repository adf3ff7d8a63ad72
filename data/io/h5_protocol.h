/* The messages between mcsam (data/io/h5_helper.c) and the helper program that reads HDF5 files for it (data/h5read),
 * on top of data/helper/helper_protocol.h. After the hello the helper opens the file and replies with the result; from
 * then on one reply follows each request. */
#ifndef MCS_H5_PROTOCOL_H
#define MCS_H5_PROTOCOL_H

#include "data/helper/helper_protocol.h"
#include "data/io/store.h"

#include <stdint.h>

enum { H5_NAME_BYTES = 1024 };
#define H5_HELPER_NAME "mcsam-h5read"
#define H5_MAGIC "mcsam-h5"

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
    char message[MCS_HELPER_MESSAGE_BYTES]; /* the text after the file's name and ": " */
};

#endif
