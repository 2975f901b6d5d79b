"""Learns a byte-level BPE vocabulary and turns the texts into ids."""
import heapq
import json
from collections import Counter, defaultdict

import numpy as np

from model_tools.bpe import Bpe, byte_letters, words_of

END = "<|endoftext|>"  # id 0: between documents, and the end of an answer


class _Words:
    """The distinct words of a text as lists of symbols, and where each pair of neighbours occurs."""

    def __init__(self, texts):
        letters = byte_letters()
        counts = Counter(word for text in texts for word in words_of(text))
        self.words = [[letters[b] for b in word.encode("utf-8")] for word in counts]
        self.n = list(counts.values())
        self.pairs, self.where = Counter(), defaultdict(set)
        for i in range(len(self.words)):
            self._count(i, +1)

    def _count(self, i, sign):
        word = self.words[i]
        for pair in zip(word, word[1:]):
            self.pairs[pair] += sign * self.n[i]
            self.where[pair].add(i)

    def merge(self, pair):
        """Joins the pair wherever it occurs; the pairs whose counts have changed."""
        changed = set()
        for i in self.where.pop(pair):
            changed.update(zip(self.words[i], self.words[i][1:]))
            self._count(i, -1)
            self.words[i] = _joined(self.words[i], pair)
            self._count(i, +1)
            changed.update(zip(self.words[i], self.words[i][1:]))
        return changed


def _joined(word, pair):
    out, i = [], 0
    while i < len(word):
        if tuple(word[i:i + 2]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def learn(texts, n_tokens):
    """(tokens, merges) with n_tokens tokens: the end, the bytes, then the most frequent pairs. Ties go by alphabet."""
    words = _Words(texts)
    tokens, merges = [END, *sorted(byte_letters().values())], []
    heap = [(-n, pair) for pair, n in words.pairs.items()]
    heapq.heapify(heap)
    while len(tokens) < n_tokens:
        n, pair = heapq.heappop(heap)
        if -n != words.pairs[pair]:
            continue  # counted before an earlier merge changed it; the newer count is in the heap too
        tokens.append("".join(pair))
        merges.append(" ".join(pair))
        for other in words.merge(pair):
            if words.pairs[other] > 0:
                heapq.heappush(heap, (-words.pairs[other], other))
    return tokens, merges


def load_or_learn(path, texts, n_tokens):
    if not path.exists():
        path.write_text(json.dumps(learn(texts, n_tokens)))
    return tuple(json.loads(path.read_text()))


def ids_of(texts, tokens, merges):
    bpe = Bpe(tokens, merges)
    end = bpe.special(END)
    return np.array([i for text in texts for i in (*bpe.encode(text), end)], np.int64)
