/* Included first in every source that tests/mutants/mutate.pl has instrumented. A mutant is one deliberate mistake; all
 * of a file's are compiled into it, and the environment variable MUTANT wakes at most one. */
#ifndef MCS_MUTANT_H
#define MCS_MUTANT_H

#ifdef __cplusplus
extern "C" {
#endif

/* The number of the mutant that is awake, 0: none. The same all through a process, so the compiler may ask once. */
__attribute__((const)) int mcs_mutant_now(void);
#define MUT(n) (mcs_mutant_now() == (n))

/* A launch out of `file`: where MUTANT_LAUNCHES names a file, each source is written to it once a process. Returns 0.
 */
int mcs_mutant_launch(const char *file);

#ifdef __cplusplus
}
#endif
#endif
