/* The demo data's difficulty (data/lesions/demo_config.h) as command-line options. */
#ifndef MCS_DEMO_DATA_OPTIONS_H
#define MCS_DEMO_DATA_OPTIONS_H

#include "data/lesions/demo_config.h"
#include "engine/cli/config.h"

/* Rows for the option table of a verb whose structure holds a struct demo_config:
 *     {"out", 'o', ...}, MCS_DEMO_CONFIG_OPTIONS(demo_options, data) {0} */
#define MCS_DEMO_CONFIG_ROW(structure, member, field_, key, def_, lo_, hi_, help_)                                     \
    {key, 0, MCS_FIELD(structure, member.field_), .def = #def_, .lo = lo_, .hi = hi_, .value = "X", .help = help_},
#define MCS_DEMO_CONFIG_OPTIONS(structure, member) MCS_DEMO_CONFIG_LIST(MCS_DEMO_CONFIG_ROW, structure, member)

#endif
