"""sam_images.safetensors: images as MedSAM's inference script prepares them and its masks, and SamPredictor's masks, from
the toy SAM of make_sam.py.

MedSAM is segment-anything's model with another preparation (MedSAM_Inference.py of bowang-lab/MedSAM, d71e8a1):
skimage.transform.resize to a square, order 3, cut to 8 bits, (x - min) / (max - min); the box divided by the image's
size; the sigmoid of the logits resized to the image, compared with 1/2.
"""
import numpy as np
import torch
from segment_anything import SamPredictor
from skimage import transform

from formula import pixels, save
from make_sam import FRAME, sam

SIZES = ((48, 37), (30, 100), (64, 64), (150, 170))


def flat(h, w):
    """Areas of one grey level: rounding decides whether cutting to 8 bits keeps their level."""
    a = np.full((h, w, 3), (100, 7, 33), np.uint8)
    a[h // 4:h // 2, w // 3:w // 2] = (17, 201, 254)
    return a


def prepare(image):
    small = transform.resize(image, (FRAME, FRAME), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    return small, (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)


out = {}
for h, w in SIZES:
    noise, name = pixels(f"image.{h}x{w}", h, w, 3), f"{h}x{w}"
    for kind, image in (("noise", noise), ("flat", flat(h, w))):
        out[f"{kind}.{name}"] = prepare(image)[0]
    if (h, w) not in SIZES[:2]:
        continue
    scaled = prepare(noise)[1]
    box = np.array([[w * 0.2, h * 0.3, w * 0.7, h * 0.8]])
    x = torch.tensor(scaled).permute(2, 0, 1)[None]
    embedding = sam.image_encoder(x)
    sparse, dense = sam.prompt_encoder(None, torch.tensor(box / np.array([w, h, w, h]) * FRAME)[:, None], None)
    low, iou = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
    prob = torch.nn.functional.interpolate(torch.sigmoid(low), size=(h, w), mode="bilinear", align_corners=False)
    out |= {f"medsam.low_res.{name}": low[0, 0], f"medsam.prob.{name}": prob[0, 0]}

    predictor = SamPredictor(sam)
    predictor.set_image(noise)
    at = np.array([[w * 0.5, h * 0.5], [w * 0.1, h * 0.9]])
    masks, iou, low = predictor.predict(at, np.array([1, 0]), box[0], multimask_output=True, return_logits=True)
    out |= {f"sam.logits.{name}": masks, f"sam.iou.{name}": iou, f"sam.low_res.{name}": low}
if __name__ == "__main__":
    save("sam_images.safetensors", out)
