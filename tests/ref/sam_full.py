"""SAM and MedSAM at full size: segment-anything against mcsam, with random weights and the same images and prompts.

    python3 sam_full.py MCSAM [--work FOLDER] [--kinds vit_b,vit_l,vit_h] [--threads N]

Prints a row for each quantity: error, limit, verdict. Logits: largest difference over the range of the reference's;
masks: Dice at the image's size; memory: peak resident bytes of `mcsam sam` beyond those of the weights. Needs torch,
segment-anything, scikit-image and up to 6 GB of memory and disk for vit_h. Checkpoints that are there are used again.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
import torch
from PIL import Image
from segment_anything import SamPredictor
from skimage import transform

from sam_checkpoint import checkpoint, write

LOGITS, DICE, MEMORY = 1e-5, 0.9999, 1.5
failed = 0


def row(quantity, error, limit, good):
    global failed
    failed += not good
    print(f"{quantity:58} {error:>12} {limit:>12}  {'ok' if good else 'FAILED'}", flush=True)


def picture(h, w):
    r = np.random.default_rng(h)
    y, x = np.mgrid[:h, :w]
    image = np.stack([(np.sin(x / 20) + np.cos(y / 17)) * 60 + 120, 200 * ((x - w / 2)**2 + (y - h / 2)**2 < (h / 4)**2),
                      x * y / 300 % 256], 2) + r.normal(0, 8, (h, w, 3))
    return image.clip(0, 255).astype(np.uint8)


def resident(pid):
    """Peak resident bytes so far (VmHWM; the page cache that holds the file is not part of it)."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return max((int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM")), default=0)
    except OSError:
        return 0


def mcsam(a, model, image, out, *more):
    """Runs `mcsam sam`; returns its mask, logits and peak resident bytes."""
    line = [a.mcsam, "sam", "-m", model, "-i", image, "-o", out, "--threads", str(a.threads), *more]
    peak = 0
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as p:
        while p.poll() is None:
            peak = max(peak, resident(p.pid))
            time.sleep(0.02)
    if p.returncode:
        raise subprocess.CalledProcessError(p.returncode, line)
    mask = np.array(Image.open(f"{out}/mask.png")) > 0
    return mask, np.load(f"{out}/low_res.npy"), peak


def compare(what, got, want_low, want_mask):
    error = np.abs(got[1].squeeze() - want_low.squeeze()).max() / np.ptp(want_low)
    both = 2.0 * (got[0] & want_mask).sum() / max(1, got[0].sum() + want_mask.sum())
    dice = 1.0 if not got[0].any() and not want_mask.any() else both
    row(f"{what}: logits", f"{error:.2e}", f"{LOGITS:.0e}", error <= LOGITS)
    row(f"{what}: mask, {(got[0] ^ want_mask).sum()} of {want_mask.size} px differ", f"{dice:.6f}", f"{DICE}", dice >= DICE)


def prompts(w, h):
    box, points = [w * 0.3, h * 0.25, w * 0.7, h * 0.8], [(w * 0.5, h * 0.5, 1), (w * 0.1, h * 0.9, 0), (w * 0.6, h * 0.4, 1)]
    return {"box": (box, []), "point": (None, points[:1]), "points": (None, points), "box and points": (box, points)}


def words(box, points):
    text = ["--box", ",".join(map(repr, box))] if box else []
    for p in points:
        text += ["--point", ",".join(map(repr, p))]
    return text


def sam(a, kind, model, path):
    h, w = 240, 320
    image, name = picture(h, w), f"{a.work}/image.png"
    Image.fromarray(image).save(name)
    start = time.time()
    predictor = SamPredictor(model)
    predictor.set_image(image)
    print(f"# {kind}: segment-anything encodes the image in {time.time() - start:.1f} s", flush=True)
    embeddings, made, first = f"{a.work}/{kind}_embeddings", False, None
    for what, (box, points) in prompts(w, h).items():
        at, label = (np.array([p[:2] for p in points]), np.array([p[2] for p in points])) if points else (None, None)
        masks, _, low = predictor.predict(at, label, np.array(box) if box else None, multimask_output=False)
        more = ["--embeddings" if made else "--save-embeddings", embeddings]
        got = mcsam(a, path, name, f"{a.work}/out", *words(box, points), *more)
        if not made:
            made, first = True, low
            beyond = (got[2] - sum(p.numel() * 4 for p in model.state_dict().values())) / 2**30
            row(f"{kind}: peak memory beyond the weights, GiB", f"{beyond:.2f}", f"{MEMORY}", beyond <= MEMORY)
            compare(f"{kind}, {what}", got, low, masks[0])
        else:
            compare(f"{kind}, {what} (embedding from file)", got, low, masks[0])
    masks, _, low = predictor.predict(box=np.array(prompts(w, h)["box"][0]), mask_input=first, multimask_output=False)
    np.save(f"{a.work}/mask_input.npy", first[0])
    got = mcsam(a, path, name, f"{a.work}/out", *words(*prompts(w, h)["box"]), "--mask", f"{a.work}/mask_input.npy",
                "--embeddings", embeddings)
    compare(f"{kind}, box and mask (embedding from file)", got, low, masks[0])
    from safetensors.numpy import load_file
    mine, want = load_file(f"{embeddings}/image.safetensors")["image_embedding"], predictor.get_image_embedding().numpy()
    error = np.abs(mine - want).max() / np.ptp(want)
    row(f"{kind}: embedding saved by mcsam", f"{error:.2e}", f"{LOGITS:.0e}", error <= LOGITS)


def medsam(a, model, path):
    h, w = 300, 420
    image, name = picture(h, w), f"{a.work}/med.png"
    Image.fromarray(image).save(name)
    box = np.array(prompts(w, h)["box"][0])
    small = transform.resize(image, (1024, 1024), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    x = torch.tensor((small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        embedding = model.image_encoder(x)
        sparse, dense = model.prompt_encoder(None, torch.tensor(box / [w, h, w, h] * 1024).float()[None, None], None)
        low, _ = model.mask_decoder(embedding, model.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
        prob = torch.nn.functional.interpolate(torch.sigmoid(low), size=(h, w), mode="bilinear", align_corners=False)
    got = mcsam(a, path, name, f"{a.work}/out", *words(box.tolist(), []), "--preprocess", "medsam")
    compare("MedSAM, box", got, low.numpy(), prob[0, 0].numpy() > 0.5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mcsam")
    parser.add_argument("--work", default="sam_full")
    parser.add_argument("--kinds", default="vit_b")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    a.work = os.path.abspath(a.work)
    os.makedirs(a.work, exist_ok=True)
    torch.set_num_threads(a.threads)
    print(f"{'quantity':58} {'error':>12} {'limit':>12}")
    for kind in a.kinds.split(","):
        model = checkpoint(kind)
        files = [f"{a.work}/sam_{kind}.pth"]
        if kind == "vit_b":
            files += [f"{a.work}/sam_{kind}.safetensors", f"{a.work}/sam_{kind}_legacy.pth"]
        for path in files:
            if not os.path.exists(path):
                write(model.state_dict(), path)
        sam(a, kind, model, files[0])
        for path in files[1:]:
            info = json.loads(subprocess.run([a.mcsam, "info", "--json", path], check=True, capture_output=True).stdout)
            text = json.dumps(info)
            row(f"{kind} from {os.path.basename(path)}: recognised", "yes" if "ViT-B" in text else "no", "yes", "ViT-B" in text)
        if kind == "vit_b":
            medsam(a, model, files[0])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
