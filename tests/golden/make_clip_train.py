"""clip_train.safetensors: six optimizer steps of a toy BiomedCLIP with open_clip's recipe: ClipLoss or DHN-NCE, torch's
AdamW in open_clip's two groups, open_clip's cosine_lr, gradient clipping and clamping of the temperature."""
import math

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from open_clip_train.scheduler import cosine_lr

from formula import fill, given, save, uniform
from tiny_clip import IMAGE, TinyClip

BATCH, STEPS, WARMUP, LR, DECAY, CONTEXT, KEPT = 5, 6, 2, 1e-3, 0.2, 24, 24
CASES = {  # loss, logit_scale at the start, largest gradient norm (0: any)
    "infonce": ("infonce", 2.6593, 1.0),
    "hot": ("infonce", -0.01, 0.0),  # clamped to 0 after the first step
    "cold": ("infonce", 4.7, 1.0),  # clamped to ln 100 = 4.605 after the first step
    "dhnnce": ("dhnnce", 2.6593, 3.5),  # temperature .6, betas .15; clipped in some steps only
}


def dhnnce(image, text, tau=0.6, beta=0.15):
    """Both directions summed: -L_ii + log((B-1) sum_j e^((1+b) L_ij) / sum_j e^(b L_ij)) over j != i, mean over i."""
    def side(logits):
        negatives = logits.masked_fill(torch.eye(BATCH, dtype=torch.bool), -math.inf)
        return math.log(BATCH - 1) - logits.diagonal() + ((1 + beta) * negatives).logsumexp(1) \
            - (beta * negatives).logsumexp(1)

    logits = image @ text.T / tau
    return (side(logits) + side(logits.T)).mean()


def ids(step):
    """Five texts of 3 to 12 tokens: [CLS] 2, words 4 to 63, [SEP] 3, padding 0."""
    u = (uniform(f"input.words.{step}", (BATCH, 12)) + 1) / 2
    rows = [[2, *(4 + (60 * u[i, 1:2 + (3 * i + 2 * step) % 10]).astype(int)), 3] for i in range(BATCH)]
    return torch.tensor([r + [0] * (12 - len(r)) for r in rows])


def images(step):
    return given(f"input.images.{step}", BATCH, 3, IMAGE, IMAGE)


def groups(clip):
    """open_clip_train.main: no decay for gains, biases and the temperature."""
    def plain(n, p):
        return p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n

    named = list(clip.named_parameters())
    return [{"params": [p for n, p in named if plain(n, p)], "weight_decay": 0.0},
            {"params": [p for n, p in named if not plain(n, p)], "weight_decay": DECAY}]


def train(loss_name, start, clip_norm, dtype):
    clip = TinyClip(depth=2).to(dtype)
    torch.nn.init.constant_(clip.logit_scale, start)
    before = {n: p.detach().clone() for n, p in clip.named_parameters()}
    optimizer = torch.optim.AdamW(groups(clip), lr=LR, betas=(0.9, 0.98), eps=1e-6)
    schedule, losses, norms, rates, scales = cosine_lr(optimizer, LR, WARMUP, STEPS), [], [], [], []
    for step in range(STEPS):
        schedule(step)
        optimizer.zero_grad()
        ni = F.normalize(clip.visual(images(step).to(dtype)), dim=-1)
        nt = F.normalize(clip.text(ids(step)), dim=-1)
        if loss_name == "infonce":
            loss = 2 * ClipLoss()(ni, nt, clip.logit_scale.exp())  # the sum of both directions
        else:
            loss = dhnnce(ni, nt)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(clip.parameters(), clip_norm or math.inf)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        norms.append(norm.item())
        rates.append(optimizer.param_groups[0]["lr"])
        scales.append(clip.logit_scale.item())
    return losses, norms, rates, scales, {n: (p.detach() - before[n]).double() for n, p in clip.named_parameters()}


def kept(x):
    """At most KEPT elements, evenly spread."""
    x = x.reshape(-1)
    return x[:: max(1, len(x) // KEPT)][:KEPT]


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    out = {f"ids.{s}": ids(s) for s in range(STEPS)}
    for name, case in CASES.items():
        losses, norms, rates, scales, moved = train(*case, torch.float64)
        single = train(*case, torch.float32)
        out |= {f"{name}.loss": np.array(losses), f"{name}.norm": np.array(norms), f"{name}.lr": np.array(rates),
                f"{name}.scale": np.array(scales)}
        worst = 0
        for n, m in moved.items():
            out[f"{name}.moved.{n}"] = kept(m)
            worst = max(worst, (single[4][n] - m).abs().max().item() / sum(rates))
        print(f"{name}: losses {losses[0]:.4f} .. {losses[-1]:.4f}, norms {min(norms):.3f} .. {max(norms):.3f}, scale "
              f"{scales[0]:.4f} .. {scales[-1]:.4f}, float32 differs by {worst:.2g} of the rates' sum, losses by "
              f"{max(abs(a - b) for a, b in zip(losses, single[0])):.2g}")
    save("clip_train.safetensors", out)
