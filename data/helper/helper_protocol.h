/* The protocol between mcsam and its helper programs.
 *
 * A helper has three descriptors: the file, one end of a socket pair that preserves message boundaries
 * (SOCK_SEQPACKET), and shared memory (memfd) that mcsam makes as large as an answer needs and that cannot shrink. It
 * sends a hello; from then on both send structures of a fixed size, since both programs come from one build. Values are
 * written to the shared memory before the reply is sent.
 *
 * The helper is assumed to be under the control of the file's author: mcsam checks the length of each message and every
 * number in it, and prints no control characters from it. */
#ifndef MCS_HELPER_PROTOCOL_H
#define MCS_HELPER_PROTOCOL_H

#include <stdint.h>

enum { MCS_HELPER_FILE = 3, MCS_HELPER_SOCKET = 4, MCS_HELPER_MEMORY = 5 };
enum { MCS_HELPER_MAGIC_BYTES = 8, MCS_HELPER_VERSION_BYTES = 32, MCS_HELPER_MESSAGE_BYTES = 2048 };

struct helper_hello {
    char magic[MCS_HELPER_MAGIC_BYTES]; /* of the kind of helper */
    char version[MCS_HELPER_VERSION_BYTES];
    uint32_t request_bytes, reply_bytes;
};

#endif
