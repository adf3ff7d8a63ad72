#include "data/lesions/demo_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Placeholders of a template: %I intensity, %S size, %B border, %N noun, %R rim, %Q side and place, %P "in the" side
 * and place, %L level, %H health. An attribute that is left out leaves no words. */
static const char *const lesion_templates[] = {
    "axial t1 mri showing a %S %I %B %N %R %P %L slice",
    "%S %B %N %R %P appearing %I on a %L axial slice",
    "%L slice of the brain with a %B %I %S %N %R %P",
    "%I %S %B %N %R %Q %L slice t1 mri",
    "%P there is a %B %S %I %N %R %L slice",
};
static const char *const none_templates[] = {
    "axial t1 mri showing a %H brain %L slice", "%H brain without a %N %L slice",      "no %N on this %L axial slice",
    "%L slice of the brain with no %N",         "t1 mri of a %H brain no %N %L slice",
};
static const char *const intensity_words[2][3] = {{"dark", "hypointense", "low signal"},
                                                  {"bright", "hyperintense", "high signal"}};
static const char *const size_words[2][2] = {{"small", "little"}, {"large", "big"}};
static const char *const border_words[2][2] = {{"sharp", "well defined"}, {"blurred", "ill defined"}};
static const char *const rim_words[2] = {"with a ring", "with a rim"};
static const char *const nouns[] = {"lesion", "mass", "tumor", "object", "shape", "patch"};
static const char *const health_words[3] = {"normal", "healthy", "unremarkable"};
enum { LESION_NOUNS = 3, ALL_NOUNS = 6, TEMPLATES = 5 };

static const char *const generic_prompt = "axial t1 mri showing a lesion";
const char *const mcs_demo_null_prompts[DEMO_NULL_PROMPTS] = {
    "normal brain",
    "no lesion",
    "axial t1 mri showing a normal brain",
    "healthy brain without a lesion",
    "axial t1 mri of a healthy brain",
    "t1 mri of an unremarkable brain no mass",
};

/* ---- writing ---- */

/* Appends words; "a" becomes "an" once the next word starts with a vowel (unremarkable, ill, object ...). */
static void put(char *text, const char *words)
{
    const size_t n = strlen(text);
    if (!words || !words[0]) return;
    const int vowel = strchr("aeiou", words[0]) != NULL;
    const int article = n >= 1 && text[n - 1] == 'a' && (n == 1 || text[n - 2] == ' ');
    snprintf(text + n, DEMO_CAPTION_BYTES - n, "%s%s%s", article && vowel ? "n" : "", n ? " " : "", words);
}

static void put_place(char *text, const struct demo_atlas *atlas, const struct demo_words *w)
{
    if (w->side < 0) return;
    put(text, mcs_demo_side_word((enum demo_side)w->side));
    put(text, w->by_region && atlas ? atlas->region[w->region].words : mcs_demo_lobe_words(w->lobe));
}

/* One set of synonyms drawn for a caption. All draws are made even if an attribute is left out, so each word depends on
 * its draw alone. */
struct choice {
    int intensity, size, border, rim, noun, health;
};

static struct choice choose(struct demo_draw *draw, int object)
{
    struct choice c;
    c.intensity = mcs_demo_below(draw, 3);
    c.size = mcs_demo_below(draw, 2);
    c.border = mcs_demo_below(draw, 2);
    c.rim = mcs_demo_below(draw, 2);
    c.noun = mcs_demo_below(draw, object ? ALL_NOUNS : LESION_NOUNS);
    c.health = mcs_demo_below(draw, 3);
    return c;
}

static void expand(const char *template, const struct demo_atlas *atlas, const struct demo_words *w, struct choice c,
                   char *text)
{
    char word[64];
    text[0] = 0;
    for (const char *p = template; *p;) {
        const size_t n = strcspn(p, " ");
        if (*p != '%') {
            snprintf(word, sizeof word, "%.*s", (int)n, p);
            put(text, word);
        } else {
            switch (p[1]) {
            case 'I': put(text, w->bright < 0 ? NULL : intensity_words[w->bright][c.intensity]); break;
            case 'S': put(text, w->large < 0 ? NULL : size_words[w->large][c.size]); break;
            case 'B': put(text, w->blurred < 0 ? NULL : border_words[w->blurred][c.border]); break;
            case 'N': put(text, nouns[c.noun]); break;
            case 'R': put(text, w->rim > 0 ? rim_words[c.rim] : NULL); break;
            case 'L': put(text, w->level < 0 ? NULL : mcs_demo_level_word((enum demo_level)w->level)); break;
            case 'H': put(text, health_words[c.health]); break;
            case 'P':
                if (w->side >= 0) put(text, "in the");
                put_place(text, atlas, w);
                break;
            case 'Q': put_place(text, atlas, w); break;
            default: break;
            }
        }
        p += n;
        p += *p == ' ';
    }
}

void mcs_demo_caption_one(const struct demo_atlas *atlas, const struct demo_words *w, struct demo_draw *draw,
                          char *caption)
{
    const char *template = lesion_templates[mcs_demo_below(draw, TEMPLATES)];
    expand(template, atlas, w, choose(draw, w->object), caption);
}

void mcs_demo_caption_none(int level, int object, struct demo_draw *draw, char *caption)
{
    const struct demo_words w = {-1, -1, -1, 0, -1, level, DEMO_FRONTAL, 0, 0, object};
    const char *template = none_templates[mcs_demo_below(draw, TEMPLATES)];
    expand(template, NULL, &w, choose(draw, object), caption);
}

void mcs_demo_caption_some(const struct demo_words *w, int n, struct demo_draw *draw, char *caption)
{
    const int long_form = mcs_demo_below(draw, 2);
    caption[0] = 0;
    if (long_form && n == 2) put(caption, "axial");
    for (int i = 0; i < n; i++) {
        struct demo_words one = w[i];
        char phrase[DEMO_CAPTION_BYTES];
        one.by_region = 0; /* several region names would be too long */
        one.rim = 0;
        struct choice words = choose(draw, one.object);
        if (n > 2) words.intensity %= 2; /* one word: short enough for the text tower */
        expand(n > 2 ? "%S %I %N %Q" : "%S %I %N %P", NULL, &one, words, phrase);
        if (i) put(caption, "and");
        put(caption, phrase);
    }
    if (w[0].level >= 0 && n == 2) {
        put(caption, mcs_demo_level_word((enum demo_level)w[0].level));
        put(caption, "slice");
    }
}

void mcs_demo_prompt(const struct demo_words *w, enum demo_prompt_level level, char *prompt)
{
    struct demo_words known = *w;
    const struct choice first = {0, 0, 0, 1, 0, 0};
    known.by_region = 0;
    if (level < DEMO_PROMPT_LOOK_PLACE) known.side = -1;
    if (level < DEMO_PROMPT_LOOK) known.bright = known.large = known.blurred = known.rim = -1;
    expand("axial t1 mri showing a %S %B %I %N %R %P", NULL, &known, first, prompt);
}

/* ---- vocabulary ---- */

struct word_set {
    int n;
    char words[512][32];
};

static void add_words(struct word_set *set, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, " ");
        if (n && *text != '%' && n < sizeof set->words[0]) {
            int known = 0;
            for (int i = 0; i < set->n; i++) known |= strlen(set->words[i]) == n && !memcmp(set->words[i], text, n);
            if (!known && set->n < (int)(sizeof set->words / sizeof set->words[0])) {
                memcpy(set->words[set->n], text, n);
                set->words[set->n++][n] = 0;
            }
        }
        text += n;
        text += *text == ' ';
    }
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(a, b);
}

enum mcs_status mcs_demo_vocabulary(const struct demo_atlas *atlas, char **text, int *n_words)
{
    struct word_set *set = calloc(1, sizeof *set);
    *text = NULL;
    MCS_REQUIRE(set, MCS_E_NOMEM, "no memory for the vocabulary");
    add_words(set, generic_prompt);
    add_words(set, "an in the and axial slice");
    for (int i = 0; i < TEMPLATES; i++) {
        add_words(set, lesion_templates[i]);
        add_words(set, none_templates[i]);
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 3; i++) add_words(set, intensity_words[k][i]);
        for (int i = 0; i < 2; i++) {
            add_words(set, size_words[k][i]);
            add_words(set, border_words[k][i]);
        }
        add_words(set, rim_words[k]);
    }
    for (int i = 0; i < ALL_NOUNS; i++) add_words(set, nouns[i]);
    for (int i = 0; i < 3; i++) add_words(set, health_words[i]);
    for (int i = 0; i < DEMO_NULL_PROMPTS; i++) add_words(set, mcs_demo_null_prompts[i]);
    for (int i = 0; i < DEMO_SIDES; i++) add_words(set, mcs_demo_side_word((enum demo_side)i));
    for (int i = 0; i < DEMO_LEVELS; i++) add_words(set, mcs_demo_level_word((enum demo_level)i));
    for (int i = 0; i < DEMO_LOBES; i++) add_words(set, mcs_demo_lobe_words((enum demo_lobe)i));
    for (int i = 1; i < DEMO_REGIONS; i++) add_words(set, atlas->region[i].words);
    qsort(set->words, (size_t)set->n, sizeof set->words[0], by_bytes);

    size_t n_bytes;
    FILE *f = open_memstream(text, &n_bytes);
    if (f) fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", f);
    for (int i = 0; i < set->n && f; i++) fprintf(f, "%s\n", set->words[i]);
    if (n_words) *n_words = set->n + 5;
    free(set);
    MCS_REQUIRE(f && fclose(f) == 0, MCS_E_NOMEM, "no memory for the vocabulary");
    return MCS_OK;
}
