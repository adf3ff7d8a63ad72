/* Resolved options as YAML. */
#include "engine/base/escape.h"
#include "engine/cli/config_parse.h"
#include "engine/cli/growing_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The code point of the character of n bytes at s where YAML requires an escape: controls, line ends, byte order marks;
 * else 0. */
static unsigned escaped_code(const char *s, int n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n == 1) return p[0] < 32 || p[0] == 127 ? p[0] : 0;
    if (n == 2) return p[0] == 0xC2 && p[1] < 0xA0 ? p[1] : 0;
    const unsigned code = n == 3 ? (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u) : 0;
    return code == 0x2028 || code == 0x2029 || code == 0xFEFF || code >= 0xFFFE ? code : 0;
}

/* YAML is UTF-8: other bytes of a path are encoded by mcs_text_encode, and decoded when a file is read. */
static void put_quoted(struct growing_text *t, const char *s)
{
    s = mcs_text_encode(t->arena, s);
    mcs_text_put(t, "\"");
    for (int n; (n = mcs_text_utf8_length(s)) > 0; s += n) {
        const unsigned code = escaped_code(s, n);
        if (code)
            mcs_text_put(t, code < 256 ? "\\x%02X" : "\\u%04X", code);
        else
            mcs_text_put(t, "%s%.*s", *s == '"' || *s == '\\' ? "\\" : "", n, s);
    }
    mcs_text_put(t, "\"");
}

static void put_list(struct growing_text *t, const struct mcs_strings *list)
{
    mcs_text_put(t, "[");
    for (int i = 0; i < list->n; i++) {
        if (i) mcs_text_put(t, ", ");
        put_quoted(t, list->v[i]);
    }
    mcs_text_put(t, "]\n");
}

/* The shortest text that reads back as the same number. */
static void put_real(struct growing_text *t, double v)
{
    char s[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (strtod(s, NULL) == v) break;
    }
    mcs_text_put(t, "%s\n", s);
}

static void put_row(struct growing_text *t, const struct mcs_option *o, const void *options)
{
    const void *field = (const char *)options + o->offset;
    const char *word = NULL;
    if (o->type == MCS_OPT_STRING && !*(const char *const *)field) return;
    mcs_text_put(t, "%s: ", o->name);
    switch (o->type) {
    case MCS_OPT_STRING:
        put_quoted(t, *(const char *const *)field);
        mcs_text_put(t, "\n");
        break;
    case MCS_OPT_INT: mcs_text_put(t, "%lld\n", (long long)*(const int64_t *)field); break;
    case MCS_OPT_REAL: put_real(t, *(const double *)field); break;
    case MCS_OPT_FLAG:
        if (o->choices) {
            const int n = mcs_option_choice(o->choices, *(const int *)field, &word);
            mcs_text_put(t, "%.*s\n", n, n ? word : "");
        } else
            mcs_text_put(t, "%s\n", *(const int *)field ? "true" : "false");
        break;
    case MCS_OPT_LIST: put_list(t, field); break;
    }
}

char *mcs_config_text(const void *options, struct arena *arena)
{
    const struct mcs_common *common = options;
    struct growing_text t = {.arena = arena};
    mcs_text_put(&t, "verb: %s\nversion: %s\n", common->verb->name, MCS_VERSION);
    if (common->verb->args) {
        mcs_text_put(&t, "args: ");
        put_list(&t, &common->args);
    }
    for (const struct mcs_option *o = common->verb->options ? common->verb->options : mcs_no_options; o->name; o++)
        put_row(&t, o, options);
    /* They change no result; the form is written last, by stage. */
    static const char *const left_out[] = {"help", "config", "dry-run", "form", "json", "quiet", "trace", "max-memory"};
    for (const struct mcs_option *o = mcs_common_options; o->name; o++) {
        int skip = 0;
        for (size_t k = 0; k < sizeof left_out / sizeof *left_out; k++) skip |= strcmp(o->name, left_out[k]) == 0;
        if (!skip) put_row(&t, o, options);
    }
    mcs_text_put(&t, "form: \"%s\"\n", mcs_form_text(common->form, arena));
    return t.s;
}

struct mcs_command mcs_config_command(const void *options, struct arena *arena)
{
    const struct mcs_common *common = options;
    return (struct mcs_command){common->verb->name, common->config, mcs_config_text(options, arena)};
}
