/* A verb and its options: one table makes the help text, the command line, the environment, the YAML file and the
 * errors.
 *
 *     struct coarse_options {
 *         struct mcs_common common;             // always first
 *         const char *input, *output;
 *         double grow_pixels;
 *         int rank, fill;
 *     };
 *     static const struct mcs_option options[] = {
 *         {"input", 'i', MCS_FIELD(coarse_options, input), .value = "DIR", .required = 1,
 *          .help = "folder of saliency maps"},
 *         {"grow", 0, MCS_FIELD(coarse_options, grow_pixels), .def = "3", .lo = 0, .hi = 100, .value = "PX",
 *          .help = "..."},
 *         {"rank", 0, MCS_FIELD(coarse_options, rank), .def = "confidence", .choices = "confidence|area|text",
 *          .help = "..."},
 *         {"fill", 0, MCS_FIELD(coarse_options, fill), .help = "fill holes"},
 *         {0},
 *     };
 *     static enum mcs_status run(const void *o) { const struct coarse_options *c = o; ... }
 *     const struct mcs_verb mcs_verb_coarse = {
 *         .name = "coarse", .line = "saliency maps to masks and boxes", .options = options,
 *         .options_bytes = sizeof(struct coarse_options), .run = run};
 *
 * This is a whole verb, in FOLDER/cmd/cmd_coarse.c: CMake finds the file and main.c lists it.
 *
 * An option's type is its field's type: const char * is a text, int64_t an integer, double a number, int a flag (or,
 * with `.choices`, the index of the chosen word), struct mcs_strings a list (the option repeated, or a YAML sequence).
 * The first source that has a value counts: command line, environment (MCSAM_ + name in capitals, '-' and '.'
 * as '_'), YAML file (--config), the table's default. Hyphens and underscores in a name are equivalent, and a long name
 * may follow one hyphen (nnU-Net writes both ways). A dot in a name is a nested YAML mapping: "lesion.contrast" is
 * `lesion: {contrast: ...}`. */
#ifndef MCS_CONFIG_H
#define MCS_CONFIG_H

#include "engine/base/arena.h"
#include "engine/base/command.h"
#include "engine/base/device_options.h"
#include "engine/base/form.h"
#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>

struct mcs_strings {
    int n;
    const char **v;
};

enum mcs_option_type { MCS_OPT_STRING, MCS_OPT_INT, MCS_OPT_REAL, MCS_OPT_FLAG, MCS_OPT_LIST };

struct mcs_option {
    const char *name; /* long name, hyphens; a row without a name ends the table */
    char letter;      /* short name, 0 = none */
    enum mcs_option_type type;
    size_t offset;     /* both from MCS_FIELD */
    const char *alias; /* another long name, or NULL */
    /* Default as typed on the command line; the words of a list are separated by spaces. NULL: NULL, 0 or an empty
     * list. */
    const char *def;
    const char *choices; /* "a|b|c": the words allowed; the int field gets the index, a text field the word */
    double lo, hi;       /* numbers: allowed range, both ends included; lo == hi = no limits */
    int required;        /* must be given in some source; has no default */
    const char *value;   /* placeholder for the value in the help: "FILE" */
    const char *help;
};

/* Type and offset of a field: `MCS_FIELD(coarse_options, input)`. A field of an unsupported type does not compile. */
#define MCS_FIELD(structure, field)                                                                                    \
    _Generic(((struct structure *)0)->field,                                                                           \
        const char *: MCS_OPT_STRING,                                                                                  \
        int64_t: MCS_OPT_INT,                                                                                          \
        double: MCS_OPT_REAL,                                                                                          \
        int: MCS_OPT_FLAG,                                                                                             \
        struct mcs_strings: MCS_OPT_LIST),                                                                             \
        offsetof(struct structure, field)

/* Options of every verb; the first member of each verb's structure. All texts are owned by the arena given to
 * mcs_config_parse. */
struct mcs_common {
    const struct mcs_verb *verb;
    struct mcs_strings args; /* words that are not options */
    const char *config, *form_text, *trace;
    const char *max_memory; /* NULL, or a size that mcs_memory_parse reads */
    int64_t seed;
    struct mcs_device_options device; /* device.threads is not 0 once main has resolved it */
    int help, dry_run, json, quiet;
    enum mcs_form form[MCS_FORM_STAGES]; /* by stage: form[MCS_FORM_LOSS] */
    struct mcs_command command;          /* of these options; main sets it again when it has resolved the threads */
};

struct mcs_verb {
    const char *name;
    const char *line;                 /* one line of help */
    const struct mcs_option *options; /* NULL = only the common ones */
    size_t options_bytes;             /* size of the verb's structure */
    enum mcs_status (*run)(const void *options);
    const char *args;       /* the words without hyphens, as shown in the help: "SRC DST"; NULL = takes none */
    int min_args, max_args; /* how many of them */
    const char *details;    /* text under the help's table, or NULL */
};

/* Reads command line (the words after the verb), environment, file and defaults into `options` (verb->options_bytes,
 * zeroed here). With --help nothing else is checked. E_USAGE: unknown option or key (the message names the nearest
 * one), a value of the wrong kind or out of range, a required option missing, too few or too many words; E_NOINPUT: no
 * such config file; E_DATA: not YAML. */
enum mcs_status mcs_config_parse(const struct mcs_verb *verb, int argc, char **argv, struct arena *arena,
                                 void *options);
/* The same with a given environment ("NAME=value", NULL-terminated; NULL = empty), for tests. */
enum mcs_status mcs_config_parse_env(const struct mcs_verb *verb, int argc, char **argv, char **env,
                                     struct arena *arena, void *options);
/* The table as help text; owned by the arena. */
char *mcs_config_help(const struct mcs_verb *verb, struct arena *arena);
/* The resolved options as YAML, in the table's order, readable by --config and by mcs_config_verb; owned by the arena.
 * The same options give the same text: help, config, dry-run, json, quiet, trace and max-memory are left out, since
 * they change no result. */
char *mcs_config_text(const void *options, struct arena *arena);
/* The key `verb` of a saved config: the verb that `replay` runs. Owned by the arena. E_NOINPUT, E_DATA. */
enum mcs_status mcs_config_verb(const char *path, struct arena *arena, const char **verb);

/* The command as the layers below know it: the verb, --config and mcs_config_text. Owned by the arena. */
struct mcs_command mcs_config_command(const void *options, struct arena *arena);

/* Parses "paper", "release" or "loss=paper,coarse=release" (stages that are not named keep their form). */
enum mcs_status mcs_form_parse(const char *text, enum mcs_form form[MCS_FORM_STAGES]);

/* Edit distance with swaps of adjacent characters (optimal string alignment). Hyphen and underscore are equal, and so
 * are upper and lower case. */
int mcs_edit_distance(const char *a, const char *b);

#endif
