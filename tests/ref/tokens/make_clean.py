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
