"""Weights and inputs of the golden files, from a formula: files hold results only. formula.h has the same bits."""
import math
import os

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))


def fnv1a(name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def uniform(name, shape):
    """u in [-1, 1) for every element, row-major: splitmix64's finaliser of hash(name) + (i + 1) * golden ratio."""
    n = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0).reshape(shape)


def weight(name, shape):
    """The value of a parameter, by its reference name and shape; rounded to float32."""
    shape = tuple(shape)
    if name == "logit_scale":
        return np.full(shape, 2.6593, np.float32)
    u = uniform(name, shape)
    if len(shape) <= 1:
        u = 1.0 + 0.1 * u if name.endswith(".weight") and len(shape) == 1 else 0.1 * u
    else:
        u = u * math.sqrt(3.0 / math.prod(shape[1:]))
    return u.astype(np.float32)


def given(name, *shape):
    """An input: u itself, as a float64 tensor of float32 values."""
    return torch.from_numpy(uniform(name, shape).astype(np.float32)).double()


def pixels(name, *shape):
    """An 8-bit input: floor(128 (u + 1))."""
    return (128 * (uniform(name, shape) + 1)).astype(np.uint8)


def fill(module, prefix="", buffers=()):
    """Give every parameter (and the named buffers) its formula value; the module is float64 from here on, so that the
    golden numbers are the reference's mathematics and not its rounding."""
    module.double()
    with torch.no_grad():
        for name, p in list(module.named_parameters()) + [b for b in module.named_buffers() if b[0] in buffers]:
            p.copy_(torch.from_numpy(weight(prefix + name, p.shape)))
    return module


def gradients(module, prefix=""):
    """grad.<name> of every parameter; zeros where the loss does not reach it."""
    return {f"grad.{prefix}{n}": p.grad if p.grad is not None else torch.zeros_like(p)
            for n, p in module.named_parameters()}


def save(file, tensors):
    """Write float32 / int32 / uint8 tensors, sorted by name; scalars get the shape [1]."""
    out = {}
    for name in sorted(tensors):
        a = tensors[name]
        a = a.detach().numpy() if isinstance(a, torch.Tensor) else np.asarray(a)
        if a.dtype != np.uint8:
            a = a.astype(np.float32 if a.dtype.kind == "f" else np.int32)
        out[name] = np.ascontiguousarray(a.reshape(1) if a.ndim == 0 else a)
    path = os.path.join(HERE, file)
    save_file(out, path)
    os.chmod(path, 0o644)
    print(f"{file}: {len(out)} tensors, {os.path.getsize(path)} bytes")
