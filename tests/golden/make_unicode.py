"""data/text/unicode_tables.c and data/text/unicode_entities.c: what the reference tokenizer knows of Unicode, asked of it code
point by code point (its category tables are older than any current Unicode library's), and HTML's named characters from
Python.

    python tests/golden/make_unicode.py        writes both files; takes a minute, needs tokenizers
"""
import html.entities
import sys
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

DATA = Path(__file__).resolve().parents[2] / "data"
OFF = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
ask = {k: normalizers.BertNormalizer(**{**OFF, k: True}).normalize_str for k in OFF}
nfd = normalizers.NFD().normalize_str
split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xAC00 + 11172)  # decomposed by arithmetic
kind, lower, parts = {}, {}, {}

for p in POINTS:
    c = chr(p)
    cleaned = ask["clean_text"]("a" + c + "b")
    if cleaned == "ab":
        kind[p] = "DELETE"
    elif cleaned == "a b":
        kind[p] = "SPACE"
    else:
        assert cleaned == "a" + c + "b", hex(p)
        if ask["handle_chinese_chars"](c) != c:
            kind[p] = "IDEOGRAPH"
            assert ask["handle_chinese_chars"](c) == f" {c} "
    d = nfd(c)
    if d != c:
        if p not in HANGUL:
            parts[p] = [ord(x) for x in d]
    elif ask["strip_accents"](c) == "":
        assert p not in kind
        kind[p] = "MARK"
    if p not in kind and d == c:
        words = len(split("a" + c + "b"))
        assert words in (1, 3), hex(p)
        if words == 3:
            kind[p] = "PUNCTUATION"
    low = ask["lowercase"](c)
    if low != c and p != 0x130:  # U+0130 is decomposed before it is lower-cased
        assert len(low) == 1, hex(p)
        lower[p] = ord(low)

# Canonical combining classes, by which pairs the reference's NFD swaps. U+0345 alone has the highest class, 240.
TOP = chr(0x345)
swapped = [p for p in POINTS if nfd(chr(p)) == chr(p) and nfd(TOP + chr(p)) != TOP + chr(p)]
classes = {}
for p in swapped:
    classes.setdefault(unicodedata.combining(chr(p)), chr(p))
assert 0 not in classes
order = {0x345: 240}
for p in swapped:
    c = chr(p)
    same = [k for k, r in classes.items() if nfd(c + r) == c + r and nfd(r + c) == r + c]
    assert len(same) == 1, hex(p)
    order[p] = same[0]


def ranges(values):
    out = []
    for p in sorted(values):
        if out and out[-1][1] == p - 1 and out[-1][2] == values[p]:
            out[-1][1] = p
        else:
            out.append([p, p, values[p]])
    return out


def steps(values):
    """Runs (first, last, delta, stride) with one delta and a stride of 1 or 2 between the members."""
    out = []
    for p in sorted(values):
        delta = values[p] - p
        if out and out[-1][2] == delta and (p - out[-1][1] == out[-1][3] or
                                            (out[-1][0] == out[-1][1] and p - out[-1][1] <= 2)):
            out[-1][3] = p - out[-1][1]
            out[-1][1] = p
        else:
            out.append([p, p, delta, 1])
    return out


def table(f, kind_of, name, rows):
    print(f"const {kind_of} mcs_unicode_{name}[] = {{", file=f)
    line = ""
    for r in rows:
        if len(line) + len(r) + 6 > 118:
            print("   " + line, file=f)
            line = ""
        line += " " + r + ","
    print("   " + line, file=f)
    print(f"}};\nconst int mcs_unicode_n_{name} = {len(rows)};\n", file=f)


with open(DATA / "unicode_tables.c", "w") as f:
    print(f"/* Made by tests/golden/make_unicode.py from tokenizers {tokenizers.__version__}; "
          'not to be edited by hand. */\n#include "data/text/unicode.h"\n\n// clang-format off', file=f)
    table(f, "struct unicode_range", "kinds", [f"{{0x{a:X}, 0x{b:X}, MCS_CODE_{k}}}" for a, b, k in ranges(kind)])
    table(f, "struct unicode_range", "orders", [f"{{0x{a:X}, 0x{b:X}, {k}}}" for a, b, k in ranges(order)])
    table(f, "struct unicode_step", "lowers", [f"{{0x{a:X}, 0x{b:X}, {d}, {s}}}" for a, b, d, s in steps(lower)])
    table(f, "struct unicode_parts", "parts",
          [f"{{0x{p:X}, {{{', '.join(f'0x{x:X}' for x in d)}}}}}" for p, d in sorted(parts.items())])

names = sorted((n.encode(), v) for n, v in html.entities.html5.items())
wide = [unicodedata.normalize("NFKC", chr(p)) for p in range(0xFF01, 0xFFF0)]
assert [0xFF01 + i for i, w in enumerate(wide) if len(w) != 1] == [0xFFE3]  # it becomes two
with open(DATA / "unicode_entities.c", "w") as f:
    print("/* Made by tests/golden/make_unicode.py from Python " + sys.version.split()[0] + " (html.entities.html5, Unicode "
          + unicodedata.unidata_version + "'s\n * NFKC of the half-width and full-width forms); "
          'not to be edited by hand. */\n'
          '#include "data/text/unicode.h"\n\n// clang-format off', file=f)
    table(f, "struct unicode_entity", "entities",
          ['{"%s", {%s}}' % (n.decode(), ", ".join(f"0x{ord(x):X}" for x in v)) for n, v in names])
    table(f, "uint16_t", "widths", [f"0x{ord(w[0]):X}" for w in wide])
print(len(ranges(kind)), len(ranges(order)), len(steps(lower)), len(parts), len(names))
