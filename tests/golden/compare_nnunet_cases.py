"""Prints how far mcsam plan and preprocess are from nnunetv2 2.6.2 on the data sets of nnunet/, with nnunetv2 as the reader.

    python tests/golden/compare_nnunet_cases.py build/mcsam
"""
import json
import os
import subprocess
import sys
import tempfile

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nnunet")
out = tempfile.mkdtemp()
os.environ["nnUNet_raw"], os.environ["nnUNet_preprocessed"], os.environ["nnUNet_results"] = here, out, os.path.join(out, "results")

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.numpy import load_file


def plain(v):
    if isinstance(v, dict):
        return {k: plain(e) for k, e in v.items()}
    return v.tolist() if isinstance(v, np.ndarray) else [plain(e) for e in v] if isinstance(v, (list, tuple)) else v


def worst(a, b):
    """The largest relative difference of numbers; everything else must be equal."""
    if isinstance(b, dict):
        assert a.keys() == b.keys(), (sorted(a), sorted(b))
        return max([worst(a[k], b[k]) for k in b], default=0)
    if isinstance(b, list):
        assert len(a) == len(b)
        return max([worst(x, y) for x, y in zip(a, b)], default=0)
    if isinstance(b, float) or (isinstance(b, int) and not isinstance(b, bool) and a != b):
        return abs(a - b) / max(1, abs(b))
    assert a == b, (a, b)
    return 0


arrays = load_file(os.path.join(here, "cases.safetensors"))
for name, want in json.load(open(os.path.join(here, "cases.json"))).items():
    for verb in (["plan"], ["preprocess", "--format", "npz"]):
        subprocess.run([sys.argv[1], *verb, "-d", name, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    plans = json.load(open(os.path.join(out, name, "nnUNetPlans.json")))
    print(f"{name}: fingerprint {worst(json.load(open(os.path.join(out, name, 'dataset_fingerprint.json'))), want['fingerprint']):.1e},",
          f"plans {worst(plans, want['plans']):.1e}")
    for configuration in plans["configurations"]:
        folder = os.path.join(out, name, PlansManager(plans).get_configuration(configuration).data_identifier)
        cases = infer_dataset_class(folder)(folder)
        for case in sorted(cases.identifiers):
            data, seg, _, properties = cases.load_case(case)
            key = f"{name}/{configuration}/{case}/"
            places = {"_".join(map(str, k)) if isinstance(k, tuple) else str(k): v for k, v in properties.pop("class_locations").items()}
            same = all(np.array_equal(np.reshape(v, (-1, 4)), arrays[f"{key}locations/{k}"]) for k, v in places.items())
            print(f"  {configuration} {case}: data {np.abs(data - arrays[key + 'data']).max():.1e}, labels that differ {(seg != arrays[key + 'seg']).sum()},",
                  f"places {'equal' if same else 'DIFFER'}, properties {worst(plain(properties), want['properties'][f'{configuration}/{case}']):.1e}")
