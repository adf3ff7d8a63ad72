"""tests/golden/bpe_merges.txt and bpe.json: merges learned from lines of varied text, and the ids that open_clip's
SimpleTokenizer and transformers' CLIPTokenizer give to some hundred lines with them.

    python tests/ref/tokens/make_bpe.py       needs open_clip_torch, transformers"""
import collections
import gzip
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import ftfy  # noqa: F401  its encodings
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from transformers import CLIPTokenizer

from lines import line, sentence

GOLDEN, N_MERGES, CONTEXT = Path(__file__).resolve().parents[2] / "golden", 700, 77
r = random.Random(17)
byte = bytes_to_unicode()
words = collections.Counter(w for _ in range(400) for w in sentence(r).lower().split())
split = {w: [byte[b] for b in w.encode("utf-8")] for w in words}
for pieces in split.values():
    pieces[-1] += "</w>"
merges = []
while len(merges) < N_MERGES:
    pairs = collections.Counter()
    for w, pieces in split.items():
        for pair in zip(pieces, pieces[1:]):
            pairs[pair] += words[w]
    if not pairs:
        break
    best = max(pairs.items(), key=lambda kv: (kv[1], kv[0]))[0]
    merges.append(best)
    for pieces in split.values():
        i = 0
        while i + 1 < len(pieces):
            if (pieces[i], pieces[i + 1]) == best:
                pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
            i += 1
merges.insert(300, merges.pop(5))  # one that is used before its parts are known
text = "#version: made by make_bpe.py\n" + "\n".join(" ".join(m) for m in merges)
(GOLDEN / "bpe_merges.txt").write_text(text, encoding="utf-8")
with tempfile.NamedTemporaryFile(suffix=".gz") as f:
    f.write(gzip.compress(text.encode("utf-8")))
    f.flush()
    one = SimpleTokenizer(f.name)
names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
with tempfile.TemporaryDirectory() as d:
    Path(d, "merges.txt").write_text(text + "\n", encoding="utf-8")
    Path(d, "vocab.json").write_text(json.dumps({names.get(k, k): v for k, v in one.encoder.items()}))
    other = CLIPTokenizer(vocab=d + "/vocab.json", merges=d + "/merges.txt")
texts = [line(r) for _ in range(300)] + ["", "ΟΔΟΣ ΣΑΣ Σ AΣ. A\u0301Σ\u0301 ΣΣ 'Σ", "İSTANBUL ǅ", "c\u0345d a\u0345", "<start_of_text>x<END_OF_TEXT>",
                                         "<\u017ftart_of_text> it'\u017f", "x" * 300, "don't CAN'T 12³ ½ Ⅷ _a_", "a<|endoftext|>B <|startoftext|><|ENDOFTEXT|>"]
rows = []
for t in texts:
    ids = [one.sot_token_id] + one.encode(t) + [one.eot_token_id]
    ids = ids if len(ids) <= CONTEXT else ids[:CONTEXT - 1] + [one.eot_token_id]
    raw = other(t, truncation=True, max_length=CONTEXT)["input_ids"]
    if any(unicodedata.category(c) == "Cn" for c in t):  # younger than transformers' tables
        raw = None
    rows.append(json.dumps([t, ids] + ([raw] if raw != ids else []), separators=(",", ":")))
(GOLDEN / "bpe.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
print(len(merges), len(rows), one.vocab_size)
