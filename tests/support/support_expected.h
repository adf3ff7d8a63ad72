/* Compares a text with the expected one in the file tests/expected/NAME.
 *
 * The comparison goes word by word (words are separated by spaces and commas). Numbers may differ by 1e-6 of their
 * size: sin, exp and their like differ in the last bit from one processor to another, which reaches the sixth digit of
 * a mean, or moves one grey value in a sum of some thousand. Everything else must be the same.
 *
 * After an intended change, MCS_EXPECTED=FOLDER build/test_X writes the new texts into FOLDER, to be looked through and
 * copied to tests/expected. */
#ifndef MCS_SUPPORT_EXPECTED_H
#define MCS_SUPPORT_EXPECTED_H

/* Fails the test where `text` is not what tests/expected/name holds; the first line that differs is shown. */
void expected_check(const char *name, const char *text);
/* The same with numbers that may differ by `tolerance` of their size. */
void expected_check_within(const char *name, const char *text, double tolerance);

#endif
