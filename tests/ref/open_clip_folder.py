"""A folder that open_clip wrote, through `mcsam embed` and `mcsam finetune`, and back: open_clip must load RUN/model as it is,
strictly, and both must give the same embeddings before and after.

    python tests/ref/open_clip_folder.py build/mcsam [--full]      --full: BiomedCLIP's sizes (random weights, 0.8 GB a copy)

Needs open_clip_torch, timm, transformers, safetensors, h5py."""
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import open_clip
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig, BertTokenizerFast

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
program, full = sys.argv[1], "--full" in sys.argv
work = Path(tempfile.mkdtemp(prefix="open_clip_"))
folder, images, run = work / "model", work / "images", work / "run"


@timm.models.register_model
def vit_golden(pretrained=False, **kwargs):
    kwargs = {k: v for k, v in kwargs.items() if k in ("num_classes", "global_pool")}
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, **kwargs)
    vit.default_cfg = vit.pretrained_cfg = {}
    return vit


def make_folder():
    """open_clip's layout: open_clip_config.json, the weights, and the files that transformers writes for a BERT."""
    folder.mkdir()
    pieces = (GOLDEN / "tokenizer_vocab.txt").read_text(encoding="utf-8").splitlines()
    if full:
        pieces += [f"filler{i}" for i in range(30522 - len(pieces))]
    (work / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(work / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    small = {} if full else dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
                                 max_position_embeddings=64)
    BertConfig(vocab_size=len(pieces), **small).save_pretrained(folder)
    vision = {"timm_model_name": "vit_base_patch16_224" if full else "vit_golden", "timm_model_pretrained": False,
              "timm_pool": "", "timm_proj": "linear", "image_size": 224 if full else 32}
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256 if full else 32}
    config = {"model_cfg": {"embed_dim": 512 if full else 16, "vision_cfg": vision, "text_cfg": text},
              "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}}
    if not full:
        config["mcsam_cfg"] = {"vision_cfg": {"width": 32, "layers": 2, "heads": 2, "mlp_width": 128, "patch_size": 8}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(3)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")


def make_pairs():
    images.mkdir()
    r = np.random.default_rng(1)
    rows = [["filename", "Caption"]]
    for i in range(8):
        pixels = r.integers(0, 256, (40 + 3 * i, 50, 3), dtype=np.uint8)
        img = Image.fromarray(pixels)
        if i in (1, 2):
            img.putalpha(Image.fromarray(pixels[..., i]))
        img = img.convert("LA") if i == 2 else img.quantize(50) if i == 3 else img.convert("1") if i == 4 else img
        img.save(images / f"{i}.png")
        rows.append([f"{i}.png", f"chest ct image {i} shows a left lung nodule, 5&deg; it\u2019s \u00c2\u00b12 [SEP] mm" + " [PAD] x" * (i % 3)])
    with open(work / "pairs.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    (work / "texts.txt").write_text("\n".join(row[1] for row in rows[1:]) + "\n", encoding="utf-8")
    return [row[1] for row in rows[1:]]


def call(*words):
    done = subprocess.run([program, *map(str, words), "-q"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def furthest(where, texts):
    """The largest difference between mcsam's and open_clip's embeddings; open_clip loads the folder strictly."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{where}")
    tokens = open_clip.get_tokenizer(f"local-dir:{where}")(texts)
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.open(images / f"{i}.png")) for i in range(8)])
        want = [model.encode_image(pixels, normalize=True).numpy(), model.encode_text(tokens, normalize=True).numpy()]
    call("embed", "-m", where, "-i", images, "--texts", work / "texts.txt", "-o", work / "out.h5")
    found = []
    with h5py.File(work / "out.h5") as f:
        f.visititems(lambda name, o: found.append((name, o[()])) if isinstance(o, h5py.Dataset) and o.ndim == 2 and
                     o.dtype == np.float32 else None)
    assert len(found) == 2, [name for name, _ in found]
    (work / "out.h5").unlink()
    return {name: float(min(np.abs(got - w).max() for w in want)) for name, got in found}


make_folder()
captions = make_pairs()
print("before", furthest(folder, captions))
call("finetune", "-m", folder, "--pairs", work / "pairs.csv", "-i", images, "-o", run, "--batch", 4, "--steps", 2,
     "--warmup", 0, "--lr", "1e-3")
written = run / "model"
for name in sorted(p.name for p in folder.iterdir() if p.suffix in (".json", ".txt")):
    assert (folder / name).read_bytes() == (written / name).read_bytes(), name
after = furthest(written, captions)
print("after", after)
assert max(after.values()) < 2e-6 and (folder / "open_clip_model.safetensors").read_bytes() != \
    (written / "open_clip_model.safetensors").read_bytes()
print("open_clip loads what finetune wrote, strictly;", "full size" if full else "tiny")
