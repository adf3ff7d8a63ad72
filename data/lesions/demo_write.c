#include "data/lesions/demo_write.h"
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/base/text_cut.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ZOOM = 2, LINE_BYTES = DEMO_CAPTION_BYTES + 64, STEM_BYTES = 32 };

/* Facts about a sample for pairs.csv, prompts.json and attributes.json, kept while the images are written. */
struct record {
    char name[STEM_BYTES + 8], caption[DEMO_CAPTION_BYTES];
    enum demo_kind kind;
    enum demo_level level;
    int z, n_lesions, n_lookalikes;
    double noise;
    struct demo_lesion lesion[DEMO_LESIONS];
};

static void stem_of(enum demo_split split, uint32_t id, char stem[STEM_BYTES])
{
    snprintf(stem, STEM_BYTES, "%s_%05u", mcs_demo_split_word(split), id);
}

/* ---- one sample's images ---- */

// NOLINTNEXTLINE(readability-non-const-parameter): struct image holds what may be written
static enum mcs_status write_grey(const char *folder, const char *sub, const char *name, uint8_t *pixels)
{
    char path[MCS_PATH_BYTES];
    const struct image img = {DEMO_SIZE, DEMO_SIZE, 1, pixels};
    MCS_TRY(mcs_path(path, "%s/%s/%s.png", folder, sub, name));
    return mcs_image_write_png(path, &img);
}

static enum mcs_status write_sample(const char *folder, const struct demo_atlas *atlas,
                                    const struct demo_config *config, const struct demo_write *what, uint32_t id,
                                    struct record *record)
{
    struct demo_sample s;
    uint8_t mask[DEMO_LESIONS][DEMO_PIXELS], all[DEMO_PIXELS] = {0};
    char stem[STEM_BYTES], name[STEM_BYTES + 16];
    mcs_demo_lesion_sample(atlas, config, what->split, what->kind, what->seed, id, &s);
    stem_of(what->split, id, stem);
    for (int k = 0; k < DEMO_LESIONS; k++)
        for (int i = 0; i < DEMO_PIXELS; i++) {
            mask[k][i] = s.truth[k][i] ? 255 : 0;
            all[i] |= mask[k][i];
        }
    MCS_TRY(write_grey(folder, "images", stem, s.image));
    MCS_TRY(write_grey(folder, "masks", stem, all));
    for (int k = 0; k < s.n_lesions && s.n_lesions > 1; k++) {
        snprintf(name, sizeof name, "%s_%d", stem, k);
        MCS_TRY(write_grey(folder, "masks_each", name, mask[k]));
    }
    snprintf(record->name, sizeof record->name, "%s.png", stem);
    memcpy(record->caption, s.caption, sizeof record->caption);
    record->kind = s.kind;
    record->level = s.level;
    record->z = s.z;
    record->noise = s.noise;
    record->n_lesions = s.n_lesions;
    record->n_lookalikes = s.n_lookalikes;
    memcpy(record->lesion, s.lesion, sizeof record->lesion);
    return MCS_OK;
}

/* ---- lists ---- */

static double rounded(double v)
{
    return round(v * 1e6) / 1e6;
}

static json_t *lesion_json(const struct demo_atlas *atlas, const struct demo_lesion *l, double noise)
{
    static const char *const forms[DEMO_FORMS] = {"smooth", "irregular", "cluster", "wedge"};
    const int *b = l->box;
    return json_pack("{s:s,s:s,s:s,s:b,s:s,s:s,s:s,s:s,s:f,s:f,s:f,s:i,s:[iiii],s:f,s:f,s:{s:s,s:s,s:s}}", "intensity",
                     l->bright ? "bright" : "dark", "size", l->large ? "large" : "small", "border",
                     l->blurred ? "blurred" : "sharp", "rim", l->rim, "form", forms[l->form], "side",
                     mcs_demo_side_word(l->side), "lobe", mcs_demo_lobe_words(l->lobe), "region",
                     atlas->region[l->region].label, "row", rounded(l->row), "col", rounded(l->col), "radius",
                     rounded(l->radius), "area", l->area, "box", b[0], b[1], b[2], b[3], "contrast",
                     rounded(l->contrast), "contrast_to_noise", noise > 0 ? rounded(fabs(l->contrast) / noise) : 0.0,
                     "prompts", "word", l->prompt[DEMO_PROMPT_WORD], "look", l->prompt[DEMO_PROMPT_LOOK], "look_place",
                     l->prompt[DEMO_PROMPT_LOOK_PLACE]);
}

static enum mcs_status write_pairs(const char *folder, const struct record *records, int n)
{
    char path[MCS_PATH_BYTES];
    char *text = malloc((size_t)(n + 1) * LINE_BYTES);
    if (!text) return MCS_FAIL(MCS_E_NOMEM, "%s/pairs.csv: no memory to write it", folder);
    size_t at = (size_t)sprintf(text, "filename,Caption\n");
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, LINE_BYTES, "%s,%s\n", records[i].name, records[i].caption);
    enum mcs_status st = mcs_path(path, "%s/pairs.csv", folder);
    if (st == MCS_OK) st = mcs_file_write(path, text, (int64_t)at);
    free(text);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

static enum mcs_status write_lists(const char *folder, const struct demo_atlas *atlas, const struct demo_config *config,
                                   const struct demo_write *what, const struct record *records)
{
    static const char *const kinds[] = {"none", "some", "two", "unseen", "mixed"};
    json_t *prompts = json_object(), *attributes = json_object(), *numbers = json_object();
    char generic[DEMO_CAPTION_BYTES], path[MCS_PATH_BYTES], *vocabulary;
    const struct demo_words nothing = {.bright = -1, .large = -1, .blurred = -1, .side = -1, .level = -1};
    mcs_demo_prompt(&nothing, DEMO_PROMPT_WORD, generic);
    for (int i = 0; i < what->n; i++) {
        const struct record *r = &records[i];
        json_t *texts = json_array(), *lesions = json_array();
        for (int k = 0; k < r->n_lesions; k++) {
            json_array_append_new(texts, json_string(r->lesion[k].prompt[DEMO_PROMPT_LOOK_PLACE]));
            json_array_append_new(lesions, lesion_json(atlas, &r->lesion[k], r->noise));
        }
        if (!r->n_lesions) json_array_append_new(texts, json_string(generic));
        json_object_set_new(prompts, r->name, texts);
        json_object_set_new(attributes, r->name,
                            json_pack("{s:i,s:s,s:s,s:f,s:i,s:o}", "z", r->z, "level", mcs_demo_level_word(r->level),
                                      "kind", kinds[r->kind], "noise", rounded(r->noise), "lookalikes", r->n_lookalikes,
                                      "lesions", lesions));
    }
#define X(structure, member, field, key, def, lo, hi, help) json_object_set_new(numbers, key, json_real(config->field));
    MCS_DEMO_CONFIG_LIST(X, , )
#undef X
    const size_t json_form = JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9);
    enum mcs_status st = mcs_json_write(prompts, json_form, "%s/prompts.json", folder);
    const enum mcs_status also = mcs_json_write(attributes, json_form, "%s/attributes.json", folder);
    const enum mcs_status third =
        mcs_json_write(json_pack("{s:s,s:s,s:I,s:I,s:i,s:o}", "split", mcs_demo_split_word(what->split), "kind",
                                 kinds[what->kind], "seed", (json_int_t)what->seed, "first_id",
                                 (json_int_t)what->first_id, "n", what->n, "config", numbers),
                       json_form, "%s/demo.json", folder);
    MCS_TRY(st);
    MCS_TRY(also);
    MCS_TRY(third);
    MCS_TRY(write_pairs(folder, records, what->n));
    MCS_TRY(mcs_path(path, "%s/vocab.txt", folder));
    MCS_TRY(mcs_demo_vocabulary(atlas, &vocabulary, NULL));
    st = mcs_file_write(path, vocabulary, (int64_t)strlen(vocabulary));
    free(vocabulary);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_demo_write(const char *folder, const struct demo_atlas *atlas, const struct demo_config *config,
                               const struct demo_write *what)
{
    static const char *const subs[] = {"images", "masks", "masks_each"};
    char path[MCS_PATH_BYTES], message[1024] = "";
    int failed = -1;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_demo_config_check(config));
    MCS_REQUIRE(what->n >= 0, MCS_E_USAGE, "%d images: want 0 or more", what->n);
    MCS_REQUIRE(what->kind != DEMO_UNSEEN || what->split == DEMO_TEST, MCS_E_USAGE,
                "lesions of unseen forms in the %s split: only the test split has them",
                mcs_demo_split_word(what->split));
    MCS_TRY(mcs_path_room(folder));
    for (size_t i = 0; i < sizeof subs / sizeof subs[0]; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", folder, subs[i]));
        MCS_TRY(mcs_folder_make(path));
    }
    struct record *records = calloc((size_t)what->n + 1, sizeof *records);
    if (!records) return MCS_FAIL(MCS_E_NOMEM, "%s: no memory for %d samples", folder, what->n);
        /* Messages are kept per thread: copy that of the first failing sample. */
#pragma omp parallel for schedule(dynamic, 8)
    for (int i = 0; i < what->n; i++) {
        enum mcs_status one = mcs_stop_check();
        if (one == MCS_OK) one = write_sample(folder, atlas, config, what, what->first_id + (uint32_t)i, &records[i]);
        if (one == MCS_OK) continue;
#pragma omp critical(mcs_demo_write_failure)
        if (failed < 0 || i < failed) {
            failed = i;
            st = one;
            mcs_text_cut(message, sizeof message, "%s", mcs_error_message());
        }
        mcs_error_clear();
    }
    if (st != MCS_OK) {
        free(records);
        return MCS_FAIL(st, "%s", message);
    }
    st = write_lists(folder, atlas, config, what, records);
    free(records);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* ---- contact sheets ---- */

static const uint8_t colours[DEMO_TARGETS][3] = {
    {255, 64, 64}, {64, 255, 64}, {80, 160, 255}, {255, 220, 40}, {255, 80, 255}};

static int on_outline(const uint8_t *mask, int x, int y) /* in zoomed pixels */
{
    static const int step[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    if (!mask[y / ZOOM * DEMO_SIZE + x / ZOOM]) return 0;
    for (int k = 0; k < 4; k++) {
        const int u = x + step[k][0], v = y + step[k][1];
        if (u < 0 || v < 0 || u >= DEMO_SIZE * ZOOM || v >= DEMO_SIZE * ZOOM || !mask[v / ZOOM * DEMO_SIZE + u / ZOOM])
            return 1;
    }
    return 0;
}

enum mcs_status mcs_demo_sheet(const char *path, const struct demo_cell *cells, int n_cells, int columns)
{
    struct image sheet;
    MCS_REQUIRE(n_cells > 0 && columns > 0, MCS_E_USAGE, "a sheet of %d images in %d columns: want at least one",
                n_cells, columns);
    const int side = DEMO_SIZE * ZOOM, rows = (n_cells + columns - 1) / columns;
    MCS_TRY(mcs_image_alloc(&sheet, columns * (2 * side + 4), rows * (side + 4), 3));
    for (int i = 0; i < n_cells; i++)
        for (int y = 0; y < side; y++)
            for (int x = 0; x < 2 * side; x++) {
                const int right = x >= side, u = x - right * side;
                const uint8_t grey = cells[i].image[y / ZOOM * DEMO_SIZE + u / ZOOM];
                uint8_t rgb[3] = {grey, grey, grey};
                for (int m = 0; m < DEMO_TARGETS && right; m++)
                    if (cells[i].mask[m] && on_outline(cells[i].mask[m], u, y)) memcpy(rgb, colours[m], 3);
                const int64_t px = (int64_t)(i % columns) * (2 * side + 4) + x,
                              py = (int64_t)(i / columns) * (side + 4) + y;
                memcpy(sheet.pixels + 3 * (py * sheet.width + px), rgb, 3);
            }
    const enum mcs_status st = mcs_image_write_png(path, &sheet);
    mcs_image_free(&sheet);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}
