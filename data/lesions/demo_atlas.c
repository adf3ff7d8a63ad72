#include "data/lesions/demo_atlas.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "engine/base/path.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX_BYTES = 1 << 20, BINS = 4096, FAR = 1 << 28, CLOSE_MM = 5 };

/* The brain's TOP_PERCENTILE maps to TOP_VALUE. White matter is then about 0.7, and 0.88 to 1 is free for bright
 * lesions. */
static const float TOP_PERCENTILE = 0.99f, TOP_VALUE = 0.75f;

static const char *const default_folders[] = {
    "/usr/share/mricron/templates",
    "/usr/local/share/mricron/templates",
    "/opt/mricron/templates",
    "/usr/share/mricrogl/Resources/standard",
};

/* ---- splits ---- */

struct slab {
    int low, high;
    enum demo_split split;
};
static const struct slab slabs[] = {
    {46, 51, DEMO_TEST},       {70, 75, DEMO_TEST},       {94, 99, DEMO_TEST},         {118, 123, DEMO_TEST},
    {55, 58, DEMO_VALIDATION}, {79, 82, DEMO_VALIDATION}, {111, 114, DEMO_VALIDATION},
};
enum { N_SLABS = sizeof slabs / sizeof slabs[0], GAP = 3 };

int mcs_demo_slice_split(int z)
{
    if (z < DEMO_Z_LOW || z > DEMO_Z_HIGH) return -1;
    for (int i = 0; i < N_SLABS; i++)
        if (z >= slabs[i].low && z <= slabs[i].high) return (int)slabs[i].split;
    for (int i = 0; i < N_SLABS; i++)
        if (z >= slabs[i].low - GAP && z <= slabs[i].high + GAP) return -1;
    return DEMO_TRAIN;
}

enum demo_level mcs_demo_slice_level(int z)
{
    const int third = (DEMO_Z_HIGH - DEMO_Z_LOW + 1) / 3, k = (z - DEMO_Z_LOW) / third;
    return k <= 0 ? DEMO_LOWER : k == 1 ? DEMO_MIDDLE : DEMO_UPPER;
}

/* ---- words ---- */

const char *mcs_demo_side_word(enum demo_side side)
{
    static const char *const word[DEMO_SIDES] = {"left", "right", "midline"};
    return word[side];
}

const char *mcs_demo_lobe_words(enum demo_lobe lobe)
{
    static const char *const words[DEMO_LOBES] = {"frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe",
                                                  "limbic lobe",  "insula",        "deep nuclei",   "cerebellum"};
    return words[lobe];
}

const char *mcs_demo_level_word(enum demo_level level)
{
    static const char *const word[DEMO_LEVELS] = {"lower", "middle", "upper"};
    return word[level];
}

const char *mcs_demo_split_word(enum demo_split split)
{
    static const char *const word[DEMO_SPLITS] = {"train", "validation", "test"};
    return word[split];
}

/* The components of AAL's names in words. An adjective precedes the noun: Frontal_Sup_Orb is "superior orbital
 * frontal". Cerebellar lobules lose their numbers: nobody prompts with "lobule VIIb". */
static const struct part {
    const char *label, *word;
    int adjective;
} parts[] = {
    {"Sup", "superior", 1},   {"Mid", "middle", 1},           {"Inf", "inferior", 1},
    {"Orb", "orbital", 1},    {"Med", "medial", 1},           {"Medial", "medial", 1},
    {"Ant", "anterior", 1},   {"Post", "posterior", 1},       {"Supp", "supplementary", 1},
    {"Oper", "opercular", 0}, {"Tri", "triangular", 0},       {"Cingulum", "cingulate", 0},
    {"Heschl", "heschl", 0},  {"Cerebelum", "cerebellum", 0}, {"Crus1", "crus", 0},
    {"Crus2", "crus", 0},
};

static const struct {
    const char *label, *noun; /* label: prefix of the label */
} nouns[] = {
    {"Precentral", "gyrus"},  {"Frontal", "gyrus"},   {"Rectus", "gyrus"},        {"Cingulum", "gyrus"},
    {"ParaHippo", "gyrus"},   {"Lingual", "gyrus"},   {"Occipital", "gyrus"},     {"Fusiform", "gyrus"},
    {"Postcentral", "gyrus"}, {"Parietal", "lobule"}, {"SupraMarginal", "gyrus"}, {"Angular", "gyrus"},
    {"Heschl", "gyrus"},      {"Temporal", "gyrus"},  {"Calcarine", "cortex"},    {"Olfactory", "cortex"},
    {"Rolandic", "cortex"},
};

/* Lobe of a label by the atlas's code (third column of its table). */
static enum demo_lobe lobe_of_code(int code)
{
    switch (code / 1000) {
    case 2: return DEMO_FRONTAL;
    case 3: return DEMO_INSULAR;
    case 4: return DEMO_LIMBIC;
    case 5: return code >= 5400 ? DEMO_TEMPORAL : DEMO_OCCIPITAL; /* 5401, 5402: the fusiform gyrus */
    case 6: return DEMO_PARIETAL;
    case 7: return DEMO_DEEP;
    case 8: return DEMO_TEMPORAL;
    default: return DEMO_CEREBELLAR;
    }
}

static void append_word(char *dst, size_t dst_bytes, const char *word)
{
    const size_t n = strlen(dst);
    snprintf(dst + n, dst_bytes - n, "%s%s", n ? " " : "", word);
}

static void region_words(struct demo_region *r)
{
    for (int pass = 1; pass >= 0; pass--) { /* adjectives, then the rest */
        char label[sizeof r->label], *rest = NULL;
        memcpy(label, r->label, sizeof label);
        for (char *p = strtok_r(label, "_", &rest); p; p = strtok_r(NULL, "_", &rest)) {
            char lower[32];
            const char *word = lower;
            int adjective = 0;
            if (!strcmp(p, "L") || !strcmp(p, "R") || isdigit((unsigned char)p[0])) continue;
            size_t i = 0;
            for (; p[i] && i + 1 < sizeof lower; i++) lower[i] = (char)tolower((unsigned char)p[i]);
            lower[i] = 0;
            for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
                if (!strcmp(p, parts[k].label)) {
                    word = parts[k].word;
                    adjective = parts[k].adjective;
                }
            if (adjective == pass) append_word(r->words, sizeof r->words, word);
        }
    }
    /* An adjective alone gets its noun, unless there are three words already: "postcentral gyrus", "superior parietal
     * lobule". */
    int n_words = 1;
    for (const char *p = r->words; *p; p++) n_words += *p == ' ';
    for (size_t k = 0; k < sizeof nouns / sizeof nouns[0] && n_words < 3; k++) {
        if (strncmp(r->label, nouns[k].label, strlen(nouns[k].label)) != 0 || strstr(r->label, "Pole")) continue;
        append_word(r->words, sizeof r->words, nouns[k].noun);
        break;
    }
}

static enum mcs_status read_names(const char *path, struct demo_atlas *atlas)
{
    char *text, *rest = NULL;
    int64_t n_bytes;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_file_read(path, NAMES_MAX_BYTES, &text, &n_bytes));
    int n_names = 0, line = 0;
    for (char *s = strtok_r(text, "\r\n", &rest); s; s = strtok_r(NULL, "\r\n", &rest)) {
        int index, code;
        char name[32];
        line++;
        MCS_REQUIRE_GOTO(sscanf(s, "%d %31s %d", &index, name, &code) == 3 && index >= 1 && index < DEMO_REGIONS,
                         MCS_E_DATA, st, done, "%s, line %d: want \"NUMBER NAME CODE\" with a number of 1 to %d", path,
                         line, DEMO_REGIONS - 1);
        struct demo_region *r = &atlas->region[index];
        MCS_REQUIRE_GOTO(!r->label[0], MCS_E_DATA, st, done, "%s, line %d: label %d is there twice", path, line, index);
        const size_t n = strlen(name);
        memcpy(r->label, name, n + 1);
        r->side = DEMO_MIDLINE;
        if (n > 2 && !strcmp(name + n - 2, "_L")) r->side = DEMO_LEFT;
        if (n > 2 && !strcmp(name + n - 2, "_R")) r->side = DEMO_RIGHT;
        r->lobe = lobe_of_code(code);
        region_words(r);
        n_names++;
    }
    MCS_REQUIRE_GOTO(n_names == DEMO_REGIONS - 1, MCS_E_DATA, st, done, "%s: want %d named regions, got %d", path,
                     DEMO_REGIONS - 1, n_names);
done:
    free(text);
    return st;
}

/* ---- volumes ---- */

/* Squared distances along one line: dist[i] = min_j (i-j)^2 + f[j], and nearest[i], the minimising j (-1 if every f is
 * FAR): the lower envelope of parabolas (Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions",
 * 2012). Scratch: hull, the envelope's parabolas, and edge, where each begins; n each. */
static void envelope(int n, const int32_t *f, int32_t *dist, int *nearest, int *hull, float *edge)
{
    int k = -1;
    for (int q = 0; q < n; q++) {
        if (f[q] >= FAR) continue;
        float s = -INFINITY;
        while (k >= 0) {
            const int p = hull[k];
            s = ((float)(f[q] - f[p]) + (float)(q * q - p * p)) / (float)(2 * (q - p));
            if (s > edge[k]) break;
            k--;
        }
        hull[++k] = q;
        edge[k] = k ? s : -INFINITY;
    }
    for (int q = 0, j = 0; q < n; q++) {
        if (k < 0) {
            dist[q] = FAR;
            nearest[q] = -1;
            continue;
        }
        while (j < k && edge[j + 1] < (float)q) j++;
        dist[q] = (q - hull[j]) * (q - hull[j]) + f[hull[j]];
        nearest[q] = hull[j];
    }
}

/* AAL leaves white matter unlabelled: every voxel of the kept slices gets the label of the nearest labelled one (exact
 * Euclidean distance, one axis after the other). src: the whole volume; dst (nz,ny,nx): its slices from z_low on. */
static enum mcs_status nearest_labels(const struct volume *src, uint8_t *dst, int z_low, int nz)
{
    const int nx = src->nx, ny = src->ny;
    const int64_t plane = (int64_t)nx * ny, n = plane * nz;
    const int longest = nx > ny ? (nx > nz ? nx : nz) : (ny > nz ? ny : nz);
    int32_t *dist = malloc((size_t)n * sizeof *dist), *line = malloc((size_t)longest * 2 * sizeof *line);
    int *nearest = malloc((size_t)longest * 2 * sizeof *nearest);
    float *edge = malloc((size_t)(longest + 1) * sizeof *edge);
    uint8_t *label = malloc((size_t)longest);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(dist && line && nearest && edge && label, MCS_E_NOMEM, st, done,
                     "no memory for the map of regions");
    for (int64_t i = 0; i < n; i++) {
        const float v = src->values[z_low * plane + i];
        dst[i] = v >= 1 && v < DEMO_REGIONS ? (uint8_t)lrintf(v) : 0;
        dist[i] = dst[i] ? 0 : FAR;
    }
    const int64_t stride[3] = {1, nx, plane};
    const int length[3] = {nx, ny, nz};
    for (int axis = 0; axis < 3; axis++) {
        const int a = axis == 0 ? 1 : 0, b = axis == 2 ? 1 : 2, m = length[axis];
        for (int jb = 0; jb < length[b]; jb++)
            for (int ja = 0; ja < length[a]; ja++) {
                const int64_t at = ja * stride[a] + jb * stride[b];
                for (int i = 0; i < m; i++) {
                    line[i] = dist[at + i * stride[axis]];
                    label[i] = dst[at + i * stride[axis]];
                }
                envelope(m, line, line + longest, nearest, nearest + longest, edge);
                for (int i = 0; i < m; i++) {
                    dist[at + i * stride[axis]] = line[longest + i];
                    if (nearest[i] >= 0) dst[at + i * stride[axis]] = label[nearest[i]];
                }
            }
    }
    MCS_REQUIRE_GOTO(dist[0] < FAR, MCS_E_DATA, st, done, "the atlas has no labelled voxel");
done:
    free(dist);
    free(line);
    free(nearest);
    free(edge);
    free(label);
    return st;
}

void mcs_demo_steps(const uint8_t *mask, int nx, int ny, int to, uint8_t *steps)
{
    const int n = nx * ny, outside = to ? 254 : 0;
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < n; k++) {
            const int i = pass ? n - 1 - k : k, x = i % nx, y = i / nx, back = pass ? 1 : -1;
            const int in_x = x + back >= 0 && x + back < nx, in_y = y + back >= 0 && y + back < ny;
            const int a = in_x ? steps[i + back] : outside, b = in_y ? steps[i + back * nx] : outside;
            int d = (mask[i] != 0) == to ? 0 : pass ? steps[i] : 255;
            if (a + 1 < d) d = a + 1;
            if (b + 1 < d) d = b + 1;
            steps[i] = (uint8_t)d;
        }
}

/* Closes one slice's brain mask (dilation, then erosion, by CLOSE_MM steps) over its sulci, then fills holes, the
 * pixels that a flood fill from the border does not reach. mask (ny,nx) 0/1; steps, queue: scratch of ny*nx. */
static void close_and_fill(uint8_t *mask, int nx, int ny, uint8_t *steps, int *queue)
{
    int head = 0, tail = 0;
    const int n = nx * ny;
    mcs_demo_steps(mask, nx, ny, 1, steps);
    for (int i = 0; i < n; i++) mask[i] = steps[i] <= CLOSE_MM;
    mcs_demo_steps(mask, nx, ny, 0, steps);
    for (int i = 0; i < n; i++) mask[i] = steps[i] > CLOSE_MM;
    for (int i = 0; i < n; i++) {
        const int x = i % nx, y = i / nx;
        if ((x == 0 || y == 0 || x == nx - 1 || y == ny - 1) && !mask[i]) {
            mask[i] = 2;
            queue[tail++] = i;
        }
    }
    while (head < tail) {
        const int i = queue[head++], x = i % nx, y = i / nx;
        const int next[4] = {x > 0 ? i - 1 : -1, x < nx - 1 ? i + 1 : -1, y > 0 ? i - nx : -1,
                             y < ny - 1 ? i + nx : -1};
        for (int k = 0; k < 4; k++)
            if (next[k] >= 0 && !mask[next[k]]) {
                mask[next[k]] = 2;
                queue[tail++] = next[k];
            }
    }
    for (int i = 0; i < n; i++) mask[i] = mask[i] != 2;
}

/* The value below which the given share of the brain's voxels is. */
static float brain_percentile(const struct volume *head, const struct volume *brain, float share)
{
    const int64_t n = (int64_t)head->nx * head->ny * head->nz;
    float top = 0;
    int64_t count[BINS] = {0}, total = 0, below = 0;
    for (int64_t i = 0; i < n; i++)
        if (brain->values[i] > 0 && head->values[i] > top) top = head->values[i];
    if (!(top > 0) || !isfinite(top)) return 0;
    for (int64_t i = 0; i < n; i++)
        if (brain->values[i] > 0 && head->values[i] >= 0) {
            count[(int)(head->values[i] / top * (BINS - 1) + 0.5f)]++;
            total++;
        }
    int bin = 0;
    while (bin < BINS - 1 && (float)(below += count[bin]) < share * (float)total) bin++;
    return (float)bin / (BINS - 1) * top;
}

static enum mcs_status find_folder(const char *folder, const char **found)
{
    char path[MCS_PATH_BYTES];
    if (!folder || !folder[0]) folder = getenv("MCSAM_DEMO_DATA");
    const int n = folder && folder[0] ? 1 : (int)(sizeof default_folders / sizeof default_folders[0]);
    for (int i = 0; i < n; i++) {
        const char *f = folder && folder[0] ? folder : default_folders[i];
        if (mcs_path_fits(path, "%s/ch2.nii.gz", f) && mcs_file_exists(path)) {
            *found = f;
            return MCS_OK;
        }
    }
    return MCS_FAIL(MCS_E_NOINPUT,
                    "%s: no ch2.nii.gz there: install the package mricron-data, or name the folder with ch2.nii.gz, "
                    "ch2bet.nii.gz, aal.nii.gz and aal.nii.txt",
                    folder && folder[0] ? folder : default_folders[0]);
}

/* head: the volume whose size v must have; NULL: any. */
static enum mcs_status read_volume(const char *folder, const char *name, const struct volume *head, struct volume *v)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/%s", folder, name));
    MCS_TRY(mcs_volume_read(path, v));
    MCS_REQUIRE(!head || (v->nx == head->nx && v->ny == head->ny && v->nz == head->nz), MCS_E_DATA,
                "%s: %d x %d x %d voxels, ch2.nii.gz beside it has %d x %d x %d", path, v->nx, v->ny, v->nz, head->nx,
                head->ny, head->nz);
    return MCS_OK;
}

enum mcs_status mcs_demo_atlas_load(const char *folder, struct demo_atlas *atlas)
{
    struct volume head = {0}, brain = {0}, aal = {0};
    int *queue = NULL;
    uint8_t *steps = NULL;
    char path[MCS_PATH_BYTES];
    enum mcs_status st;
    memset(atlas, 0, sizeof *atlas);
    MCS_TRY(find_folder(folder, &folder));
    MCS_TRY(mcs_path(path, "%s/aal.nii.txt", folder));
    MCS_TRY_GOTO(read_names(path, atlas), st, done);
    MCS_TRY_GOTO(read_volume(folder, "ch2.nii.gz", NULL, &head), st, done);
    MCS_TRY_GOTO(read_volume(folder, "ch2bet.nii.gz", &head, &brain), st, done);
    MCS_TRY_GOTO(read_volume(folder, "aal.nii.gz", &head, &aal), st, done);
    MCS_REQUIRE_GOTO(head.nx == 181 && head.ny == 217 && head.nz == 181, MCS_E_DATA, st, done,
                     "%s/ch2.nii.gz: want 181 x 217 x 181 voxels, got %d x %d x %d", folder, head.nx, head.ny, head.nz);

    const int nx = atlas->nx = head.nx, ny = atlas->ny = head.ny, nz = atlas->nz = DEMO_Z_HIGH - DEMO_Z_LOW + 1;
    const int64_t plane = (int64_t)nx * ny, n = plane * nz, first = plane * DEMO_Z_LOW;
    atlas->value = malloc((size_t)n * sizeof *atlas->value);
    atlas->label = malloc((size_t)n);
    atlas->brain = malloc((size_t)n);
    queue = malloc((size_t)plane * sizeof *queue);
    steps = malloc((size_t)plane);
    MCS_REQUIRE_GOTO(atlas->value && atlas->label && atlas->brain && queue && steps, MCS_E_NOMEM, st, done,
                     "no memory for the atlas");
    const float top = brain_percentile(&head, &brain, TOP_PERCENTILE);
    MCS_REQUIRE_GOTO(top > 0, MCS_E_DATA, st, done, "%s: ch2bet.nii.gz holds no brain", folder);
    for (int64_t i = 0; i < n; i++) {
        const float v = head.values[first + i] / top * TOP_VALUE;
        atlas->value[i] = v > 0 ? (v < 1 ? v : 1) : 0; /* NaN becomes 0 */
        atlas->brain[i] = brain.values[first + i] > 0;
    }
    for (int z = 0; z < nz; z++) close_and_fill(atlas->brain + z * plane, nx, ny, steps, queue);
    MCS_TRY_GOTO(nearest_labels(&aal, atlas->label, DEMO_Z_LOW, nz), st, done);
    for (int z = DEMO_Z_LOW; z <= DEMO_Z_HIGH; z++) {
        const int s = mcs_demo_slice_split(z);
        if (s >= 0) atlas->slice[s][atlas->n_slices[s]++] = z;
    }
done:
    mcs_volume_free(&head);
    mcs_volume_free(&brain);
    mcs_volume_free(&aal);
    free(queue);
    free(steps);
    if (st != MCS_OK) mcs_demo_atlas_free(atlas);
    return st;
}

void mcs_demo_atlas_free(struct demo_atlas *atlas)
{
    free(atlas->value);
    free(atlas->label);
    free(atlas->brain);
    memset(atlas, 0, sizeof *atlas);
}
