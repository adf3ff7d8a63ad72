"""data/text/unicode_tables.c and data/text/unicode_entities.c: the reference tokenizer's kinds of code points, asked of it code
point by code point (its category tables are older than any current Unicode library's); the code points whose decomposition,
combining class or lower case differs from libutf8proc's; and HTML's named characters from Python.

The reference decomposes by Unicode 9 and lower-cases by Unicode 17, while Debian 12's libutf8proc 2.8 has Unicode 15. So that a
later libutf8proc gives the same results (checked: 2.11.3, Unicode 17), the combining classes and decompositions that
unicodedata2 (Unicode 18) adds are exceptions too. tests/data/test_unicode.c compares the results for every code point with a hash.

    python tests/golden/make_unicode.py        writes both files; takes a minute, needs tokenizers, unicodedata2, libutf8proc
"""
import ctypes
import html.entities
import sys
import unicodedata
from pathlib import Path

import tokenizers
import unicodedata2
from tokenizers import normalizers, pre_tokenizers

DATA = Path(__file__).resolve().parents[2] / "data/text"
OFF = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
ask = {k: normalizers.BertNormalizer(**{**OFF, k: True}).normalize_str for k in OFF}
nfd = normalizers.NFD().normalize_str
split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
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


class Property(ctypes.Structure):
    """The start of utf8proc_property_t."""
    _fields_ = [("category", ctypes.c_int16), ("combining_class", ctypes.c_int16)]


utf8proc = ctypes.CDLL("libutf8proc.so.2")
utf8proc.utf8proc_get_property.restype = ctypes.POINTER(Property)
utf8proc.utf8proc_version.restype = ctypes.c_char_p
UTF8PROC_DECOMPOSE = 1 << 4


def utf8proc_parts(p):
    dst, boundary = (ctypes.c_int32 * 32)(), ctypes.c_int(0)
    n = utf8proc.utf8proc_decompose_char(p, dst, 32, UTF8PROC_DECOMPOSE, ctypes.byref(boundary))
    return list(dst[:n])


def newer_parts(p):
    d = unicodedata2.decomposition(chr(p))
    return d and not d.startswith("<")


# Where the reference differs from utf8proc, or may differ from a later one.
other_order = [p for p in POINTS if order.get(p, 0) != utf8proc.utf8proc_get_property(p).contents.combining_class
               or (p not in order and unicodedata2.combining(chr(p)))]
other_parts = [p for p in POINTS if parts.get(p, [p]) != utf8proc_parts(p) or (p not in parts and newer_parts(p))]
assert not any(p in order for p in other_order) and not any(p in parts for p in other_parts)
other_lower = {p: lower.get(p, p) - p for p in POINTS if lower.get(p, p) != utf8proc.utf8proc_tolower(p)}


def gaps(points, known):
    """Ranges over all of `points` that hold none of `known`."""
    out = []
    for p in points:
        if out and not any(q in known for q in range(out[-1][1], p)):
            out[-1][1] = p
        else:
            out.append([p, p])
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
    print(f"/* Made by tests/golden/make_unicode.py from tokenizers {tokenizers.__version__} and utf8proc "
          f"{utf8proc.utf8proc_version().decode()}; "
          'not to be edited by hand. */\n#include "data/text/unicode.h"\n\n// clang-format off', file=f)
    table(f, "struct unicode_range", "kinds", [f"{{0x{a:X}, 0x{b:X}, MCS_CODE_{k}}}" for a, b, k in ranges(kind)])
    for name, rows in ("classes", gaps(other_order, order)), ("undecomposed", gaps(other_parts, parts)):
        table(f, "struct unicode_range", name, [f"{{0x{a:X}, 0x{b:X}, 0}}" for a, b in rows])
    table(f, "struct unicode_range", "lowers", [f"{{0x{a:X}, 0x{b:X}, {d}}}" for a, b, d in ranges(other_lower)])

names = sorted((n.encode(), v) for n, v in html.entities.html5.items())
with open(DATA / "unicode_entities.c", "w") as f:
    print("/* Made by tests/golden/make_unicode.py from Python " + sys.version.split()[0] + " (html.entities.html5); "
          'not to be edited by hand. */\n'
          '#include "data/text/unicode.h"\n\n// clang-format off', file=f)
    table(f, "struct unicode_entity", "entities",
          ['{"%s", {%s}}' % (n.decode(), ", ".join(f"0x{ord(x):X}" for x in v)) for n, v in names])
print(len(ranges(kind)), len(other_order), len(other_parts), len(other_lower), len(names))
