"""The tokens of mcsam against open_clip's on lines of varied text: WordPiece and BPE.

    ninja -C build print_tokens && python tests/ref/tokens/compare.py build/print_tokens [LINES] [SEED] [VOCABULARY]

VOCABULARY is a vocab.txt, tokenizer.json or a folder with either; bpe_simple_vocab_16e6.txt.gz compares OpenAI's BPE;
without it a vocabulary of every character below U+20000, so that no difference hides in an [UNK]. Needs open_clip_torch, transformers, ftfy."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ftfy  # noqa: F401  its encodings
from open_clip import tokenizer as reference

from lines import WORDS, lines

def every_character():
    """A WordPiece vocabulary of single characters and some longer pieces."""
    from tokenizers import normalizers
    words = normalizers.BertNormalizer(lowercase=True).normalize_str(" ".join(WORDS)).split()
    chars = [chr(c) for c in range(0x21, 0x20000) if not 0xD800 <= c < 0xE000 and not chr(c).isspace()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words[::2] + chars + ["##" + c for c in chars]
    pieces += ["##" + w[1:] for w in words if len(w) > 3]
    path = tempfile.mkdtemp() + "/vocab.txt"
    Path(path).write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    return path


program, *rest = sys.argv[1:]
n, seed = int(rest[0]) if rest else 100000, int(rest[1]) if len(rest) > 1 else 1
vocabulary = rest[2] if len(rest) > 2 else every_character()
texts = lines(seed, n)
given = "".join(json.dumps(t) + "\n" for t in texts)
if "bpe" in vocabulary:
    context, one = 77, reference.SimpleTokenizer(vocabulary)
    want = []
    for t in texts:
        ids = [one.sot_token_id] + one.encode(t) + [one.eot_token_id]
        want.append(ids if len(ids) <= context else ids[:context - 1] + [one.eot_token_id])
else:
    from transformers import BertTokenizerFast
    context, clean = 256, reference.get_clean_fn("whitespace")
    one = BertTokenizerFast(vocab=vocabulary, do_lower_case=True)
    want = one([clean(t) for t in texts], max_length=context, truncation=True)["input_ids"]
run = subprocess.run([program, vocabulary, str(context)], input=given, capture_output=True, text=True)
got = run.stdout.splitlines()
assert len(got) == n, (len(got), run.stderr)
wrong = [i for i in range(n) if got[i] != " ".join(map(str, want[i]))]
for i in wrong[:20]:
    print(f"line {i}: {texts[i][:300]!r}\n  want {want[i][:40]}\n  got  {got[i][:200]}")
print(f"{n} lines, seed {seed}, {Path(vocabulary).name}: {len(wrong)} differ")
sys.exit(bool(wrong))
