/* The folder that a verb writes into: checked against the verb's inputs, locked by one process at a time, and with a
 * record of the finished cases, so that the same command continues where it was stopped.
 *
 *     const struct run_output out[] = {{c->output, "*.png;config.yaml;failures.csv"}};
 *     const struct run_input in[] = {{"--input", c->input, ".png;.jpg"}, {"--model", c->model}};
 *     MCS_TRY(mcs_run_check_paths(&c->common.command, out, 1, in, 2));      // in a dry run too
 *     MCS_TRY(mcs_run_open(&c->common.command, c->output, more, &run));     // folder, lock, record
 *     MCS_TRY_GOTO(mcs_run_save_config(run), st, done);
 *     for (each case) {
 *         if (mcs_run_case_done(run, stem, &source, &result)) continue;      // its files exist, unchanged
 *         ... write the case's files ...
 *         MCS_TRY_GOTO(mcs_run_case_add(run, stem, &source, files, result), st, done);
 *         MCS_TRY_GOTO(mcs_run_flush(run), st, done);                        // here, or after a few cases
 *     }
 * done:
 *     st = mcs_run_close(run, st);
 *
 * The lock. FOLDER/.mcsam.lock is held with flock(2) while the run is open. The kernel releases it when the process
 * ends, however it ends. The file names the holder (verb, process, host, start time), for the message to another
 * process. On NFS, Linux turns flock into a lock at the server (protocol 4, or 3 with lockd), so it holds between
 * machines; mounted with `nolock` or `local_lock=flock` it holds on one machine only. Where a file system has no locks
 * at all, the run warns and continues without one. Launched ranks share one folder: rank 0 opens the run.
 *
 * The record. FOLDER/.mcsam.record has one JSON object per line. Lines are appended whole and synced, so that a process
 * killed at any moment leaves at most one incomplete last line, which readers ignore. mcs_run_close rewrites it sorted:
 * the same command leaves the same bytes, stopped in between or not.
 *
 *     {"verb": V, "options": HASH, "text": resolved options}
 *     {"verb": V, "case": STEM, "options": HASH, "input": HASH, "files": {NAME: SHA-256}, "result": ...}
 *     {"file": NAME, "sha256": HASH}                                        an HDF5 file that this program wrote
 *
 * Names are relative to the folder. A run of one file (embed's OUT.h5) has .OUT.h5.lock and .OUT.h5.record beside it.
 * The record is no signature: anyone with write access to a folder can write its record. */
#ifndef MCS_RUN_FOLDER_H
#define MCS_RUN_FOLDER_H

#include "engine/base/arena.h"
#include "engine/base/command.h"
#include "engine/base/path.h"
#include "engine/base/status.h"

#include <jansson.h>
#include <stdint.h>

/* ---- outputs must not overwrite inputs (run_paths.c) ---- */

/* A file or folder that the verb reads. option: as typed, for messages. path NULL: not given. endings, for a folder:
 * which of its files are read (".png;.jpg"; "": all). NULL: all are read and nothing may be written into the folder,
 * such as a model's. */
struct run_input {
    const char *option, *path, *endings;
};
/* A folder that the verb writes into (NULL: none in this run), and the names it writes there, separated by ";": a file
 * name, or "*" and an ending ("*.png"), or "*" for names that are not known beforehand. */
struct run_output {
    const char *folder, *names;
};
/* E_USAGE where writing could change an input: an output folder that is an input folder (unless the names written there
 * are all known and none is read), or an input file, or a file in an input folder, that is one of the files written.
 * Compares real paths (symbolic links, "." and ".." resolved; a folder that does not exist yet by its nearest existing
 * parent) and device and inode numbers. An output folder inside an input folder, or containing it, is allowed. --config
 * counts as an input. Nothing is written. */
enum mcs_status mcs_run_check_paths(const struct mcs_command *command, const struct run_output *out, int n_out,
                                    const struct run_input *in, int n_in);

/* ---- the run ---- */

struct run_folder;

/* Makes the folder, locks it and reads its record. The command must outlive the run. more: further lines "key: value\n"
 * that count as options, such as the weights' hashes; or NULL. If cases of this verb were made with other options, one
 * warning lists the differences; these cases are made again. E_FAIL: another process holds the lock (the message names
 * it). E_IO: the folder cannot be written, or its path is too long (mcs_path_room); then nothing is made. */
enum mcs_status mcs_run_open(const struct mcs_command *command, const char *folder, const char *more,
                             struct run_folder **run);
/* The same with lines that may be known late, such as the hash of weights that a thread is still taking: they are asked
 * for here if the record has cases of this verb, else at the first mcs_run_case_add. context must outlive the run. */
struct run_more {
    enum mcs_status (*lines)(void *context, struct arena *arena, const char **lines);
    void *context;
};
enum mcs_status mcs_run_open_late(const struct mcs_command *command, const char *folder, struct run_more more,
                                  struct run_folder **run);
/* The same for a verb that writes one file: lock and record belong to the file. */
enum mcs_status mcs_run_open_file(const struct mcs_command *command, const char *path, const char *more,
                                  struct run_folder **run);
/* Writes FOLDER/config.yaml. E_USAGE if that file is this run's --config and would change, or is another verb's. */
enum mcs_status mcs_run_save_config(struct run_folder *run);
/* Closes and unlocks. st is the verb's status so far; OK and E_PARTIAL rewrite the record sorted, without cases of
 * older options. Returns st, or the status of a failure here. run NULL: does nothing. */
enum mcs_status mcs_run_close(struct run_folder *run, enum mcs_status st);

/* The inputs of a case: files, whose contents count, and texts. Both end with NULL, or are NULL. */
struct run_source {
    const char *const *files, *const *texts;
};
/* 1 where the record has this case with the same options and inputs, and its files exist with the recorded contents.
 * *result (may be NULL) is then the case's recorded result, owned by the run. */
int mcs_run_case_done(struct run_folder *run, const char *stem, const struct run_source *source, json_t **result);
/* Records a finished case. files: names relative to the folder, NULL-ended, already written. result: any JSON value,
 * released here, also on failure; NULL: none. mcs_run_flush writes it to the record: cases that were computed together
 * are recorded together, so that a continued run computes the same groups. */
enum mcs_status mcs_run_case_add(struct run_folder *run, const char *stem, const struct run_source *source,
                                 const char *const *files, json_t *result);
enum mcs_status mcs_run_flush(struct run_folder *run);
/* Prints "12 of 40 cases are finished already; going on with 28" on standard error where n_done > 0. */
void mcs_run_tell_done(int n_done, int n);

/* The message of a verb that a signal stopped before all n cases were done. E_STOPPED. */
enum mcs_status mcs_run_stopped(int n_done, int n);

/* ---- HDF5 files written by this program ---- */

/* Called by the store before it writes these bytes to an HDF5 file: records their SHA-256 if path is in the folder of
 * an open run. E_IO, E_NOMEM. */
enum mcs_status mcs_run_record_bytes(const char *path, const void *bytes, int64_t n_bytes);
/* 1 where a record in path's folder, in one of the two folders above it, or of the file itself lists this SHA-256 for
 * an HDF5 file written by this program. Thread-safe. */
int mcs_run_knows_sha256(const char *path, const char hex[65]);

/* ---- options ---- */

/* The verb of a config.yaml, given its text: the value of the line "verb: NAME"; NULL where there is none. Owned by the
 * arena. */
const char *mcs_options_verb(const char *text, struct arena *arena);

/* The lines of a resolved config that mcs_options_differ compares, in their order; owned by the arena. */
char *mcs_options_filter(const char *text, int threads, struct arena *arena);
/* Lists the differences between two resolved configs (struct mcs_command, with further lines of the same form): "--lr
 * 1e-4, was 5e-4; --seed 1, was 0". Ignored are options that change no result (output paths, display, distribution over
 * GPUs) and names of inputs: their contents are compared instead, by hashes in further lines. threads: 1 where the
 * number of threads counts too, because it changes results by rounding. Returns the number of differences; *text is
 * owned by the arena, "" where none. */
int mcs_options_differ(const char *now, const char *before, int threads, struct arena *arena, const char **text);

#endif
