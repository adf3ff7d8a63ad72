/* Runs the program by shell lines in a temporary folder and checks exit codes and output. */
#ifndef MCS_SUPPORT_SHELL_H
#define MCS_SUPPORT_SHELL_H

enum { SHELL_OUTPUT_BYTES = 1 << 16 };
extern char shell_output[SHELL_OUTPUT_BYTES]; /* standard output and error of the last line together */

/* Makes a new folder in /tmp and returns it. In the shell lines "mcsam" runs `binary` with `more` ("--threads 1", or
 * "") appended to the arguments, and $DEMO is data/demo. shell_close removes the folder. */
const char *shell_open(const char *binary, const char *more);
void shell_close(void);

/* Runs a line in the folder; returns its exit code, or 128 + n for signal n. */
int shell(const char *line);
/* Runs a line; the test fails unless the exit code is `code` and the output contains `part`. */
void expect(const char *line, int code, const char *part);

/* "FOLDER/name"; valid for the next three calls. */
const char *shell_path(const char *name);
void shell_write(const char *name, const char *text);

#endif
