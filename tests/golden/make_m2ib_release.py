"""release.safetensors: saliency maps and coarse masks as MedCLIP-SAMv2's released code makes them.

Maps: CLIPImageProcessor's resize and crop, M2IB, the map resized by cv2.resize(INTER_NEAREST), times 255 through
cv2.imwrite. Masks: tests/ref/parity/two_means.py."""
import os
import sys

import cv2
import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil as CLIPImageProcessor

from formula import pixels, save, uniform
from make_m2ib import run
from tiny_clip import IMAGE

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../ref/parity"))
from two_means import largest_components, upper_cluster  # noqa: E402

out = {}

# Draws of scikit-learn 1.0.2's k-means++ from random_state=10, as the C sources list them.
state = np.random.RandomState(10)
for _ in range(10):
    first = state.randint(65536)
    print(f"{{{first}, {{{', '.join(repr(float(v)) for v in state.random_sample(2))}}}}},")


def released_map(name, width, height):
    picture = pixels(f"input.{name}", 3, height, width)
    processor = CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE},
                                   do_rescale=False, do_normalize=False)
    image = Image.fromarray(picture.transpose(1, 2, 0))
    square = np.array(processor(images=image, return_tensors="np")["pixel_values"][0]).round().astype(np.uint8)
    r = run(torch.float64, square, 0.1, 3)
    vmap = cv2.resize(r["map"].detach().float().numpy(), (width, height), interpolation=cv2.INTER_NEAREST)
    ok, png = cv2.imencode(".png", vmap * 255)
    got = cv2.imdecode(png, 0)
    assert ok and got.shape == (height, width)
    exact = np.arange(width) * IMAGE // width
    moved = int((cv2.resize(np.arange(IMAGE, dtype=np.float32)[None], (width, 1),
                            interpolation=cv2.INTER_NEAREST)[0].astype(int) != exact).sum())
    print(f"{name}: {width} x {height}, columns where cv2's index is not the exact one: {moved}")
    return {f"{name}.square": square, f"{name}.map": got, f"{name}.gradient": r["gradient"],
            f"{name}.map.gain": r["map.gain"], f"{name}.float": r["map"]}


for name, width, height in (("crop", 35, 32), ("wide", 98, 89), ("tall", 64, 86), ("even", 62, 57)):
    out |= released_map(name, width, height)


def grown(name, kind, step, width, height):
    """14 x 14 levels, bilinear in whole numbers to step pixels each, cut to width x height."""
    u = (uniform(f"input.tokens.{name}", (15, 15)) + 1) / 2
    t = np.floor(256 * (u if kind == 0 else u**4 if kind == 1 else np.where(u > 0.9, u, u / 4))).astype(np.int64)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    i, j, fy, fx = y // step, x // step, y % step, x % step
    total = ((t[i, j] * (step - fx) + t[i, j + 1] * fx) * (step - fy)
             + (t[i + 1, j] * (step - fx) + t[i + 1, j + 1] * fx) * fy)
    return (total // step**2).astype(np.uint8)


SIZES = ((224, 224), (200, 150), (137, 211), (98, 186), (256, 256), (180, 121), (161, 57), (234, 198), (75, 190), (206, 113),
         (192, 140), (49, 203))
for i, (width, height) in enumerate(SIZES):
    grey = grown(str(i), i % 3, 16 if max(width, height) <= 224 else 19, width, height)
    mask, small, upper = upper_cluster(grey)
    levels, kept = small.astype(int), largest_components(mask)
    count = np.bincount(levels.ravel(), minlength=256).astype(float)
    below, sums = np.cumsum(count)[:-1], np.cumsum(count * np.arange(256))[:-1]
    with np.errstate(all="ignore"):
        between = below * (65536 - below) * (sums / below - (levels.sum() - sums) / (65536 - below))**2
    print(f"mask {i}: {width} x {height}, levels above {levels[~upper].max()}, the exact search: above "
          f"{np.nanargmax(between)}")
    out |= {f"mask.{i}.size": np.array([width, height]), f"mask.{i}.cut": levels[~upper].max(),
            f"mask.{i}.upper": np.packbits(mask > 0), f"mask.{i}.kept": np.packbits(kept)}
out["masks"] = len(SIZES)
save("release.safetensors", out)
