/* SHA-256 (FIPS 180-4), with the processor's SHA instructions where it has them: checkpoints and weights of full size
 * are gigabytes, and portable code hashes about 100 MB/s. */
#include "data/io/sha256.h"

#include "data/io/file.h"
#include "engine/base/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

struct sha256 {
    uint32_t h[8];
    uint8_t block[64];
    uint64_t n_bytes;
    void (*mix)(uint32_t h[8], const uint8_t *p, size_t n_blocks);
};

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2). */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void mix_one(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], s[8];

    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) + w[i - 7] + (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = s[4], a = s[0];
        uint32_t t1 = s[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + K[i] + w[i];
        uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void mix_plain(uint32_t h[8], const uint8_t *p, size_t n_blocks)
{
    for (; n_blocks; n_blocks--, p += 64) mix_one(h, p);
}

#if defined(__x86_64__)
/* The instructions want the state as (a b e f) and (c d g h), highest lane first, and do two rounds each. */
__attribute__((target("sha,sse4.1"))) static void mix_sha(uint32_t h[8], const uint8_t *p, size_t n_blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)h), 0xB1);
    const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(h + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; n_blocks; n_blocks--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4]; /* the last 16 words of the message schedule, four per lane */
        for (int i = 0; i < 16; i++) {
            if (i < 4) {
                w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), big_endian);
            } else {
                const __m128i w7 = _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4);
                const __m128i x = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]), w7);
                w[i & 3] = _mm_sha256msg2_epu32(x, w[(i + 3) & 3]);
            }
            const __m128i k = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const __m128i *)(const void *)(K + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static int has_sha(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#else
#define mix_sha mix_plain
static int has_sha(void)
{
    return 0;
}
#endif

static void begin(struct sha256 *c)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(c->h, start, sizeof start);
    c->n_bytes = 0;
    c->mix = has_sha() ? mix_sha : mix_plain;
}

static void update(struct sha256 *c, const uint8_t *p, size_t n)
{
    size_t held = c->n_bytes % 64;

    if (n == 0) return;
    c->n_bytes += n;
    if (held) {
        size_t take = 64 - held < n ? 64 - held : n;
        memcpy(c->block + held, p, take);
        if (held + take < 64) return;
        c->mix(c->h, c->block, 1);
        p += take;
        n -= take;
    }
    c->mix(c->h, p, n / 64);
    memcpy(c->block, p + n / 64 * 64, n % 64);
}

static void finish(struct sha256 *c, char hex[65])
{
    uint8_t pad[72] = {0x80};
    uint64_t bits = c->n_bytes * 8;
    size_t n_pad = 64 - (c->n_bytes + 8) % 64;

    for (int i = 0; i < 8; i++) pad[n_pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    update(c, pad, n_pad + 8);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", c->h[i]);
}

void mcs_sha256(const void *bytes, int64_t n_bytes, char hex[65])
{
    struct sha256 c;
    begin(&c);
    update(&c, bytes, (size_t)n_bytes);
    finish(&c, hex);
}

void mcs_sha256_plain(const void *bytes, int64_t n_bytes, char hex[65])
{
    struct sha256 c;
    begin(&c);
    c.mix = mix_plain;
    update(&c, bytes, (size_t)n_bytes);
    finish(&c, hex);
}

enum mcs_status mcs_sha256_fd(int fd, const char *path, char hex[65])
{
    enum { PART = 1 << 18 };
    struct sha256 c;
    ssize_t got;
    off_t at = 0;

    hex[0] = 0;
    uint8_t *part = malloc(PART);
    MCS_REQUIRE(part, MCS_E_NOMEM, "%s: no memory to read it", path);
    begin(&c);
    while ((got = pread(fd, part, PART, at)) > 0 || (got < 0 && errno == EINTR)) {
        if (got < 0) continue;
        update(&c, part, (size_t)got);
        at += got;
    }
    free(part);
    MCS_REQUIRE(got == 0, MCS_E_IO, "%s: cannot read: %s", path, strerror(errno));
    finish(&c, hex);
    return MCS_OK;
}

enum mcs_status mcs_file_sha256(const char *path, char hex[65])
{
    int fd;
    int64_t n_bytes;
    hex[0] = 0;
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    const enum mcs_status st = mcs_sha256_fd(fd, path, hex);
    close(fd);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}
