"""nnunet/: three tiny raw data sets of nnU-Net, and what nnunetv2 2.6.2 makes of them: fingerprint, plans, preprocessed cases.

    pip install nnunetv2==2.6.2 batchgenerators==0.25.5
    python tests/golden/make_nnunet_cases.py

The images are made by numpy; the preprocessed arrays and foreground locations are in nnunet/cases.safetensors.
"""
import contextlib
import io
import json
import os
import shutil
import tempfile

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nnunet")
folder = tempfile.mkdtemp()
os.environ["nnUNet_raw"] = here
os.environ["nnUNet_preprocessed"] = os.path.join(folder, "preprocessed")
os.environ["nnUNet_results"] = os.path.join(folder, "results")

import nibabel
import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from safetensors.numpy import save_file
from skimage import io as image_io


class Inline:
    """A pool of no processes."""
    _pool = []

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def starmap_async(self, function, arguments):
        return type("Done", (), {"get": lambda s, v=[function(*a) for a in arguments]: v, "ready": lambda s: True})()


class Context:
    Pool = Inline


fingerprint_extractor.multiprocessing.get_context = lambda kind: Context
fingerprint_extractor.sleep = lambda seconds: None


def blobs(r, shape, labels):
    """Smooth labels and images that depend on them, with zeros at the border, a hole, and noise."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    label = np.zeros(shape, np.int16)
    for k in labels:
        centre = r.uniform(-.5, .5, len(shape))[(slice(None),) + (None,) * len(shape)]
        label[(((grid - centre) / r.uniform(.3, .7)) ** 2).sum(0) < .5] = k
    return label


def case_3d(r, shape, labels, channels, border):
    label = blobs(r, shape, labels)
    images = []
    for c in range(channels):
        image = np.round(r.normal(60 + 40 * c, 25, shape) + 70 * label * (c + 1)).astype(np.int16)
        image[image == 0] = 1
        cut = tuple(slice(b, n - b) for b, n in zip(border, shape))
        kept = np.zeros_like(image)
        kept[cut] = image[cut]
        hole = tuple(slice(n // 2, n // 2 + 1) for n in shape)
        kept[hole] = 0
        images.append(kept)
    for image in images:
        image[tuple(b for b in border)] = 0  # a corner of the box that is outside of the mask
    return images, label


def write_nifti(path, values, spacing):
    affine = np.diag([-spacing[2], spacing[1], spacing[0], 1.0])
    affine[:3, 3] = (11, -7, 3)
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nibabel.save(image, path)


def volumes(name, channel_names, labels, values, cases, ending, **more):
    os.makedirs(os.path.join(here, name, "imagesTr"))
    os.makedirs(os.path.join(here, name, "labelsTr"))
    r = np.random.RandomState(len(name) + len(values))
    for i, (shape, spacing, border) in enumerate(cases):
        images, label = case_3d(r, shape, values, len(channel_names), border)
        for c, image in enumerate(images):
            write_nifti(os.path.join(here, name, "imagesTr", "c%d_%04d%s" % (i, c, ending)), image, spacing)
        write_nifti(os.path.join(here, name, "labelsTr", "c%d%s" % (i, ending)), label.astype(np.uint8), spacing)
    return dataset(name, channel_names, labels, len(cases), ending, **more)


def dataset(name, channel_names, labels, n, ending, **more):
    d = {"channel_names": {str(i): c for i, c in enumerate(channel_names)}, "labels": labels, "numTraining": n, "file_ending": ending, **more}
    with open(os.path.join(here, name, "dataset.json"), "w") as f:
        json.dump(d, f, indent=1)
    return name


def pictures(name):
    os.makedirs(os.path.join(here, name, "imagesTr"))
    os.makedirs(os.path.join(here, name, "labelsTr"))
    r = np.random.RandomState(5)
    for i, (h, w) in enumerate([(18, 24), (21, 16), (20, 20)]):
        label = blobs(r, (h, w), (1, 2)).astype(np.uint8)
        image = np.clip(r.normal(80, 30, (h, w, 3)) + 50 * label[..., None], 1, 255).astype(np.uint8)
        if i == 1:
            image[:3] = 0
            image[:, -2:] = 0
        image[10, 10] = 0
        image_io.imsave(os.path.join(here, name, "imagesTr", "c%d_0000.png" % i), image, check_contrast=False)
        image_io.imsave(os.path.join(here, name, "labelsTr", "c%d.png" % i), label, check_contrast=False)
    return dataset(name, ("rgb_to_0_1", "G", "zscore"), {"background": 0, "a": 1, "b": 2}, 3, ".png")


shutil.rmtree(here, ignore_errors=True)
names = [pictures("Dataset001_Flat"),
         volumes("Dataset002_Thin", ("CT", "T1"), {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, (1, 2, 3),
                 [((5, 14, 16), (5, .8, .8), (0, 2, 3)), ((6, 12, 13), (4, 1.0, .9), (1, 1, 2)), ((5, 15, 12), (5.5, .7, .8), (0, 3, 2))],
                 ".nii.gz", regions_class_order=[1, 2]),
         volumes("Dataset003_Axis", ("rescale_to_0_1", "noNorm", "MRI"), {"background": 0, "a": 1, "b": 2, "c": 3}, (1, 2, 3),
                 [((9, 7, 10), (1, 1.5, 1), (0, 0, 0)), ((8, 6, 11), (1.25, 2, .8), (0, 0, 1)), ((10, 9, 9), (.9, 1.4, 1.1), (1, 0, 0))],
                 ".nii")]
tensors, found = {}, {}
for name in names:
    with contextlib.redirect_stdout(io.StringIO()):
        fingerprint = fingerprint_extractor.DatasetFingerprintExtractor(name, 1).run(True)
        ExperimentPlanner(name).plan_experiment()
    out = os.path.join(folder, "preprocessed", name)
    plans = json.load(open(os.path.join(out, "nnUNetPlans.json")))
    found[name] = {"fingerprint": json.load(open(os.path.join(out, "dataset_fingerprint.json"))), "plans": plans}
    description = json.load(open(os.path.join(here, name, "dataset.json")))
    manager = PlansManager(plans)
    for configuration in plans["configurations"]:
        files = get_filenames_of_train_images_and_targets(os.path.join(here, name), description)
        for case in files:
            data, seg, properties = DefaultPreprocessor(False).run_case(files[case]["images"], files[case]["label"], manager,
                                                                        manager.get_configuration(configuration), description)
            key = "%s/%s/%s/" % (name, configuration, case)
            tensors[key + "data"], tensors[key + "seg"] = np.ascontiguousarray(data), np.ascontiguousarray(seg.astype(np.int16))
            for label, places in properties["class_locations"].items():
                label = "_".join(map(str, label)) if isinstance(label, tuple) else str(label)
                tensors[key + "locations/" + label] = np.asarray(places, np.int32).reshape(-1, 4)
            properties = {k: v for k, v in properties.items() if k not in ("class_locations",)}
            if "nibabel_stuff" in properties:
                properties["nibabel_stuff"] = {"original_affine": properties["nibabel_stuff"]["original_affine"].tolist()}
            found[name].setdefault("properties", {})[configuration + "/" + case] = json.loads(json.dumps(properties, default=float))
            print(key, data.shape, float(data.min()), float(data.max()), np.unique(seg))
save_file(tensors, os.path.join(here, "cases.safetensors"))
with open(os.path.join(here, "cases.json"), "w") as f:
    json.dump(found, f, separators=(",", ":"))
    f.write("\n")
