/* Included first in every source that tests/mutants/mutate.pl has instrumented. A mutant is one deliberate mistake; all
 * mutants of a file are compiled into it, and the environment variable MUTANT activates at most one. */
#ifndef MCS_MUTANT_H
#define MCS_MUTANT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Number of the active mutant, 0: none. Constant during a process, so the compiler may call it once. */
__attribute__((const)) int mcs_mutant_now(void);
#define MUT(n) (mcs_mutant_now() == (n))

/* Records a kernel launch in source `file`: appends each source once per process to the file that MUTANT_LAUNCHES
 * names, if any. Returns 0. */
int mcs_mutant_launch(const char *file);

#ifdef __cplusplus
}
#endif
#endif
