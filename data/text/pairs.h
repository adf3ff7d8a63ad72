/* Image-caption pairs from a table. */
#ifndef MCS_PAIRS_H
#define MCS_PAIRS_H

#include "engine/base/status.h"

/* A table by RFC 4180: fields may be in double quotes, which may hold separators, line ends and "" for one quote. LF,
 * CR LF and CR end a row; a BOM is skipped; empty rows are skipped. `cells` is (n_rows, n_columns); the first row holds
 * the columns' names. Everything is owned by the table. */
struct csv_table {
    int n_rows, n_columns;
    char **cells;
    int *lines; /* (n_rows) the line of the file in which a row begins, from 1 */
    char *bytes;
};
/* The character of --separator: "," ";" "tab" or "\\t", or the tab itself; 0 for NULL: the header decides. E_USAGE: any
 * other text. */
enum mcs_status mcs_csv_separator(const char *text, char *separator);
/* separator 0: the most frequent of tab, semicolon and comma in the first row, unless a line "sep=;" is before it.
 * UTF-16 is read where the file begins with its byte order mark. E_USAGE: no such separator; E_NOINPUT, E_IO; E_DATA
 * with the line: not UTF-8, a NUL, a quote left open or followed by text, a row with another number of fields than the
 * first. */
enum mcs_status mcs_csv_read(const char *path, char separator, struct csv_table *table);
void mcs_csv_free(struct csv_table *table);
/* The column with a name (white space around it ignored), -1 when there is none. */
int mcs_csv_column(const struct csv_table *table, const char *name);

struct pairs_options {
    const char *image_column, *caption_column; /* NULL: "filename", "Caption" */
    const char *image_folder;                  /* NULL: the table's folder; absolute names are not changed */
    char separator;                            /* 0: the header decides */
    int min_codes;                             /* captions of fewer code points are dropped; 0 keeps all */
};

struct pair {
    char *image;   /* path that can be opened */
    char *caption; /* UTF-8, surrounding white space removed */
    char *stem;
};
/* The reason why a row was left out. */
enum pair_fault {
    MCS_PAIR_NO_IMAGE,
    MCS_PAIR_NO_NAME,
    MCS_PAIR_EMPTY_CAPTION,
    MCS_PAIR_SHORT_CAPTION,
    MCS_PAIR_NO_ROW
};
struct pair_left_out {
    enum pair_fault fault;
    int line;   /* line in the table; 0 for MCS_PAIR_NO_ROW */
    char *name; /* the image's path */
};
struct pairs {
    int n, n_left_out;
    struct pair *v;
    struct pair_left_out *left_out; /* in the table's order, then images of image_folder without a row */
};
const char *mcs_pair_fault_text(enum pair_fault fault);
/* Reads a table of pairs. Rows that can't be used are listed in left_out and the others are kept; images (PNG, JPEG,
 * NIfTI, NPY) without a row are listed when image_folder is given, the table's folder is not searched. One image may
 * have several rows. Cells are decoded as mcsam writes them: an apostrophe before = + - @, a tab or a line end (also
 * after more apostrophes) is removed, since it only keeps spreadsheets from reading the cell as a formula; an image's
 * name may have bytes that are not UTF-8 as \xff (mcs_text_encode). Images in several folders may share a stem. E_DATA:
 * a column is missing (those that are there are named), or no pair is left. */
enum mcs_status mcs_pairs_read(const char *csv_path, const struct pairs_options *options, struct pairs *pairs);
void mcs_pairs_free(struct pairs *pairs);
/* Warns about the rows that were left out: the first ten by line and reason, the rest as a number. */
void mcs_pairs_report(const struct pairs *pairs, const char *csv_path);

#endif
