/* JSON values in tests: golden files, and comparison key by key. */
#ifndef MCS_SUPPORT_JSON_H
#define MCS_SUPPORT_JSON_H

#include <jansson.h>

/* tests/golden/NAME, or any file by its absolute path, which may be gzip-compressed. A new reference; aborts the test
 * if it cannot be read. */
json_t *golden_json(const char *name);
/* Fails the test, naming the first place that differs ("run 3/configurations/2d/batch_size"), unless got equals want:
 * texts, truth values, keys and lengths the same; numbers within tolerance * max(1, |want|), exactly where want is an
 * integer. */
void same_json(const char *where, const json_t *got, const json_t *want, double tolerance);

#endif
