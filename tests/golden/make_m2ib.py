"""m2ib.safetensors: the information bottleneck's optimisation, step by step, on a toy CLIP with given noise."""
import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import erfinv

from formula import given, save, uniform
from tiny_clip import IMAGE, TinyClip, texts

LAYER, STEPS, COPIES = 2, 10, 4  # the bottleneck follows block LAYER
noise = torch.from_numpy((np.sqrt(2) * erfinv(uniform("input.noise", (STEPS, COPIES, 17, 32)))).astype("float32"))


def saliency(dtype, beta, out):
    clip = TinyClip(depth=4).to(dtype).requires_grad_(False)
    trunk, head, eps = clip.visual.trunk, clip.visual.head, noise.to(dtype)
    seen = {}
    trunk.blocks[LAYER].register_forward_hook(lambda m, a, y: seen.update(x=y))
    clip.visual(given("input.image", 1, 3, IMAGE, IMAGE).to(dtype))
    x, text = seen["x"], clip.text(texts()[1:2, :7])
    alpha = torch.full_like(x, 5.0, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=1.0)
    rows = {k: [] for k in ("alpha", "grad", "compression", "fit", "loss")}
    for e in eps:
        lam = alpha.sigmoid()
        t = lam * x + (1 - lam) * e
        kl = -0.5 * (1 + ((1 - lam)**2).log() - (lam * x)**2 - (1 - lam)**2)
        y = t
        for block in trunk.blocks[LAYER + 1:]:
            y = block(y)
        image = head(trunk.norm(y)[:, 0])
        fit = F.cosine_similarity(text, image, dim=1, eps=1e-6).mean()
        loss = beta * kl.mean() - fit
        adam.zero_grad()
        loss.backward()
        adam.step()
        for k, v in zip(rows, (alpha, alpha.grad, kl.mean(), fit, loss)):
            rows[k].append(v.detach().clone().reshape(alpha.shape[1:] if v.ndim else ()))
    tokens = kl.nansum(-1)[0, 1:].reshape(1, 1, 4, 4)
    grown = F.interpolate(tokens, (IMAGE, IMAGE), mode="bilinear", align_corners=False)[0, 0]
    out |= {f"{beta}.{k}": torch.stack(v) for k, v in rows.items()}
    out |= {"x": x[0], "text": text[0], f"{beta}.tokens": tokens[0, 0], f"{beta}.grown": grown,
            f"{beta}.map": (grown - grown.min()) / (grown.max() - grown.min())}
    return out


out = {"noise": noise}
for beta in (0.1, 2.0):
    saliency(torch.float64, beta, out)
    single = saliency(torch.float32, beta, {})
    for k, v in single.items():
        print(f"float32 run, {k}: {(v - out[k]).abs().max():.1e} of {out[k].abs().max():.1e}")
save("m2ib.safetensors", out)
