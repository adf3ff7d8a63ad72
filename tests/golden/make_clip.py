"""clip.safetensors: both towers, the contrastive loss and every gradient of a toy BiomedCLIP."""
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from formula import given, gradients, save
from tiny_clip import IMAGE, TinyClip, texts

clip, out = TinyClip(depth=2), {}


def keep(name):
    def hook(module, args, output):
        out[name] = output[0] if isinstance(output, tuple) else output
    return hook


trunk, bert = clip.visual.trunk, clip.text.transformer
trunk.norm_pre.register_forward_hook(keep("vision.embedding"))
bert.embeddings.register_forward_hook(keep("text.embedding"))
for i, block in enumerate(trunk.blocks):
    block.register_forward_hook(keep(f"vision.block.{i}"))
for i, layer in enumerate(bert.encoder.layer):
    layer.register_forward_hook(keep(f"text.layer.{i}"))

image, ids = given("input.image", 3, 3, IMAGE, IMAGE), texts()
fi, ft = clip.visual(image), clip.text(ids)
ni, nt = F.normalize(fi, dim=-1), F.normalize(ft, dim=-1)
scale = clip.logit_scale.exp()
loss = ClipLoss()(ni, nt, scale)
loss.backward()
out.update({"input.ids": ids, "image.raw": fi, "text.raw": ft, "image.normalised": ni, "text.normalised": nt,
            "logits": scale * ni @ nt.T, "loss": loss, **gradients(clip)})
save("clip.safetensors", out)
