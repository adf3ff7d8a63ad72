#include "data/image/grid.h"

#include "data/image/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In voxels of the file: farther off is another grid. Rounding of float32 affines is below 0.01 of a voxel for sides of
 * some thousand. */
static const double MAX_OFF = 0.05;

struct grid mcs_grid_of_picture(const struct picture *p)
{
    struct grid g = {{p->nx, p->ny, p->nz}, p->has_spacing, p->has_affine, {0}, {0}};
    memcpy(g.spacing, p->spacing, sizeof g.spacing);
    memcpy(g.affine, p->affine, sizeof g.affine);
    return g;
}

static double dot(const double *affine, int a, int b)
{
    double sum = 0;
    for (int i = 0; i < 3; i++) sum += affine[4 * i + a] * affine[4 * i + b];
    return sum;
}

int mcs_grid_is_sheared(const struct grid *g)
{
    for (int a = 0; a < 3; a++) {
        const int b = (a + 1) % 3;
        if (fabs(dot(g->affine, a, b)) > 1e-3 * sqrt(dot(g->affine, a, a) * dot(g->affine, b, b))) return 1;
    }
    return 0;
}

/* inverse (3, 4) of an affine. E_DATA: it is singular. */
static enum mcs_status invert(const char *name, const double *a, double *inverse)
{
    double cofactor[9], det = 0, volume = 1;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) {
            const int r = (i + 1) % 3, s = (i + 2) % 3, c = (k + 1) % 3, d = (k + 2) % 3;
            cofactor[3 * i + k] = a[4 * r + c] * a[4 * s + d] - a[4 * r + d] * a[4 * s + c];
        }
        volume *= sqrt(dot(a, i, i));
    }
    for (int k = 0; k < 3; k++) det += a[k] * cofactor[k];
    MCS_REQUIRE(isfinite(det) && fabs(det) > 1e-6 * volume && volume > 0, MCS_E_DATA,
                "%s: its affine is singular (two axes have one direction, or one has no length): repair the header",
                name);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) inverse[4 * i + k] = cofactor[3 * k + i] / det;
        inverse[4 * i + 3] = 0;
        for (int k = 0; k < 3; k++) inverse[4 * i + 3] -= inverse[4 * i + k] * a[4 * k + 3];
    }
    return MCS_OK;
}

/* The largest distance in mm between corners of the grid by map->matrix and by its signs and offsets; in_voxels: the
 * largest along one axis of the file. */
static double corners_off(const struct grid *of, const struct grid *grid, const struct grid_map *m, double *in_voxels)
{
    double most_mm = 0;
    *in_voxels = 0;
    for (int corner = 0; corner < 8; corner++) {
        double square = 0;
        for (int i = 0; i < 3; i++) {
            double exact = m->matrix[4 * i + 3];
            for (int k = 0; k < 3; k++) exact += m->matrix[4 * i + k] * (corner >> k & 1 ? grid->n[k] - 1 : 0);
            const int v = corner >> m->axis[i] & 1 ? grid->n[m->axis[i]] - 1 : 0;
            const double off = exact - (m->sign[i] * v + m->offset[i]);
            *in_voxels = fmax(*in_voxels, fabs(off));
            square += off * off * of->spacing[i] * of->spacing[i];
        }
        most_mm = fmax(most_mm, sqrt(square));
    }
    return most_mm;
}

static void other(struct grid_map *m, double apart_mm, const char *why)
{
    m->relation = MCS_GRID_OTHER;
    m->apart_mm = apart_mm;
    m->why = why;
}

/* Sizes and spacings alone. */
static void compare_stored(const struct grid *of, const struct grid *grid, struct grid_map *m)
{
    for (int i = 0; i < 3; i++) {
        const double a = of->spacing[i], b = grid->spacing[i];
        m->axis[i] = i;
        m->sign[i] = 1;
        if (of->n[i] != grid->n[i]) {
            other(m, INFINITY, "another size");
            return;
        }
        if (of->has_spacing && grid->has_spacing && grid->n[i] > 1 && fabs(a - b) > 1e-3 * fmin(a, b)) {
            other(m, fabs(a - b) * grid->n[i], "another spacing");
            return;
        }
    }
}

enum mcs_status mcs_grid_compare(const char *file, const struct grid *of, const char *grid_file,
                                 const struct grid *grid, struct grid_map *m)
{
    double inverse[12];
    *m = (struct grid_map){.relation = MCS_GRID_SAME};
    if (of->has_affine && grid->has_affine && !memcmp(of->n, grid->n, sizeof of->n) &&
        !memcmp(of->affine, grid->affine, sizeof of->affine))
        return MCS_OK; /* one grid, whatever its affine */
    if (of->has_affine) MCS_TRY(invert(file, of->affine, inverse));
    if (grid->has_affine) {
        double unused[12];
        MCS_TRY(invert(grid_file, grid->affine, unused));
    }
    if (!of->has_affine || !grid->has_affine) {
        compare_stored(of, grid, m);
        return MCS_OK;
    }
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 4; k++) {
            m->matrix[4 * i + k] = k == 3 ? inverse[4 * i + 3] : 0;
            for (int j = 0; j < 3; j++) m->matrix[4 * i + k] += inverse[4 * i + j] * grid->affine[4 * j + k];
        }
    int used = 0;
    for (int i = 0; i < 3; i++) {
        const double *row = m->matrix + 4 * i;
        for (int k = 1; k < 3; k++)
            if (fabs(row[k]) > fabs(row[m->axis[i]])) m->axis[i] = k;
        used |= 1 << m->axis[i];
        m->sign[i] = row[m->axis[i]] < 0 ? -1 : 1;
        m->offset[i] = m->sign[i] < 0 ? of->n[i] - 1 : 0;
        if (m->axis[i] != i || m->sign[i] < 0) m->relation = MCS_GRID_TURNED;
    }
    for (int i = 0; i < 3; i++)
        if (used != 7 || of->n[i] != grid->n[m->axis[i]]) {
            other(m, INFINITY, used != 7 ? "oblique to it" : "another size");
            return MCS_OK;
        }
    double in_voxels;
    const double apart = corners_off(of, grid, m, &in_voxels);
    if (in_voxels > MAX_OFF) other(m, apart, "the same size at another place, spacing or angle");
    return MCS_OK;
}

const char *mcs_grid_turn_text(const struct grid_map *m, char text[16])
{
    char *to = text;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 3; i++) {
            if (m->axis[i] != k) continue;
            if (k) *to++ = ' ';
            *to++ = m->sign[i] < 0 ? '-' : '+';
            *to++ = (char)('x' + i);
        }
    *to = 0;
    return text;
}
