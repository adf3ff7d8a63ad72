"""image_modes.json: PNGs of every mode, and what open_clip's resize, centre crop and conversion to RGB make of each (Pillow,
torchvision). Bytes in hexadecimal.

    python tests/golden/make_image_modes.py"""
import io
import json
from pathlib import Path

import numpy as np
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

r = np.random.default_rng(5)
SIDE = 16


def noise(h, w, c):
    return r.integers(0, 256, (h, w, c) if c > 1 else (h, w), dtype=np.uint8)


def palette(img, alpha):
    p = img.quantize(60)
    if alpha:
        p.info["transparency"] = 3
    return p


made = []
for w, h in (23, 31), (40, 16), (16, 16), (9, 12):
    smooth = Image.fromarray(noise(5, 5, 4)).resize((w, h), Image.BICUBIC)
    grey = Image.fromarray(noise(h, w, 1))
    made += [("RGB", Image.fromarray(noise(h, w, 3))), ("L", grey), ("RGBA noise", Image.fromarray(noise(h, w, 4))),
             ("RGBA smooth", smooth), ("LA", Image.merge("LA", (grey, Image.fromarray(noise(h, w, 1))))),
             ("1", grey.convert("1")), ("P", palette(Image.fromarray(noise(h, w, 3)), False)),
             ("P transparent", palette(Image.fromarray(noise(h, w, 3)), True))]
transform = image_transform_v2(PreprocessCfg(size=SIDE, mean=(0, 0, 0), std=(1, 1, 1)), is_train=False)
rows = []
for name, img in made:
    f = io.BytesIO()
    img.save(f, "PNG", **({"transparency": 3} if "transparent" in name else {}))
    opened = Image.open(io.BytesIO(f.getvalue()))
    assert opened.mode == name.split()[0], (opened.mode, name)
    rgb = (transform(opened).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    rows.append({"name": f"{name} {img.width}x{img.height}", "png": f.getvalue().hex(), "rgb": rgb.tobytes().hex()})
text = ",\n".join(json.dumps(x) for x in rows)
Path(__file__).with_name("image_modes.json").write_text(f"[\n{text}\n]\n")
print(len(rows), len(text))
