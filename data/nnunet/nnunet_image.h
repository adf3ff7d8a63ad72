/* The images of a case as nnU-Net's readers hold them: float32 (channels, z, y, x), spacing z y x.
 *
 *  reader            files                  spacing
 *  NaturalImage2DIO  PNG, BMP; z is 1       999, 1, 1; RGB and RGBA are 3 and 4 channels
 *  SimpleITKIO       NIfTI, 2-D or 3-D;     the file's in mm; z of a 2-D image: 999 times its largest
 *                    NRRD, MetaImage, 3-D
 *  NibabelIO         NIfTI, 3-D             the file's numbers, whatever their unit
 *
 * Axes are the file's: no reader of these reorients. */
#ifndef MCS_NNUNET_IMAGE_H
#define MCS_NNUNET_IMAGE_H

#include "data/nnunet/nnunet_dataset.h"

struct nnunet_image {
    int channels;
    int64_t shape[3];  /* z y x */
    double spacing[3]; /* z y x */
    float *values;     /* (channels, z, y, x), owned */
    /* Where the voxels lie. n_axes: of the file, 2 or 3; affine: row-major, voxel (x, y, z, 1) -> mm, RAS+. */
    int n_axes;
    double file_spacing[3], affine[16]; /* x y z */
};

/* Reads n files, of which each has one channel or more, and stacks them. E_NOINPUT, E_IO; E_DATA: a file that cannot be
 * read or that nnU-Net's reader refuses, files of different shape or spacing, NaN; a reader that is not supported. */
enum mcs_status mcs_nnunet_image_read(const char *reader, int n, const char *const *paths, struct nnunet_image *img);
void mcs_nnunet_image_free(struct nnunet_image *img);
/* A case of a data set with its label (1, z, y, x), or without where label is NULL. Also E_DATA: another number of
 * channels than dataset.json names, a label of another shape, a value in it that is no class. */
enum mcs_status mcs_nnunet_case_read(const struct nnunet_dataset *d, const char *reader, const struct nnunet_case *c,
                                     struct nnunet_image *images, struct nnunet_image *label);

/* ITK's description of the same geometry: x y z; direction: row-major, n_axes x n_axes. */
void mcs_nnunet_itk_geometry(const struct nnunet_image *img, double origin[3], double direction[9]);

#endif
