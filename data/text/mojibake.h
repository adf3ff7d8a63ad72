/* Repair of text that was decoded with the wrong encoding ("Â°" for "°"), as ftfy 6.3 (fix_encoding) does it, which
 * open_clip applies to every text. Which sequences of characters are suspicious, and which single-byte encodings are
 * tried, are tables that tests/golden/make_mojibake.py extracts from ftfy. */
#ifndef MCS_MOJIBAKE_H
#define MCS_MOJIBAKE_H

#include "data/text/unicode.h"

/* Repairs one line in place until no step changes it. E_NOMEM. */
enum mcs_status mcs_mojibake_fix(struct codes *line);

/* A set of classes, one bit each. */
struct mojibake_classes {
    uint64_t bits[2];
};
/* Code points from `first` up to the next entry belong to these classes. */
struct mojibake_range {
    uint32_t first;
    struct mojibake_classes classes;
};
/* A sequence of classes that correct text does not contain; at_start: only at the start of a line. */
struct mojibake_rule {
    unsigned char n, at_start, classes[7];
};
/* A single-byte encoding: the code points of bytes 0x80 to 0xFF. lossy: byte 0x1A stands for U+FFFD, and sequences that
 * hold it are read as U+FFFD. */
struct mojibake_encoding {
    const char *name;
    int lossy;
    uint16_t high[128];
};
extern const struct mojibake_range mcs_mojibake_ranges[];
extern const struct mojibake_rule mcs_mojibake_rules[];
extern const struct mojibake_encoding mcs_mojibake_encodings[];
extern const int mcs_mojibake_n_ranges, mcs_mojibake_n_rules, mcs_mojibake_n_encodings;
/* Classes of characters that look like the first byte of a UTF-8 sequence of 2, 3, 4 bytes, like a further byte, and
 * like a further byte and nothing else. */
extern const int mcs_mojibake_first[3], mcs_mojibake_continuation, mcs_mojibake_strict;

#endif
