"""contrastive.safetensors: InfoNCE, DCL, HN-NCE, DHN-NCE as published, and the DHN-NCE of the released code."""
import math

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from formula import given, save


def one_direction(logits, a, b):
    """l_i of one direction: -L_ii + log(a e^L_ii + (B-1) sum_j e^((1+b) L_ij) / sum_j e^(b L_ij)), j != i."""
    n = len(logits)
    off = ~torch.eye(n, dtype=torch.bool)
    diag = logits.diagonal()
    s1 = ((1 + b) * logits).exp().where(off, 0.0).sum(1)
    s0 = (b * logits).exp().where(off, 0.0).sum(1)
    return -diag + (a * diag.exp() + (n - 1) * s1 / s0).log()


def paper(image, text, scale, a, b1, b2):
    logits = scale * image @ text.T
    return (one_direction(logits, a, b1) + one_direction(logits.T, a, b2)).mean()


def release(image, text, scale, a, b1, b2):
    """What the released code computes, its slips included: exp(0) where a mask was meant (a +1 in every row sum),
    weights divided along the columns, negatives never summed, a mean over all pairs."""
    n = len(image)
    eye = torch.eye(n)

    def side(logits, beta):
        pos = (logits * eye).exp()
        neg = (logits * (1 - eye)).exp()
        weight = (n - 1) * (beta * logits * (1 - eye)).exp() / neg.sum(1)
        return -(pos / (a * pos + weight * neg)).log()

    logits = scale * image @ text.T
    return (side(logits, b1) + side(logits.T, b2)).mean()


torch.set_default_dtype(torch.float64)
CASES = {  # form, tau (None: learned, logit_scale 2.6593), a, beta of image -> text, beta of text -> image
    "infonce": (paper, 0.6, 1, 0, 0),
    "dcl": (paper, 0.6, 0, 0, 0),
    "hnnce": (paper, 0.6, 1, 0.15, 0.15),
    "dhnnce": (paper, 0.6, 0, 0.15, 0.15),
    "infonce_learned": (paper, None, 1, 0, 0),
    "dcl_learned": (paper, None, 0, 0, 0),
    "hnnce_learned": (paper, None, 1, 0.5, 0.25),
    "dhnnce_learned": (paper, None, 0, 0.5, 0.25),
    "release": (release, 0.6, 0, 0.15, 0.15),
    "release_uneven": (release, 0.6, 0, 0.5, 0.25),
    "release_alpha": (release, 0.6, 1, 0.5, 0.25),
}
out = {}
for n in (2, 16, 257):
    # matching pairs are similar, as after some training, but no pair is exact
    image = given(f"input.image.{n}", n, 8)
    text = 0.7 * image + given(f"input.text.{n}", n, 8)
    image, text = (F.normalize(f, dim=1).float().double().requires_grad_() for f in (image, text))
    out |= {f"{n}.image": image, f"{n}.text": text}
    for name, (form, tau, a, b1, b2) in CASES.items():
        log_scale = torch.tensor(2.6593 if tau is None else -math.log(tau), requires_grad=True)
        loss = form(image, text, log_scale.exp(), a, b1, b2)
        gi, gt, gs = torch.autograd.grad(loss, (image, text, log_scale))
        key = f"{n}.{name}"
        out |= {f"{key}.param": torch.tensor([(-log_scale).exp().item(), a, b1, b2]), f"{key}.loss": loss,
                f"{key}.grad.log_scale": gs}
        for side, g in (("image", gi), ("text", gt)):
            if n < 100:
                out[f"{key}.grad.{side}"] = g
            else:
                out |= {f"{key}.grad.{side}.rows": g[:4], f"{key}.grad.{side}.sum": g.sum(0),
                        f"{key}.grad.{side}.norm": g.norm()}
        if name == "infonce_learned":  # the family's InfoNCE is open_clip's, which halves the two directions
            assert torch.allclose(loss, 2 * ClipLoss()(image, text, log_scale.exp()), rtol=1e-12)
        if form is release and a == 0:  # closed form of the released loss
            L = log_scale.exp() * image @ text.T
            E = (L * (1 - torch.eye(n))).exp()
            d, s = L.diagonal().sum(), L.sum()
            closed = (-2 * d + (2 + b1 + b2) * (s - d)) / n**2 + 2 * math.log(n - 1) \
                - (E.sum(1).log().sum() + E.sum(0).log().sum()) / n
            assert torch.allclose(loss, closed, rtol=1e-10, atol=1e-12)
save("contrastive.safetensors", out)
