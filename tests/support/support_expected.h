/* Compares a text with the expected one in the file tests/expected/NAME.
 *
 * Texts are compared word by word (words are separated by spaces and commas). Numbers may differ by a relative 1e-6,
 * since sin, exp etc. differ in the last bit between processors, which can change the sixth digit of a mean or one grey
 * value in a sum of thousands. Everything else must be equal.
 *
 * After an intended change, MCS_EXPECTED=FOLDER build/test_X writes the new texts into FOLDER; review them and copy
 * them to tests/expected. */
#ifndef MCS_SUPPORT_EXPECTED_H
#define MCS_SUPPORT_EXPECTED_H

/* Fails the test and shows the first line that differs if `text` differs from tests/expected/name. */
void expected_check(const char *name, const char *text);
/* The same with another relative tolerance of numbers. */
void expected_check_within(const char *name, const char *text, double tolerance);

#endif
