"""BiomedCLIP's embeddings from each kind of file, tokens, times and memory."""
import json
import statistics
import subprocess
import sys

import biomedclip
import numpy as np
import torch
from parity import ROOT, Missing, datasets, row


def sharded(folder, state):
    from safetensors.torch import save_file
    names = sorted(state)
    parts, where = [names[::2], names[1::2]], {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        save_file({k: state[k] for k in part}, folder / file)
        where |= {k: file for k in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def epoch(folder, state):
    torch.save({"epoch": 3, "name": "run", "state_dict": {f"module.{k}": v for k, v in state.items()},
                "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}, folder / "open_clip_pytorch_model.bin")


def halves(folder, state):
    from safetensors.torch import save_file
    save_file({k: v.half() for k, v in state.items()}, folder / "open_clip_model.safetensors")


FILES = {
    "open_clip_model.safetensors": None,
    "open_clip_pytorch_model.bin": lambda f, s: torch.save(s, f / "open_clip_pytorch_model.bin"),
    "open_clip_pytorch_model.bin, legacy": lambda f, s: torch.save(s, f / "open_clip_pytorch_model.bin",
                                                                   _use_new_zipfile_serialization=False),
    "epoch_N.pt of open_clip_train": epoch,
    "sharded safetensors": sharded,
    "float16 safetensors": halves,
}


def folder_of(context, kind):
    if not FILES[kind]:
        return biomedclip.folder(context)
    return biomedclip.copy_as(context, "biomedclip_" + "".join(c if c.isalnum() else "_" for c in kind), FILES[kind])


def embedded(context, kind):
    def compute():
        out = context.scratch("embedded") / "e.h5"
        context.call("embed", "-m", folder_of(context, kind), "-i", biomedclip.images(context), "--texts",
                     biomedclip.texts_file(context), "-o", out)
        return datasets(out)
    return context.once(f"embedded {kind}", compute)


for kind in FILES:
    # float16 weights round each by 2^-11: the limit is of another kind than that of equal weights
    limit = 2e-2 if "float16" in kind else 2e-6
    for what, index in (("image_embeddings", 0), ("text_embeddings", 1)):
        @row(what.replace("_", " "), f"BiomedCLIP, {kind}", limit)
        def _(context, kind=kind, what=what, index=index):
            return np.abs(embedded(context, kind)[what] - biomedclip.wanted(context)[index]).max()


@row("checksum of an embedding", "embed --checksum, five texts", 1e-4)
def _(context):
    out = context.scratch("checksums") / "e.h5"
    printed = context.call("embed", "-m", biomedclip.folder(context), "--texts", biomedclip.texts_file(context), "-o", out,
                           "--checksum").splitlines()[-len(biomedclip.TEXTS):]
    want = biomedclip.wanted(context)[1].astype(np.float64)
    want = want[:, ::2].sum(1) - want[:, 1::2].sum(1)
    return max(abs(float(line.split()[0]) - w) for line, w in zip(printed, want))


for vocabulary in ("", "bpe"):
    @row("token ids", f"100,000 lines, {'BPE' if vocabulary else 'WordPiece'}", 0, " lines")
    def _(context, vocabulary=vocabulary):
        tool = context.program.parent / "print_tokens"
        if not tool.exists():
            raise Missing("ninja -C build print_tokens")
        more = []
        if vocabulary:
            import open_clip
            more = [str(next(iter(__import__("pathlib").Path(open_clip.__file__).parent.glob("bpe_simple_vocab*"))))]
        done = subprocess.run([sys.executable, ROOT / "tests/ref/tokens/compare.py", tool, "100000", "1", *more],
                              capture_output=True, text=True)
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]
        if "differ" not in last:
            raise RuntimeError(last)
        return int(last.split(": ")[-1].split()[0])


def timed(context, kind):
    """Median seconds of embed of one image, and the largest PSS; the kinds take turns so that load meets both alike."""
    def compute():
        one = context.folder("one_picture", lambda where: (where / "0.png").write_bytes(
            (biomedclip.images(context) / "0.png").read_bytes()))
        kinds = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        runs = {k: [] for k in kinds}
        for k in kinds * 8:
            out = context.scratch("timed") / "e.h5"
            runs[k].append(context.measure("embed", "-m", folder_of(context, k), "-i", one, "-o", out))
        return {k: (statistics.median(t for t, _ in v[1:]), max(p for _, p in v)) for k, v in runs.items()}
    return context.once("timed", compute)[kind]


@row("embed of one image", "seconds from .bin by seconds from .safetensors", 1.1, " x")
def _(context):
    return timed(context, "open_clip_pytorch_model.bin")[0] / timed(context, "open_clip_model.safetensors")[0]


for kind in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
    @row("weights held once", f"largest PSS by bytes of the weights, embed, {kind}", 1.5, " x")
    def _(context, kind=kind):
        return timed(context, kind)[1] / biomedclip.WEIGHTS
