"""M2IB's maps and the released code's coarse masks, at full size."""
import sys

import biomedclip
import numpy as np
import torch
import torch.nn.functional as F
from parity import ROOT, datasets, row
from PIL import Image

TEXT, STEPS, COPIES = "chest x-ray with left lower lobe pneumonia", 10, 10


def noise(context):
    path = context.work / "noise.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(4).standard_normal((STEPS, COPIES, 197, 768), dtype=np.float32))
    return path


def reference(context, pixels, layer, beta):
    """pixels (3,224,224), normalised -> the map (224,224), before it is scaled to the image: tokens, too."""
    clip = biomedclip.model(context)
    trunk, head, seen = clip.visual.trunk, clip.visual.head, {}
    hook = trunk.blocks[layer].register_forward_hook(lambda m, a, y: seen.update(x=y))
    clip.encode_image(pixels[None])
    hook.remove()
    text, x = clip.encode_text(biomedclip.tokens(context, [TEXT])), seen["x"]
    alpha = torch.full_like(x, 5.0, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=1.0)
    for eps in torch.from_numpy(np.load(noise(context))):
        lam = alpha.sigmoid()
        kl = -0.5 * (1 + ((1 - lam)**2).log() - (lam * x)**2 - (1 - lam)**2)
        y = lam * x + (1 - lam) * eps
        for block in trunk.blocks[layer + 1:]:
            y = block(y)
        fit = F.cosine_similarity(text, head(trunk.norm(y)[:, 0]), dim=1, eps=1e-6).mean()
        adam.zero_grad()
        (beta * kl.mean() - fit).backward()
        adam.step()
    return kl.detach().nansum(-1)[0, 1:].reshape(1, 1, 14, 14)


def stretched(tokens, width, height):
    grown = F.interpolate(tokens, (height, width), mode="bilinear", align_corners=False)[0, 0]
    return ((grown - grown.min()) / (grown.max() - grown.min())).numpy()


def normalised(square):
    mean, std = (np.array(v, np.float32) for v in (biomedclip.MEAN, biomedclip.STD))
    return torch.from_numpy(((np.asarray(square, np.float32) / 255 - mean) / std).transpose(2, 0, 1).copy())


def picture(context, width, height):
    def draw(folder):
        small = np.random.default_rng(7).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.BICUBIC).save(folder / "p.png")
    return context.folder(f"picture_{width}x{height}", draw)


def saliency(context, width, height, *words):
    out = context.scratch("saliency")
    context.call("saliency", "-m", biomedclip.folder(context), "-i", picture(context, width, height), "--text", TEXT, "-o",
                 out, "--noise", noise(context), *words)
    return datasets(out / "p.h5")["saliency"], np.array(Image.open(out / "p.png"))


@row("M2IB", "BiomedCLIP, paper: layer 10, beta 1, 300 x 260, largest difference", 2e-5)
def _(context):
    square = Image.open(picture(context, 300, 260) / "p.png").resize((224, 224), Image.BICUBIC)
    want = stretched(reference(context, normalised(square), 10, 1.0), 300, 260)
    return np.abs(saliency(context, 300, 260)[0] - want).max()


def released(context, width, height, preset, layer, beta):
    import cv2
    from transformers import CLIPImageProcessorPil
    processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224},
                                      image_mean=biomedclip.MEAN, image_std=biomedclip.STD)
    image = Image.open(picture(context, width, height) / "p.png").convert("RGB")
    pixels = torch.from_numpy(np.array(processor(images=image, return_tensors="np")["pixel_values"][0], np.float32))
    vmap = stretched(reference(context, pixels, layer, beta), 224, 224)
    ok, png = cv2.imencode(".png", cv2.resize(vmap, (width, height), interpolation=cv2.INTER_NEAREST) * 255)
    got = saliency(context, width, height, "--form", "release", "--preset", preset)[1]
    return got.astype(int) - cv2.imdecode(png, 0)


# 227 x 224: the crop starts at column 1 where open_clip's starts at 2; 392: OpenCV's index is not the exact one
for width, height, preset, layer, beta in ((227, 224, "release-cli", 7, 0.1), (392, 301, "release-brain", 9, 2.0),
                                           (300, 420, "release-breast", 9, 1.0)):
    case = f"BiomedCLIP, {preset}, {width} x {height}"

    def difference(context, arguments=(width, height, preset, layer, beta)):
        return context.once(("released", *arguments), lambda: released(context, *arguments))

    @row("M2IB release", f"{case}, largest difference", 1, " levels")
    def _(context, difference=difference):
        return np.abs(difference(context)).max()

    @row("M2IB release", f"{case}, pixels that differ", 0.1, " %")
    def _(context, difference=difference):
        return 100 * (difference(context) != 0).mean()


@row("2-means release", "40 maps of all sizes, pixels of the coarse masks that differ", 0, " px")
def _(context):
    import cv2
    sys.path.insert(0, str(ROOT / "tests/ref/parity"))
    from two_means import postprocess
    r, maps, out, differ = np.random.default_rng(5), context.scratch("maps"), context.scratch("masks"), 0
    for i in range(40):
        tokens = r.random((14, 14)).astype(np.float32)**r.uniform(0.5, 4)
        grown = cv2.resize(tokens, (224, 224), interpolation=cv2.INTER_LINEAR)
        size = tuple(int(v) for v in r.integers(60, 700, 2))
        vmap = cv2.resize((grown - grown.min()) / (grown.max() - grown.min()), size, interpolation=cv2.INTER_NEAREST)
        Image.fromarray(np.rint(vmap * 255).astype(np.uint8)).save(maps / f"{i}.png")
    context.call("coarse", "-i", maps, "-o", out, "--form", "release")
    for i in range(40):
        want = postprocess(np.array(Image.open(maps / f"{i}.png")))
        differ += int((np.array(Image.open(out / f"{i}.png")) != want).sum())
    return differ
