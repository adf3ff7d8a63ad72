"""Lines of varied text from a seed, for compare.py and make_tokens.py: captions, all scripts, every code point,
HTML, controls, wrong encodings (also lossy, doubled, partial), literal special tokens."""
import random
import unicodedata

WORDS = """the a of in with and left right lung brain breast tumor tumour mass lesion nodule x-ray CT MRI ultrasound image shows chest
patient opacity pneumonia ground-glass effusion glioma meningioma adenocarcinoma invasive benign malignant cyst no evidence
3.5cm 2mm 12 T1 T2-weighted it's don't we'll they've I'm he'd you're CAN'T 1234567890 2.5% (p<0.05) A/B lung's antidisestablishmentarianism
BRAF V600E HER2+ IL-6 TNF-α β-catenin 10µm 37°C ±0.3 ≥5 ≤2 → café naïve résumé Straße Ängström coöperate façade
señor não ação über größer Ærø œuvre fièvre hôpital où déjà été noël garçon łódź żółć źdźbło čeština řeka ďábel
İstanbul ığdır şeker ğ Σίσυφος ΟΔΟΣ ἄνθρωπος όγκος πνεύμονα Лёгкие рак опухоль мозга ЁЖИК Україна їжак ґанок
肺癌 的 CT图像 脑肿瘤 胸部X線 カタカナ ひらがな がん 한국어 폐암 뇌종양 سرطان الرئة ורם בריאות हिन्दी क्षय โรคมะเร็ง தமிழ் 😀 🩻 👩‍⚕️ 🇩🇪
“quoted” ‘single’ it’s — – … «oui» • † § ¶ © ® ™ € £ ¥ ¢ ¼ ½ ¾ × ÷ ² ³ ¹ ª º ¿ ¡ ∑ √ ∞ ≈ ≠ ∫ ∂ Ω""".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[mask]", "[ SEP ]", "<start_of_text>", "<end_of_text>",
           "<|startoftext|>", "<|endoftext|>", "<START_OF_TEXT>", "</w>", "##ing", "'s", "'S", "'ſ", "'LL"]
ENTITIES = """&lt; &gt; &amp; &quot; &nbsp; &deg; &micro; &plusmn; &eacute; &EACUTE; &Eacute; &SZLIG; &FFILIG; &hellip; &amp;amp;lt; &#176;
&#xB5; &#150; &#x92; &#0; &#xD800; &#1114112; &#59; &#x41g; &notit; &copy2 &foo; & &; &#; &AMP; &LT &ThickSpace; &alpha; &BETA; &#x1F600;
&aelig; &AELIG; &oelig; &frac12; &fjlig; &#8217; &rsquo;s &ldquo;x&rdquo; &#12345678901234567890123456;""".split()
ENCODINGS = ["latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250", "sloppy-windows-1253",
             "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2", "macroman", "cp437"]
BLOCKS = [(0x20, 0x7f), (0xa0, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x900), (0x900, 0xe00), (0xe00, 0x1200),
          (0x1200, 0x2000), (0x2000, 0x2c00), (0x2c00, 0x3100), (0x3100, 0xa000), (0xa000, 0xd800), (0xe000, 0xfb00),
          (0xfb00, 0x10000), (0x10000, 0x12000), (0x1d000, 0x1f000), (0x1f000, 0x20000), (0x20000, 0x110000)]


def sentence(r, low=1, high=14):
    return " ".join(r.choice(WORDS) for _ in range(r.randint(low, high)))


def garble(r, text):
    """A text whose UTF-8 was decoded with another encoding, perhaps damaged further."""
    name = r.choice(ENCODINGS)
    out = text.encode("utf-8").decode(name)
    what = r.random()
    if what < .15:
        out = out.replace("\xa0", " ")
    elif what < .25:
        out = "".join("\ufffd" if "\x80" <= c < "\xa0" else c for c in out)
    elif what < .3:
        out = out.replace("\ufffd", "?")
    elif what < .4 and len(out) < 60:
        try:
            out = out.encode("utf-8").decode(r.choice(ENCODINGS))
        except UnicodeError:
            pass
    elif what < .5:
        out = text[:len(text) // 2] + out[len(out) // 2:]
    elif what < .55 and out:
        k = r.randrange(len(out))
        out = out[:k] + out[k + 1:]
    return out


def characters(r):
    out = []
    first, last = r.choice(BLOCKS)
    for _ in range(r.randint(1, 40)):
        if r.random() < .1:
            first, last = r.choice(BLOCKS)
        out.append(chr(r.randrange(first, last)) if r.random() < .7 else r.choice("abcXYZ 019.,-'"))
    return "".join(out)


def mojibake_alphabet():
    out = set()
    for name in ENCODINGS:
        out.update(bytes(range(0x80, 0x100)).decode(name))
    return sorted(out) + ["\ufffd", "\x1a", " ", "?", "a", "Z", "."]


ALPHABET = None


def line(r):
    global ALPHABET
    ALPHABET = ALPHABET or mojibake_alphabet()
    kind = r.random()
    text = sentence(r)
    if kind < .15:
        return text
    if kind < .25:
        return characters(r)
    if kind < .45:
        return garble(r, text)
    if kind < .5:
        return " ".join(garble(r, w) if r.random() < .3 else w for w in text.split())
    if kind < .6:
        return "".join(r.choice(ALPHABET) if r.random() < .6 else r.choice("abc XYZ'") for _ in range(r.randint(1, 24)))
    if kind < .7:
        return " ".join(r.choice(ENTITIES) if r.random() < .4 else w for w in text.split())
    if kind < .75:
        return "".join(r.choice(SPECIAL) if r.random() < .4 else r.choice(WORDS) for _ in range(r.randint(1, 12)))
    if kind < .8:
        return "".join(c + (chr(r.randrange(0, 0xa0)) if r.random() < .15 else "") for c in text).replace("\0", "")
    if kind < .85:
        spaces = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\u180e\ufeff"
        return "".join(r.choice(spaces) if c == " " else c for c in text)
    if kind < .9:
        return unicodedata.normalize(r.choice(["NFD", "NFKD", "NFC"]), text) + "".join(
            chr(r.randrange(0x300, 0x370)) for _ in range(r.randint(0, 4)))
    if kind < .93:
        wide = {c: chr(c + 0xfee0) for c in range(0x21, 0x7f)}
        return "".join(chr(wide.get(ord(c), ord(c))) if isinstance(wide.get(ord(c), ord(c)), int) else wide[ord(c)]
                       for c in text) if r.random() < .5 else "".join(chr(r.randrange(0xff00, 0xfff0)) for _ in text[:20])
    if kind < .96:
        return "".join(f"\x1b[{r.choice(['', '31', '1;4', '٣', 'x'])}{r.choice('mKz[')}" + w for w in text.split())
    if kind < .98:
        return "".join(r.choice(["ﬁ", "ﬂ", "ﬃ", "ĳ", "ǆ", "ŉ", "ﬅ", "œ", "Œ", w]) for w in text.split())
    return "".join(r.choice(WORDS) for _ in range(r.randint(10, 60)))


def lines(seed, n):
    """n lines; the first 0x1100 hold every code point but surrogates and NUL."""
    r = random.Random(seed)
    out = []
    for block in range(0, 0x110000, 0x100):
        if len(out) < n // 2 and not 0xD800 <= block < 0xE000:
            out.append(" a".join(chr(c) for c in range(max(block, 1), block + 0x100)))
    while len(out) < n:
        out.append(line(r))
    return out
