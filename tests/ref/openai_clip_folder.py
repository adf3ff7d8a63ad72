"""CLIPs with OpenAI's towers through `mcsam embed`, `mcsam saliency` and `mcsam finetune`: folders that open_clip and transformers wrote,
with random weights. Embeddings must agree within 2e-6, before fine-tuning and, by open_clip's strict loading, after it.

    python tests/ref/openai_clip_folder.py build/mcsam [ViT-B-32 ViT-B-16 ViT-L-14 ...]

A name is one of open_clip's: its full size. Without names: toy sizes. Needs open_clip_torch, transformers, safetensors, h5py."""
import csv
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

LIMIT = 2e-6
BPE = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
TOY = {"embed_dim": 16, "quick_gelu": True,
       "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
       "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}}
TEXTS = ["a chest x-ray", "It's 5&deg; \u00c2\u00b12 <end_of_text> of a LEFT lung nodule", "\u00c9 caf\u00e9 \ufb01ne <|endoftext|> more",
         "\u03a3\u0391\u03a3 don't 12,345!", "x " * 90]
program, names = sys.argv[1], sys.argv[2:]
work = Path(tempfile.mkdtemp(prefix="openai_clip_"))
images, text_file, failed = work / "images", work / "texts.txt", []


def make_inputs():
    images.mkdir()
    r = np.random.default_rng(1)
    for i in range(4):
        pixels = r.integers(0, 256, (41 + 3 * i, 50, 3), dtype=np.uint8)
        img = Image.fromarray(pixels)
        if i == 3:
            img.putalpha(Image.fromarray(pixels[..., 1]))
        img.save(images / f"{i}.png")
    text_file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    with open(work / "pairs.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["filename", "Caption"]] + [[f"{i}.png", TEXTS[i]] for i in range(4)])


def call(*words):
    done = subprocess.run([program, *map(str, words), "-q"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def embed(folder):
    call("embed", "-m", folder, "-i", images, "--texts", text_file, "-o", work / "out.h5")
    found = {}
    with h5py.File(work / "out.h5") as f:
        f.visititems(lambda name, o: found.update({name: o[()]}) if isinstance(o, h5py.Dataset) and o.ndim == 2 and
                     o.dtype == np.float32 else None)
    (work / "out.h5").unlink()
    return next(v for k, v in found.items() if "image" in k), next(v for k, v in found.items() if "text" in k)


def report(what, folder, image, text):
    got = embed(folder)
    worst = [float(np.abs(a - b.numpy()).max()) for a, b in zip(got, (image, text))]
    print(f"{what:44} image {worst[0]:.1e} text {worst[1]:.1e} limit {LIMIT:.0e} {'ok' if max(worst) <= LIMIT else 'FAILED'}")
    if not max(worst) <= LIMIT:
        failed.append(what)


def by_open_clip(what, folder):
    """open_clip loads the folder strictly."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.open(images / f"{i}.png")) for i in range(4)])
        report(what, folder, model.encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True))


def open_clip_folder(name, config):
    folder = work / f"{name}_open_clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    shutil.copy(BPE, folder)
    torch.manual_seed(3)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():  # as large as a trained model's
        for p in (model.visual.proj, getattr(model, "text", model).text_projection):
            p.mul_(4)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    by_open_clip(f"{name}: open_clip's folder", folder)
    return folder


def hugging_face_folder(name, c):
    folder = work / f"{name}_hugging_face"
    v, t = c["vision_cfg"], c["text_cfg"]
    act = "quick_gelu" if c.get("quick_gelu") else "gelu"

    def tower(cfg, heads):
        return dict(hidden_size=cfg["width"], intermediate_size=4 * cfg["width"], num_hidden_layers=cfg["layers"],
                    num_attention_heads=heads, hidden_act=act)

    torch.manual_seed(4)
    model = CLIPModel(CLIPConfig(
        projection_dim=c["embed_dim"],
        vision_config=dict(tower(v, v["width"] // v.get("head_width", 64)), image_size=v["image_size"], patch_size=v["patch_size"]),
        text_config=dict(tower(t, t["heads"]), max_position_embeddings=t["context_length"], vocab_size=49408, eos_token_id=49407,
                         bos_token_id=49406))).eval()
    model.save_pretrained(folder)
    ids = open_clip.get_tokenizer("ViT-B-32").encoder
    ids = {{"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}.get(k, k): n for k, n in ids.items()}
    merges = gzip.open(BPE).read().decode().split("\n")[1:48895]
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    processor = CLIPImageProcessorPil(size={"shortest_edge": v["image_size"]}, crop_size=v["image_size"])
    processor.save_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=t["context_length"], return_tensors="pt")
    with torch.no_grad():
        # transformers 5 puts an image with alpha before white, 4 drops the alpha, as mcsam does
        pixels = processor([Image.open(images / f"{i}.png").convert("RGB") for i in range(4)], return_tensors="pt")["pixel_values"]
        image = model.visual_projection(model.vision_model(pixels).pooler_output)
        text = model.text_projection(model.text_model(**batch).pooler_output)
        image, text = (x / x.norm(dim=-1, keepdim=True) for x in (image, text))
    report(f"{name}: transformers' folder, merges.txt", folder, image, text)
    for file in ("vocab.json", "merges.txt"):
        (folder / file).unlink()
    tokenizer.save_pretrained(folder)
    report(f"{name}: transformers' folder, tokenizer.json", folder, image, text)
    if names:
        return
    run = tune(f"{name}_hf", folder)
    tuned, info = CLIPModel.from_pretrained(run, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    with torch.no_grad():
        image, text = tuned.visual_projection(tuned.vision_model(pixels).pooler_output), tuned.text_projection(tuned.text_model(**batch).pooler_output)
    report(f"{name}: fine-tuned, transformers load it", run, *(x / x.norm(dim=-1, keepdim=True) for x in (image, text)))


def tune(name, folder):
    run = work / f"{name}_run"
    call("finetune", "-m", folder, "--pairs", work / "pairs.csv", "-i", images, "-o", run, "--batch", 2, "--steps", 2, "--warmup", 0,
         "--lr", "1e-3")
    return run / "model"


def finetune(name, folder):
    by_open_clip(f"{name}: fine-tuned, open_clip loads it", tune(name, folder))
    saliency(name, folder)


def saliency(name, folder):
    """M2IB with given noise on a picture of the network's size, in float64 here: maps within 2e-5."""
    layer, beta, steps, copies = 1, 0.5, 10, 3
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model = model.double().eval().requires_grad_(False)
    visual, side = model.visual, model.visual.image_size[0]
    visual.transformer.attn_mask = None
    (work / "square").mkdir(exist_ok=True)
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, (side, side, 3), dtype=np.uint8))
    picture.save(work / "square" / "s.png")
    seen = {}
    hook = visual.transformer.resblocks[layer].register_forward_hook(lambda m, a, y: seen.update(x=y))
    visual(preprocess(picture)[None].double())
    hook.remove()
    x, text = seen["x"], model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS[:1]))
    noise = np.random.default_rng(6).standard_normal((steps, copies, *x.shape[1:])).astype(np.float32)
    np.save(work / "noise.npy", noise)
    alpha = torch.full_like(x, 5.0, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=1.0)
    for e in torch.from_numpy(noise).double():
        lam = alpha.sigmoid()
        kl = -0.5 * (1 + ((1 - lam) ** 2).log() - (lam * x) ** 2 - (1 - lam) ** 2)
        y = lam * x + (1 - lam) * e
        for block in visual.transformer.resblocks[layer + 1:]:
            y = block(y)
        fit = torch.nn.functional.cosine_similarity(text, visual.ln_post(y)[:, 0] @ visual.proj, dim=1).mean()
        adam.zero_grad()
        (beta * kl.mean() - fit).backward()
        adam.step()
    grid = int((x.shape[1] - 1) ** 0.5)
    want = torch.nn.functional.interpolate(kl.detach().sum(-1)[0, 1:].reshape(1, 1, grid, grid), (side, side), mode="bilinear",
                                           align_corners=False)[0, 0]
    want = ((want - want.min()) / (want.max() - want.min())).numpy()
    call("saliency", "-m", folder, "-i", work / "square", "--text", TEXTS[0], "-o", work / f"{name}_maps", "--noise", work / "noise.npy",
         "--layer", layer, "--beta", beta, "--steps", steps, "--copies", copies)
    with h5py.File(work / f"{name}_maps" / "s.h5") as f:
        worst = float(np.abs(f["saliency"][()] - want).max())
    print(f"{name + ': M2IB, given noise':44} map {worst:.1e} limit 2e-05 {'ok' if worst <= 2e-5 else 'FAILED'}")
    if not worst <= 2e-5:
        failed.append(name + ": M2IB")


make_inputs()
for name, config in [(n, open_clip.get_model_config(n)) for n in names] or [("toy", TOY), ("toy GELU", {**TOY, "quick_gelu": False}),
                                                                             ("toy custom_text", {**TOY, "custom_text": True})]:
    made = open_clip_folder(name, config)
    if "custom_text" not in config:
        hugging_face_folder(name, config)
    if not names:
        finetune(name, made)
    shutil.rmtree(made)
shutil.rmtree(work)
sys.exit(bool(failed))
