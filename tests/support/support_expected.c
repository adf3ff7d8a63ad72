#include "tests/support/support_expected.h"

#include "data/io/file.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Equal words, or two numbers with a relative difference of at most `tolerance`. */
static int same_word(const char *a, size_t n_a, const char *b, size_t n_b, double tolerance)
{
    if (n_a == n_b && !memcmp(a, b, n_a)) return 1;
    char x[64], y[64], *end_x, *end_y;
    if (!n_a || !n_b || n_a >= sizeof x || n_b >= sizeof y) return 0;
    memcpy(x, a, n_a), x[n_a] = '\0';
    memcpy(y, b, n_b), y[n_b] = '\0';
    const double v = strtod(x, &end_x), w = strtod(y, &end_y);
    return !*end_x && !*end_y && fabs(v - w) <= tolerance * fabs(w);
}

static int same_line(const char *a, const char *b, double tolerance)
{
    static const char between[] = " ,";
    for (;;) {
        const size_t n_a = strcspn(a, between), n_b = strcspn(b, between);
        if (!same_word(a, n_a, b, n_b, tolerance) || a[n_a] != b[n_b]) return 0;
        if (!a[n_a]) return 1;
        a += n_a + 1, b += n_b + 1;
    }
}

void expected_check_within(const char *name, const char *text, double tolerance)
{
    char path[1024], *want, *copy = strdup(text);
    int64_t n;
    const char *folder = getenv("MCS_EXPECTED");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : MCS_SOURCE_DIR "/tests/expected", name);
    if (folder) cr_assert_eq(mcs_file_write(path, text, (int64_t)strlen(text)), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_file_read(path, 1 << 24, &want, &n), MCS_OK, "%s", mcs_error_message());
    cr_assert(copy);
    char *got_line = copy, *want_line = want;
    for (int line = 1; *got_line || *want_line; line++) {
        char *got_next = got_line + strcspn(got_line, "\n"), *want_next = want_line + strcspn(want_line, "\n");
        if (*got_next) *got_next++ = '\0';
        if (*want_next) *want_next++ = '\0';
        cr_assert(same_line(got_line, want_line, tolerance), "%s, line %d:\n  want %s\n  got  %s", name, line,
                  want_line, got_line);
        got_line = got_next, want_line = want_next;
    }
    free(copy);
    free(want);
}

void expected_check(const char *name, const char *text)
{
    expected_check_within(name, text, 1e-6);
}
