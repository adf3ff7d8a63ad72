"""data/text/mojibake_tables.c: the character classes, rules and single-byte encodings by which ftfy recognises and
repairs text that was decoded with the wrong encoding, extracted from the installed ftfy; and what Python's re and str
say about code points where ftfy or open_clip asks them.

    python tests/golden/make_mojibake.py       writes the file; needs ftfy 6.3, Python 3.11
"""
import html
import html.entities
import re
import sys
from pathlib import Path

import ftfy
from ftfy import badness, chardata

OUT = Path(__file__).resolve().parents[2] / "data/text/mojibake_tables.c"
parser, const = re._parser, re._constants
sets = []  # each: the set of its code points
LAST, ALL = 0x110000, (1 << 64) - 1


def members(op, arg):
    """The code points that one element of a regular expression matches."""
    if op is const.LITERAL:
        return frozenset([arg])
    if op is const.ANY:
        return frozenset(range(LAST)) - {10}
    if op is const.IN:
        found, negate = set(), False
        for o, a in arg:
            if o is const.NEGATE:
                negate = True
            elif o is const.LITERAL:
                found.add(a)
            elif o is const.RANGE:
                found.update(range(a[0], a[1] + 1))
            elif o is const.CATEGORY:
                shape = {const.CATEGORY_SPACE: r"\s", const.CATEGORY_WORD: r"\w"}[a]
                one = re.compile(shape)
                found.update(c for c in range(LAST) if one.match(chr(c)))
            else:
                raise ValueError(o)
        return frozenset(range(LAST)) - found if negate else frozenset(found)
    raise ValueError(op)


def index(s):
    if s not in sets:
        sets.append(s)
    return sets.index(s)


def expand(items):
    """All sequences of elements that a sequence with optional elements and branches stands for."""
    out = [[]]
    for op, arg in items:
        if op is const.MAX_REPEAT:
            low, high, body = arg
            body = [s for n in range(low, high + 1) for s in expand(list(body) * n)]
            out = [a + b for a in out for b in body]
        elif op is const.BRANCH:
            out = [a + b for a in out for branch in arg[1] for b in expand(branch)]
        elif op is const.SUBPATTERN:
            out = [a + b for a in out for b in expand(arg[3])]
        elif op is const.AT:
            assert arg is const.AT_BEGINNING
            out = [a + ["^"] for a in out]
        else:
            out = [a + [members(op, arg)] for a in out]
    return out


rules = []
for sequence in expand(parser.parse(badness.BADNESS_RE.pattern, re.VERBOSE)):
    start = sequence[0] == "^"
    row = (start, [index(s) for s in sequence[start:]])
    if row not in rules:
        rules.append(row)
assert all(1 <= len(r[1]) <= 7 for r in rules)

clues = {}
for name in "utf8_first_of_2", "utf8_first_of_3", "utf8_first_of_4", "utf8_continuation", "utf8_continuation_strict":
    one = re.compile("[" + chardata.UTF8_CLUES[name] + "]")
    clues[name] = index(frozenset(c for c in range(LAST) if one.match(chr(c))))
assert len(sets) <= 128, len(sets)

mask = [0] * LAST
for k, s in enumerate(sets):
    for c in s:
        mask[c] |= 1 << k
ranges = []
for c in range(LAST):
    if ranges and ranges[-1][2] == mask[c]:
        ranges[-1][1] = c
    else:
        ranges.append([c, c, mask[c]])


def encoded(name):
    """Code points of bytes 0x80 .. 0xFF."""
    return [ord(c) for c in bytes(range(0x80, 0x100)).decode(name)]


upper = {}
for name, char in html.entities.html5.items():
    if name.endswith(";") and name == name.lower() and html.unescape("&" + name.upper()) == "&" + name.upper():
        upper[name.upper()] = char.upper()
assert all(chardata.HTML_ENTITIES["&" + n] == c for n, c in upper.items()) and max(map(len, upper.values())) <= 3


def rows(f, items):
    line = ""
    for r in items:
        if len(line) + len(r) + 6 > 118:
            print("   " + line, file=f)
            line = ""
        line += " " + r + ","
    print("   " + line, file=f)


with open(OUT, "w") as f:
    print(f"/* Made by tests/golden/make_mojibake.py from ftfy {ftfy.__version__} and Python {sys.version.split()[0]}; "
          'not to be edited by hand. */\n#include "data/text/mojibake.h"\n\n// clang-format off', file=f)
    print("const struct mojibake_range mcs_mojibake_ranges[] = {", file=f)
    rows(f, [f"{{0x{a:X}, {{{{0x{m & ALL:X}, 0x{m >> 64:X}}}}}}}" for a, b, m in ranges])
    print(f"}};\nconst int mcs_mojibake_n_ranges = {len(ranges)};\n", file=f)
    print("const struct mojibake_rule mcs_mojibake_rules[] = {", file=f)
    rows(f, [f"{{{len(s)}, {int(start)}, {{{', '.join(map(str, s))}}}}}" for start, s in rules])
    print(f"}};\nconst int mcs_mojibake_n_rules = {len(rules)};\n", file=f)
    print("const int mcs_mojibake_first[3] = {" + ", ".join(str(clues[f"utf8_first_of_{k}"]) for k in (2, 3, 4)) +
          f"}};\nconst int mcs_mojibake_continuation = {clues['utf8_continuation']};\n"
          f"const int mcs_mojibake_strict = {clues['utf8_continuation_strict']};\n", file=f)
    print("const struct mojibake_encoding mcs_mojibake_encodings[] = {", file=f)
    for name in chardata.CHARMAP_ENCODINGS:
        print(f'    {{"{name}", {int(name.startswith("sloppy"))}, {{', file=f)
        rows(f, [f"0x{c:X}" for c in encoded(name)])
        print("    }},", file=f)
    print(f"}};\nconst int mcs_mojibake_n_encodings = {len(chardata.CHARMAP_ENCODINGS)};\n", file=f)
    print("const struct unicode_entity mcs_unicode_upper_entities[] = {", file=f)
    rows(f, ['{"%s", {%s}}' % (n, ", ".join(f"0x{ord(x):X}" for x in v)) for n, v in sorted(upper.items())])
    print(f"}};\nconst int mcs_unicode_n_upper_entities = {len(upper)};", file=f)
print(len(sets), len(rules), len(ranges), len(upper))
