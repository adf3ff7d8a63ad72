/* The option --gpus (--ranks) of every training verb. */
#ifndef MCS_GPUS_OPTION_H
#define MCS_GPUS_OPTION_H

#include "engine/cli/config.h"

/* A row of an option table; the command's structure must have a field `int64_t gpus`. */
#define MCS_GPUS_OPTION(structure)                                                                                     \
    {                                                                                                                  \
        "gpus", 0, MCS_FIELD(structure, gpus),                                                                         \
            .alias = "ranks", .def = "0", .lo = 0, .hi = 64, .value = "N",                                             \
            .help =                                                                                                    \
                "train on N GPUs (with --device cpu: shares of its cores); 0: one, or as mpirun, srun or RANK and "    \
                "WORLD_SIZE say"                                                                                       \
    }

#endif
