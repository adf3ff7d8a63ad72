"""tokenizer_vocab.txt, tokenizer.json, tokenizer_codes.tsv: what the reference tokenizer makes of many texts, and of
every code point, with a small made-up vocabulary.

    python tests/golden/make_tokenizer.py
"""
import hashlib
import html
import json
import random
from pathlib import Path

import ftfy
from tokenizers import normalizers, pre_tokenizers
from transformers import BertTokenizerFast

HERE = Path(__file__).resolve().parent
random.seed(5)

letters = "abcdefghijklmnopqrstuvwxyz0123456789"
words = """the a of in with and left right lung brain breast tumor tumour mass lesion nodule x ray ct mri ultrasound
image shows chest patient opacity pneumonia ground glass effusion gli glioma mening ioma pituitary aden carcinoma invasive
benign malignant cyst no evidence mm cm deg amp lt gt quot cafe resume naive straße ss ß μ β α σ ς ω đ ł ø æ œ ı ﬁ ²
½ ° ± → ≥ ® ™ € 肺 脑 癌 か カ が 한국 〮 〯 \U0001D165 \U0001D16E ᄒ ᅡ ᆫ и й д е я ا ل ह क 😀 🩻 covid 19 il 6""".split()
pieces = """〮 〯 \U0001D165 \U0001D16E able ing ed s es ma omas itis ic al ar ary oma us um ation ness ly er
tion 肺 β α μ 한 ᆫ ᅡ и е д я 2 19 ° ± ² é ß ß mm cm ल क 😀 ray""".split()
tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
tokens += [c for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" if random.random() < .9] + list(letters)
tokens += words + ["##" + c for c in letters if c not in "qz"] + ["##" + p for p in pieces] + ["。", "，", "“", "’", "—",
         "…", "¿", "·"]
tokens = list(dict.fromkeys(tokens))
(HERE / "tokenizer_vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
reference = BertTokenizerFast(vocab=str(HERE / "tokenizer_vocab.txt"), do_lower_case=True)
assert reference.vocab_size == len(tokens), (reference.vocab_size, len(tokens))

# (text, cleaned as open_clip does)
texts = ["", " ", "\t\n", "The brain MRI shows a left-sided glioma.", "A 3.5cm×2cm mass (T2-weighted)", "x" * 100,
         "a" * 100,
         "a" * 101, "é" * 100, "é" * 101, "e\u0301" * 100, "e\u0301" * 101, "😀" * 100, "a" * 99 + "肺" + "a" * 100,
         "[MASK] and [mask] and [SEP][CLS]x[PAD][UNK] [ MASK ] [MASK", "lung[SEP]lung", "[[MASK]]",
         "a\u0301[MASK]\u0301a",
         "CAFÉ résumé naïve Straße STRASSE İstanbul ıI ﬁ ﬀ ² ½ 5° ±2 µm μm Å Å K ŀ", "ΒΕΤΑ β ΣΊΣΥΦΟΣ ς σ Ω Ω",
         "肺癌的CT图像", "胸部X線、肺がん。", "カタカナ ガ が ｶﾞ", "한국어 폐암", "Ёжик Й и\u0306 ДЕЯ", "السُّل الرئوي", "हिन्दी क्षय",
         "豈 更 \U0002F800 \U00020000 \U0002CEB0 \u9fff \ua000", "a\u200bb a\u00adb a\ufeffb a\u2060b a\u0000b"[:-2],
         "a\u0001b a\u001bb a\u007fb a\u0085b",
         "a\u00a0b a\u2003b a\u3000b a\u2028b a\u2029b a\u202fb a\u1680b a\u180eb", "😀🩻👩‍⚕️🇩🇪 e🤖e",
         "a+b=c <b> x^y `q` |z| ~5 $6 €7 £8 ¥ ¢", "“quoted” ‘single’ it’s — dash – en … …",
         "¿qué? ¡sí! «oui» · • † § ¶",
         "q qq zz qaq azq", "lungs ctic tumorous nodules adenocarcinoma meningiomas gliomas",
         "x-ray,ct;mri:us/pet\\spect",
         "a\r\nb\rc\nd", "a\u0327\u0301b a\u0301\u0327b \U0001D165\U0001D16Ex a\u302e\u0301b", "\ufffd a\ufffdb",
         "\ue000 \U0010FFFF \uffff",
         "ﷺ ㎏ ㎜ ① Ⅳ", "ａｂｃ １２３ （ｘ）！", "Ⓐ ⅓", "̀́ \u0300", "ǅ Ǆ ǆ ĳ ŉ", " ".join(["lung"] * 10000),
         " ".join(random.choice(words) for _ in range(600))]
spacing = "\U0001D165\u302e\U0001D16E\u0345\u0334\u302f\U00016FF0"  # marks that are kept and must be ordered
texts += ["a" + "".join(random.choice(spacing[:-1]) for _ in range(90)) + "b",
         "a" + spacing * 5 + "\u034f" + spacing * 8]
chars = [chr(c) for c in [*range(32, 0x250), *range(0x300, 0x530), *range(0x900, 0x980), *range(0x2000, 0x2300),
         *range(0x3000, 0x3100),
                          *range(0xAC00, 0xAC40), *range(0xF900, 0xF940), *range(0xFB00, 0xFB10), *range(0x1F600,
                          0x1F640)]]
for i in range(120):
    texts.append("".join(random.choice(chars) if random.random() < .4 else random.choice(letters + "   -.,ABC")
                         for _ in range(random.randrange(1, 60))))
clean = ["", "  a  b ", "&lt;b&gt; &amp; &quot;x&quot; &#39;y&#x27; &deg; &micro; &plusmn; &nbsp;|",
         "&amp;amp;lt; &amp;lt;", "&notit; &ampx &copy2 &foo; & &; &#; &#x; &#xZ;",
         "<b>5&deg;C</b> &lt;i&gt;",
         "&#150; &#128; &#0; &#xD800; &#x110000; &#99999999999; &#1; &#65535; &#59; &#8217;",
         "&ThickSpace;x&NotEqualTilde;y&fjlig;",
         "“quoted” ‘single’ it’s „low‟ ‚x‛ ʼn", "ﬁbrosis ﬂuid oﬃce ﬅ ﬆ ĳ Ǆ ǆ ŉ", "ＣＴ　ｓｃａｎ １２３！ ￣ ￥ ｶﾞ ￠",
         "a\u0001b\u000bc\u000cd\u001fe\u007ff",
         "a\u0085b \u0096 \u0092s", "\u001b[31mred\u001b[0m x\u001b[", "5Â°C Â±2 Î¼m Î±",
         "itâ€™s â€œquotedâ€\u009d â€“ â‰¥5", "cafÃ© naÃ¯ve rÃ©sumÃ©", "plain é ü and ° ±",
         "CAFÉ” Ä“ É™", "line one â€™\nline two “x”\r\nthree\rfour\u2028five", "\ufeffbom \ufff9x\ufffa \u206aq",
         "ab\u00a0 \u2003 cd", "［MASK］ &#91;SEP&#93; [MASK]", "a &lt; b\nc &amp;lt; d",
         "肺癌&#x764C; &#30284;", "<x>\n&amp;amp;amp; y", "&amp;amp;amp;amp; y",
         "x &euro;5 &hellip; &rarr; &Eacute; &eacute", "a\u200bb \u00ad", "\u001c a \u001f b",
         "Tom &AMP; Jerry &LT; &GT", "&" * 40, "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;", "&é;", "&#12ab; &#x41g;"]


def cleaned(text):
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).strip().split())


cases = []
for clip, group in ((0, texts), (1, clean + texts[3:5] + texts[14:46])):
    for n, text in enumerate(group):
        for context in {256, 16 if n % 7 == 0 else 256, 2 if n % 11 == 0 else 256}:
            given = cleaned(text) if clip else text
            ids = reference(given, max_length=context, truncation=True)["input_ids"]
            cases.append({"clean": clip, "context": context, "text": text, "ids": ids})
with open(HERE / "tokenizer.json", "w", encoding="utf-8") as f:
    f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=True, separators=(",", ":")) for c in cases) + "\n]\n")

normalise = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None,
         lowercase=True).normalize_str
split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
with open(HERE / "tokenizer_codes.tsv", "w") as f:
    for block in range(0, 0x110000, 0x1000):
        if 0xD000 < block < 0xE000:
            continue
        h = hashlib.sha256()
        for p in range(max(block, 1), block + 0x1000):
            if 0xD800 <= p < 0xE000:
                continue
            c = chr(p)
            text = f"A{c}b{c} {c}\U0001D165\u0301{c}\u0327\U0001D165"
            h.update("".join(w + "\n" for w, _ in split(normalise(text))).encode())
        print(f"{block:06X}\t{h.hexdigest()}", file=f)
print(len(tokens), len(cases))
