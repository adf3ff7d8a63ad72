/* Where a DICOM image lies, and what its values mean: PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups), C.11.1
 * (modality), C.11.2 (window). */

#include "data/imageread/imageread_dcmtk.h"
#include "data/imageread/imageread_dicom.h"

#include <cmath>
#include <cstring>

int dicom_numbers(DcmItem *item, unsigned group, unsigned element, int n, double *dst)
{
    int k = 0;
    OFString text;
    const DcmTagKey tag((Uint16)group, (Uint16)element);
    while (item && k < n) {
        Float64 number;
        if (item->findAndGetFloat64(tag, number, (unsigned long)k).bad()) {
            /* Decimal strings, and numbers whose type an implicit file does not tell. */
            if (item->findAndGetOFString(tag, text, (unsigned long)k).bad() || text.empty()) break;
            char *end;
            number = strtod(text.c_str(), &end);
            if (end == text.c_str()) break;
        }
        dst[k++] = number;
    }
    return k;
}

DcmItem *dicom_functional(DcmDataset *data, unsigned group, unsigned element, long frame)
{
    DcmItem *of_frame = NULL, *found = NULL;
    const DcmTagKey macro((Uint16)group, (Uint16)element);
    if (data->findAndGetSequenceItem(DCM_PerFrameFunctionalGroupsSequence, of_frame, frame).good() &&
        of_frame->findAndGetSequenceItem(macro, found, 0).good())
        return found;
    if (data->findAndGetSequenceItem(DCM_SharedFunctionalGroupsSequence, of_frame, 0).good() &&
        of_frame->findAndGetSequenceItem(macro, found, 0).good())
        return found;
    return NULL;
}

void dicom_normal(const double c[6], double normal[3])
{
    normal[0] = c[1] * c[5] - c[2] * c[4];
    normal[1] = c[2] * c[3] - c[0] * c[5];
    normal[2] = c[0] * c[4] - c[1] * c[3];
}

/* ---- geometry ---- */

/* The affine of columns, rows and a step between slices, all in LPS, to RAS: x and y change their sign. */
static void set_affine(struct imageread_info *info, const double position[3], const double cosines[6],
                       const double step[3])
{
    for (int i = 0; i < 3; i++) {
        const double sign = i < 2 ? -1 : 1;
        info->affine[4 * i] = sign * cosines[i] * info->spacing[0];
        info->affine[4 * i + 1] = sign * cosines[3 + i] * info->spacing[1];
        info->affine[4 * i + 2] = sign * step[i];
        info->affine[4 * i + 3] = sign * position[i];
    }
    for (int i = 12; i < 16; i++) info->affine[i] = i == 15;
    info->has_affine = 1;
}

static enum mcs_status check_cosines(const double c[6])
{
    const double x = c[0] * c[0] + c[1] * c[1] + c[2] * c[2], y = c[3] * c[3] + c[4] * c[4] + c[5] * c[5];
    const double dot = c[0] * c[3] + c[1] * c[4] + c[2] * c[5];
    MCS_REQUIRE(fabs(x - 1) < 1e-2 && fabs(y - 1) < 1e-2 && fabs(dot) < 1e-2, MCS_E_DATA,
                ": image orientation (%g %g %g, %g %g %g) is not two perpendicular directions of length 1", c[0], c[1],
                c[2], c[3], c[4], c[5]);
    return MCS_OK;
}

/* Spacing between rows and between columns; the detector's where no other is known. */
static enum mcs_status read_spacing(DcmDataset *data, struct imageread_info *info)
{
    double mm[2];
    DcmItem *measures = dicom_functional(data, 0x0028, 0x9110, 0);
    int n = dicom_numbers(measures, 0x0028, 0x0030, 2, mm);
    if (n != 2) n = dicom_numbers(data, 0x0028, 0x0030, 2, mm);
    if (n != 2) {
        n = dicom_numbers(data, 0x0018, 0x1164, 2, mm);
        if (n == 2) mcs_imageread_note(info, "its spacing is the detector's (Imager Pixel Spacing)");
    }
    info->has_spacing = n == 2;
    if (n != 2) return MCS_OK;
    MCS_REQUIRE(mm[0] > 0 && mm[1] > 0 && mm[0] < 1e6 && mm[1] < 1e6, MCS_E_DATA,
                ": a pixel spacing of %g and %g mm; want more than 0 and less than 1 km", mm[0], mm[1]);
    info->spacing[0] = mm[1];
    info->spacing[1] = mm[0];
    double depth = 1;
    if (!(dicom_numbers(measures, 0x0018, 0x0088, 1, &depth) || dicom_numbers(data, 0x0018, 0x0088, 1, &depth) ||
          dicom_numbers(measures, 0x0018, 0x0050, 1, &depth) || dicom_numbers(data, 0x0018, 0x0050, 1, &depth)) ||
        !(fabs(depth) > 0 && fabs(depth) < 1e6))
        depth = 1;
    info->spacing[2] = fabs(depth);
    return MCS_OK;
}

static int place_of(DcmDataset *data, long frame, double position[3], double cosines[6])
{
    int n = dicom_numbers(dicom_functional(data, 0x0020, 0x9113, frame), 0x0020, 0x0032, 3, position);
    if (n != 3) n = dicom_numbers(data, 0x0020, 0x0032, 3, position);
    int m = dicom_numbers(dicom_functional(data, 0x0020, 0x9116, frame), 0x0020, 0x0037, 6, cosines);
    if (m != 6) m = dicom_numbers(data, 0x0020, 0x0037, 6, cosines);
    return n == 3 && m == 6;
}

/* Frames along the normal, at offsets (PS3.3 C.8.8.3.2) from the first. */
static enum mcs_status frames_by_offsets(DcmDataset *data, struct imageread_info *info, const double position[3],
                                         const double cosines[6], int *found)
{
    double normal[3], step[3];
    DcmElement *offsets = NULL;
    OFString text;
    const unsigned long n = (unsigned long)info->nz;
    *found = data->findAndGetElement(DCM_GridFrameOffsetVector, offsets).good() && offsets->getVM() == n;
    if (!*found) return MCS_OK;
    const double first = offsets->getOFString(text, 0).good() ? atof(text.c_str()) : 0;
    const double step_mm = offsets->getOFString(text, 1).good() ? atof(text.c_str()) - first : 0;
    for (unsigned long k = 1; k < n; k++)
        MCS_REQUIRE(offsets->getOFString(text, k).good() &&
                        fabs(atof(text.c_str()) - first - (double)k * step_mm) <= 1e-3 * fabs(step_mm) + 1e-4,
                    MCS_E_DATA, ": its frames are not evenly spaced (Grid Frame Offset Vector, frame %lu)", k + 1);
    MCS_REQUIRE(fabs(step_mm) > 0 && fabs(step_mm) < 1e6, MCS_E_DATA, ": frames %g mm apart", step_mm);
    dicom_normal(cosines, normal);
    for (int i = 0; i < 3; i++) step[i] = normal[i] * step_mm;
    info->spacing[2] = fabs(step_mm);
    set_affine(info, position, cosines, step);
    return MCS_OK;
}

/* Frames with a place each, in their order. */
static enum mcs_status frames_by_place(DcmDataset *data, struct imageread_info *info, const double first[3],
                                       const double cosines[6])
{
    double second[3], position[3], other[6], step[3];
    if (!place_of(data, 1, second, other)) return MCS_OK;
    for (int i = 0; i < 3; i++) step[i] = second[i] - first[i];
    const double mm = sqrt(step[0] * step[0] + step[1] * step[1] + step[2] * step[2]);
    if (mm == 0) { /* repeats of one slice: time, not space */
        mcs_imageread_note(info, "its frames lie at one place: the third axis is not space");
        return MCS_OK;
    }
    for (long k = 0; k < info->nz; k++) {
        double apart = 0, turned = 0;
        MCS_REQUIRE(place_of(data, k, position, other), MCS_E_DATA, ": frame %ld has no position", k + 1);
        for (int i = 0; i < 3; i++) apart = fmax(apart, fabs(position[i] - first[i] - (double)k * step[i]));
        for (int i = 0; i < 6; i++) turned = fmax(turned, fabs(other[i] - cosines[i]));
        MCS_REQUIRE(apart <= 1e-2 * mm && turned < 1e-3, MCS_E_DATA,
                    ": its frames are not evenly spaced in their order: frame %ld is %.3g mm from its place", k + 1,
                    apart);
    }
    info->spacing[2] = mm;
    set_affine(info, first, cosines, step);
    return MCS_OK;
}

enum mcs_status dicom_geometry(DcmDataset *data, struct imageread_info *info)
{
    double normal[3];
    int offsets = 0;
    for (int i = 0; i < 3; i++) info->spacing[i] = 1;
    MCS_TRY(read_spacing(data, info));
    if (!place_of(data, 0, info->position, info->cosines) || !info->has_spacing) return MCS_OK;
    MCS_TRY(check_cosines(info->cosines));
    for (int i = 0; i < 3; i++)
        MCS_REQUIRE(std::isfinite(info->position[i]), MCS_E_DATA, ": image position %g", info->position[i]);
    if (info->nz == 1) {
        dicom_normal(info->cosines, normal);
        for (int i = 0; i < 3; i++) normal[i] *= info->spacing[2];
        set_affine(info, info->position, info->cosines, normal);
        info->has_place = 1;
        return MCS_OK;
    }
    MCS_TRY(frames_by_offsets(data, info, info->position, info->cosines, &offsets));
    return offsets ? MCS_OK : frames_by_place(data, info, info->position, info->cosines);
}

/* ---- meaning of the values ---- */

static enum mcs_status read_rescale(DcmDataset *data, struct imageread_info *info)
{
    double first[2] = {1, 0}, now[2];
    for (long k = 0; k < info->nz; k++) {
        DcmItem *item = dicom_functional(data, 0x0028, 0x9145, k);
        if (!item) item = data;
        now[0] = 1;
        now[1] = 0;
        dicom_numbers(item, 0x0028, 0x1053, 1, &now[0]);
        dicom_numbers(item, 0x0028, 0x1052, 1, &now[1]);
        MCS_REQUIRE(std::isfinite(now[0]) && std::isfinite(now[1]) && now[0] != 0, MCS_E_DATA,
                    ": a rescale slope of %g and intercept of %g", now[0], now[1]);
        if (k == 0) memcpy(first, now, sizeof first);
        MCS_REQUIRE(now[0] == first[0] && now[1] == first[1], MCS_E_DATA,
                    ": its frames have different rescale slopes or intercepts; split it into single frames");
        if (item == data) break;
    }
    info->slope = first[0];
    info->inter = first[1];
    return MCS_OK;
}

enum mcs_status dicom_meaning(DcmDataset *data, struct imageread_info *info)
{
    double centre, width;
    OFString shape, photometric;
    MCS_REQUIRE(!data->tagExistsWithValue(DCM_ModalityLUTSequence), MCS_E_DATA,
                ": its values go through a table (Modality LUT Sequence), which is not read");
    MCS_TRY(read_rescale(data, info));
    DcmItem *item = dicom_functional(data, 0x0028, 0x9132, 0);
    if (!item) item = data;
    info->has_window = dicom_numbers(item, 0x0028, 0x1050, 1, &centre) &&
                       dicom_numbers(item, 0x0028, 0x1051, 1, &width) && std::isfinite(centre) &&
                       std::isfinite(width) && width > 1;
    if (info->has_window) {
        item->findAndGetOFString(DCM_VOILUTFunction, shape);
        const int exact = shape == "LINEAR_EXACT" || shape == "SIGMOID";
        info->window_low = exact ? centre - width / 2 : centre - 0.5 - (width - 1) / 2;
        info->window_high = exact ? centre + width / 2 : centre - 0.5 + (width - 1) / 2;
    }
    data->findAndGetOFString(DCM_PhotometricInterpretation, photometric);
    info->inverted = photometric == "MONOCHROME1";
    return MCS_OK;
}
