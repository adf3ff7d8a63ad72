/* Fuzzers: each file fuzz_NAME.c passes one input to its reader and checks the result. The same functions run under
 * libFuzzer (clang, `./run fuzz`), one program per reader, and in the program fuzz_replay, which needs no clang and
 * runs the seeds and some thousand changes of them in every run of the tests.
 *
 *     FUZZ(npy)
 *     {
 *         struct npy a;
 *         const enum mcs_status st = mcs_npy_read(fuzz_file(data, size, "f.npy"), &a);
 *         if (fuzz_ended(st)) mcs_npy_free(&a);
 *     }
 *
 * A failed check calls abort, which both report with the input. */
#ifndef MCS_SUPPORT_FUZZ_H
#define MCS_SUPPORT_FUZZ_H

#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FUZZ(name) void fuzz_##name(const uint8_t *data, size_t size)
#define FUZZ_READER(name, what, bytes, cost) FUZZ(name);
#include "tests/fuzz/fuzz.def"
#undef FUZZ_READER

/* Writes the input to a file of this name in an in-memory folder of this process; the path is valid until the next call
 * with the same name. */
const char *fuzz_file(const uint8_t *data, size_t size, const char *name);
const char *fuzz_folder(void);
/* The input as a text, up to its first NUL; the caller frees it. */
char *fuzz_as_text(const uint8_t *data, size_t size);

/* Checks a reader's final status; returns 1 for MCS_OK. Bad data must give E_DATA, E_IO or E_USAGE and a printable
 * message of one line; E_NOMEM fails, since no input needs much memory. Clears the message. */
int fuzz_ended(enum mcs_status st);
/* Reads the file as an image with the stored number of channels and with 3, and checks the result. */
void fuzz_image(const char *path);
/* Reads the file as a picture, and checks every number in it. */
void fuzz_picture(const char *path);
/* Opens a file of weights of any kind and reads every tensor. */
void fuzz_weights(const char *path);
/* Reads all bytes, so that sanitizers detect uninitialised memory and accesses out of bounds. */
void fuzz_use(const void *bytes, size_t size);

#define FUZZ_REQUIRE(cond, ...)                                                                                        \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                                                 \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
