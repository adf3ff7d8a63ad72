"""tests/golden/text_clean.json: some hundred lines of varied text and what open_clip's cleaning makes of each.

    python tests/ref/tokens/make_clean.py       needs open_clip_torch, ftfy"""
import json
import random
from pathlib import Path

import ftfy  # noqa: F401  its encodings
from open_clip.tokenizer import get_clean_fn

from lines import ENCODINGS, line

clean, r = get_clean_fn("whitespace"), random.Random(13)
texts = [line(r) for _ in range(420)]
for word in "über größer", "it’s “so” – …", "肺癌", "Лёгкие", "Σίσυφος", "😀", "à la café às", "łódź":
    texts += [word.encode("utf-8").decode(name) for name in ENCODINGS]
rows = [json.dumps([t, clean(t)], ensure_ascii=True, separators=(",", ":")) for t in texts if len(t) < 400]
Path(__file__).resolve().parents[2].joinpath("golden/text_clean.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
print(len(rows), sum(json.loads(x)[0] != json.loads(x)[1] for x in rows))


def digest(texts):
    """SHA-256 of the cleaned texts' code points, as the tests that hold it take it (little-endian, 32 bits)."""
    import hashlib
    h = hashlib.sha256()
    for t in texts:
        h.update(clean(t).encode("utf-32-le", "surrogatepass"))
    return h.hexdigest()


def alone():
    for c in range(1, 0x10000):
        if not 0xD800 <= c < 0xE000:
            yield from (f"a{chr(c)}b", f"a&#{c};b", f"<&#x{c:X}z")


def broken():
    """UTF-8 of most characters, taken for Latin-1 and for cp1252."""
    for c in range(1, 0x10000):
        if not (0xD800 <= c < 0xE000 or 0x2400 < c < 0xFA00 and c % 97):
            yield "x" + chr(c).encode("utf-8").decode("latin-1")
            yield "x" + (chr(c) if c < 0x80 else chr(c).encode("utf-8").decode("sloppy-windows-1252"))


print("test_unicode, cleaned characters:", digest(alone()))
print("test_data_cases, repaired characters:", digest(broken()))
