#!/usr/bin/env python3
"""The shapes of a result of `bench ops` by PyTorch, eager and compiled, on the same GPU.

    torch_ops.py OPS_FP32.csv OPS_BF16.csv OUT.csv SECONDS

Appends rows of OUT.csv as tests/gpu/run.sh collects them: precision,model,op,what,... Times by CUDA events, caches
overwritten between two runs, TF32 off. What SECONDS does not suffice for is counted and said. Run by ./run gpu."""
import csv
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.deterministic = True
torch.backends.cudnn.benchmark = False
FLUSH = torch.empty(256 << 20, dtype=torch.int8, device="cuda")


def noise(*shape, dtype):
    return (torch.randn(*shape, device="cuda", dtype=torch.float32) / 2).to(dtype).requires_grad_()


def case(op, shape, dtype):
    """The function, its arguments, and which of them get a gradient in which pass."""
    n = [int(v) for v in re.findall(r"\d+", shape.replace("bf16", ""))]
    if op == "linear":
        x, w, b = noise(n[0], n[2], dtype=dtype), noise(n[1], n[2], dtype=dtype), noise(n[1], dtype=dtype)
        return F.linear, (x, w, b), {"gradient of x": [x], "gradient of w, b": [w, b]}
    if op == "conv":
        d, h, w_, c, o, k, s = n
        pad, three = (0 if k == s else k // 2), d > 1
        layout = torch.channels_last_3d if three else torch.channels_last
        size, kernel = ([d, h, w_], [k] * 3) if three else ([h, w_], [k] * 2)
        x = noise(1, c, *size, dtype=dtype).detach().to(memory_format=layout).requires_grad_()
        w = noise(o, c, *kernel, dtype=dtype).detach().to(memory_format=layout).requires_grad_()
        b = noise(o, dtype=dtype)
        conv = F.conv3d if three else F.conv2d
        return (lambda x, w, b: conv(x, w, b, s, pad)), (x, w, b), {"gradient of x": [x], "gradient of w, b": [w, b]}
    if op == "attention":
        seqs, nq, nk, heads, hd = n[:5]
        q, k, v = (noise(seqs, heads, m, hd, dtype=dtype) for m in (nq, nk, nk))
        if "relative" not in shape:
            return F.scaled_dot_product_attention, (q, k, v), {"backward": [q, k, v]}
        g = int(nq**0.5)
        rh, rw = noise(2 * g - 1, hd, dtype=dtype), noise(2 * g - 1, hd, dtype=dtype)
        at = torch.arange(g, device="cuda")[:, None] - torch.arange(g, device="cuda")[None] + g - 1

        def relative(q, k, v, rh, rw):  # SAM's decomposed positions, as its own code adds them
            r = q.reshape(seqs, heads, g, g, hd)
            h = torch.einsum("bnhwc,hkc->bnhwk", r, rh[at])
            w = torch.einsum("bnhwc,wkc->bnhwk", r, rw[at])
            bias = (h[..., :, None] + w[..., None, :]).reshape(seqs, heads, nq, nk)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

        return relative, (q, k, v, rh, rw), {"backward": [q, k, v, rh, rw]}
    m, c = n[:2]
    x = noise(m, c, dtype=dtype)
    w, b = noise(c, dtype=dtype), noise(c, dtype=dtype)
    if op == "layernorm":
        return (lambda x, w, b: F.layer_norm(x, (c,), w, b, 1e-5)), (x, w, b), {"backward": [x, w, b]}
    if op == "gelu":
        return F.gelu, (x,), {"backward": [x]}
    if op == "add":
        y = noise(m, c, dtype=dtype)
        return torch.add, (x, y), {"backward": [x, y]}
    if op == "instance_norm":
        x = noise(1, c, m, 1, dtype=dtype).detach().to(memory_format=torch.channels_last).requires_grad_()

        def norm(x, w, b):
            return F.leaky_relu(F.instance_norm(x, weight=w, bias=b, eps=1e-5), 0.01)

        return norm, (x, w, b), {"backward": [x, w, b]}
    raise ValueError(op)


def timed(f, seconds=0.05):
    def runs(n):
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(n)]
        for i, (start, end) in enumerate(events):
            FLUSH.fill_(i % 100)
            start.record()
            f()
            end.record()
        torch.cuda.synchronize()
        return sorted(1e-3 * a.elapsed_time(b) for a, b in events)

    f()
    guess = statistics.median(runs(3))
    return runs(max(3, min(100, int(seconds / guess))))


def main():
    out, end, left, failed, done = open(sys.argv[3], "w"), time.time() + float(sys.argv[4]), 0, 0, 0
    rows = []
    for path, precision in zip(sys.argv[1:3], ("fp32", "bf16")):
        with open(path) as f:
            rows += [(precision, r) for r in csv.DictReader(f) if ", by " not in r["what"]]
    pointwise = ("layernorm", "gelu", "add", "instance_norm", "attention")
    plan = [("eager", p, r) for p, r in rows]
    plan += [("compiled", p, r) for p, r in rows if r["op"] in pointwise] + [
        ("compiled", p, r) for p, r in rows if r["op"] not in pointwise]
    for form, precision, r in plan:
        if time.time() > end:
            left += 1
            continue
        try:
            f, args, gradients = case(r["op"], r["shape"], torch.bfloat16 if precision == "bf16" else torch.float32)
            if form == "compiled":
                torch._dynamo.reset()
                f = torch.compile(f, dynamic=False)
            if r["pass"] == "forward":
                with torch.no_grad():
                    t = timed(lambda: f(*args))
            else:
                y = f(*args)
                dy, want = torch.randn_like(y), gradients[r["pass"]]
                t = timed(lambda: torch.autograd.grad(y, want, dy, retain_graph=True))
        except Exception as e:  # one shape that it cannot do is no reason to lose the others
            print(f"{r['op']} {r['shape']} {r['pass']} {form}: {type(e).__name__}: {str(e).splitlines()[0][:100]}")
            failed += 1
            continue
        n, median = len(t), statistics.median(t)
        rate = [float(r[k] or 0) * float(r["median_s"]) / median for k in ("gflops", "gbytes_s", "percent_of_best")]
        name = f"{r['what']}, by PyTorch {form}"
        out.write(f"{precision},{r['model']},{r['op']},\"{name}\",\"{r['pass']}\",\"{r['shape']}\",,,{median:.6g},"
                  f"{t[n // 10]:.6g},{t[n - 1 - n // 10]:.6g},{n},{rate[0]:.6g},{rate[1]:.6g},{rate[2]:.4g}\n")
        print(f"{r['model']:18} {name:44} {r['pass']:18} {r['shape']:36} {1e3 * median:9.3f} ms, "
              f"{median / float(r['median_s']):5.2f} x mcsam's")
        done += 1
    print(f"PyTorch {torch.__version__}: {left} rows left out: no time")
    print(f"{done} passed, {failed} failed")


main()
