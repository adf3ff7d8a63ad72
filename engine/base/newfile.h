/* Writing a file that appears whole or not at all: a killed run, a full disk or a read-only folder leave the old file.
 *
 *     struct mcs_new_file f = MCS_NEW_FILE;
 *     MCS_TRY(mcs_file_begin(path, &f));
 *     FILE *s = fopen(f.path, "wb"); ... fclose(s);          // or write(f.fd, ...)
 *     if (good) MCS_TRY(mcs_file_commit(&f));                // now the file exists
 *     else mcs_file_abort(&f);                               // no trace of it is left
 *
 * Until the commit the new file has no name at all (O_TMPFILE), so that nothing is left over however the process ends.
 * Where the file system does not support that (NFS, some network and FUSE file systems), and while an old file is being
 * replaced, it has a hidden random name beside its target: ".mcsam-" + 16 digits, a hash of the target's name + "-" +
 * 16 random digits, created with O_EXCL and O_NOFOLLOW, so that two processes never share one even with equal process
 * numbers. It is locked (flock) while it is open. mcs_file_begin removes leftovers of the same target that are not
 * locked, so never one of a process that still writes. On NFS, Linux turns that lock into one that the server keeps
 * for all machines. Mounted with `nolock` or `local_lock=flock`, a machine sees only its own locks and could remove a
 * file that another machine is writing: that machine's commit then fails with an error, and the old file stays. */
#ifndef MCS_NEWFILE_H
#define MCS_NEWFILE_H

#include "engine/base/path.h"
#include "engine/base/status.h"

#include <stdint.h>

struct mcs_new_file {
    int fd;                      /* open for reading and writing; -1 before begin and after commit or abort */
    int named;                   /* it has a name in the folder: `scratch` */
    char path[MCS_PATH_BYTES];   /* opens the same file, for libraries that take a path */
    char target[MCS_PATH_BYTES]; /* its name after the commit */
    char scratch[MCS_PATH_BYTES];
};
#define MCS_NEW_FILE                                                                                                   \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }

/* Opens a new file that will become `path`; its permissions are 0666 minus the umask. E_IO with the reason: no such
 * folder, not writable, name too long, or a folder or other non-regular file of that name. */
enum mcs_status mcs_file_begin(const char *path, struct mcs_new_file *f);
/* Syncs the file, renames it over an older file, syncs the folder. E_IO; f is closed in any case. */
enum mcs_status mcs_file_commit(struct mcs_new_file *f);
/* Closes and removes it; does nothing where f was never begun, or is committed. */
void mcs_file_abort(struct mcs_new_file *f);
/* Begin, write and commit for bytes in memory. */
enum mcs_status mcs_file_write(const char *path, const void *bytes, int64_t n_bytes);

/* Why a file could not be written, as text: strerror, and for EFBIG the limit that was reached. Valid until the
 * thread's next call. */
const char *mcs_file_write_error(int error);

/* Removes what killed processes of this user left in a folder for temporary files ("/tmp"): files, and folders of
 * files, whose names begin with `prefix` and that are not locked (flock). Whoever creates such a file or folder locks
 * it before use, then checks that it still exists. */
void mcs_leftovers_remove(const char *folder, const char *prefix);

/* For tests: from now on new files have a name from the start, as on a file system without O_TMPFILE. */
void mcs_file_always_named(int always);

#endif
