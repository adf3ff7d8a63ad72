"""nnunet_plans.json.gz: what nnunetv2 2.6.2 plans for made fingerprints of many kinds.

    pip install nnunetv2==2.6.2
    python tests/golden/make_nnunet_plans.py

The planner is a function of the fingerprint and dataset.json, so no image is needed. The memory of a network is counted without its
weights (torch's meta device), which changes no number.
"""
import contextlib
import gzip
import io
import json
import os
import random
import tempfile

folder = tempfile.mkdtemp()
for root in ("raw", "preprocessed", "results"):
    os.environ["nnUNet_" + root] = os.path.join(folder, root)

import torch
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner as default
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

NAME = "Dataset001_Made"
default.determine_reader_writer_from_dataset_json = lambda d, example: determine_reader_writer_from_file_ending(
    d["file_ending"], None, verbose=False)
estimate = default.ExperimentPlanner.static_estimate_VRAM_usage


def estimate_without_weights(*arguments):
    with torch.device("meta"):
        return estimate(*arguments)


default.ExperimentPlanner.static_estimate_VRAM_usage = staticmethod(estimate_without_weights)


def intensity(seed):
    r = random.Random(seed)
    return {k: r.uniform(-100, 900) for k in ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5")}


def made(spacings, shapes, channels=("MRI",), labels=None, ending=".nii.gz", relative=1.0, cases=None, **more):
    n = len(spacings)
    fingerprint = {"spacings": spacings, "shapes_after_crop": shapes,
                   "foreground_intensity_properties_per_channel": {str(i): intensity(i) for i in range(len(channels))},
                   "median_relative_size_after_cropping": relative}
    dataset = {"channel_names": {str(i): c for i, c in enumerate(channels)},
               "labels": labels or {"background": 0, "a": 1}, "numTraining": cases or n, "file_ending": ending,
               "dataset": {"case": {"images": ["a"], "label": "b"}}, **more}
    return dataset, fingerprint


def around(seed, n, spacing, shape, spread=0.1):
    r = random.Random(seed)
    return ([[s * r.uniform(1 - spread, 1 + spread) for s in spacing] for _ in range(n)],
            [[max(1, round(s * r.uniform(1 - 2 * spread, 1 + 2 * spread))) for s in shape] for _ in range(n)])


flat = lambda n, h, w, seed=0: ([[999, 1, 1]] * n, [[1, h + seed * i, w - 2 * seed * i] for i in range(n)])
regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
data = {
    "rgb_2d": made(*flat(20, 256, 300, 1), ("R", "G", "B"), ending=".png"),
    "rgb01_2d": made(*flat(400, 1024, 768), ("rgb_to_0_1",) * 3, ending=".png", labels={"background": 0, "a": 1, "b": 2}),
    "grey_2d": made(*flat(7, 41, 53, 1), ending=".png"),
    "tiny_2d": made(*flat(3, 9, 14), ending=".png"),
    "large_2d": made(*flat(50, 4000, 3000, 3), ending=".png"),
    "slices_2d": made([[999 * .7, .7, .5]] * 5, [[1, 320, 200]] * 5),
    "isotropic": made(*around(1, 12, (1, 1, 1), (140, 170, 140), 0.03), ("T1", "T2", "FLAIR"), relative=0.6),
    "cube": made([[1.0, 1.0, 1.0]] * 30, [[256, 256, 256]] * 30, ("CT",)),
    "anisotropic": made(*around(2, 9, (5, .78, .78), (20, 320, 256))),
    "thin": made(*around(3, 6, (8, .5, .5), (9, 400, 400)), ("ct", "nonorm")),
    "percentile": made(*around(4, 11, (10, 1.5, 1.5), (10, 240, 220), 0.4)),
    "coarse_axis_fine": made([[1.0, .3, .3]] * 9 + [[.2, .3, .3]] * 2, [[12, 200, 180]] * 11),
    "large": made(*around(5, 20, (1.25, .8, .8), (400, 512, 512)), ("CT",), {"background": 0, **{"l%d" % i: i for i in range(1, 15)}}),
    "huge": made(*around(6, 4, (.4, .4, .4), (700, 900, 800), 0.02), ("CT",)),
    "two_channels": made(*around(7, 33, (3, .6, .6), (20, 320, 320), 0.05), ("T2", "ADC")),
    "regions": made(*around(8, 10, (1, 1, 1), (150, 180, 150), 0.02), ("T1", "T2", "zscore", "rescale_to_0_1"), regions, relative=0.5,
                    regions_class_order=[1, 2, 3]),
    "other_axis": made(*around(9, 8, (.7, .7, 4), (300, 280, 30), 0.05)),
    "middle_axis": made(*around(10, 8, (.7, 3, .8), (300, 40, 280), 0.05), ending=".nii"),
    "small_cubes": made(*around(11, 260, (1, 1, 1), (35, 50, 36), 0.05), labels={"background": 0, "head": 1, "tail": 2}),
    "very_small": made(*around(12, 20, (1, 1, 1), (18, 20, 16), 0.1)),
    "even_median": made(*around(13, 6, (2, 1, 1), (61, 130, 90), 0.15)),
    "one_case": made([[2.5, .9, .9]], [[90, 400, 400]], ("CT",)),
    "large_thin": made(*around(16, 7, (3, .6, .6), (160, 700, 700), 0.05), ("CT",)),
    "long": made(*around(14, 5, (1, 1, 1), (1200, 80, 80), 0.05), ("CT",)),
    "modality": made(*around(15, 8, (1.5, 1, 1), (80, 160, 160), 0.05)),
}
data["modality"][0]["modality"] = data["modality"][0].pop("channel_names")

runs = [(name, "ExperimentPlanner", {}) for name in data]
runs += [(name, "nnUNetPlannerResEnc" + size, {}) for name in ("rgb01_2d", "grey_2d", "isotropic", "anisotropic", "large", "small_cubes")
         for size in ("M", "L", "XL")]
runs += [("large", "ResEncUNetPlanner", {}), ("two_channels", "ResEncUNetPlanner", {"plans_name": "mine"}),
         ("large", "ExperimentPlanner", {"gpu_memory_target_in_gb": 24}), ("cube", "ExperimentPlanner", {"gpu_memory_target_in_gb": 3.5}),
         ("rgb01_2d", "ExperimentPlanner", {"gpu_memory_target_in_gb": 40}), ("cube", "nnUNetPlannerResEncL", {"gpu_memory_target_in_gb": 11}),
         ("anisotropic", "ExperimentPlanner", {"overwrite_target_spacing": [1.0, 1.5, .75]})]

out = {"data": {}, "runs": []}
for name, (dataset, fingerprint) in data.items():
    out["data"][name] = {"dataset": dataset, "fingerprint": fingerprint}
for name, planner, options in runs:
    dataset, fingerprint = data[name]
    for root in ("raw", "preprocessed"):
        os.makedirs(os.path.join(folder, root, NAME), exist_ok=True)
    json.dump(dataset, open(os.path.join(folder, "raw", NAME, "dataset.json"), "w"))
    json.dump(fingerprint, open(os.path.join(folder, "preprocessed", NAME, "dataset_fingerprint.json"), "w"))
    with contextlib.redirect_stdout(io.StringIO()):
        one = getattr(default if planner == "ExperimentPlanner" else residual, planner)(NAME, **options)
        one.plan_experiment()
    plans_file = os.path.join(folder, "preprocessed", NAME, one.plans_identifier + ".json")
    plans = json.load(open(plans_file))
    os.remove(plans_file)
    del plans["foreground_intensity_properties_per_channel"]  # the fingerprint's, which the test compares with it
    out["runs"].append({"data": name, "planner": planner, "options": options, "plans": plans})
    print(name, planner, options, {c: p.get("patch_size") for c, p in plans["configurations"].items()}, flush=True)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nnunet_plans.json.gz")
with open(path, "wb") as f:
    f.write(gzip.compress(json.dumps(out, separators=(",", ":")).encode(), 9, mtime=0))
print(os.path.getsize(path), "bytes")
