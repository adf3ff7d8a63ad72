/* fuzz_replay SEEDS [-n CHANGES] [-s SEED] [READER]...
 *
 * Runs every fuzzer without libFuzzer: each file of SEEDS/READER, then CHANGES (3,000) random changes of them, drawn by
 * SEED. Prints a line for each reader. After a crash /tmp/mcsam-fuzz-input has the input. */
#include "data/io/file.h"
#include "tests/fuzz/support_fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const struct reader {
    const char *name, *what;
    void (*run)(const uint8_t *data, size_t size);
    size_t most; /* bytes of an input */
    int cost;    /* divides the number of changes (fuzz.def) */
} readers[] = {
#define FUZZ_READER(name, what, bytes, cost) {#name, what, fuzz_##name, bytes, cost},
#include "tests/fuzz/fuzz.def"
#undef FUZZ_READER
};
enum { N_READERS = sizeof readers / sizeof *readers, MOST_BYTES = 1 << 16 };

struct seed {
    char *bytes;
    int64_t n;
};

/* SplitMix64, Steele et al. 2014. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(draw(state) % n) : 0;
}

static const char *const words[] = {"0",
                                    "-1",
                                    "4294967297",
                                    "9223372036854775807",
                                    "1e999",
                                    "null",
                                    "{",
                                    "[",
                                    "\"",
                                    "\\u0000",
                                    "\n",
                                    ",",
                                    ":",
                                    "&a ",
                                    "*a",
                                    "'",
                                    "=",
                                    "\xff",
                                    "\xef\xbb\xbf",
                                    "\xed\xa0\x80"};
static const uint64_t numbers[] = {0,
                                   1,
                                   127,
                                   128,
                                   255,
                                   256,
                                   32767,
                                   32768,
                                   65535,
                                   65536,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   0x100000001,
                                   0x7fffffffffffffff,
                                   0xffffffffffffffff};

/* One change of bytes[0, n); returns the new length, at most `most`. */
static size_t change(uint8_t *bytes, size_t n, size_t most, const struct seed *other, uint64_t *state)
{
    const size_t at = below(state, n), length = 1 + below(state, n - at < 16 ? n - at : 16);
    size_t m;
    const char *word = words[below(state, sizeof words / sizeof *words)];
    uint64_t number = numbers[below(state, sizeof numbers / sizeof *numbers)];
    switch (below(state, 9)) {
    case 0:
        if (n) bytes[at] ^= (uint8_t)(1u << below(state, 8));
        return n;
    case 1:
        if (n) bytes[at] = (uint8_t)draw(state);
        return n;
    case 2: return at; /* cut */
    case 3:            /* a part is removed */
        if (at + length <= n) memmove(bytes + at, bytes + at + length, n - at - length), n -= length;
        return n;
    case 4: /* a part is repeated */
        if (at + length > n || n + length > most) return n;
        memmove(bytes + at + length, bytes + at, n - at);
        return n + length;
    case 5: /* a word of one of the formats */
        m = strlen(word);
        if (n + m > most) return n;
        memmove(bytes + at + m, bytes + at, n - at);
        memcpy(bytes + at, word, m);
        return n + m;
    case 6: /* a number at a limit, little or big endian, 1 to 8 bytes */
        m = (size_t)1 << below(state, 4);
        if (draw(state) & 1) number = __builtin_bswap64(number) >> (64 - 8 * m);
        if (at + m <= n) memcpy(bytes + at, &number, m);
        return n;
    case 7: /* the rest of another seed */
        m = below(state, (size_t)other->n);
        if (at + (size_t)other->n - m > most) return n;
        memcpy(bytes + at, other->bytes + m, (size_t)other->n - m);
        return at + (size_t)other->n - m;
    default:
        if (at + length <= n) memset(bytes + at, (int)draw(state), length);
        return n;
    }
}

/* Runs one input, which is first written to a file that remains after a crash. */
static void run_one(const struct reader *r, const uint8_t *bytes, size_t n)
{
    static const char kept[] = "/tmp/mcsam-fuzz-input";
    static int fd = -2;
    if (fd == -2) fd = open(kept, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && (ftruncate(fd, (off_t)n) != 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n)) fd = -1;
    uint8_t *exact = malloc(n + !n); /* a block of exactly n bytes, so that a sanitizer detects reads beyond them */
    FUZZ_REQUIRE(exact, "no memory");
    if (n) memcpy(exact, bytes, n);
    r->run(exact, n);
    free(exact);
}

static int replay(const struct reader *r, const char *folder, int n_changes, uint64_t state)
{
    static uint8_t bytes[MOST_BYTES];
    char path[4096];
    struct file_list list;
    snprintf(path, sizeof path, "%s/%s", folder, r->name);
    FUZZ_REQUIRE(mcs_folder_list(path, NULL, &list) == MCS_OK && list.n, "%s: no seeds", path);
    struct seed *seeds = calloc((size_t)list.n, sizeof *seeds);
    FUZZ_REQUIRE(seeds, "no memory");
    for (int i = 0; i < list.n; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", folder, r->name, list.names[i]);
        FUZZ_REQUIRE(mcs_file_read(path, MOST_BYTES, &seeds[i].bytes, &seeds[i].n) == MCS_OK, "%s",
                     mcs_error_message());
        run_one(r, (const uint8_t *)seeds[i].bytes, (size_t)seeds[i].n);
    }
    run_one(r, bytes, 0);
    for (int k = 0; k < n_changes; k++) {
        const struct seed *s = &seeds[below(&state, (size_t)list.n)];
        size_t n = (size_t)s->n < r->most ? (size_t)s->n : r->most;
        memcpy(bytes, s->bytes, n);
        for (size_t i = 0, several = 1 + below(&state, 4); i < several; i++)
            n = change(bytes, n, r->most, &seeds[below(&state, (size_t)list.n)], &state);
        run_one(r, bytes, n);
    }
    printf("%-12s %3d seeds, %d changes of them: %s\n", r->name, list.n, n_changes, r->what);
    for (int i = 0; i < list.n; i++) free(seeds[i].bytes);
    free(seeds);
    const int n_inputs = n_changes + list.n;
    mcs_file_list_free(&list);
    return n_inputs;
}

int main(int argc, char **argv)
{
    int n_changes = 3000, n_named = 0, total = 0;
    uint64_t state = 1;
    if (argc < 2) {
        fprintf(stderr, "fuzz_replay SEEDS [-n CHANGES] [-s SEED] [READER]...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
            n_changes = atoi(argv[++i]);
        else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
            state = strtoull(argv[++i], NULL, 10);
        else
            n_named++;
    }
    for (int r = 0; r < N_READERS; r++) {
        int wanted = n_named == 0;
        for (int i = 2; i < argc; i++) wanted |= strcmp(argv[i], readers[r].name) == 0;
        if (wanted) total += replay(&readers[r], argv[1], n_changes / readers[r].cost, state);
    }
    if (!total) fprintf(stderr, "fuzz_replay: no such reader\n");
    return total ? 0 : 2;
}
