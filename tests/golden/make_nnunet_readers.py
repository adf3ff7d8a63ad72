"""nnunet_readers/: small images of many kinds, and how the readers of nnunetv2 2.6.2 see them (readers.json)."""
import json
import os
import shutil

import nibabel
import numpy as np
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image
import SimpleITK

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nnunet_readers")
shutil.rmtree(here, ignore_errors=True)
os.makedirs(here)
r = np.random.RandomState(1)
grey = r.randint(0, 256, (5, 6)).astype(np.uint8)
rgba = Image.fromarray(r.randint(0, 256, (5, 6, 4)).astype(np.uint8), "RGBA")
pictures = {"grey": Image.fromarray(grey), "bits1": Image.fromarray(grey).convert("1", dither=0), "bits16": Image.fromarray((grey.astype(np.uint16) * 250)),
            "rgb": rgba.convert("RGB"), "rgba": rgba, "palette": rgba.convert("RGB").quantize(6), "grey_alpha": rgba.convert("LA")}
for name, picture in pictures.items():
    picture.save(os.path.join(here, name + ".png"))
pictures["grey"].point(lambda v: v // 16 * 17).quantize(16).save(os.path.join(here, "palette4.png"), bits=4)


def nifti(name, shape, dtype, affine, zooms=None, units="mm", slope=None, sform=1, qform=1):
    values = r.randint(-100, 1000, shape).astype(dtype)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units(units)
    if zooms:
        image.header.set_zooms(zooms)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, os.path.join(here, name))


turn = nibabel.eulerangles.euler2mat(.3, -.2, .5) @ np.diag([.7, -1.2, 3])
plain = np.diag([1.5, .8, 2.5, 1.])
plain[:3, 3] = (-20, 30.5, 7)
rotated = np.eye(4)
rotated[:3, :3], rotated[:3, 3] = turn, (5, -6, 70)
swapped = np.zeros((4, 4))
swapped[0, 2], swapped[1, 0], swapped[2, 1], swapped[3, 3] = -3, .9, 1.1, 1
nifti("plain.nii.gz", (3, 4, 2), np.int16, plain)
nifti("rotated.nii.gz", (3, 2, 4), np.float32, rotated)
nifti("swapped.nii.gz", (4, 3, 2), np.uint16, swapped)
nifti("scaled.nii.gz", (3, 4, 2), np.int16, plain, slope=(.5, -100))
nifti("micron.nii.gz", (3, 4, 2), np.int32, np.diag([150., 80, 2500, 1]), units="micron")
nifti("flat.nii.gz", (5, 4), np.int16, plain)
nifti("one_slice.nii.gz", (5, 4, 1), np.float64, plain)
nifti("sform_alone.nii.gz", (3, 4, 2), np.int16, rotated, qform=0)
nifti("qform_alone.nii.gz", (3, 4, 2), np.int16, rotated, sform=0)

for name in ("turned.nrrd", "turned.mha"):
    image = SimpleITK.GetImageFromArray(r.randint(-100, 1000, (2, 3, 4)).astype(np.int16))
    image.SetSpacing((.7, 1.2, 3))
    image.SetOrigin((5, -6, 70))
    image.SetDirection((turn / np.linalg.norm(turn, axis=0)).ravel().tolist())
    SimpleITK.WriteImage(image, os.path.join(here, name))
Image.fromarray(grey).save(os.path.join(here, "grey.bmp"))
rgba.convert("RGB").save(os.path.join(here, "rgb.bmp"))

out = []
for name in sorted(os.listdir(here)):
    for reader in (NaturalImage2DIO,) if name[-4:] in (".png", ".bmp") else (SimpleITKIO, NibabelIO):
        one = {"file": name, "reader": reader.__name__}
        try:
            values, properties = reader().read_images([os.path.join(here, name)])
            one |= {"shape": list(values.shape), "values": values.ravel().astype(float).tolist(),
                    "spacing": [float(s) for s in properties["spacing"]]}
            if "sitk_stuff" in properties:
                one |= {k: [float(v) for v in properties["sitk_stuff"][k]] for k in ("origin", "direction")}
        except Exception as e:
            print(name, reader.__name__, "refused:", str(e)[:100])
        out.append(one)
with open(os.path.join(here, "readers.json"), "w") as f:
    json.dump(out, f, separators=(",", ":"))
    f.write("\n")
