"""automask.json: SamAutomaticMaskGenerator on the toy SAM of make_sam.py, and its parts: crops, suppression of boxes,
small regions, run-length encoding.

Masks of the toy model are noise, with boxes as large as the image, so its last layers are scaled: logits reach beyond
+-1 and predicted IoUs lie around 0.9. Thresholds lie in the middle of gaps between values, so that float32 decides alike.
"""
import json
import os

import numpy as np
import torch
from pycocotools import mask as coco
from segment_anything import SamAutomaticMaskGenerator, automatic_mask_generator
from segment_anything.utils.amg import generate_crop_boxes, mask_to_rle_pytorch, remove_small_regions
from torchvision.ops import nms

from formula import HERE, pixels, uniform
from make_sam import sam

with torch.no_grad():
    for mlp in sam.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[2].weight *= 40
        mlp.layers[2].bias *= 40
    sam.mask_decoder.iou_prediction_head.layers[2].weight *= 2
    sam.mask_decoder.iou_prediction_head.layers[2].bias += 0.9

# torchvision's suppression wants one type for boxes and scores; all are of one category.
automatic_mask_generator.batched_nms = lambda boxes, scores, _, iou_threshold: nms(boxes, scores.float(), iou_threshold)


def picture(h, w):
    """A dark image with a disk, a rectangle and a small square."""
    y, x = np.mgrid[:h, :w]
    image = np.full((h, w, 3), 40, np.uint8)
    image[(y - h // 3)**2 + (x - w // 3)**2 < (h // 6)**2] = (230, 60, 30)
    image[h // 2:h * 7 // 8, w * 5 // 9:w * 7 // 8] = (20, 90, 240)
    image[h // 8:h // 4, w * 3 // 4:w * 5 // 6] = 255
    return image


def between(values, share):
    """The middle of the widest gap near this quantile."""
    v = np.unique(np.asarray(values))
    at = int(share * (len(v) - 1))
    window = range(max(at - 3, 0), min(at + 4, len(v) - 1))
    k = max(window, key=lambda i: v[i + 1] - v[i])
    return round(float((v[k] + v[k + 1]) / 2), 6)


def generate(h, w, **options):
    return SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **options).generate(picture(h, w))


ALL = {"pred_iou_thresh": 1e-9, "stability_score_thresh": 1e-9, "box_nms_thresh": 1.0, "points_per_batch": 5}
cases = []
for h, w, options in ((60, 80, {"points_per_side": 3}),
                      (60, 80, {"points_per_side": 3, "stability_score_offset": 2.5, "box_nms_thresh": 0.96}),
                      (60, 80, {"points_per_side": 2, "min_mask_region_area": 30}),
                      (90, 120, {"points_per_side": 4, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2,
                                 "crop_nms_thresh": 1.0}),
                      # crops so small that all their edges count as the image's
                      (30, 40, {"points_per_side": 2, "crop_n_layers": 1, "crop_nms_thresh": 1.0}),
                      (30, 40, {"points_per_side": 2, "crop_n_layers": 1, "crop_nms_thresh": 0.5})):
    options = ALL | options
    every = generate(h, w, **(options | {"min_mask_region_area": 0, "box_nms_thresh": 1.0, "crop_nms_thresh": 1.0}))
    options["pred_iou_thresh"] = between([m["predicted_iou"] for m in every], 0.3)
    options["stability_score_thresh"] = between([m["stability_score"] for m in every], 0.3)
    masks = generate(h, w, **options)
    print(len(every), len(masks), options)
    cases.append({"size": [w, h], "options": options, "masks": masks})

crops = []
for w, h, layers, ratio in ((80, 60, 1, 512 / 1500), (1000, 777, 2, 0.25), (33, 500, 3, 512 / 1500)):
    boxes, _ = generate_crop_boxes((h, w), layers, ratio)
    crops.append({"size": [w, h], "layers": layers, "ratio": ratio, "crops": boxes})

suppressed = []
for n, threshold in ((1, 0.7), (40, 0.3), (200, 0.7)):
    u = (50 * (uniform(f"nms.{n}", (n, 4)) + 1)).astype(int)
    boxes = np.concatenate([u[:, :2], u[:, :2] + u[:, 2:] // 2], 1)  # some without area
    scores = np.round(4 * uniform(f"nms.scores.{n}", (n,))).astype(np.float32)  # many ties
    keep = nms(torch.tensor(boxes).float(), torch.tensor(scores), threshold)
    suppressed.append({"n": n, "threshold": threshold, "keep": keep.tolist()})

regions = []
for name, h, w, level, area in (("a", 40, 50, 100, 6), ("b", 40, 50, 150, 4), ("c", 12, 9, 240, 50),
                                ("d", 7, 11, 300, 3)):
    mask = pixels(f"region.{name}", h, w) >= level
    rle = mask_to_rle_pytorch(torch.tensor(mask)[None])[0]
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert coco.frPyObjects(rle, h, w)["counts"].decode() == packed
    cleaned, holes = remove_small_regions(mask, area, "holes")
    cleaned, islands = remove_small_regions(cleaned, area, "islands")
    regions.append({"name": name, "size": [w, h], "level": level, "area": area, "counts": rle["counts"],
                    "string": packed, "changed": bool(holes or islands),
                    "cleaned": mask_to_rle_pytorch(torch.tensor(cleaned)[None])[0]["counts"]})

path = os.path.join(HERE, "automask.json")
with open(path, "w") as f:
    json.dump({"cases": cases, "crops": crops, "nms": suppressed, "regions": regions}, f, separators=(",", ":"))
    f.write("\n")
print(os.path.getsize(path), "bytes")
