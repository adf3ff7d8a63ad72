/* Files and folders: reading, listing, stems, hashes. Atomic writing is in engine/base/newfile.h, included here. */
#ifndef MCS_FILE_H
#define MCS_FILE_H

#include "engine/base/newfile.h"
#include "engine/base/status.h"

#include <stdint.h>
#include <stdio.h>

/* Reads a whole regular file into a malloc'ed buffer with a trailing NUL (not counted); a file that grows meanwhile is
 * read up to its size at the start. E_NOINPUT; E_IO: not readable, or not a regular file; E_DATA: more than max_bytes
 * or than --max-memory allows, or it became shorter meanwhile. */
enum mcs_status mcs_file_read(const char *path, int64_t max_bytes, char **bytes, int64_t *n_bytes);
/* Creates a folder and its parents. */
enum mcs_status mcs_folder_make(const char *path);
int mcs_file_exists(const char *path);
int mcs_folder_exists(const char *path);

/* 1 where the name ends in one of the endings (";"-separated), in upper or lower case, and does not consist of it
 * alone; no endings ("" or NULL): always 1. */
int mcs_file_has_ending(const char *name, const char *endings);
/* File names in a folder with one of the endings (";"-separated, e.g. ".png;.jpg;.nii.gz"), sorted by byte. */
struct file_list {
    int n;
    char **names;
};
enum mcs_status mcs_folder_list(const char *path, const char *endings, struct file_list *list);
void mcs_file_list_free(struct file_list *list);
/* Writes the name without folder and without ending (".nii.gz" counts as one) into dst. */
void mcs_file_stem(const char *path, char *dst, int dst_bytes);

/* For qsort and bsearch: the byte order of an array of texts (char *). */
int mcs_text_compare(const void *a, const void *b);

/* SHA-256 as 64 hex digits + NUL. If libcrypto has no memory, hex is "", which equals no file's hash. */
void mcs_sha256(const void *bytes, int64_t n_bytes, char hex[65]);
enum mcs_status mcs_file_sha256(const char *path, char hex[65]);
/* Of a file; of a folder (a DICOM series) the hash of the hashes of its files. */
enum mcs_status mcs_path_sha256(const char *path, char hex[65]);

#endif
