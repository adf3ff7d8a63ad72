"""classic.safetensors: Otsu's threshold, connected components, distance transform and segmentation metrics."""
import numpy as np
import surface_distance as sd
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from formula import save, uniform

np.Inf, np.NaN = np.inf, np.nan  # names that surface-distance 0.1 uses and numpy 2 dropped
H, W = 32, 40
YX = np.mgrid[:H, :W]
out = {}


def noise(name, sigma, shape=(H, W)):
    """Smoothed noise, min-max to [0, 1], float32."""
    a = gaussian_filter(uniform("input." + name, shape), sigma, mode="wrap")
    return ((a - a.min()) / (a.max() - a.min())).astype(np.float32)


def disc(r, y=H / 2 - 0.5, x=W / 2 - 0.5, h=H, w=W):
    yy, xx = np.mgrid[:h, :w]
    return (yy - y)**2 + (xx - x)**2 <= r * r


# Otsu: 256 bins between minimum and maximum, threshold = centre of the best bin, foreground is above it.
maps = {
    "smooth": noise("smooth", 4), "rough": noise("rough", 1), "uniform": noise("uniform", 0),
    "lesion": 0.1 * noise("lesion", 1) + 0.8 * np.exp(-((YX - np.array([12, 25])[:, None, None])**2).sum(0) / 30),
    "two": np.where(disc(7), 0.75, 0.25), "constant": np.full((H, W), 0.5),
}
for name, m in maps.items():
    m = m.astype(np.float32)
    t = threshold_otsu(m.astype(np.float64), nbins=256)
    assert name == "constant" or np.abs(m - t).min() > 1e-6, name  # no pixel may hang on the rounding of the threshold
    out |= {f"otsu.{name}.map": m, f"otsu.{name}.threshold": t, f"otsu.{name}.mask": (m > t).astype(np.uint8)}
grey = (255 * maps["smooth"]).astype(np.uint8)
out |= {"otsu.grey.map": grey, "otsu.grey.threshold": float(threshold_otsu(grey))}

# Components, 8-connected, numbered in raster order of their first pixel.
masks = {
    "blobs": noise("blobs", 1.5) > 0.6, "dense": noise("dense", 0) > 0.55, "sparse": noise("sparse", 0) > 0.9,
    "checker": np.indices((H, W)).sum(0) % 2 == 0, "empty": np.zeros((H, W), bool), "full": np.ones((H, W), bool),
    "spiral": np.array([[c == "#" for c in row] for row in (
        "##########", "#........#", "#.######.#", "#.#....#.#", "#.#.##.#.#", "#.#..#.#.#", "#.####.#.#", "#......#.#",
        "########.#", "..........", "#.#.#.#.##")]),
}
for name, m in masks.items():
    comp, weights = label(m, connectivity=2), noise("confidence", 2, m.shape)
    props = regionprops(comp, intensity_image=weights)
    out |= {f"label.{name}.mask": m.astype(np.uint8), f"label.{name}.labels": comp, f"label.{name}.count": len(props)}
    if props:
        out |= {f"label.{name}.area": np.array([p.area for p in props]).astype(int),
                f"label.{name}.box": np.array([(p.bbox[1], p.bbox[0], p.bbox[3] - 1, p.bbox[2] - 1) for p in props]),
                f"label.{name}.confidence": np.array([p.intensity_mean for p in props]),
                f"label.{name}.weights": weights}

# Distance of every pixel to the nearest zero.
edt3 = noise("edt3", 1, (5, 12, 14)) > 0.3
for name, m, spacing in (("blobs", masks["blobs"], (1, 1)), ("wide", masks["blobs"], (2.5, 0.75)),
                         ("dense", masks["dense"], (1, 1)), ("volume", edt3, (3.0, 1.0, 0.5))):
    out |= {f"edt.{name}.mask": m.astype(np.uint8), f"edt.{name}.spacing": np.array(spacing, float),
            f"edt.{name}.distance": distance_transform_edt(m, sampling=spacing)}

# Metrics.
zyx = np.mgrid[:8, :20, :16] - np.array([3.5, 9.5, 7.5])[:, None, None, None]
ball = (zyx[0] / 2.6)**2 + (zyx[1] / 7)**2 + (zyx[2] / 5)**2 <= 1
moved = (zyx[0] / 2.1)**2 + ((zyx[1] - 2) / 6)**2 + ((zyx[2] + 1) / 6)**2 <= 1
nothing = masks["empty"]
PAIRS = {  # reference, prediction, spacing
    "same": (disc(10), disc(10), 1), "shifted": (disc(10), disc(10, x=W / 2 + 2.5), 1),
    "grown": (disc(10), disc(12), 1),
    "shrunk": (disc(12), disc(7), 1), "border": (disc(14, y=2, x=3), disc(12, y=4, x=0), 1),
    "blobs": (masks["blobs"], noise("other", 1.5) > 0.55, 1),
    "stray": (disc(8, x=12), disc(8, x=12) | disc(1, y=28, x=37), 1),
    "pixels": (disc(0, 5, 7), disc(0, 8, 11), 1), "apart": (disc(5, 8, 8), disc(5, 24, 30), 1),
    "no_prediction": (disc(10), nothing, 1), "no_reference": (nothing, disc(10), 1), "neither": (nothing, nothing, 1),
    "wide_pixels": (disc(10), disc(10, x=W / 2 + 1.5), (0.8, 1.7)), "volume": (ball, moved, (2.5, 0.8, 1.1)),
}


def metrics(ref, pred, spacing, tolerance=2.0):
    s = (spacing,) * ref.ndim if np.isscalar(spacing) else spacing
    with np.errstate(all="ignore"):
        d = sd.compute_surface_distances(ref, pred, s)
        to_pred, to_ref = sd.compute_average_surface_distance(d)
        areas = d["surfel_areas_gt"].sum(), d["surfel_areas_pred"].sum()
        return {"dsc": sd.compute_dice_coefficient(ref, pred),
                "nsd": sd.compute_surface_dice_at_tolerance(d, tolerance),
                "hd95": sd.compute_robust_hausdorff(d, 95), "hd": sd.compute_robust_hausdorff(d, 100),
                "mean_distance": np.array([to_pred, to_ref]), "area": np.array(areas),
                "assd": (to_pred * areas[0] + to_ref * areas[1]) / np.add(*areas)}


for name, (ref, pred, spacing) in PAIRS.items():
    key = f"metric.{name}"
    s = (spacing,) * ref.ndim if np.isscalar(spacing) else spacing
    out |= {f"{key}.reference": ref.astype(np.uint8), f"{key}.prediction": pred.astype(np.uint8),
            f"{key}.spacing": np.array(s, float)}
    out |= {f"{key}.{k}": v for k, v in metrics(ref, pred, spacing).items()}
    if spacing == 1:  # the released evaluation: a volume of one slice
        out[f"{key}.nsd_slice"] = metrics(ref[..., None], pred[..., None], 1)["nsd"]

big = [disc(40, 60, 60, 120, 130), disc(40, 60, 70, 120, 130), disc(44, 60, 60, 120, 130)]
for other in big[1:]:  # figures known from the released evaluation: .842 .889 .175 and .905 .957 0
    d, s = metrics(big[0], other, 1), metrics(big[0][..., None], other[..., None], 1)
    print(f"DSC {d['dsc']:.4f}, NSD of one slice {s['nsd']:.4f}, NSD {d['nsd']:.4f}; area {s['area'][0]:.0f}")
save("classic.safetensors", out)
