"""The frame of the table: rows, their limits, and what several rows share.

A row is a function that takes a Context and returns its error, a number:

    @row("embeddings", "BiomedCLIP, open_clip_model.safetensors", limit=2e-6)
    def _(context): return ...

A row that cannot run here raises Missing("why"). Anything else it raises is a failure. `unit` is printed behind error and
limit. A file rows_NAME.py in this folder is found by run.py; rows of several parameters are made in a loop. A function under
@several(quantity, case) yields rows of its own: (case, error or None, limit or None, whether it holds)."""
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ROWS = []


class Missing(Exception):
    """The row cannot run here: a package, a file or a verb is not there."""


def row(quantity, case, limit, unit=""):
    def add(function):
        ROWS.append((quantity, case, limit, unit, function))
        return function
    return add


def several(quantity, case):
    def add(function):
        ROWS.append((quantity, case, None, "", function))
        return function
    return add


class Context:
    """program: build/mcsam; work: a folder for models and outputs, kept between runs if given with --work."""

    def __init__(self, program, work):
        self.program, self.work = Path(program).resolve(), Path(work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.kept = {}

    def once(self, name, make):
        """make(), called at the first use of `name` only."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def folder(self, name, make):
        """work/name, filled by make(folder) unless an earlier run did."""
        final = self.work / name
        if not final.exists():
            part = Path(tempfile.mkdtemp(prefix=name + "_", dir=self.work))
            make(part)
            part.rename(final)
        return final

    def call(self, *words, codes=(0,)):
        """Runs mcsam quietly; returns its standard output."""
        done = subprocess.run([self.program, *map(str, words), "-q"], capture_output=True, text=True)
        if done.returncode not in codes:
            raise RuntimeError(f"mcsam {words[0]}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def measure(self, *words):
        """Runs mcsam quietly; returns its seconds and the largest proportional set size, in bytes."""
        begin, largest = time.monotonic(), 0
        run = subprocess.Popen([self.program, *map(str, words), "-q"], stdout=subprocess.DEVNULL)
        while run.poll() is None:
            try:
                rollup = Path(f"/proc/{run.pid}/smaps_rollup").read_text()
                largest = max(largest, *(1024 * int(line.split()[1]) for line in rollup.splitlines()
                                         if line.startswith("Pss:")))
            except (OSError, TypeError, ValueError):
                pass
            time.sleep(0.005)
        if run.returncode:
            raise RuntimeError(f"mcsam {words[0]}: exit code {run.returncode}")
        return time.monotonic() - begin, largest

    def scratch(self, name):
        """An empty folder work/name."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def datasets(path):
    """{name: array} of an HDF5 file, whatever groups they are in."""
    import h5py
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, o: found.update({name.split("/")[-1]: o[()]}) if isinstance(o, h5py.Dataset) else None)
    return found


def print_table(results, stream=print):
    head = ("quantity", "case", "error", "limit", "verdict", "s")
    lines = [head, tuple("---" for _ in head)]
    lines += [(r["quantity"], r["case"], "" if r["error"] is None else f"{r['error']:.2g}{r['unit']}",
               "" if r["limit"] is None else f"{r['limit']:g}{r['unit']}", r["verdict"], f"{r['seconds']:.0f}") for r in results]
    for line in lines:
        stream("| " + " | ".join(line) + " |")
    stream(f"{sum(r['verdict'] == 'holds' for r in results)} hold, "
           f"{sum(r['verdict'].startswith('FAILS') for r in results)} fail, "
           f"{sum(r['verdict'].startswith('not run') for r in results)} not run")


def run_rows(context, only=""):
    results = []
    for quantity, case, limit, unit, function in ROWS:
        if only.lower() not in f"{quantity} {case}".lower():
            continue
        begin, error = time.monotonic(), None
        try:
            if limit is None:
                for its_case, error, its_limit, holds in function(context):
                    results.append({"quantity": quantity, "case": its_case, "error": error, "limit": its_limit, "unit": "",
                                    "verdict": "holds" if holds else "FAILS", "seconds": time.monotonic() - begin})
                    print(f"{quantity}, {its_case}: {error}, {results[-1]['verdict']}", flush=True)
                continue
            error = float(function(context))
            verdict = "holds" if error <= limit else "FAILS"
        except (Missing, ImportError) as e:
            verdict = f"not run: {e}"
        except Exception as e:  # noqa: BLE001  a row that breaks is a row that fails
            verdict = f"FAILS: {type(e).__name__}: {' '.join(str(e).split())[:300]}"
        results.append({"quantity": quantity, "case": case, "error": error, "limit": limit, "unit": unit,
                        "verdict": verdict, "seconds": time.monotonic() - begin})
        print(f"{quantity}, {case}: {'' if error is None else f'{error:.3g}{unit}, '}{verdict}", flush=True)
    (context.work / "parity.json").write_text(json.dumps(results, indent=1))
    return results
