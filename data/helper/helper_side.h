/* For the helper programs: their half of data/helper/helper_protocol.h. */
#ifndef MCS_HELPER_SIDE_H
#define MCS_HELPER_SIDE_H

#include "data/helper/helper_protocol.h"

#include <stddef.h>

/* 1 where the program was started by mcsam, with a socket in its place. */
int mcs_helper_was_started(void);
/* 0 where mcsam is no longer there. */
int mcs_helper_send_hello(const char *magic, size_t request_bytes, size_t reply_bytes);
/* The first `bytes` bytes of the shared memory, or NULL. The caller unmaps them. */
void *mcs_helper_map(int64_t bytes);
/* Copies the held error into a reply's message, without the ": " after the file's empty label, and clears it. */
void mcs_helper_tell(char message[MCS_HELPER_MESSAGE_BYTES]);

#endif
