/* Masks of an evaluation, and what must be no mask. */
#include "data/image/image.h"
#include "data/image/media.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "engine/base/path.h"
#include "infer/metrics/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the released evaluation: grey above 200 ---- */

static enum mcs_status make_binary(const char *path, int nx, int ny, int nz, struct label_map *m)
{
    *m = (struct label_map){.grid = {{nx, ny, nz}, 0, 0, {1, 1, 1}, {0}}, .n = 2, .label = {0, 1}, .turned = 1};
    m->index = malloc((size_t)nx * (size_t)ny * (size_t)nz);
    MCS_REQUIRE(m->index, MCS_E_NOMEM, "%s: no memory for the mask", path);
    return MCS_OK;
}

static enum mcs_status read_bright_volume(const char *path, struct label_map *m)
{
    struct volume v;
    enum mcs_status st;
    MCS_TRY(mcs_volume_read(path, &v));
    MCS_TRY_GOTO(make_binary(path, v.nx, v.ny, v.nz, m), st, done);
    for (int i = 0; i < 3; i++) m->grid.spacing[i] = (double)v.spacing[i];
    const int64_t n = (int64_t)v.nx * v.ny * v.nz;
    for (int64_t i = 0; i < n; i++) {
        char place[64];
        MCS_REQUIRE_GOTO(isfinite(v.values[i]), MCS_E_DATA, st, done,
                         "%s: voxel %s, counted from 0, is %s; a mask holds finite numbers", path,
                         mcs_labels_place(m, i, place), isnan(v.values[i]) ? "NaN" : "infinite");
        m->index[i] = v.values[i] > 200.0f;
        m->count[m->index[i]]++;
    }
done:
    mcs_volume_free(&v);
    if (st != MCS_OK) mcs_labels_free(m);
    return st;
}

static enum mcs_status read_bright(const char *path, struct label_map *m)
{
    struct image img;
    *m = (struct label_map){0};
    if (mcs_media_is_volume(path)) return read_bright_volume(path, m);
    MCS_TRY(mcs_image_read(path, 1, &img));
    const enum mcs_status st = make_binary(path, img.width, img.height, 1, m);
    for (int64_t i = 0; st == MCS_OK && i < (int64_t)img.width * img.height; i++) {
        m->index[i] = img.pixels[i] > 200;
        m->count[m->index[i]]++;
    }
    mcs_image_free(&img);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* Nearest-neighbour resize with source index floor(i * n_source / n). */
static enum mcs_status resize_like(struct label_map *m, const struct grid *like)
{
    const int nx = like->n[0], ny = like->n[1];
    uint8_t *values = malloc((size_t)nx * (size_t)ny);
    MCS_REQUIRE(values, MCS_E_NOMEM, "no memory for a mask of %d x %d", nx, ny);
    for (int y = 0; y < ny; y++)
        for (int x = 0; x < nx; x++)
            values[(int64_t)y * nx + x] =
                m->index[(int64_t)y * m->grid.n[1] / ny * m->grid.n[0] + (int64_t)x * m->grid.n[0] / nx];
    free(m->index);
    m->index = values;
    m->grid.n[0] = nx;
    m->grid.n[1] = ny;
    return MCS_OK;
}

/* ---- all forms ---- */

enum mcs_status mcs_evaluate_read(const char *path, const struct evaluate_options *o, struct label_map *m)
{
    if (o->form == MCS_RELEASE) return read_bright(path, m);
    MCS_TRY(mcs_labels_read(path, &o->rule, m));
    if (!o->labels && mcs_labels_is_picture(m)) {
        const int n = m->n;
        mcs_labels_free(m);
        return MCS_FAIL(MCS_E_DATA,
                        "%s: %d different values that change from pixel to pixel: this is an image, not a mask (masks "
                        "with so many labels are read where --labels names them)",
                        path, n);
    }
    return MCS_OK;
}

enum mcs_status mcs_evaluate_fit(struct label_map *pred, const char *pred_path, const struct label_map *ref,
                                 const char *ref_path, const struct evaluate_options *o)
{
    const int planes = pred->grid.n[2] == 1 && ref->grid.n[2] == 1;
    const int same = pred->grid.n[0] == ref->grid.n[0] && pred->grid.n[1] == ref->grid.n[1];
    if (o->form == MCS_RELEASE && planes && !same) return resize_like(pred, &ref->grid);
    return mcs_labels_to_grid(pred, pred_path, &ref->grid, ref_path, o->resample);
}

/* 1 where a folder holds the results of a network: nnU-Net's file, or this program's record of such a verb. */
static int holds_predictions(const char *folder)
{
    static const char *const verbs[] = {"\"predict\"", "\"segment\"", "\"sam\"", "\"ensemble\"", "\"coarse\""};
    char path[MCS_PATH_BYTES], *text;
    int64_t n;
    int found = 0;
    if (!mcs_path_fits(path, "%s/predict_from_raw_data_args.json", folder)) return 0;
    if (mcs_file_exists(path)) return 1;
    if (!mcs_path_fits(path, "%s/.mcsam.record", folder) || !mcs_file_exists(path)) return 0;
    if (mcs_file_read(path, 1 << 28, &text, &n) != MCS_OK) {
        mcs_error_clear();
        return 0;
    }
    for (int i = 0; i < 5; i++) found |= strstr(text, verbs[i]) != NULL;
    free(text);
    return found;
}

enum mcs_status mcs_evaluate_check_folders(const char *pred, const char *ref)
{
    MCS_REQUIRE(!holds_predictions(ref) || holds_predictions(pred), MCS_E_DATA,
                "%s: the references' folder holds a network's results and %s does not: are --pred and --ref exchanged? "
                "To compare with these results as the truth, copy the masks to another folder",
                ref, pred);
    return MCS_OK;
}
