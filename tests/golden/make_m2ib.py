"""m2ib.safetensors: the information bottleneck's optimisation, step by step, on a toy CLIP with given noise."""
import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import erfinv

from formula import given, pixels, save, uniform
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


MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
NULLS = ([2, 7, 3], [2, 33, 8, 60, 3])  # prompts of nothing


def run(dtype, picture, beta, copies):
    """The whole run on a picture (3,32,32) of 8 bits: alpha after nine updates that build on each other, KL by token,
    the map, and how much nearer the picture is to the prompt than to the prompts of nothing.

    alpha.gain and map.gain bound what rounding does to alpha and to the map, by unit of error in the gradients. An update
    is u = m / s, m a mean of the gradients so far and s a root mean square of them, so an error d in each gradient
    changes both by at most d, and u by at most d (1 + |u|) / s."""
    clip = TinyClip(depth=4).to(dtype).requires_grad_(False)
    trunk, head = clip.visual.trunk, clip.visual.head
    eps = torch.from_numpy(uniform("input.run_noise", (STEPS, copies, 17, 32)).astype("float32")).to(dtype)
    mean, std = (torch.tensor(v, dtype=dtype).reshape(3, 1, 1) for v in (MEAN, STD))
    seen = {}
    trunk.blocks[LAYER].register_forward_hook(lambda m, a, y: seen.update(x=y))
    image = clip.visual(((torch.from_numpy(picture).to(dtype) / 255 - mean) / std)[None])[0]
    x, text = seen["x"], clip.text(texts()[1:2, :7])
    alpha = torch.full_like(x, 5.0, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=1.0)
    gain, largest = torch.zeros_like(x), 0

    def compression():
        lam = alpha.sigmoid()
        return lam, -0.5 * (1 + ((1 - lam)**2).log() - (lam * x)**2 - (1 - lam)**2)

    for e in eps[:STEPS - 1]:
        lam, kl = compression()
        y = lam * x + (1 - lam) * e
        for block in trunk.blocks[LAYER + 1:]:
            y = block(y)
        fit = F.cosine_similarity(text, head(trunk.norm(y)[:, 0]), dim=1, eps=1e-6).mean()
        adam.zero_grad()
        (beta * kl.mean() - fit).backward()
        adam.step()
        state = adam.state[alpha]
        rms = (state["exp_avg_sq"] / (1 - 0.999**state["step"])).sqrt()
        gain += (1 + (state["exp_avg"] / (1 - 0.9**state["step"]) / rms).abs()) / rms
        largest = max(largest, float(alpha.grad.max() - alpha.grad.min()))
    kl = compression()[1]
    slope, = torch.autograd.grad(kl.sum(), alpha, retain_graph=True)
    tokens = kl.nansum(-1)[0, 1:].reshape(1, 1, 4, 4)
    grown = F.interpolate(tokens, (IMAGE, IMAGE), mode="bilinear", align_corners=False)[0, 0]
    nulls = torch.stack([F.cosine_similarity(image, clip.text(torch.tensor([n]))[0], dim=0) for n in NULLS])
    map_gain = 2 * (slope.abs() * gain).sum(-1)[0, 1:].max() / (grown.max() - grown.min())  # 2: both ends of the scale move
    return {"gradient": torch.tensor(largest), "alpha.gain": gain[0], "map.gain": map_gain, "alpha": alpha[0], "tokens": tokens[0, 0], "map": (grown - grown.min()) / (grown.max() - grown.min()),
            "presence": F.cosine_similarity(image, text[0], dim=0) - nulls.mean()}


if __name__ == "__main__":
    out = {"noise": noise}
    for beta in (0.1, 2.0):
        saliency(torch.float64, beta, out)
        single = saliency(torch.float32, beta, {})
        for k, v in single.items():
            print(f"float32 run, {k}: {(v - out[k]).abs().max():.1e} of {out[k].abs().max():.1e}")
    square = pixels("input.picture", 3, IMAGE, IMAGE)
    wide = pixels("input.wide", 3, IMAGE, 48)  # its centre crop are columns 8 to 39
    for name, picture, beta, copies in (("run", square, 1.0, 10), ("few", square, 0.1, 3), ("wide", wide[:, :, 8:40], 1.0, 10)):
        single = run(torch.float32, picture, beta, copies)
        for k, v in run(torch.float64, picture, beta, copies).items():
            out[f"{name}.{k}"] = v
            print(f"float32 run, {name}.{k}: {(single[k] - v).abs().max():.1e} of {v.abs().max():.1e}")
    save("m2ib.safetensors", out)
