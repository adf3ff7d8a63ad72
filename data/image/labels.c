#include "data/image/labels.h"

#include "data/image/picture.h"
#include "engine/base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PART = 1 << 14, GREATEST_LABEL = 65535, FEW_LABELS = 32 };

static void note(struct label_map *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct label_map *m, const char *fmt, ...)
{
    size_t at = strlen(m->notes);
    va_list ap;
    if (at && at + 3 < sizeof m->notes) at += (size_t)snprintf(m->notes + at, sizeof m->notes - at, "; ");
    va_start(ap, fmt);
    vsnprintf(m->notes + at, sizeof m->notes - at, fmt, ap);
    va_end(ap);
}

void mcs_labels_free(struct label_map *m)
{
    free(m->index);
    *m = (struct label_map){0};
}

int mcs_labels_find(const struct label_map *m, int64_t label)
{
    for (int i = 0; i < m->n; i++)
        if (m->label[i] == label) return i;
    return -1;
}

const char *mcs_labels_place(const struct label_map *m, int64_t voxel, char text[64])
{
    const int64_t nx = m->grid.n[0], ny = m->grid.n[1];
    if (m->grid.n[2] > 1)
        snprintf(text, 64, "(%lld, %lld, %lld)", (long long)(voxel % nx), (long long)(voxel / nx % ny),
                 (long long)(voxel / nx / ny));
    else
        snprintf(text, 64, "(%lld, %lld)", (long long)(voxel % nx), (long long)(voxel / nx));
    return text;
}

enum mcs_status mcs_label_rule_parse(const char *ignore, struct label_rule *rule)
{
    *rule = (struct label_rule){0};
    if (!ignore) return MCS_OK;
    char *end;
    const long v = strtol(ignore, &end, 10);
    MCS_REQUIRE(end != ignore && !*end && v >= -32768 && v <= GREATEST_LABEL, MCS_E_USAGE,
                "--ignore-label %s: want a whole number from -32768 to %d", ignore, GREATEST_LABEL);
    rule->has_ignore = 1;
    rule->ignore = v;
    return MCS_OK;
}

/* ---- values ---- */

/* The number of a value in m->label, which it is added to. */
static enum mcs_status number_of(struct label_map *m, const char *path, const struct label_rule *rule, float value,
                                 int64_t voxel, int *number)
{
    char place[64];
    const double whole = rint((double)value);
    mcs_labels_place(m, voxel, place);
    MCS_REQUIRE(isfinite(value), MCS_E_DATA, "%s: voxel %s, counted from 0, is %s; a mask holds finite numbers", path,
                place, isnan(value) ? "NaN" : "infinite");
    MCS_REQUIRE(
        fabs((double)value - whole) <= 1e-4, MCS_E_DATA,
        "%s: voxel %s, counted from 0, is %g; labels are whole numbers: resample masks by nearest neighbour, or "
        "cut them at a threshold",
        path, place, (double)value);
    const int64_t label = (int64_t)whole;
    MCS_REQUIRE(label >= 0 || (rule && rule->has_ignore && label == rule->ignore), MCS_E_DATA,
                "%s: voxel %s, counted from 0, is %lld; negative labels are refused, unless it is the one to ignore "
                "(--ignore-label %lld)",
                path, place, (long long)label, (long long)label);
    MCS_REQUIRE(label <= GREATEST_LABEL, MCS_E_DATA, "%s: voxel %s, counted from 0, is %.9g; labels go to %d", path,
                place, (double)value, GREATEST_LABEL);
    *number = mcs_labels_find(m, label);
    if (*number >= 0) return MCS_OK;
    MCS_REQUIRE(m->n < MCS_LABELS_MAX, MCS_E_DATA,
                "%s: more than %d different values: this is an image, not a mask of labels", path, MCS_LABELS_MAX);
    m->label[m->n] = label;
    m->first[m->n] = voxel;
    *number = m->n++;
    return MCS_OK;
}

/* Sorts the labels, which are listed in the order of their first voxels, and counts their voxels. */
static void sort_labels(struct label_map *m, int64_t n)
{
    uint8_t rank[MCS_LABELS_MAX];
    struct label_map old = *m;
    for (int i = 0; i < m->n; i++) {
        rank[i] = 0;
        for (int k = 0; k < m->n; k++) rank[i] += old.label[k] < old.label[i];
    }
    for (int i = 0; i < m->n; i++) {
        m->label[rank[i]] = old.label[i];
        m->first[rank[i]] = old.first[i];
    }
    memset(m->count, 0, sizeof m->count);
    for (int64_t i = 0, end; i < n; i = end) { /* runs of one label */
        const uint8_t from = m->index[i];
        for (end = i + 1; end < n && m->index[end] == from; end++) continue;
        m->count[rank[from]] += end - i;
        if (rank[from] != from) memset(m->index + i, rank[from], (size_t)(end - i));
    }
}

/* ---- colours ---- */

static const uint8_t *bytes_at(const struct picture *p, int64_t i)
{
    return (const uint8_t *)p->values + i * p->channels;
}

/* Where alpha is 0 the colour must be 0 too, and where all colours are 0 alpha must not vary. */
static enum mcs_status check_alpha(const char *path, const struct picture *p, int64_t n)
{
    const int colours = p->channels - 1;
    int colour = 0, hides = 0, varies = 0;
    for (int64_t i = 0; i < n; i++) {
        int set = 0;
        for (int k = 0; k < colours; k++) set |= mcs_picture_value(p, i * p->channels + k) > 0;
        const double alpha = mcs_picture_value(p, i * p->channels + colours);
        colour |= set;
        hides |= set && alpha == 0;
        varies |= alpha != mcs_picture_value(p, colours);
    }
    MCS_REQUIRE(!hides && (colour || !varies), MCS_E_DATA,
                "%s: its transparency and its colours are different masks; save the mask as grey without alpha", path);
    return MCS_OK;
}

/* The value of pixel i of a coloured picture: the grey value, or 1 for the one colour beside black. colour: that one,
 * -1 while none was seen, -2 where all are grey. */
static enum mcs_status colour_value(const char *path, const struct picture *p, int64_t i, const double *colour,
                                    float *value)
{
    double rgb[3];
    for (int k = 0; k < 3; k++) rgb[k] = mcs_picture_value(p, i * p->channels + k);
    if (colour[0] < 0) { /* grey */
        *value = (float)rgb[0];
        return MCS_OK;
    }
    const int black = rgb[0] == 0 && rgb[1] == 0 && rgb[2] == 0;
    MCS_REQUIRE(black || !memcmp(rgb, colour, sizeof rgb), MCS_E_DATA,
                "%s: pixel (%lld, %lld) has the colour (%g, %g, %g), an earlier one (%g, %g, %g): colours are no "
                "labels; save the labels' numbers, as grey or as a palette",
                path, (long long)(i % p->nx), (long long)(i / p->nx), rgb[0], rgb[1], rgb[2], colour[0], colour[1],
                colour[2]);
    *value = black ? 0 : 1;
    return MCS_OK;
}

/* colour: the first that is not grey, or -1. */
static void find_colour(const struct picture *p, int64_t n, double colour[3])
{
    colour[0] = -1;
    for (int64_t i = 0; i < n; i++) {
        double rgb[3];
        for (int k = 0; k < 3; k++) rgb[k] = mcs_picture_value(p, i * p->channels + k);
        if (rgb[0] == rgb[1] && rgb[1] == rgb[2]) continue;
        memcpy(colour, rgb, sizeof rgb);
        return;
    }
}

/* ---- JPEG ---- */

/* Black and white survive JPEG but for their neighbourhood; class numbers and grey images do not look like that. */
static enum mcs_status read_lossy(const char *path, const struct picture *p, int64_t n, struct label_map *m)
{
    int64_t between = 0;
    int greatest = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *c = bytes_at(p, i);
        const int v = p->channels < 3 ? c[0] : (19595 * c[0] + 38470 * c[1] + 7471 * c[2] + 32768) >> 16;
        greatest = v > greatest ? v : greatest;
        between += v >= 64 && v < 192;
        m->index[i] = v > 127;
        if (m->index[i] && m->n < 2) {
            m->first[1] = i;
            m->n = 2;
        }
    }
    MCS_REQUIRE(
        greatest == 0 || greatest > 127, MCS_E_DATA,
        "%s: the greatest value of this JPEG mask is %d; JPEG changes values, so class numbers cannot be stored "
        "in it and white is read from 128 on: save the mask as PNG",
        path, greatest);
    MCS_REQUIRE(between <= n / 4, MCS_E_DATA,
                "%s: %lld %% of this JPEG's pixels are neither black nor white: this is an image, not a mask", path,
                (long long)(100 * between / n));
    m->label[0] = 0;
    m->label[1] = 1;
    if (m->n < 2) m->n = 1;
    m->lossy = 1;
    return MCS_OK;
}

/* ---- reading ---- */

static enum mcs_status read_values(const char *path, const struct label_rule *rule, const struct picture *p, int64_t n,
                                   struct label_map *m)
{
    float part[PART], last = NAN;
    double colour[3];
    int number = 0;
    if (p->channels % 2 == 0) MCS_TRY(check_alpha(path, p, n));
    if (p->channels >= 3) find_colour(p, n, colour);
    for (int64_t from = 0; from < n; from += PART) {
        const int64_t more = n - from < PART ? n - from : PART;
        if (p->channels == 1)
            mcs_picture_to_float(p, from, more, part);
        else
            for (int64_t i = 0; i < more; i++) {
                if (p->channels == 2)
                    part[i] = (float)mcs_picture_value(p, 2 * (from + i));
                else
                    MCS_TRY(colour_value(path, p, from + i, colour, &part[i]));
            }
        for (int64_t i = 0; i < more; i++) {
            if (!(part[i] == last)) {
                MCS_TRY(number_of(m, path, rule, part[i], from + i, &number));
                last = part[i];
            }
            m->index[from + i] = (uint8_t)number;
        }
    }
    return MCS_OK;
}

enum mcs_status mcs_labels_read(const char *path, const struct label_rule *rule, struct label_map *m)
{
    struct picture p;
    enum mcs_status st;
    *m = (struct label_map){.turned = 1};
    MCS_TRY(mcs_picture_read(path, NULL, &p));
    m->turned = p.orientation;
    MCS_TRY_GOTO(mcs_picture_upright(&p), st, done);
    m->grid = mcs_grid_of_picture(&p);
    const int64_t n = (int64_t)p.nx * p.ny * p.nz;
    MCS_REQUIRE_GOTO(!p.inverted, MCS_E_DATA, st, done,
                     "%s: its values are inverted (0 is white): save the labels with 0 as black", path);
    MCS_TRY_GOTO(mcs_memory_check(n, "%s: labels of %lld voxels", path, (long long)n), st, done);
    m->index = malloc((size_t)n);
    MCS_REQUIRE_GOTO(m->index, MCS_E_NOMEM, st, done, "%s: no memory for its labels", path);
    MCS_TRY_GOTO(mcs_picture_is_lossy(&p) ? read_lossy(path, &p, n, m) : read_values(path, rule, &p, n, m), st, done);
    sort_labels(m, n);
    if (p.notes[0]) note(m, "%s", p.notes);
    if (m->grid.has_affine && mcs_grid_is_sheared(&m->grid)) note(m, "its affine is sheared or singular");
done:
    mcs_picture_free(&p);
    if (st != MCS_OK) mcs_labels_free(m);
    return st;
}

/* ---- the grid of another file ---- */

/* Number of label 0, which is added where there is none. E_DATA: there is no room. */
static enum mcs_status background(struct label_map *m, const char *path, int *zero)
{
    *zero = mcs_labels_find(m, 0);
    if (*zero >= 0) return MCS_OK;
    MCS_REQUIRE(m->n < MCS_LABELS_MAX, MCS_E_DATA, "%s: more than %d different labels", path, MCS_LABELS_MAX - 1);
    m->label[m->n] = 0;
    *zero = m->n++;
    return MCS_OK;
}

static int64_t source_of(const struct label_map *m, const struct grid_map *map, const int v[3])
{
    int from[3];
    for (int i = 0; i < 3; i++) {
        if (map->relation == MCS_GRID_TURNED)
            from[i] = map->sign[i] * v[map->axis[i]] + map->offset[i];
        else {
            const double *row = map->matrix + 4 * i;
            const double at = floor(row[0] * v[0] + row[1] * v[1] + row[2] * v[2] + row[3] + 0.5);
            if (!(at >= 0 && at < m->grid.n[i])) return -1;
            from[i] = (int)at;
        }
    }
    return ((int64_t)from[2] * m->grid.n[1] + from[1]) * m->grid.n[0] + from[0];
}

static enum mcs_status move(struct label_map *m, const char *path, const struct grid *grid, const struct grid_map *map)
{
    const int64_t n = (int64_t)grid->n[0] * grid->n[1] * grid->n[2];
    int zero = 0;
    if (map->relation == MCS_GRID_OTHER) MCS_TRY(background(m, path, &zero));
    MCS_TRY(mcs_memory_check(n, "%s: labels of %lld voxels", path, (long long)n));
    uint8_t *moved = malloc((size_t)n);
    MCS_REQUIRE(moved, MCS_E_NOMEM, "%s: no memory for its labels", path);
    int64_t i = 0;
    int v[3];
    for (v[2] = 0; v[2] < grid->n[2]; v[2]++)
        for (v[1] = 0; v[1] < grid->n[1]; v[1]++)
            for (v[0] = 0; v[0] < grid->n[0]; v[0]++, i++) {
                const int64_t from = source_of(m, map, v);
                moved[i] = from < 0 ? (uint8_t)zero : m->index[from];
            }
    free(m->index);
    m->index = moved;
    m->grid = *grid;
    sort_labels(m, n);
    for (int k = 0; k < m->n; k++) m->first[k] = -1;
    for (i = 0; i < n; i++)
        if (m->first[m->index[i]] < 0) m->first[m->index[i]] = i;
    return MCS_OK;
}

static const char *size_text(const struct grid *g, char text[48])
{
    const int at = snprintf(text, 48, "%d x %d", g->n[0], g->n[1]);
    if (g->n[2] > 1) snprintf(text + at, 48 - (size_t)at, " x %d", g->n[2]);
    return text;
}

enum mcs_status mcs_labels_to_grid(struct label_map *m, const char *path, const struct grid *grid,
                                   const char *grid_file, int resample)
{
    struct grid_map map;
    char text[16];
    const struct grid *own = &m->grid;
    MCS_TRY(mcs_grid_compare(path, own, grid_file, grid, &map));
    if (own->has_affine != grid->has_affine && (own->n[2] > 1 || grid->n[2] > 1))
        note(m, "%s has no affine: voxels are compared as they are stored", own->has_affine ? grid_file : path);
    if (map.relation == MCS_GRID_SAME) return MCS_OK;
    if (map.relation == MCS_GRID_TURNED) {
        MCS_TRY(move(m, path, grid, &map));
        note(m, "stored otherwise than %s, and turned to it (its axes there: %s)", grid_file,
             mcs_grid_turn_text(&map, text));
        return MCS_OK;
    }
    const int by_world = own->has_affine && grid->has_affine;
    char own_size[48], size[48];
    MCS_REQUIRE(resample && by_world, MCS_E_DATA, "%s is %s, but %s is %s: masks must have one size and grid (%s%s)",
                path, size_text(own, own_size), grid_file, size_text(grid, size), map.why,
                by_world ? "; --resample takes the nearest voxels" : "");
    MCS_TRY(move(m, path, grid, &map));
    note(m, "resampled to the grid of %s by the nearest voxel (%s)", grid_file, map.why);
    return MCS_OK;
}

/* ---- classes ---- */

enum mcs_status mcs_labels_to_classes(const struct label_map *m, const char *path, const struct label_rule *rule,
                                      int classes, uint8_t *dst)
{
    uint8_t class_of[MCS_LABELS_MAX];
    char place[64];
    int others = 0;
    for (int i = 0; i < m->n; i++)
        others += m->label[i] != 0 && !(rule && rule->has_ignore && m->label[i] == rule->ignore);
    MCS_REQUIRE(!m->lossy || classes == 2, MCS_E_DATA,
                "%s: JPEG changes values, so it cannot hold %d classes: save the labels as PNG", path, classes);
    for (int i = 0; i < m->n; i++) {
        const int64_t v = m->label[i];
        const int ignored = rule && rule->has_ignore && v == rule->ignore;
        MCS_REQUIRE(ignored || v < classes || (classes == 2 && (others == 1 || (rule && rule->merge))), MCS_E_DATA,
                    "%s: a label of %lld where there are %d classes, 0 to %d (voxel %s, counted from 0)%s", path,
                    (long long)v, classes, classes - 1, mcs_labels_place(m, m->first[i], place),
                    v == 255       ? "; to leave its voxels out, say --ignore-label 255"
                    : classes == 2 ? "; to take all labels as one class, say --merge-labels"
                                   : "");
        class_of[i] = ignored ? MCS_LABEL_IGNORED : classes == 2 ? v != 0 : (uint8_t)v;
    }
    const int64_t n = (int64_t)m->grid.n[0] * m->grid.n[1] * m->grid.n[2];
    for (int64_t i = 0; i < n; i++) dst[i] = class_of[m->index[i]];
    return MCS_OK;
}

int mcs_labels_is_picture(const struct label_map *m)
{
    int64_t pairs = 0, equal = 0;
    const int64_t n = (int64_t)m->grid.n[0] * m->grid.n[1] * m->grid.n[2];
    if (m->n <= FEW_LABELS) return 0;
    for (int64_t i = 1; i < n; i++) {
        if (m->label[m->index[i]] == 0 || m->label[m->index[i - 1]] == 0) continue;
        pairs++;
        equal += m->index[i] == m->index[i - 1];
    }
    return equal < 7 * pairs / 10;
}
