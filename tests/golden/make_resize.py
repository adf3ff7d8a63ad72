"""SHA-256 of Pillow's Image.resize of a painted image, as the table in tests/data/test_image.c. Needs Pillow and numpy.

    python3 make_resize.py
"""
import hashlib

import numpy as np
import PIL
from PIL import Image

FILTERS = (Image.NEAREST, Image.BILINEAR, Image.BICUBIC)


def paint(width, height, channels):
    y, x, c = np.mgrid[:height, :width, :channels]
    left = (x * 5 + y * 3 + c * 40 + (x * y) % 17) & 255
    return np.where(x > width // 2, 240 - 3 * c, left).astype(np.uint8)


print("Pillow", PIL.__version__)
for channels in (1, 3):
    for width, height, new_width, new_height in ((301, 260, 259, 224), (57, 33, 224, 388), (41, 33, 20, 15), (90, 64, 90, 31)):
        pixels = paint(width, height, channels)
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        for name, filter in zip(("NEAREST", "BILINEAR", "BICUBIC"), FILTERS):
            digest = hashlib.sha256(image.resize((new_width, new_height), filter).tobytes()).hexdigest()[:16]
            print(f'    {{{channels}, {width}, {height}, {new_width}, {new_height}, MCS_{name}, "{digest}"}},')
