"""weights/*: files of weights as PyTorch writes them: types, strides, shared storages, wrappers, both forms of the file."""
import collections
import io
import os
import sys
import zipfile

import numpy
import torch

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights")
os.makedirs(here, exist_ok=True)

# -5 ... 6 as (3, 4): every test value follows from it
base = torch.arange(12).reshape(3, 4) - 5


def tensors():
    x = base * 0.5
    wide = torch.arange(24.0).reshape(4, 6)
    return collections.OrderedDict([
        ("f32", x), ("f16", x.half()), ("bf16", x.bfloat16()), ("f64", x.double() / 3),
        ("i64", base * 10**10), ("i32", base.int()), ("i16", base.short()), ("i8", base.to(torch.int8)),
        ("u8", (base + 250).to(torch.uint8)), ("bool", base > 0),
        ("scalar", torch.tensor(2.5)), ("empty", torch.zeros(0, 4)), ("parameter", torch.nn.Parameter(x + 1)),
        ("transposed", wide.t()), ("slice", wide[1:, 1::2]), ("expanded", torch.tensor([1.0, 2.0]).reshape(2, 1).expand(2, 3)),
        ("shared.a", wide), ("shared.b", wide), ("permuted_half", torch.arange(24).reshape(2, 3, 4).half().permute(2, 0, 1)),
    ])


def save(name, what, **more):
    torch.save(what, os.path.join(here, name), **more)


save("types.pt", tensors())
save("types_legacy.pt", tensors(), _use_new_zipfile_serialization=False)

# A training checkpoint of open_clip's form: wrapped, DistributedDataParallel's prefix, the optimizer's state beside it.
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
for i, p in enumerate(net.parameters()):
    p.data = (torch.arange(p.numel()).reshape(p.shape) + 100.0 * i) / 8
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
net(torch.ones(4, 3)).sum().backward()
before = {"module." + k: v.clone() for k, v in net.state_dict().items()}
optimizer.step()
state = net.state_dict()
for k in list(state):
    state["module." + k] = before["module." + k]
    del state[k]
save("epoch_2.pt", {"epoch": 2, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()})

# nnU-Net's checkpoint_final.pth, with its kinds of values beside the weights.
weights = {f"encoder.stages.{i}.weight": torch.full((2, 2), float(i)) for i in range(70)}  # more than 256 memo slots
nnunet = {
    "network_weights": weights, "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2, 2)}},
                                                    "param_groups": [{"lr": 0.01, "params": [0], "nesterov": True}]},
    "grad_scaler_state": None, "logging": {"mean_fg_dice": [numpy.float64(0.25), numpy.float32(0.5)], "lrs": [0.01, 0.009]},
    "_best_ema": numpy.float64(0.75), "current_epoch": 1000, "trainer_name": "nnUNetTrainer",
    "init_args": {"plans": {"patch_size": [40, 56]}, "configuration": "3d_fullres", "fold": numpy.int64(-3),
                  "device": torch.device("cuda", 0), "big": 2**40}, "inference_allowed_mirroring_axes": (0, 1),
}
save("nnunet.pth", nnunet)
save("nnunet_legacy.pth", nnunet, _use_new_zipfile_serialization=False)


class Script(torch.nn.Module):
    """A module in modules, as OpenAI publishes CLIP: traced, a buffer, float16; a list and a text beside the tensors."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.5))
        self.visual = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Conv2d(1, 1, 1)).half()
        self.register_buffer("size", torch.tensor(7))
        self.sizes: list[int] = [3, 4]
        self.name: str = "script"
        for p in self.visual.parameters():
            p.data = torch.arange(p.numel()).reshape(p.shape).half() / 4 + 1

    def forward(self, x):
        return self.scale * x * self.size * self.sizes[0]


script = io.BytesIO()
torch.jit.save(torch.jit.script(Script()), script)
with zipfile.ZipFile(script) as old, zipfile.ZipFile(os.path.join(here, "script.pt"), "w") as new:
    for entry in old.infolist():
        if not entry.filename.endswith(".debug_pkl"):  # places in source files
            kept = zipfile.ZipInfo("script" + entry.filename[entry.filename.index("/"):])
            kept.compress_type = entry.compress_type
            new.writestr(kept, old.read(entry))


def check(path):
    """Reads a file that mcsam wrote, as mistrustfully as PyTorch can."""
    for name, value in torch.load(path, weights_only=True).items():
        print(name, value if isinstance(value, dict) else (value.dtype, tuple(value.shape), value.flatten()[:4].tolist()))


for path in sys.argv[1:]:
    check(path)
