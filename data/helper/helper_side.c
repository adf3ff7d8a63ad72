#include "data/helper/helper_side.h"

#include "engine/base/status.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

int mcs_helper_was_started(void)
{
    struct stat about;
    return fstat(MCS_HELPER_SOCKET, &about) == 0 && S_ISSOCK(about.st_mode);
}

int mcs_helper_send_hello(const char *magic, size_t request_bytes, size_t reply_bytes)
{
    struct helper_hello hello = {.request_bytes = (uint32_t)request_bytes, .reply_bytes = (uint32_t)reply_bytes};
    memcpy(hello.magic, magic, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s", MCS_VERSION);
    return send(MCS_HELPER_SOCKET, &hello, sizeof hello, MSG_NOSIGNAL) == (ssize_t)sizeof hello;
}

void *mcs_helper_map(int64_t bytes)
{
    struct stat about;
    if (bytes <= 0 || fstat(MCS_HELPER_MEMORY, &about) != 0 || about.st_size < bytes) return NULL;
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, MCS_HELPER_MEMORY, 0);
    return p == MAP_FAILED ? NULL : p;
}

void mcs_helper_tell(char message[MCS_HELPER_MESSAGE_BYTES])
{
    const char *held = mcs_error_message();
    snprintf(message, MCS_HELPER_MESSAGE_BYTES, "%s", held + 2 * !strncmp(held, ": ", 2));
    mcs_error_clear();
}
