/* Writing a file that appears whole or not at all: a killed run, a full disk or a read-only folder leave the old file.
 *
 *     struct mcs_new_file f = MCS_NEW_FILE;
 *     MCS_TRY(mcs_file_begin(path, &f));
 *     FILE *s = fopen(f.path, "wb"); ... fclose(s);          // or write(f.fd, ...)
 *     if (good) MCS_TRY(mcs_file_commit(&f));                // it is there now
 *     else mcs_file_abort(&f);                               // it never was
 *
 * Until the commit the new file has no name at all (O_TMPFILE), so that nothing is left over however the process ends.
 * Where the file system cannot do that (NFS, some network and FUSE file systems), and for the moment in which an old
 * file is replaced, it has a hidden random name beside its target, ".mcsam-" + 16 digits that stand for the target's
 * name + "-" + 16 random digits, made with O_EXCL and O_NOFOLLOW: two processes never share one, whatever their numbers
 * are. It is locked (flock) while it is open. mcs_file_begin removes leftovers of the same target that nobody has
 * locked, so never one of a process that still writes. On NFS, Linux turns that lock into one that the server keeps
 * for all machines; mounted with `nolock` or `local_lock=flock` a machine sees its own locks alone, and a leftover
 * could then be another machine's file in the making: that machine's commit fails with an error, and the old file
 * stays. */
#ifndef MCS_NEWFILE_H
#define MCS_NEWFILE_H

#include "engine/base/status.h"

#include <stdint.h>

enum { MCS_PATH_BYTES = 4096 };

struct mcs_new_file {
    int fd;                      /* open for reading and writing; -1 before begin and after commit or abort */
    int named;                   /* it has a name in the folder: `scratch` */
    char path[MCS_PATH_BYTES];   /* opens the same file, for libraries that want a path */
    char target[MCS_PATH_BYTES]; /* what it will be called */
    char scratch[MCS_PATH_BYTES];
};
#define MCS_NEW_FILE                                                                                                   \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }

/* Opens a new file that will be `path`; permissions are 0666 without the umask's. E_IO with the reason: no such folder,
 * not writable, a name too long, a folder or something that is not a regular file in its place. */
enum mcs_status mcs_file_begin(const char *path, struct mcs_new_file *f);
/* Syncs the file, gives it its name in place of an older file, syncs the folder. E_IO; f is closed in any case. */
enum mcs_status mcs_file_commit(struct mcs_new_file *f);
/* Closes and removes it; nothing where f was never begun, or committed. */
void mcs_file_abort(struct mcs_new_file *f);
/* All three for bytes that are at hand. */
enum mcs_status mcs_file_write(const char *path, const void *bytes, int64_t n_bytes);

/* Why a file could not be written, as text: strerror, and for EFBIG the limit that was met. Valid until the thread's
 * next call. */
const char *mcs_file_write_error(int error);

/* The folder part of a path: ".", "/" or what stands before the last slash. */
void mcs_folder_of(const char *path, char folder[MCS_PATH_BYTES]);

/* Removes what killed processes of this user left in a folder for temporary things ("/tmp"): files, and folders of
 * files, whose names begin with `prefix` and that nobody has locked (flock). Who makes such a thing locks it before
 * use, and looks whether it is still there. */
void mcs_leftovers_remove(const char *folder, const char *prefix);

/* For tests: from now on all new files have a name, as on a file system without O_TMPFILE. */
void mcs_file_always_named(int always);

#endif
