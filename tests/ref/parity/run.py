"""mcsam against the reference implementations at full size, with random weights: one table of quantity, error, limit and
verdict.

    python tests/ref/parity/run.py build/mcsam [--only WORD] [--work FOLDER]

--only runs the rows whose quantity or case has WORD; --work keeps the models (gigabytes) for the next run. Needs
open_clip_torch, timm, transformers, torch, h5py, and for some rows opencv-python-headless, scikit-learn, segment-anything; a
row whose package is missing says so. Exit code 1 if a row fails. See README.md beside this file."""
import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import parity

options = argparse.ArgumentParser()
options.add_argument("program")
options.add_argument("--only", default="")
options.add_argument("--work", default="")
o = options.parse_args()
for path in sorted(Path(__file__).parent.glob("rows_*.py")):
    try:
        importlib.import_module(path.stem)
    except ImportError as e:
        print(f"{path.name}: not run: {e}")
with tempfile.TemporaryDirectory(prefix="parity_") as temporary:
    results = parity.run_rows(parity.Context(o.program, o.work or temporary), o.only)
parity.print_table(results)
sys.exit(any(r["verdict"].startswith("FAILS") for r in results))
