"""optim.safetensors: AdamW, SGD with Nesterov momentum and gradient clipping, step by step."""
import torch

from formula import given, save, weight

SHAPES = {"layer.weight": (5, 7), "layer.bias": (7,)}
out = {}


def gradient(t, name, shape):
    g = 0.02 * given(f"input.grad.{t}.{name}", *shape)
    g.view(-1)[0] = 0.0   # never a gradient
    g.view(-1)[1] *= 1e-4  # about epsilon's size
    return g.float().double()


def train(tag, make, state):
    params = {n: torch.nn.Parameter(torch.from_numpy(weight(n, s)).double()) for n, s in SHAPES.items()}
    opt = make(params)
    for t in range(3):
        for n, p in params.items():
            p.grad = gradient(t, n, p.shape)
            out[f"grad.{t}.{n}"] = p.grad.clone()
        opt.step()
        for n, p in params.items():
            out[f"{tag}.{t + 1}.{n}"] = p.detach().clone()
            out.update({f"{tag}.{t + 1}.{k}.{n}": opt.state[p][k].clone() for k in state})


train("adamw", lambda p: torch.optim.AdamW([{"params": [p["layer.weight"]], "weight_decay": 0.2},
                                            {"params": [p["layer.bias"]], "weight_decay": 0.0}],
                                           lr=0.01, betas=(0.9, 0.98), eps=1e-6), ("exp_avg", "exp_avg_sq"))
train("adam", lambda p: torch.optim.Adam(p.values(), lr=1.0), ("exp_avg", "exp_avg_sq"))
train("sgd", lambda p: torch.optim.SGD(p.values(), lr=0.01, momentum=0.99, nesterov=True, weight_decay=3e-5),
      ("momentum_buffer",))

for tag, factor in (("over", 10.0), ("under", 1.0)):
    params = {n: torch.nn.Parameter(torch.zeros(s, dtype=torch.float64)) for n, s in SHAPES.items()}
    for n, p in params.items():
        p.grad = factor * given(f"input.clip.{n}", *p.shape)
    out[f"clip.{tag}.norm"] = torch.nn.utils.clip_grad_norm_(params.values(), 12)
    out |= {f"clip.{tag}.{n}": p.grad for n, p in params.items()}
save("optim.safetensors", out)
