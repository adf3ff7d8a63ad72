/* The formats of images and volumes, by the endings of file names; upper and lower case are equal. Verbs list the files
 * of a folder by these endings; the readers (mcs_image_read, mcs_volume_read) then look at the content. */
#ifndef MCS_MEDIA_H
#define MCS_MEDIA_H

#include "data/io/file.h"

#include <string.h>

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
    const size_t n = strlen(path);
    return mcs_file_has_ending(path, MCS_VOLUME_ENDINGS) || (n && path[n - 1] == '/'); /* a DICOM series */
}
/* 1 for a format in which the background of a mask is not exactly 0. */
static inline int mcs_media_is_lossy(const char *path)
{
    return mcs_file_has_ending(path, MCS_LOSSY_ENDINGS);
}

/* The images of a folder (endings MCS_IMAGE_ENDINGS), or images and volumes (MCS_MEDIA_ENDINGS): files with these
 * endings, files with no ending of images or volumes that are an image by their content, and, with volumes, folders
 * that hold a DICOM series, as "NAME/". One line on standard error names the other files but those of a run (JSON,
 * YAML, CSV, HDF5). E_NOINPUT, E_IO, E_NOMEM. Release with mcs_file_list_free. */
enum mcs_status mcs_media_list(const char *folder, const char *endings, struct file_list *list);

/* 1 for a folder of whose first files one is DICOM. */
int mcs_media_holds_series(const char *folder);

#endif
