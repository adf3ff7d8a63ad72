"""Rows of the scripts beside this folder, each of which compares one part and prints a line per quantity: text, errors, limit,
verdict (ok, right, FAILED, WRONG)."""
import subprocess
import sys

from parity import ROOT, Missing, several

SCRIPTS = (
    ("OpenAI's CLIP", "openai_clip_folder.py", ("ViT-B-32", "ViT-B-16", "ViT-L-14")),
    ("trained BERT", "real_bert.py", ()),
    ("SAM", "sam_full.py", ()),
    ("convert", "convert_models.py", ("--full",)),
)


def number(word):
    try:
        return float(word)
    except ValueError:
        return None


def parsed(line):
    """(case, error, limit, holds) of a line that ends in a verdict, else None."""
    words = line.split()
    if not words or words[-1] not in ("ok", "right", "FAILED", "WRONG"):
        return None
    least = 0 if "limit" in words else len(words) - 3  # without the word: one error and its limit
    values, at = [], len(words) - 1
    while at > least and (number(words[at - 1]) is not None or words[at - 1] in ("image", "text", "limit")):
        at -= 1
        if number(words[at]) is not None:
            values.insert(0, number(words[at]))
    return (" ".join(words[:at]), max(values[:-1]) if len(values) > 1 else None, values[-1] if values else None,
            words[-1] in ("ok", "right"))


for quantity, script, options in SCRIPTS:
    @several(quantity, script)
    def _(context, script=script, options=options):
        path = ROOT / "tests/ref" / script
        if not path.exists():
            raise Missing(f"tests/ref/{script}")
        run = subprocess.Popen([sys.executable, path, context.program, *options], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
        last = ""
        for line in run.stdout:
            found = parsed(line)
            last = line.strip() or last
            if found:
                yield found
        if run.wait() and "ModuleNotFoundError" in last:
            raise Missing(last)
        if run.returncode and not parsed(last):
            raise RuntimeError(last)
