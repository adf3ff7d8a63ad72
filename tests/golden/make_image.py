"""image.safetensors: Pillow's resize, and what CLIP and SAM make of a picture before their encoders."""
from types import SimpleNamespace

import numpy as np
import torch
from open_clip.transform import image_transform
from PIL import Image
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from formula import pixels, save

FILTERS = {f.name.lower(): f for f in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)}
SIZES = [  # channels, height, width -> height, width
    (3, 29, 37, 16, 16), (3, 12, 16, 31, 40), (3, 17, 33, 8, 33), (3, 17, 33, 17, 12), (3, 80, 100, 19, 24),
    (3, 5, 9, 40, 64), (3, 40, 50, 1, 1), (3, 1, 1, 6, 8), (1, 23, 41, 11, 20), (1, 11, 20, 23, 41), (1, 64, 3, 7, 9),
]
PICTURES = [(40, 50), (51, 40), (33, 47), (20, 30), (32, 32), (64, 11)]
out = {}


def picture(h, w, channels=3):
    """A picture of coarse blocks and fine noise, so that both the weights and the clipping of the filters show."""
    shape = (h, w, channels) if channels == 3 else (h, w)
    fine = pixels(f"input.fine.{h}x{w}x{channels}", *shape)
    block = pixels(f"input.block.{h}x{w}x{channels}", *shape)[::4, ::4].repeat(4, 0).repeat(4, 1)[:h, :w]
    return np.concatenate([fine[:, :w // 2], block[:, w // 2:]], 1)


for c, h, w, oh, ow in SIZES:
    a = picture(h, w, c)
    out[f"input.{c}.{h}x{w}"] = a
    for name, f in FILTERS.items():
        out[f"{name}.{c}.{h}x{w}.{oh}x{ow}"] = np.asarray(Image.fromarray(a).resize((ow, oh), f))

clip = image_transform(32, is_train=False, mean=(.48145466, .4578275, .40821073), std=(.26862954, .26130258, .27577711),
                       resize_mode="shortest", interpolation="bicubic")
longest = ResizeLongestSide(64)
norm = SimpleNamespace(pixel_mean=torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1),
                       pixel_std=torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1),
                       image_encoder=SimpleNamespace(img_size=64))
for h, w in PICTURES:
    a = picture(h, w)
    out[f"input.3.{h}x{w}"] = a
    out[f"clip.{h}x{w}"] = clip(Image.fromarray(a))
    small = longest.apply_image(a)
    out[f"sam.resized.{h}x{w}"] = small
    out[f"sam.{h}x{w}"] = Sam.preprocess(norm, torch.as_tensor(small).permute(2, 0, 1).float())
    points = np.array([[0.0, 0.0], [w - 1.0, h - 1.0], [w / 3, h / 7]])
    out[f"sam.points.{h}x{w}"] = longest.apply_coords(points, (h, w))
save("image.safetensors", out)
