"""nnunet_resample.safetensors: arrays resampled by nnunetv2 2.6.2 (scikit-image 0.26, batchgenerators 0.25.5), and numpy's RandomState."""
import os

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
r = np.random.RandomState(3)
out = {}
#     name, shape, new shape, current spacing, new spacing
for name, shape, new, old_spacing, spacing in (
        ("isotropic", (7, 9, 8), (5, 16, 11), (1, 1, 1), (1.4, .6, .7)),
        ("double", (5, 6, 4), (10, 12, 8), (1, 1, 1), (.5, .5, .5)),
        ("thin", (4, 9, 8), (7, 6, 13), (5, 1, 1), (3, 1.5, .6)),
        ("target_thin", (9, 6, 7), (8, 5, 3), (2, 2, 1.5), (2, 2.4, 8)),
        ("middle", (6, 5, 7), (9, 5, 4), (1, 6, 1), (.7, 6, 1.7)),
        ("two_coarse", (8, 3, 4), (4, 5, 4), (.2, 1, 1), (.4, .6, 1)),
        ("line", (1, 11, 5), (1, 4, 9), (999, 1, 1), (999, 2.75, .55))):
    data = (r.normal(0, 1, (2, *shape)) + 3 * (r.uniform(size=(2, *shape)) < .2)).astype(np.float32)
    seg = r.randint(-1, 4, (1, *[-(-n // 2) for n in shape])).repeat(2, 1).repeat(2, 2).repeat(2, 3)[:, :shape[0], :shape[1], :shape[2]]
    seg = seg.astype(np.float32)
    more = {"force_separate_z": None, "order_z": 0}
    spacings = np.array([old_spacing, spacing], np.float32)
    out[name + ".in"], out[name + ".seg_in"], out[name + ".spacings"] = data, seg[0], spacings
    s = spacings.astype(float)
    out[name + ".cubic"] = resample_data_or_seg_to_shape(data, new, s[0], s[1], is_seg=False, order=3, **more)
    out[name + ".linear"] = resample_data_or_seg_to_shape(data, new, s[0], s[1], is_seg=False, order=1, **more)
    out[name + ".seg"] = resample_data_or_seg_to_shape(seg, new, s[0], s[1], is_seg=True, order=1, **more)[0]
random = np.random.RandomState(1234)
out["random.below"] = np.concatenate([random.randint(0, n, 5) for n in (1, 2, 7, 1000, 2**31 - 1)]).astype(np.int64)
out["random.choice"] = random.choice(700, 700, replace=False).astype(np.int64)
out["random.bits"] = np.array([random.randint(0, 2**40) for _ in range(4)], np.int64)
save_file(out, os.path.join(here, "nnunet_resample.safetensors"))
