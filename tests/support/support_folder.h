/* The temporary folder of a test, its files, and calls that must fail. */
#ifndef MCS_SUPPORT_FOLDER_H
#define MCS_SUPPORT_FOLDER_H

#include "engine/base/status.h"

extern const char *test_folder; /* /tmp/mcs_NAME_XXXXXX, between test_folder_open and test_folder_close */
void test_folder_open(const char *name);
void test_folder_close(void); /* removes it with its content */
/* "FOLDER/name"; the same name gives the same pointer. Valid until 64 other names have been used. */
const char *in_folder(const char *name);

/* Ends the test unless the file has exactly this text. */
void file_holds(const char *path, const char *text);
/* Number of all entries of a folder, including hidden files. */
int folder_n_entries(const char *path);

/* Ends the test unless st is `want` and the error message contains `word`; clears the message. */
void fails_with(enum mcs_status st, enum mcs_status want, const char *word);

#endif
