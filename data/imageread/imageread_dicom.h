/* The parts of the DICOM decoder, all over one open file. DICOM PS3.3 and PS3.5 name the attributes. */
#ifndef MCS_IMAGEREAD_DICOM_H
#define MCS_IMAGEREAD_DICOM_H

#include "data/imageread/imageread.h"

class DcmItem;
class DcmDataset;

/* Spacing, place and affine: of a slice, or of the frames of an enhanced or multi-frame file, in mm. E_DATA: a spacing
 * of 0 or NaN, axes that are not perpendicular, frames that are not evenly spaced in their order. */
enum mcs_status dicom_geometry(DcmDataset *data, struct imageread_info *info);
/* Rescale slope and intercept, window, and polarity. E_DATA: a modality table, frames with different rescaling. */
enum mcs_status dicom_meaning(DcmDataset *data, struct imageread_info *info);

/* Up to n numbers of an attribute (group, element) of an item; how many there are. */
int dicom_numbers(DcmItem *item, unsigned group, unsigned element, int n, double *dst);
/* The item of a functional group: of frame `frame`, else of all; NULL: neither. (group, element): the macro's sequence.
 */
DcmItem *dicom_functional(DcmDataset *data, unsigned group, unsigned element, long frame);
/* Cross product of two directions. */
void dicom_normal(const double cosines[6], double normal[3]);

#endif
