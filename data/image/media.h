/* The formats of images and volumes, by the endings of file names; upper and lower case are equal. Verbs list the files
 * of a folder by these endings; the readers (mcs_image_read, mcs_volume_read) then look at the content. */
#ifndef MCS_MEDIA_H
#define MCS_MEDIA_H

#include "data/io/file.h"

#define MCS_LOSSY_ENDINGS ".jpg;.jpeg"
#define MCS_IMAGE_ENDINGS ".png;.bmp;.tif;.tiff;.jp2;.j2k;.dcm;" MCS_LOSSY_ENDINGS
#define MCS_VOLUME_ENDINGS ".nii;.nii.gz;.nrrd;.nhdr;.mha;.mhd"
#define MCS_MEDIA_ENDINGS MCS_IMAGE_ENDINGS ";" MCS_VOLUME_ENDINGS

static inline int mcs_media_is_image(const char *path)
{
    return mcs_file_has_ending(path, MCS_IMAGE_ENDINGS);
}
static inline int mcs_media_is_volume(const char *path)
{
    return mcs_file_has_ending(path, MCS_VOLUME_ENDINGS);
}
/* 1 for a format in which the background of a mask is not exactly 0. */
static inline int mcs_media_is_lossy(const char *path)
{
    return mcs_file_has_ending(path, MCS_LOSSY_ENDINGS);
}

#endif
