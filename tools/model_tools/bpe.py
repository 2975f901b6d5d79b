"""Byte-level BPE with SmolLM2's pre-tokenizer, enough to turn training and calibration text into token ids.

hob has the complete tokenizers (src/text); this one exists so that models can be made before hob is built.
"""
import re

# Pre-tokenizer "smollm" (as starcoder): every digit by itself, then GPT-2's pattern on what lies between.
# Python's \w stands in for \p{L}\p{N}; they differ only in rare numerals.
_DIGIT = re.compile(r"(\d)")
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def words_of(text):
    """The pieces that merges stay inside of."""
    for piece in _DIGIT.split(text):
        if piece.isdigit():
            yield piece
        else:
            yield from _WORD.findall(piece)


def byte_letters():
    """GPT-2's printable stand-in for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in keep}
    rest = (b for b in range(256) if b not in letters)
    letters.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return letters


class Bpe:
    def __init__(self, tokens, merges):
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._rank = {tuple(merge.split(" ", 1)): i for i, merge in enumerate(merges)}
        self._letters = byte_letters()
        self._cache = {}

    def special(self, token):
        return self._ids[token]

    def encode(self, text):
        ids = []
        for word in words_of(text):
            ids.extend(self._encode_word(word))
        return ids

    def _encode_word(self, word):
        if word not in self._cache:
            parts = [self._letters[b] for b in word.encode("utf-8")]
            while len(parts) > 1:
                pairs = [self._rank.get(pair, len(self._rank)) for pair in zip(parts, parts[1:])]
                best = min(range(len(pairs)), key=pairs.__getitem__)
                if pairs[best] == len(self._rank):
                    break
                parts[best:best + 2] = [parts[best] + parts[best + 1]]
            self._cache[word] = [self._ids[p] for p in parts]
        return self._cache[word]
