/* Included first in the instrumented copies of the CPU sources, which record the points that a test executes
 * (statements.pl). */
#ifndef MCS_MUTANTS_REACHED_H
#define MCS_MUTANTS_REACHED_H

extern unsigned char *mcs_reached; /* one byte per point, shared by all processes of a test */
#define MCS_REACHED(n)                                                                                                 \
    do {                                                                                                               \
        if (!mcs_reached[n]) mcs_reached[n] = 1;                                                                       \
    } while (0)

#endif
