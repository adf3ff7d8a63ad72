"""data/text/bpe_tables.c: what Python's str.lower and the regex module say about code points, for OpenAI's tokenizer
(open_clip's SimpleTokenizer): letters, numbers and white space; the properties that decide about a final sigma. Lower case
is libutf8proc's but for U+0130, which is checked here.

    python tests/golden/make_bpe_tables.py       needs regex, libutf8proc"""
import ctypes
import sys
from pathlib import Path

import regex

OUT = Path(__file__).resolve().parents[2] / "data/text/bpe_tables.c"
utf8proc = ctypes.CDLL("libutf8proc.so.2")
kinds = []
letter, number, other = (regex.compile(p, regex.IGNORECASE) for p in (r"[\p{L}]+", r"[\p{N}]", r"[^\s\p{L}\p{N}]+"))


def add(table, c, value):
    if table and table[-1][1] == c - 1 and table[-1][2] == value:
        table[-1][1] = c
    elif value:
        table.append([c, c, value])


for c in range(1, 0x110000):
    if 0xD800 <= c < 0xE000:
        continue
    x = chr(c)
    cased = (x + "\u03a3").lower().endswith("\u03c2")
    ignorable = not cased and ("A" + x + "\u03a3").lower().endswith("\u03c2")
    # The pattern as the reference compiles it: without case, U+0345 is in no alternative, and is left out like white space.
    found = [bool(p.match(x)) for p in (letter, number, other)]
    assert sum(found) <= 1, hex(c)
    add(kinds, c, found[0] + 2 * found[1] + 4 * (not any(found)) + 8 * cased + 16 * ignorable)
    if not any(found) and not x.isspace():
        print("in no alternative:", hex(c))
    low = x.lower()
    assert len(low) == 1 or c == 0x130, hex(c)
    assert c == 0x130 or ord(low) == utf8proc.utf8proc_tolower(c), hex(c)


def table(f, name, rows):
    print(f"const struct unicode_range mcs_bpe_{name}[] = {{", file=f)
    line = ""
    for a, b, v in rows:
        cell = f"{{0x{a:X}, 0x{b:X}, {v}}}"
        if len(line) + len(cell) + 6 > 118:
            print("   " + line, file=f)
            line = ""
        line += " " + cell + ","
    print("   " + line, file=f)
    print(f"}};\nconst int mcs_bpe_n_{name} = {len(rows)};\n", file=f)


with open(OUT, "w") as f:
    print(f"/* Made by tests/golden/make_bpe_tables.py from regex {regex.__version__} and Python {sys.version.split()[0]}; "
          'not to be edited by hand. */\n#include "data/text/bpe.h"\n\n// clang-format off', file=f)
    table(f, "kinds", kinds)
print(len(kinds))
