#include "data/weights/layout_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define X(name, family, word, text) {FAMILY_##family, word, text},
static const struct {
    enum weight_family family;
    const char *word, *text;
} layouts[LAYOUT_N + 1] = {WEIGHT_LAYOUT_LIST(X){FAMILY_N, "", "an unknown layout"}};
#undef X

enum weight_family mcs_layout_family(enum weight_layout layout)
{
    return layouts[layout].family;
}

const char *mcs_layout_word(enum weight_layout layout)
{
    return layouts[layout].word;
}

const char *mcs_layout_text(enum weight_layout layout)
{
    return layouts[layout].text;
}

enum weight_layout mcs_layout_reference(enum weight_layout layout)
{
    int i = 0;
    while (layouts[i].family != layouts[layout].family) i++;
    return (enum weight_layout)i;
}

enum weight_layout mcs_layout_by_word(enum weight_family family, const char *word)
{
    int i = 0;
    while (i < LAYOUT_N && (layouts[i].family != family || strcmp(layouts[i].word, word) != 0)) i++;
    return (enum weight_layout)i;
}

/* Blocks of OpenAI's towers keep their mask as an attribute, which TorchScript writes. */
int mcs_layout_is_buffer(const char *name)
{
    static const char mask[] = ".attn_mask";
    const size_t n = strlen(name), end = sizeof mask - 1;
    if (n > end && !strcmp(name + n - end, mask)) return 1;
    for (int i = 0; mcs_layout_buffers[i]; i++)
        if (!strcmp(mcs_layout_buffers[i], name)) return 1;
    return 0;
}

/* ---- names ---- */

/* 1 for layouts with the shapes of the reference. */
static int is_reference_form(enum weight_layout layout)
{
    return layout == LAYOUT_OPEN_CLIP_CUSTOM || layout == mcs_layout_reference(layout);
}

enum layout_how mcs_layout_how(enum weight_layout layout, const struct layout_row *row)
{
    return is_reference_form(layout) ? HOW_SAME : row->how;
}

/* The row's pattern in a layout; *before: CustomTextCLIP's prefix of the text tower, else "". NULL: no such tensor. */
static const char *pattern_of(enum weight_layout layout, const struct layout_row *row, const char **before)
{
    const char *r = row->reference;
    *before = layout == LAYOUT_OPEN_CLIP_CUSTOM && strncmp(r, "visual.", 7) != 0 && strncmp(r, "logit_", 6) != 0
                  ? "text."
                  : "";
    return is_reference_form(layout) ? r : row->other;
}

/* Writes one name: `#` becomes the block, `*` the end, `{qkv}` this letter; ends at '|'. */
static void write_name(const char *before, const char *pattern, const struct layout_place *p, char qkv,
                       char dst[LAYOUT_NAME])
{
    size_t n = (size_t)snprintf(dst, LAYOUT_NAME, "%s", before);
    for (const char *at = pattern; *at && *at != '|' && n + 16 < LAYOUT_NAME; at++) {
        if (*at == '#') {
            n += (size_t)snprintf(dst + n, LAYOUT_NAME - n, "%d", p->block);
        } else if (*at == '*') {
            n += (size_t)snprintf(dst + n, LAYOUT_NAME - n, "%s", p->end);
        } else if (*at == '{') {
            dst[n++] = qkv;
            at += strlen("qkv}");
        } else {
            dst[n++] = *at;
        }
        dst[n] = '\0';
    }
}

void mcs_layout_names(enum weight_layout layout, const struct layout_place *p, struct layout_names *names)
{
    const char *before, *pattern = pattern_of(layout, p->row, &before);
    const enum layout_how how = mcs_layout_how(layout, p->row);
    names->n = !pattern ? 0 : how == HOW_JOIN ? 3 : how == HOW_TWICE ? 2 : 1;
    for (int i = 0; i < names->n; i++) {
        const char *from = how == HOW_TWICE && i == 1 ? strchr(pattern, '|') + 1 : pattern;
        write_name(before, from, p, "qkv"[i], names -> v[i]);
    }
}

/* ---- the walk ---- */

/* 1 + the largest number N < LAYOUT_MAX_BLOCKS of the names that begin with `prefix` N "."; at least 1. */
static int count_blocks(const struct weight_file *f, const char *prefix)
{
    const size_t len = strlen(prefix);
    int n = 1;
    for (int i = 0; i < mcs_weight_file_count(f); i++) {
        const char *name = mcs_weight_file_at(f, i)->name;
        char *end;
        if (strncmp(name, prefix, len) != 0 || name[len] < '0' || name[len] > '9') continue;
        const long k = strtol(name + len, &end, 10);
        if (*end == '.' && k >= n && k < LAYOUT_MAX_BLOCKS) n = (int)k + 1;
    }
    return n;
}

/* Blocks of the walk's row in its file. */
static int blocks_of(struct layout_walk *w)
{
    const char *before, *pattern = pattern_of(w->layout, w->place.row, &before);
    const char *number = pattern ? strchr(pattern, '#') : NULL;
    char prefix[LAYOUT_NAME];
    if (!number || w->place.row->n_blocks) return number ? w->place.row->n_blocks : 1;
    snprintf(prefix, sizeof prefix, "%s%.*s", before, (int)(number - pattern), pattern);
    if (strcmp(prefix, w->counted) != 0) {
        w->n_blocks = count_blocks(w->file, prefix);
        memcpy(w->counted, prefix, sizeof prefix);
    }
    return w->n_blocks;
}

int mcs_layout_next(struct layout_walk *w)
{
    struct layout_place *p = &w->place;
    if (p->row && !strcmp(p->end, "weight")) {
        p->end = "bias";
        return 1;
    }
    if (p->row && ++p->block < blocks_of(w)) {
        p->end = strchr(p->row->reference, '*') ? "weight" : "";
        return 1;
    }
    p->row = p->row ? p->row + 1 : mcs_layout_rows(mcs_layout_family(w->layout));
    p->block = 0;
    p->end = p->row->reference && strchr(p->row->reference, '*') ? "weight" : "";
    return p->row->reference != NULL;
}

/* ---- sizes ---- */

int mcs_layout_sizes(enum weight_layout layout, const struct layout_place *p, struct layout_size s[MCS_ARRAY_MAX_ND])
{
    const enum layout_how how = mcs_layout_how(layout, p->row);
    const int limit = !strcmp(p->end, "bias") ? 1 : MCS_ARRAY_MAX_ND, lead = how == HOW_LEAD1   ? 1
                                                                             : how == HOW_LEAD2 ? 2
                                                                                                : 0;
    int nd = 0;
    for (const char *at = p->row->shape; *at && nd < limit; nd++) {
        char *end;
        const long k = strtol(at, &end, 10);
        s[nd] = (struct layout_size){end == at ? 1 : (int)k, *end == ' ' || !*end ? 0 : *end};
        at = end + (s[nd].letter != 0);
        while (*at == ' ') at++;
    }
    if (how == HOW_JOIN) s[0].k /= 3;
    if (how == HOW_TRANSPOSE) {
        const struct layout_size first = s[0];
        s[0] = s[1];
        s[1] = first;
    }
    memmove(s, s + lead, (size_t)(nd - lead) * sizeof *s);
    return nd - lead;
}
