/* Included first in the copies of the CPU side's sources that tell which points a test executed (statements.pl). */
#ifndef MCS_MUTANTS_REACHED_H
#define MCS_MUTANTS_REACHED_H

extern unsigned char *mcs_reached; /* a byte a point, shared by all processes of a test */
#define MCS_REACHED(n)                                                                                                 \
    do {                                                                                                               \
        if (!mcs_reached[n]) mcs_reached[n] = 1;                                                                       \
    } while (0)

#endif
