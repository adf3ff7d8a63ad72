/* The program from the outside: shell lines in a folder of the test's own, their exit codes and what they print. */
#ifndef MCS_SUPPORT_SHELL_H
#define MCS_SUPPORT_SHELL_H

enum { SHELL_OUTPUT_BYTES = 1 << 16 };
extern char shell_output[SHELL_OUTPUT_BYTES]; /* standard output and error of the last line together */

/* Makes a new folder in /tmp and returns it. In the lines to come "mcsam" is `binary` with `more` after each line's own
 * arguments ("--threads 1", or ""), and $DEMO is data/demo. shell_close removes the folder. */
const char *shell_open(const char *binary, const char *more);
void shell_close(void);

/* Runs a line in the folder; its exit code, 128 + n for a signal. */
int shell(const char *line);
/* The same; the test fails unless it ends with `code` and prints `part`. */
void expect(const char *line, int code, const char *part);

/* "FOLDER/name"; valid for the next three calls. */
const char *shell_path(const char *name);
void shell_write(const char *name, const char *text);

#endif
