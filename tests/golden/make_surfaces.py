"""surfaces.json: metrics of pairs of volumes and of planes. Surface distances by surface-distance; overlap, volumes and
the detection of lesions restated here from their definitions (Maier-Hein et al., "Metrics reloaded", Nature Methods 21,
2024, with its supplement's fact sheets), with scipy's components."""
import json
import os

import numpy as np
import surface_distance as sd
from scipy import ndimage

np.Inf = np.inf  # a name that surface-distance 0.1 uses and numpy 2 dropped
HERE = os.path.dirname(os.path.abspath(__file__))
TOLERANCE, MIN_IOU = 1.5, 0.1


def surfaces(ref, pred, spacing):
    with np.errstate(all="ignore"):
        d = sd.compute_surface_distances(ref, pred, spacing)
        to_pred, to_ref = sd.compute_average_surface_distance(d)
    areas = d["surfel_areas_gt"].sum(), d["surfel_areas_pred"].sum()
    return {"area_ref": areas[0], "area_pred": areas[1], "NSD": sd.compute_surface_dice_at_tolerance(d, TOLERANCE),
            "HD95": sd.compute_robust_hausdorff(d, 95), "HD": sd.compute_robust_hausdorff(d, 100),
            "ASSD": (to_pred * areas[0] + to_ref * areas[1]) / sum(areas)}


def overlap(ref, pred, spacing):
    """TP, FP, FN by voxel; ratios by their definitions, undefined (None) where the denominator is 0."""
    tp, fp, fn = int((ref & pred).sum()), int((~ref & pred).sum()), int((ref & ~pred).sum())
    ratio = lambda a, b: a / b if b else None
    cell = float(np.prod(spacing))
    return {"Dice": ratio(2 * tp, 2 * tp + fp + fn), "IoU": ratio(tp, tp + fp + fn), "Sensitivity": ratio(tp, tp + fn),
            "Precision": ratio(tp, tp + fp), "Volume_pred": (tp + fp) * cell, "Volume_ref": (tp + fn) * cell,
            "Volume_difference": ratio((tp + fp) * cell - (tp + fn) * cell, (tp + fn) * cell)}


def lesions(ref, pred):
    """Greedy one-to-one matching by mask IoU, greatest first; ties by the reference's number, then the prediction's."""
    full = np.ones((3,) * ref.ndim)
    a, n = ndimage.label(ref, full)
    b, m = ndimage.label(pred, full)
    pairs = []
    for i in range(1, n + 1):
        for k in np.unique(b[a == i]):
            if k:
                inter = int(((a == i) & (b == k)).sum())
                pairs.append((-inter / int(((a == i) | (b == k)).sum()), i, int(k)))
    seen_ref, seen_pred, dice = set(), set(), []
    for iou, i, k in sorted(pairs):
        if -iou >= MIN_IOU and i not in seen_ref and k not in seen_pred:
            seen_ref.add(i), seen_pred.add(k)
            dice.append(2 * int(((a == i) & (b == k)).sum()) / (int((a == i).sum()) + int((b == k).sum())))
    return {"lesions_ref": n, "lesions_pred": m, "lesions_matched": len(dice),
            "Lesion_sensitivity": len(dice) / n if n else None, "Lesion_precision": len(dice) / m if m else None,
            "Lesion_FP": m - len(dice), "Lesion_Dice": float(np.mean(dice)) if dice else None}


def blobs(rng, shape, sigma, level):
    v = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return v > np.quantile(v, level)


rng = np.random.default_rng(14)
cases = []
for k, (shape, spacing, sigma) in enumerate([
        ((13, 11, 9), (1, 1, 1), 0), ((13, 11, 9), (0.5, 0.75, 3), 0), ((12, 14, 10), (1, 1, 1), 1),
        ((12, 14, 10), (0.8, 1.25, 2.5), 1), ((15, 9, 12), (2, 1, 0.5), 1.5), ((16, 12, 5), (1, 1, 5), 1),
        ((9, 8, 1), (1, 1.5, 2), 0.7), ((21, 17), (1, 1), 1), ((21, 17), (0.7, 1.3), 1), ((19, 23), (0.4, 0.4), 0)]):
    ref = blobs(rng, shape, sigma, 0.75)
    pred = blobs(rng, shape, sigma, 0.8) if k % 2 else np.roll(ref, 1, 0) ^ (rng.uniform(size=shape) < 0.02)
    cases.append((f"made {k}", ref, pred, spacing))
cube = np.zeros((10, 10, 10), bool)
cube[2:7, 3:8, 1:9] = True
cases += [("equal", cube, cube, (0.9, 1.1, 1.3)), ("apart", np.roll(cube, 3, 0), cube, (0.9, 1.1, 1.3)),
          ("touching all sides", np.ones((4, 5, 6), bool), cube[2:6, 2:7, 2:8], (1, 2, 3))]

out = []
for name, ref, pred, spacing in cases:
    # arrays here are (x, y, z); the file has x fastest, as an image is stored
    out.append({"name": name, "size": list(ref.shape), "spacing": list(spacing),
                "ref": "".join(map(str, ref.astype(int).ravel("F"))), "pred": "".join(map(str, pred.astype(int).ravel("F"))),
                "want": {**surfaces(ref, pred, spacing), **overlap(ref, pred, spacing), **lesions(ref, pred)}})
with open(os.path.join(HERE, "surfaces.json"), "w") as f:
    json.dump({"tolerance": TOLERANCE, "min_iou": MIN_IOU, "cases": out}, f, indent=0, separators=(",", ":"))
    f.write("\n")
