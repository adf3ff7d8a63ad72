/* Option tables: names, values and their limits. */
#include "engine/base/escape.h"
#include "engine/cli/config_parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct mcs_option mcs_common_options[] = {
    {"config", 0, MCS_FIELD(mcs_common, config), .value = "FILE", .help = "read options from a YAML file"},
    {"device", 0, MCS_FIELD(mcs_common, device.kind), .def = "cpu", .choices = "cpu|cuda|cudasim",
     .help = "where to compute"},
    {"gpu", 0, MCS_FIELD(mcs_common, device.gpu), .def = "0", .lo = 0, .hi = 1023, .value = "N",
     .help = "which GPU, counted from 0"},
    {"threads", 0, MCS_FIELD(mcs_common, device.threads), .def = "0", .lo = 0, .hi = 4096, .value = "N",
     .help = "threads of the CPU; 0: as many as it has"},
    {"seed", 0, MCS_FIELD(mcs_common, seed), .def = "1", .lo = 0, .hi = 9e18, .value = "N",
     .help = "seed of all random numbers"},
    {"form", 0, MCS_FIELD(mcs_common, form_text), .def = "paper", .value = "FORM",
     .help = "paper or release, or by stage: loss=paper,coarse=release (stages: loss, saliency, coarse, sam, train, "
             "metrics)"},
    {"precision", 0, MCS_FIELD(mcs_common, device.precision), .def = "auto", .choices = "auto|fp32|bf16",
     .help = "number format of activations and products; auto: bf16 on a GPU, fp32 on the CPU"},
    {"max-memory", 0, MCS_FIELD(mcs_common, max_memory), .value = "SIZE",
     .help = "memory that may be taken, as 8G or 512M; a file that needs more is refused (default: what the machine "
             "has free)"},
    {"trace", 0, MCS_FIELD(mcs_common, trace), .value = "FILE", .help = "write a Perfetto trace of the steps"},
    {"dry-run", 0, MCS_FIELD(mcs_common, dry_run),
     .help = "say what would be done and the memory it needs, do nothing"},
    {"json", 0, MCS_FIELD(mcs_common, json), .help = "results on standard output as JSON"},
    {"quiet", 'q', MCS_FIELD(mcs_common, quiet), .help = "only warnings and errors on standard error"},
    {"help", 'h', MCS_FIELD(mcs_common, help), .help = "print this text"},
    {0},
};

const struct mcs_option mcs_no_options[] = {{0}};

/* ---- names ---- */

static char fold(char c)
{
    return c == '_' ? '-' : (char)tolower((unsigned char)c);
}

static int same_name(const char *a, const char *b)
{
    for (; *a && fold(*a) == fold(*b); a++) b++;
    return !*a && !*b;
}

int mcs_edit_distance(const char *a, const char *b)
{
    int na = (int)strnlen(a, OPTION_NAME_BYTES), nb = (int)strnlen(b, OPTION_NAME_BYTES);
    int row[3][OPTION_NAME_BYTES + 1]; /* rows i-2, i-1 and i of the table, used in rotation */
    for (int j = 0; j <= nb; j++) row[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = last[j - 1] + (fold(a[i - 1]) != fold(b[j - 1]));
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[na % 3][nb];
}

const char *mcs_option_nearest(const struct config_parse *p, const char *name)
{
    const char *best = "help";
    int distance = 1 << 20;
    for (int i = 0; i < p->n_rows; i++) {
        const char *names[2] = {p->rows[i]->name, p->rows[i]->alias};
        for (int k = 0; k < 2; k++) {
            const int d = names[k] ? mcs_edit_distance(name, names[k]) : distance;
            if (d < distance) {
                distance = d;
                best = names[k];
            }
        }
    }
    return best;
}

int mcs_option_find(const struct config_parse *p, const char *name)
{
    for (int i = 0; i < p->n_rows; i++)
        if (same_name(p->rows[i]->name, name) || (p->rows[i]->alias && same_name(p->rows[i]->alias, name))) return i;
    return -1;
}

int mcs_option_find_letter(const struct config_parse *p, char letter)
{
    for (int i = 0; i < p->n_rows; i++)
        if (p->rows[i]->letter && p->rows[i]->letter == letter) return i;
    return -1;
}

int mcs_option_choice(const char *choices, int k, const char **word)
{
    for (; k > 0; k--) {
        choices = strchr(choices, '|');
        if (!choices) return 0;
        choices++;
    }
    *word = choices;
    return (int)strcspn(choices, "|");
}

int mcs_option_takes_value(const struct mcs_option *o)
{
    return o->type != MCS_OPT_FLAG || o->choices;
}

/* ---- values ---- */

static int is_choice(const struct mcs_option *o)
{
    return o->choices && o->type == MCS_OPT_FLAG;
}

static enum mcs_status set_choice(const struct mcs_option *o, const char *text, const char *where, void *field)
{
    const char *word = NULL;
    for (int k = 0, n; (n = mcs_option_choice(o->choices, k, &word)) > 0; k++) {
        if ((int)strlen(text) != n || strncmp(text, word, (size_t)n) != 0) continue;
        if (o->type == MCS_OPT_FLAG) *(int *)field = k;
        return MCS_OK;
    }
    char nearest[OPTION_NAME_BYTES] = "";
    int distance = 1 << 20;
    for (int k = 0, n; (n = mcs_option_choice(o->choices, k, &word)) > 0; k++) {
        char one[OPTION_NAME_BYTES];
        snprintf(one, sizeof one, "%.*s", n, word);
        const int d = mcs_edit_distance(text, one);
        if (d < distance) {
            distance = d;
            memcpy(nearest, one, sizeof one);
        }
    }
    return MCS_FAIL(MCS_E_USAGE, "%s: want one of %s, got '%s'; did you mean '%s'?", where, o->choices, text, nearest);
}

static enum mcs_status check_range(const struct mcs_option *o, double v, const char *text, const char *where)
{
    MCS_REQUIRE(o->lo == o->hi || (v >= o->lo && v <= o->hi), MCS_E_USAGE, "%s: %s is out of range, want %g to %g",
                where, text, o->lo, o->hi);
    return MCS_OK;
}

static enum mcs_status set_flag(const char *text, const char *where, int *field)
{
    static const char *const words[] = {"false", "no", "off", "0", "true", "yes", "on", "1"};
    for (int k = 0; k < 8; k++)
        if (same_name(text, words[k])) {
            *field = k >= 4;
            return MCS_OK;
        }
    return MCS_FAIL(MCS_E_USAGE, "%s: want true or false, got '%s'", where, text);
}

void mcs_strings_append(struct arena *arena, struct mcs_strings *list, const char *text)
{
    if ((list->n & (list->n - 1)) == 0) {
        const char **v = mcs_arena_alloc(arena, sizeof *v * (2 * (size_t)list->n + 1));
        if (!v) return; /* mcs_arena_status has the error */
        if (list->n) memcpy(v, list->v, sizeof *v * (size_t)list->n);
        list->v = v;
    }
    list->v[list->n++] = text;
}

/* Appends the words of "a b c". */
static void append_words(struct arena *arena, struct mcs_strings *list, const char *text)
{
    char *copy = mcs_arena_strdup(arena, text), *rest = NULL;
    for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) mcs_strings_append(arena, list, w);
}

enum mcs_status mcs_option_set(struct config_parse *p, int row, const char *text, const char *where, enum source from)
{
    const struct mcs_option *o = p->rows[row];
    void *field = p->options + o->offset;
    const int first = p->from[row] != from;
    p->from[row] = from;
    char *end = NULL;
    errno = 0;
    switch (o->type) {
    case MCS_OPT_STRING:
        /* An empty path would become "/NAME" further on. A prompt may be empty: its verb decides. */
        MCS_REQUIRE(text[0] || !o->value || !strcmp(o->value, "TEXT"), MCS_E_USAGE, "%s: is empty, want %s", where,
                    o->value);
        if (o->choices) MCS_TRY(set_choice(o, text, where, field));
        *(const char **)field = from == FROM_FILE ? mcs_text_decode(p->arena, text) : mcs_arena_strdup(p->arena, text);
        return MCS_OK;
    case MCS_OPT_INT: {
        const long long v = strtoll(text, &end, 10);
        MCS_REQUIRE(end != text && !*end, MCS_E_USAGE, "%s: want a whole number, got '%s'", where, text);
        MCS_REQUIRE(errno == 0, MCS_E_USAGE, "%s: %s is too large", where, text);
        MCS_TRY(check_range(o, (double)v, text, where));
        *(int64_t *)field = v;
        return MCS_OK;
    }
    case MCS_OPT_REAL: {
        const double v = strtod(text, &end);
        MCS_REQUIRE(end != text && !*end && isfinite(v), MCS_E_USAGE, "%s: want a number, got '%s'", where, text);
        MCS_TRY(check_range(o, v, text, where));
        *(double *)field = v;
        return MCS_OK;
    }
    case MCS_OPT_FLAG:
        if (is_choice(o)) return set_choice(o, text, where, field);
        return set_flag(text, where, field);
    case MCS_OPT_LIST:
        if (first) *(struct mcs_strings *)field = (struct mcs_strings){0, NULL};
        if (from == FROM_DEFAULT || from == FROM_ENVIRONMENT)
            append_words(p->arena, field, text);
        else
            mcs_strings_append(p->arena, field,
                               from == FROM_FILE ? mcs_text_decode(p->arena, text) : mcs_arena_strdup(p->arena, text));
        return MCS_OK;
    }
    return MCS_OK;
}

enum mcs_status mcs_form_parse(const char *text, enum mcs_form form[MCS_FORM_STAGES])
{
    const char *at = text;
    while (*at) {
        char item[2 * OPTION_NAME_BYTES];
        const size_t n = strcspn(at, ",");
        MCS_REQUIRE(n < sizeof item, MCS_E_USAGE, "--form: '%s' is too long", text);
        memcpy(item, at, n);
        item[n] = '\0';
        at += n + (at[n] == ',');
        char *word = strchr(item, '=');
        if (word) *word++ = '\0';
        const char *value = word ? word : item;
        const int paper = strcmp(value, "paper") == 0;
        MCS_REQUIRE(paper || strcmp(value, "release") == 0, MCS_E_USAGE,
                    "--form: want paper or release, got '%s' (in '%s')", value, text);
        int found = 0;
        for (int s = 0; s < MCS_FORM_STAGES; s++) {
            if (word && strcmp(item, mcs_form_stage_names[s]) != 0) continue;
            form[s] = paper ? MCS_PAPER : MCS_RELEASE;
            found = 1;
        }
        if (found) continue;
        int best = 0;
        for (int s = 1; s < MCS_FORM_STAGES; s++)
            if (mcs_edit_distance(item, mcs_form_stage_names[s]) < mcs_edit_distance(item, mcs_form_stage_names[best]))
                best = s;
        return MCS_FAIL(MCS_E_USAGE, "--form: unknown stage '%s'; did you mean '%s'?", item,
                        mcs_form_stage_names[best]);
    }
    return MCS_OK;
}
