"""A BiomedCLIP of full size with random weights, as its folder is published, and open_clip's answers for it."""
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from parity import ROOT
from PIL import Image

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WEIGHTS = 783610884  # bytes of its tensors
TEXTS = ["chest x-ray with left lower lobe pneumonia", "a brain MRI showing a ring-enhancing glioma, 5&deg; \u00b1 2 mm",
         "ultrasound of a malignant breast tumour with spiculated margins " * 6, "normal", "caf\u00e9 na\u00efve \u2019s \u7532\u72c0\u817a"]


def make(folder):
    """open_clip_config.json, tokenizer files, config.json of the BERT, open_clip_model.safetensors."""
    import open_clip
    from transformers import BertConfig, BertTokenizerFast
    pieces = (ROOT / "tests/golden/tokenizer_vocab.txt").read_text(encoding="utf-8").splitlines()
    pieces += [f"filler{i}" for i in range(30522 - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    BertConfig(vocab_size=30522).save_pretrained(folder)
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
              "timm_proj": "linear", "image_size": 224}
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256}
    config = {"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text},
              "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(3)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    text["hf_model_name"] = text["hf_tokenizer_name"] = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))  # as it is published
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")


def folder(context):
    return context.folder("biomedclip", make)


def state(context):
    from safetensors.torch import load_file
    return context.once("biomedclip state", lambda: load_file(folder(context) / "open_clip_model.safetensors"))


def model(context):
    """open_clip's model, strictly loaded; its BERT's config is the folder's, since nothing is downloaded."""
    def load():
        import open_clip
        where = folder(context)
        config = json.loads((where / "open_clip_config.json").read_text())["model_cfg"]
        config["text_cfg"] |= {"hf_model_name": str(where), "hf_tokenizer_name": str(where), "hf_model_pretrained": False}
        one = open_clip.CustomTextCLIP(**config)
        one.load_state_dict(state(context), strict=True)
        return one.eval().requires_grad_(False)
    return context.once("biomedclip", load)


def tokens(context, texts):
    import open_clip
    return open_clip.tokenizer.HFTokenizer(str(folder(context)), context_length=256)(texts)


def images(context):
    """A folder of eight pictures of different sizes and modes."""
    def draw(where):
        r = np.random.default_rng(1)
        for i in range(8):
            noise = r.integers(0, 256, (12 + i, 14, 3), dtype=np.uint8)
            img = Image.fromarray(noise).resize((224 + 37 * i, 350 - 20 * i), Image.BICUBIC)
            if i in (1, 2):
                img.putalpha(img.convert("L"))
            img = img.convert("LA") if i == 2 else img.quantize(50) if i == 3 else img.convert("1") if i == 4 else \
                img.convert("L") if i == 5 else img
            img.save(where / f"{i}.png")
    return context.folder("pictures", draw)


def wanted(context):
    """open_clip's embeddings of the pictures and TEXTS."""
    def compute():
        from open_clip.transform import image_transform_v2, PreprocessCfg
        transform = image_transform_v2(PreprocessCfg(size=224, mean=tuple(MEAN), std=tuple(STD)), is_train=False)
        pixels = torch.stack([transform(Image.open(images(context) / f"{i}.png")) for i in range(8)])
        one = model(context)
        return (one.encode_image(pixels, normalize=True).numpy(),
                one.encode_text(tokens(context, TEXTS), normalize=True).numpy())
    return context.once("biomedclip wanted", compute)


def copy_as(context, name, write):
    """A folder with the model's files, whose weights write(folder, state) writes instead."""
    def fill(where):
        for path in folder(context).iterdir():
            if path.suffix != ".safetensors":
                shutil.copy(path, where / path.name)
        write(where, state(context))
    return context.folder(name, fill)


def texts_file(context):
    path = context.work / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return Path(path)
