/* The affine of a NIfTI header: nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE". */
#include "data/image/nifti.h"

#include <math.h>
#include <string.h>

enum { UNITS_METRE = 1, UNITS_MICRON = 3 };

/* Method 2: a rotation by the quaternion (a, b, c, d), of which b, c, d are stored, spacing, and a shift; pixdim[0] -1
 * mirrors the third axis. */
static void qform(const struct nifti_header *h, const double spacing[3], double mm, double affine[16])
{
    double b = h->quatern[0], c = h->quatern[1], d = h->quatern[2], a = 1 - (b * b + c * c + d * d);
    if (a < 1e-7) { /* half a turn, but for rounding: b, c, d are brought to length 1 */
        const double length = sqrt(b * b + c * c + d * d);
        b /= length;
        c /= length;
        d /= length;
        a = 0;
    } else
        a = sqrt(a);
    const double r[9] = {a * a + b * b - c * c - d * d, 2 * (b * c - a * d),           2 * (b * d + a * c),
                         2 * (b * c + a * d),           a * a + c * c - b * b - d * d, 2 * (c * d - a * b),
                         2 * (b * d - a * c),           2 * (c * d + a * b),           a * a + d * d - b * b - c * c};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++)
            affine[4 * i + k] = r[3 * i + k] * spacing[k] * (k == 2 && h->pixdim[0] < 0 ? -1 : 1);
        affine[4 * i + 3] = h->qoffset[i] * mm;
    }
}

/* The largest distance between the places of a corner by the two affines. */
static double corners_apart(const struct nifti_header *h, const double *a, const double *b)
{
    double most = 0;
    for (int corner = 0; corner < 8; corner++) {
        double square = 0;
        for (int i = 0; i < 3; i++) {
            double difference = a[4 * i + 3] - b[4 * i + 3];
            for (int k = 0; k < 3; k++)
                if (corner >> k & 1) difference += (a[4 * i + k] - b[4 * i + k]) * (double)(h->dim[k + 1] - 1);
            square += difference * difference;
        }
        most = fmax(most, sqrt(square));
    }
    return most;
}

int mcs_nifti_affine(const struct nifti_header *h, const float spacing[3], double affine[16], double *apart_mm)
{
    const int units = (int)(h->xyzt_units & 7);
    const double mm = units == UNITS_METRE ? 1e3 : units == UNITS_MICRON ? 1e-3 : 1;
    double by_qform[16] = {[15] = 1}, exact[3], least = INFINITY;
    if (apart_mm) *apart_mm = 0;
    for (int k = 0; k < 3; k++) {
        exact[k] = fabs(h->pixdim[k + 1]) * mm;
        if ((float)exact[k] != spacing[k]) exact[k] = spacing[k]; /* mcs_nifti_spacing replaced it */
        least = fmin(least, exact[k]);
    }
    if (h->sform_code <= 0 && h->qform_code <= 0) return 0;
    qform(h, exact, mm, by_qform);
    memcpy(affine, by_qform, sizeof by_qform);
    if (h->sform_code <= 0) return 1;
    for (int i = 0; i < 12; i++) affine[i] = h->srow[i] * mm;
    if (h->qform_code > 0 && apart_mm) {
        const double apart = corners_apart(h, affine, by_qform);
        if (apart > least / 10) *apart_mm = apart;
    }
    return 1;
}
