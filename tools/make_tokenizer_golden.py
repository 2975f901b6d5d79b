#!/usr/bin/env python3
"""Trains tiny tokenizers of every kind and writes what Hugging Face's package makes of some texts.

  python3 -m venv V && V/bin/pip install tokenizers==0.23.3 && V/bin/python tools/make_tokenizer_golden.py [FOLDER]

Writes FOLDER/KIND.json (tokenizer.json) and FOLDER/KIND.golden: one line a text, [text, ids, ids without control
tokens, decoded]; and FOLDER/components.jsonl: [what, its JSON, [text, result]...]. FOLDER defaults to tests/data/hf_tokenizer, the expected values of tests/unit/text/hf_golden_test.cc.
"""
import base64
import json
import pathlib
import struct
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

ROOT = pathlib.Path(__file__).resolve().parent.parent

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's what they'd do, isn't it? We'll see; I'm 1234567 years old!",
    "Tokenizers cut a text into words, and words into pieces: un-believ-able, isn't it?",
    "def main(argc, argv):\n    for i in range(10):\n        print(f\"{i:>3} {argv[i]}\")\n\n    return 0\n",
    "Größe, Füße, naïve café, Ångström, Łódź, İstanbul, ΑΒΓ αβγ, Привет, мир! Ёжик",
    "日本語のテキスト、中文文本。한국어 텍스트 ภาษาไทย हिन्दी العربية עברית",
    "🙂 👍🏽 👩‍👩‍👧 ½ ² Ⅷ ① ﬁ ﬂ № ™ … — “quoted” ‘single’ «guillemets»",
    "a  b   c    d\t\te\r\nf\n\n\ng      h",
    "http://example.org/path?query=1&other=two#fragment user@example.com 3.14159 1,000,000 0xFF",
] * 3

TEXTS = [
    "", " ", "  ", "\n", "Hello, world!", " Hello  world ", "It's what they'd do, isn't it? We'LL SEE.",
    "x = 12345678 + 0xFF;\n\n\treturn x\r\n", "Größe Füße naïve café İstanbul ΑΣ", "e\u0301 a\u0328\u0301 \u1100\u1161",
    "日本語のテキスト 中文 한국어 ภาษาไทย", "🙂👍🏽👩‍👩‍👧 ½²Ⅷ① ﬁﬂ", "  leading and trailing  \n ", "a\u00a0b\u2003c\u3000d\u200be",
    "<s>control</s> <mask> word", "no<sep>de<sep>s <sep>", "a<mask> <mask>b", "▁lower▁one  half", "\u0000\u0001\u007f\ufffd",
    "LOREM Ipsum dolor-sit_amet's", "a" * 40, "!!!???...", "Added token: foobar foobarbaz xfoobar FooBar",
]

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
QWEN2 = GPT4.replace("{1,3}", "")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

SPECIALS = ["<unk>", "<s>", "</s>"]


def add_tokens(tokenizer):
    """Tokens with every flag."""
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True),
                                  AddedToken("<pad>", normalized=False, special=True)])
    tokenizer.add_tokens([AddedToken("<sep>", rstrip=True, normalized=False),
                          AddedToken("foobar", single_word=True), AddedToken("Word", normalized=True)])


def charsmap(rules):
    """SentencePiece's precompiled rules for single characters: a double-array trie and the replacements."""
    keys = sorted((k.encode(), v.encode()) for k, v in rules.items())
    blob, offsets = b"", []
    for _, value in keys:
        offsets.append(len(blob))
        blob += value + b"\0"
    units, used = {0: 0}, {0}

    def place(node, entries, depth):
        labels = sorted({k[depth] if depth < len(k) else 0 for k, _ in entries})
        base = 1
        while any((base ^ c) in used for c in labels) or node == base or (node ^ base) >= 1 << 21:
            base += 1
        offset = node ^ base
        units[node] = units[node] | offset << 10
        if 0 in labels:
            units[node] |= 1 << 8
        used.update(base ^ c for c in labels)
        for c in labels:
            child = [(k, v) for k, v in entries if (k[depth] if depth < len(k) else 0) == c]
            if c == 0:
                units[base] = child[0][1] | 1 << 31
            else:
                units[base ^ c] = c
                place(base ^ c, child, depth + 1)

    place(0, [(k, o) for (k, _), o in zip(keys, offsets)], 0)
    size = (max(units) | 255) + 1
    array = struct.pack(f"<{size}I", *(units.get(i, 0) for i in range(size)))
    return struct.pack("<I", len(array)) + array + blob


def train_bpe(size=380, **options):
    initial = pre_tokenizers.ByteLevel.alphabet() if options.pop("bytes", True) else []
    names = ("unk_token", "byte_fallback", "fuse_unk", "ignore_merges", "continuing_subword_prefix",
             "end_of_word_suffix")
    model = models.BPE(**{k: v for k, v in options.items() if k in names})
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=options.get("specials", SPECIALS),
                                  initial_alphabet=initial, show_progress=False,
                                  **{k: v for k, v in options.items() if k in names[4:]})
    tokenizer = Tokenizer(model)
    return tokenizer, trainer


def byte_level(pre, normalizer=None, **options):
    tokenizer, trainer = train_bpe(**options)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainer)
    add_tokens(tokenizer)
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def plain_bytes():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def framed(tokenizer, before="<s>", after=None):
    ids = [(t, tokenizer.token_to_id(t)) for t in (before, after) if t]
    single = " ".join(x for x in (before, "$A", after) if x)
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def sentencepiece_bpe(metaspace=None):
    """As converted from a SentencePiece model: all 256 byte tokens, spaces as U+2581."""
    specials = SPECIALS + [f"<0x{b:02X}>" for b in range(256)]
    tokenizer, trainer = train_bpe(size=560, bytes=False, specials=specials, unk_token="<unk>", byte_fallback=True,
                                   fuse_unk=True)
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.train_from_iterator([t for t in CORPUS if t.isascii()], trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace, split=False)
    else:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(strip + [decoders.Strip(" ", 1, 0)])
    add_tokens(tokenizer)
    return framed(tokenizer)


def gemma():
    tokenizer = sentencepiece_bpe()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_tokens([AddedToken("▁▁▁", normalized=False), AddedToken("\n\n", normalized=False)])
    return tokenizer


def unigram(byte_fallback=False, scheme="always", charmap=True):
    tokenizer = Tokenizer(models.Unigram())
    rules = {"ﬁ": "fi", "½": "1/2", "\t": " ", "\n": " ", "\u00a0": " ", "①": "1", "é": "e\u0301", "e\u0301": "é",
             "\u200b": "", "\ufffd": " ", "Å": "A"}
    steps = [normalizers.Precompiled(charsmap(rules))] if charmap else [normalizers.NFKC()]
    tokenizer.normalizer = normalizers.Sequence(
        steps + [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=330, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    if byte_fallback:
        data = json.loads(tokenizer.to_str())
        data["model"]["vocab"] += [[f"<0x{b:02X}>", -9.0] for b in range(256)]
        data["model"]["byte_fallback"] = True
        tokenizer = Tokenizer.from_str(json.dumps(data))
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
    add_tokens(tokenizer)
    return framed(tokenizer, before=None, after="</s>")


def wordpiece(cased=False):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=not cased)
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=330, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    add_tokens(tokenizer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def odd_bpe():
    """Characters, not bytes: unknown ones, marks at the words' ends, steps that GGUF has no name for."""
    tokenizer, trainer = train_bpe(bytes=False, unk_token="<unk>", fuse_unk=True, end_of_word_suffix="</w>")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Nmt(),
         normalizers.Replace("lazy", "idle"), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.train_from_iterator([t for t in CORPUS if t.isascii()], trainer)
    add_tokens(tokenizer)
    return tokenizer


def prefixed_bpe():
    tokenizer, trainer = train_bpe(bytes=False, unk_token="<unk>", continuing_subword_prefix="##")
    tokenizer.normalizer = normalizers.NFKD()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")])
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.train_from_iterator([t for t in CORPUS if t.isascii()], trainer)
    add_tokens(tokenizer)
    return tokenizer


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


KINDS = {
    "gpt2": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama3": lambda: framed(byte_level(sequence(split(GPT4), plain_bytes()), ignore_merges=True)),
    "qwen2": lambda: byte_level(sequence(split(QWEN2), plain_bytes()), normalizers.NFC()),
    "gpt4o": lambda: byte_level(sequence(split(GPT4O, "removed", True), plain_bytes())),
    "digits": lambda: byte_level(sequence(pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False))),
    "prefix_space": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.NFKC()),
    "behaviors": lambda: byte_level(sequence(
        split(r"\w+-", "merged_with_next"), split(r"[,.;]\b|\d{2}+", "merged_with_previous"),
        split(r"[^\s\w&&[^!?]]", "contiguous"), pre_tokenizers.Split("a", "isolated"), plain_bytes())),
    "bytes_normalizer": lambda: byte_level(split(r"\w+|Ġ", "isolated"), normalizers.ByteLevel()),
    "spm_bpe": sentencepiece_bpe,
    "spm_bpe_first": lambda: sentencepiece_bpe("first"),
    "gemma": gemma,
    "unigram": unigram,
    "unigram_bytes": lambda: unigram(True, "first", False),
    "unigram_first": lambda: unigram(False, "first"),
    "wordpiece": wordpiece,
    "wordpiece_cased": lambda: wordpiece(True),
    "odd_bpe": odd_bpe,
    "prefixed_bpe": prefixed_bpe,
}


# Compared by compare_hf_tokenizer.py only, to keep the repository small.
NOT_STORED = ("gpt4o", "digits", "spm_bpe_first", "unigram_first", "wordpiece_cased")

# Components by themselves: what is normalised, and where texts are cut.
NORMALIZERS = [
    normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
    normalizers.Strip(), normalizers.Strip(True, False), normalizers.Strip(False, True), normalizers.StripAccents(),
    normalizers.Replace("a", "[]"), normalizers.Replace(Regex(r"\s+"), "_"), normalizers.Replace(Regex("x*"), "-"),
    normalizers.Prepend("▁"), normalizers.Nmt(), normalizers.ByteLevel(), normalizers.BertNormalizer(),
    normalizers.BertNormalizer(False, True, False, True), normalizers.BertNormalizer(True, False, None, False),
    normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
]
PRE_TOKENIZERS = [
    pre_tokenizers.ByteLevel(False), pre_tokenizers.ByteLevel(True), pre_tokenizers.ByteLevel(False, use_regex=False),
    pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer(),
    pre_tokenizers.Metaspace(), pre_tokenizers.Metaspace(prepend_scheme="never"),
    pre_tokenizers.Metaspace("_", prepend_scheme="first", split=False), pre_tokenizers.Digits(),
    pre_tokenizers.Digits(True), pre_tokenizers.Punctuation(), pre_tokenizers.Punctuation("removed"),
    pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.CharDelimiterSplit("e"), split(GPT4), split(QWEN2),
    split(GPT4O),
] + [make(p, b, i) for b in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")
     for make, p, i in ((split, "[aeiou ]", False), (split, "[aeiou ]", True), (pre_tokenizers.Split, "o", False))]
COMPONENT_TEXTS = [
    "", "Hello,  World! it's 12345 o'clock\n\n  x_y", " É\u0301 ﬁ½Å Ǆ\tß İ\u200b\ufffd\x01x\x7f ", "文 字、한국 ½②٣ ▁a▁▁b ",
    "\u2028\u00a0\u0085\u180e🙂👩‍👩‍👧 \u093f e\u0301\u0327\u0301",
]
# Regular expressions: every construct that is translated, and where Oniguruma is not PCRE2.
REGEXES = [
    r"^a", r"a$", r"\h", r"\v", r"\w+", r"\W", r"\s", r"\S+", r"\d", r"\D", r"[a-c&&[^b]]", r"[^a-c&&[^b]]", r"a{,2}",
    r"a{1,2}+", r"a{2}?", r"a{1,2}?", r"a?+b", r"a++", r"a*?b", r"(?i:'s|t)", r"\p{Han}+", r"\p{^L}", r"\P{L}", r"\p{Lu}",
    r"\p{Greek}", r"\p{Alpha}", r"\p{Punct}", r"[[:alpha:]]+", r"[[:digit:]_]", r"(?i)a", r"x*", r"\b", r"\bx",
    r"[^(\s|[.,!?…。，、।۔،])]+", r"[\w.-]+", r"[\w-]+", r"[-a]", r"[a-]", r"[]a]", r"[^\W\d]+", r"[\W\d]", r"\u0061", r"\x61",
    r"\x{1F642}", r"(a)\1", r"(?<=a)b", r"(?<!a)b", r"a(?=b)", r"a(?!b)", r"(?>a+)b", r".", r"\.", r"\A.", r".\z", r".\Z",
    r"[🙂-🙃]", r"a|b|", r"(?:ab)+", r"#a b", r"\/", r"{", r"a{b", r"\s+$", r"\s+(?!\S)", r"[\h]+", r"\p{Nd}|\p{No}",
]
REGEX_TEXT = "ab\na aab aaa'S x_a-b. Éa ΑΒα 文字 ½²③٣7f [a] (c|d)🙂\x0b\t{#a b}/a\u0085\u180e  \n"


def of(component):
    return json.loads(component.__getstate__())


def write_components(path):
    lines = [["normalizer", of(n), [[t, n.normalize_str(t)] for t in COMPONENT_TEXTS]] for n in NORMALIZERS]
    lines += [["pre_tokenizer", of(p), [[t, [w for w, _ in p.pre_tokenize_str(t)]] for t in COMPONENT_TEXTS]]
              for p in PRE_TOKENIZERS]
    lines += [["regex", r, [[REGEX_TEXT, normalizers.Replace(Regex(r), "<>").normalize_str(REGEX_TEXT)]]]
              for r in REGEXES]
    path.write_text("\n".join(json.dumps(x, ensure_ascii=False, separators=(",", ":")) for x in lines) + "\n", encoding="utf-8")


def expected(tokenizer, text):
    tokenizer.encode_special_tokens = False
    ids = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = False
    return ids, plain, tokenizer.decode(ids, skip_special_tokens=True)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "tests/data/hf_tokenizer")
    folder.mkdir(parents=True, exist_ok=True)
    write_components(folder / "components.jsonl")
    for name, make in KINDS.items():
        if name in NOT_STORED:
            continue
        data = json.loads(make().to_str())
        if name == "gpt2":  # the older form of merges
            data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        lines = [json.dumps([t, *expected(tokenizer, t)], ensure_ascii=False, separators=(",", ":")) for t in TEXTS]
        (folder / f"{name}.golden").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
