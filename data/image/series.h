/* A DICOM series: the files of a folder that are slices of one volume.
 *
 * Slices are sorted by their position along the normal of the image plane (PS3.3 C.7.6.2.1.1), never by name. The
 * affine is that of the first slice, with the step from the first position to the last divided by the number of steps,
 * so that a tilted stack keeps its shear. */
#ifndef MCS_SERIES_H
#define MCS_SERIES_H

#include "data/image/picture.h"

/* Reads a folder of DICOM files as one volume. choice->series chooses one of several series: its UID, the end of its
 * UID, or its number, from 1 in the order of the UIDs. Other files in the folder are named in a note.
 *
 * E_NOINPUT: no such folder; E_IO: no DICOM file in it. E_DATA, naming the files: several series and no choice; slices
 * of different size, type, scale or direction; without a position; two at one position; one or more missing; or a
 * damaged file. *p as mcs_picture_read. */
enum mcs_status mcs_series_read(const char *folder, const struct picture_choice *choice, struct picture *p);

#endif
