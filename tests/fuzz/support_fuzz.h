/* Fuzzers: each file fuzz_NAME.c gives its reader one input and checks what it says. The same functions run in two
 * ways: under libFuzzer (clang, `./run fuzz`), one program a reader, and in the program fuzz_replay, which needs no
 * clang: the seeds, and some thousand changes of them, in every run of the tests.
 *
 *     FUZZ(npy)
 *     {
 *         struct npy a;
 *         const enum mcs_status st = mcs_npy_read(fuzz_file(data, size, "f.npy"), &a);
 *         if (fuzz_ended(st)) mcs_npy_free(&a);
 *     }
 *
 * A broken rule ends the program by abort, which both ways report with the input. */
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

/* The input as a file of this name, in a folder in memory that is the process's own. Valid until the next call with
 * the same name. */
const char *fuzz_file(const uint8_t *data, size_t size, const char *name);
const char *fuzz_folder(void);
/* The input as a text, up to its first NUL; the caller frees it. */
char *fuzz_as_text(const uint8_t *data, size_t size);

/* A reader has ended with this status: 1 for MCS_OK. Bad data must give E_DATA, E_IO or E_USAGE and one line that can
 * be printed as it is; lack of memory is none of its excuses, since no input here needs much. Clears the message. */
int fuzz_ended(enum mcs_status st);
/* Reads the file as an image in both ways that the program asks for, and checks what comes. */
void fuzz_image(const char *path);
/* A value that the compiler must compute: reading it shows memory that was never written, or lies outside. */
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
