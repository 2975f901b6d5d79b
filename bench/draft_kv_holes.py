#!/usr/bin/env python3
"""What holes in the draft's KV cache cost: tokens per round of tree drafting with and without two known faults.

  python3 -m venv models/.venv && models/.venv/bin/python -m pip install numpy torch gguf
  models/.venv/bin/python bench/draft_kv_holes.py bench/pair/pair-target-q5_0.gguf --draft bench/pair/pair-draft-q8_0.gguf
                          [--prompts 16] [--lengths 64,256] [--budgets 16,32] [--temps 0,1] [--texts models/pair-work]

Both models run in PyTorch, on one thread, from the values in the files. SpecExec grows the drafts, the target picks a token at
every node of the tree, and what follows its picks is kept, with one token more. Prompts are the first tokens of held-out documents,
prose and code in turns (downloaded into --texts once). Then the drafter takes up the new root, in one of four ways:

  correct          every row of K and V moves with its token; a token without a row is computed again
  leaf hole        a kept leaf that has never been through the draft gets a row of zeros, which later tokens attend to
  guess, correct   while the target is busy, the draft guesses one end of the round (a leaf and the token behind it) and grows a
                   tree there; if that comes true, the tree is kept and grows on
  guess, holes     the same, but on such a hit nothing moves: the kept tokens, the new root and its tree get rows of zeros and
                   still count as computed (tokens that already lay where they belong stay)

The picks depend on text, seed and position alone, so all four must write the same text; another one is an error. So is a text that
the target without a cache would not write, and, in the first prompt, a row of a correct drafter that differs from a fresh one.
Intervals are 95 %, from a bootstrap that draws the same prompts for both sides.
"""
import argparse
import math
import pathlib
import sys
import time

import gguf
import numpy as np
import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from draft_pair import files  # noqa: E402
from draft_pair.llama import EPS, _rope, _rope_table  # noqa: E402
from draft_pair.texts import SOURCES, documents  # noqa: E402
from model_tools.bpe import Bpe  # noqa: E402

DEPTH, WIDTH, DECAY = 4, 16, math.log(0.9)        # steps of a tree, children tried per node, what a step costs
GUESS_DEPTH, GUESS_DECAY = 3, math.log(0.95)
ROUNDING = 1e-4  # of logits, and of cumulative probabilities
VARIANTS = {"correct": (False, False), "leaf hole": (False, True), "guess, correct": (True, False), "guess, holes": (True, True)}
TWIN = {"leaf hole": "correct", "guess, holes": "guess, correct"}


class Cache:
    """A model whose rows of K and V have slots, and whose tokens see the slots that they are told to."""

    def __init__(self, model, n_slots):
        self.weights = {name: w.detach() for name, w in model.named().items()}
        shape = model.shape
        self.n_layers, self.n_heads = shape.n_layers, shape.n_heads
        self.k = torch.zeros(shape.n_layers, shape.n_heads, n_slots, shape.d_head)
        self.v = torch.zeros_like(self.k)
        self.rope = _rope_table(n_slots, shape.d_head)

    def forward(self, tokens, positions, slots, sees):
        """Fills the slots; logits [n_tokens, n_vocab]. sees: [n_tokens, n_visible_slots] bool."""
        w, n_visible = self.weights, sees.shape[1]
        slots, sees = torch.from_numpy(slots), torch.from_numpy(sees)
        rope = [table[torch.from_numpy(positions)] for table in self.rope]
        x = w["token_embd.weight"][torch.from_numpy(tokens)]
        for layer in range(self.n_layers):
            own = lambda name: w[f"blk.{layer}.{name}.weight"]
            h = F.rms_norm(x, x.shape[-1:], own("attn_norm"), EPS)
            q, k, v = ((h @ own(name).T).unflatten(-1, (self.n_heads, -1)).transpose(0, 1)
                       for name in ("attn_q", "attn_k", "attn_v"))
            self.k[layer][:, slots], self.v[layer][:, slots] = _rope(k, rope), v
            out = F.scaled_dot_product_attention(_rope(q, rope), self.k[layer][:, :n_visible], self.v[layer][:, :n_visible], sees)
            x = x + out.transpose(0, 1).flatten(-2) @ own("attn_output").T
            h = F.rms_norm(x, x.shape[-1:], own("ffn_norm"), EPS)
            x = x + (F.silu(h @ own("ffn_gate").T) * (h @ own("ffn_up").T)) @ own("ffn_down").T
        return F.rms_norm(x, x.shape[-1:], w["output_norm.weight"], EPS) @ w["token_embd.weight"].T

    def prefill(self, tokens):
        n = len(tokens)
        return self.forward(tokens, np.arange(n), np.arange(n), np.tri(n, dtype=bool))

    def move(self, first, source):
        """Rows of source go to first, first + 1, ...; behind them are zeros."""
        for rows in (self.k, self.v):
            rows[:, :, first:first + len(source)] = rows[:, :, torch.from_numpy(source)]
            rows[:, :, first + len(source):] = 0

    def zero_rows(self, n):
        return (self.k[:, :, :n] == 0).all(-1).all(0).all(0).numpy()


class Drafter:
    """Slots 0 to root: the text, its last token at root. Slots after root to end: the tree. Parents lie before their children."""

    def __init__(self, model, prompt, n_slots, budget, guesses, holes):
        self.model, self.cache = model, Cache(model, n_slots)
        self.budget, self.guesses, self.holes = budget, guesses, holes
        self.n_guesses = self.n_hits = 0
        self.token, self.position, self.parent = (np.zeros(n_slots, np.int64) for _ in range(3))
        self.score = np.zeros(n_slots, np.float32)
        self.done = np.zeros(n_slots, bool)             # has been through the draft
        self.sees = np.zeros((n_slots, n_slots), bool)  # ancestors and itself
        self.end, self.root = 0, len(prompt) - 1
        self._add(prompt, np.arange(len(prompt)) - 1, np.zeros(len(prompt)))
        self.cache.prefill(prompt[:-1])
        self.done[:self.root] = True

    def _add(self, tokens, parents, scores):
        for token, parent, score in zip(tokens, parents, scores):
            s = self.end
            self.token[s], self.parent[s], self.score[s], self.done[s] = token, parent, score, False
            self.position[s] = self.position[parent] + 1 if s else 0
            self.sees[s] = self.sees[parent] if s else False
            self.sees[s, s] = True
            self.end += 1

    def _forward(self, slots):
        logits = self.cache.forward(self.token[slots], self.position[slots], slots, self.sees[slots, :self.end])
        self.done[slots] = True
        return logits.log_softmax(-1)

    def _grow(self, first, root, steps, decay):
        """Grows the tree below root; slots from first on count towards the budget."""
        for _ in range(steps):
            leaves = root + np.flatnonzero(~self.done[root:self.end])
            if not len(leaves):
                return
            leaves = np.sort(leaves[np.argsort(-self.score[leaves], kind="stable")[:self.budget]])
            missing = np.flatnonzero(~self.done[:root])  # tokens of the text, in a correct drafter
            log_q, ids = self._forward(np.concatenate((missing, leaves)))[len(missing):].topk(WIDTH)
            # Siblings lie in the order of their ids, as where the faults come from: it decides what a hit leaves in place.
            ids, order = ids.sort(-1)
            scores = (self.score[leaves][:, None] + decay + log_q.gather(-1, order).numpy()).ravel()
            everything = np.concatenate((self.score[first:self.end], scores))
            chosen = np.flatnonzero(scores >= np.sort(everything)[-self.budget:][0])
            if not len(chosen):
                return
            self._add(ids.numpy().ravel()[chosen], leaves[chosen // WIDTH], scores[chosen])

    def _move(self, source):
        """The slots of source become the first of the tree; nothing else of it is left."""
        first, n = self.root + 1, self.root + 1 + len(source)
        place = np.arange(len(self.token))
        place[source] = np.arange(first, n)
        self.parent[first:n] = place[self.parent[source]]
        for values in (self.token, self.position, self.score, self.done):
            values[first:n] = values[source]
        self.sees[first:n] = self.sees[source]
        self.sees[:, first:n] = self.sees[:, source]
        self.sees[n:] = self.sees[:, n:] = False
        self.cache.move(first, source)
        self.end = n

    def draft(self):
        first = self.root + 1
        self._grow(first, self.root, DEPTH, DECAY)
        if self.end - first > self.budget:
            best = np.argsort(-self.score[first:self.end], kind="stable")[:self.budget]
            self._move(first + np.sort(best))

    def guess(self):
        """Guesses the round's last kept token and the one behind it, and grows a tree there, behind this round's."""
        first, tree_end = self.root + 1, self.end
        leaves = np.setdiff1d(np.arange(first, tree_end), self.parent[first:tree_end])
        log_q, ids = self._forward(leaves).max(-1)
        best = int(np.argmax(self.score[leaves] + log_q.numpy()))
        self._add([int(ids[best])], [leaves[best]], [0.0])
        self._grow(tree_end, tree_end, GUESS_DEPTH, GUESS_DECAY)
        self.guessed = leaves[best], int(ids[best]), np.arange(tree_end, self.end)
        self.end = tree_end
        self.n_guesses += 1

    def take_up(self, path, bonus):
        """Makes path and bonus part of the text."""
        old_root = self.root
        last = path[-1] if len(path) else old_root
        if self.guesses and (last, bonus) == self.guessed[:2]:
            self.n_hits += 1
            self._move(np.concatenate((path, self.guessed[2])))
            self.root = old_root + len(path) + 1
            if self.holes:
                n_in_place = np.count_nonzero(path <= self.root)
                self.cache.move(old_root + 1 + n_in_place, np.zeros(0, np.int64))
            return
        self._move(path)
        self._add([bonus], [self.end - 1], [0.0])
        self.root = self.end - 1
        if self.holes:
            self.done[:self.root] = True

    def check(self):
        """Every row from which a new token at the best leaf would be drafted is what a fresh cache has."""
        leaf = self.root + int(np.argmax(self.position[self.root:self.end]))
        slots = np.flatnonzero(self.sees[leaf])
        assert (self.position[slots] == np.arange(len(slots))).all()
        fresh = Cache(self.model, len(slots))
        fresh.prefill(self.token[slots])
        slots, n = torch.from_numpy(slots[self.done[slots]]), np.count_nonzero(self.done[slots])
        for mine, right in ((self.cache.k, fresh.k), (self.cache.v, fresh.v)):
            torch.testing.assert_close(mine[:, :, slots], right[:, :, :n], rtol=1e-3, atol=1e-3)


def distance(logits, token, temperature, chance):
    """How far the token is from being picked; at most 0 for the one that is."""
    if temperature == 0:
        return float(logits.max() - logits[token])
    p = (logits.double() / temperature).softmax(-1)
    end = p[:token + 1].sum()
    return float(max(chance - end, end - p[token] - chance))


def pick(logits, temperature, chance):
    """The likeliest token, or the one at `chance` of the cumulative distribution."""
    if temperature == 0:
        return int(logits.argmax())
    total = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return int(torch.searchsorted(total, chance).clamp(max=len(total) - 1))


def verify(target, d, temperature, chances, known_text):
    """The slots of the kept tokens, and the token behind them. Where rounding could decide, known_text does."""
    slots = np.arange(d.root, d.end)
    logits = target.forward(d.token[slots], d.position[slots], slots, d.sees[slots, :d.end])
    at, path = d.root, []
    while True:
        row, position = logits[at - d.root], d.position[at]
        token = pick(row, temperature, chances[position])
        if position + 1 < len(known_text) and distance(row, known_text[position + 1], temperature, chances[position]) < ROUNDING:
            token = known_text[position + 1]
        children = d.root + 1 + np.flatnonzero((d.parent[d.root + 1:d.end] == at) & (d.token[d.root + 1:d.end] == token))
        if not len(children):
            return np.array(path, np.int64), int(token)
        at = int(children[0])
        path.append(at)


def generate(models, prompt, n_out, budget, variant, temperature, chances, known_text, check):
    """(tokens of each round, text, hits, guesses, share of the answer's rows that are zero in the draft's cache)."""
    n_slots = len(prompt) + n_out + budget * (DEPTH + GUESS_DEPTH + 2) + WIDTH
    target = Cache(models[0], n_slots)
    target.prefill(prompt[:-1])
    d = Drafter(models[1], prompt, n_slots, budget, *VARIANTS[variant])
    rounds = []
    while sum(rounds) < n_out:
        d.draft()
        if d.guesses:
            d.guess()
        if check and not d.holes:
            d.check()
        path, bonus = verify(target, d, temperature, chances, known_text)
        target.move(d.root + 1, path)
        d.take_up(path, bonus)
        rounds.append(len(path) + 1)
    holes = (d.cache.zero_rows(d.root) & d.done[:d.root])[len(prompt):]
    return rounds, d.token[:len(prompt) + n_out].copy(), d.n_hits, d.n_guesses, holes.mean()


def check_text(model, prompt, text, temperature, chances):
    """The target without a cache picks this text."""
    logits = model(torch.from_numpy(text[None]))[0]
    for i in range(len(prompt) - 1, len(text) - 1):
        assert distance(logits[i], text[i + 1], temperature, chances[i]) < ROUNDING, f"token {i + 1} is not the target's"


def held_out_prompts(target_file, folder, n_prompts, n_tok):
    fields = gguf.GGUFReader(target_file).fields
    bpe = Bpe(*(fields["tokenizer.ggml." + key].contents() for key in ("tokens", "merges")))
    folder.mkdir(parents=True, exist_ok=True)
    lists = []
    for source in SOURCES:
        ids = (bpe.encode(text)[:n_tok] for text in documents(source, folder)[1])
        long_enough = [np.array(i, np.int64) for i in ids if len(i) == n_tok]
        step = len(long_enough) / (n_prompts // 2)
        lists.append([long_enough[int(i * step)] for i in range(n_prompts // 2)])  # from all parts of the source
    return [prompt for pair in zip(*lists) for prompt in pair]


def until(rounds, n):
    """(tokens, rounds) up to the round that reaches n tokens."""
    totals = np.cumsum(rounds)
    i = int(np.searchsorted(totals, n))
    return totals[i], i + 1


def interval(mine, other, seed=1, n_draws=10000):
    """Change of tokens per round against other, in percent, with its 95 % interval. Rows: (tokens, rounds) of a prompt."""
    rate = lambda rows, which: rows[which, 0].sum(-1) / rows[which, 1].sum(-1)
    change = lambda which: 100 * (rate(mine, which) / rate(other, which) - 1)
    draws = np.random.default_rng(seed).integers(len(mine), size=(n_draws, len(mine)))
    return (change(np.arange(len(mine))), *np.percentile(change(draws), (2.5, 97.5)))


def report(results, lengths, temperature, budget):
    for variant, done in results.items():
        cells = []
        for n in lengths:
            rows = np.array([until(run[0], n) for run in done], float)
            cells.append(f"{rows[:, 0].sum() / rows[:, 1].sum():.3f}")
            if variant in TWIN:
                twin = np.array([until(run[0], n) for run in results[TWIN[variant]]], float)
                cells.append("{:+.1f} % ({:+.1f} to {:+.1f})".format(*interval(rows, twin)))
            else:
                cells.append("")
        hits, guesses = (sum(run[i] for run in done) for i in (2, 3))
        cells.append(f"{100 * hits / guesses:.0f} %" if guesses else "")
        cells.append(f"{100 * np.mean([run[4] for run in done]):.0f} %")
        print(f"| {temperature:g} | {budget} | {variant} | " + " | ".join(cells) + " |", flush=True)


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("target", type=pathlib.Path)
    p.add_argument("--draft", type=pathlib.Path, required=True)
    p.add_argument("--prompts", type=int, default=16, help="half of them prose, half code")
    p.add_argument("--prompt-tokens", type=int, default=64)
    p.add_argument("--lengths", default="64,256", help="tokens of output")
    p.add_argument("--budgets", default="16,32", help="nodes of a tree, and how many of them are expanded at once")
    p.add_argument("--temps", default="0,1")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--texts", type=pathlib.Path, default=ROOT / "models" / "pair-work")
    return p.parse_args()


def main():
    a = parse_arguments()
    torch.set_num_threads(1)
    lengths = [int(n) for n in a.lengths.split(",")]
    models = [files.read(path) for path in (a.target, a.draft)]
    prompts = held_out_prompts(a.target, a.texts, a.prompts, a.prompt_tokens)
    chances = np.random.default_rng(a.seed).random((len(prompts), a.prompt_tokens + max(lengths) + 256))
    start = time.monotonic()
    print("| T | budget | drafter | " + " | ".join(f"{n} tokens | change" for n in lengths) + " | hits | zero rows |")
    print("|---" * (5 + 2 * len(lengths)) + "|")
    for temperature in map(float, a.temps.split(",")):
        for budget in map(int, a.budgets.split(",")):
            results = {variant: [] for variant in VARIANTS}
            for i, prompt in enumerate(prompts):
                text = prompt
                for variant, done in results.items():
                    done.append(generate(models, prompt, max(lengths), budget, variant, temperature, chances[i], text, check=i == 0))
                    text = results["correct"][-1][1]
                    assert (done[-1][1] == text).all(), f"prompt {i}, {variant}: another text"
                check_text(models[0], prompt, text, temperature, chances[i])
            report(results, lengths, temperature, budget)
    print(f"{len(prompts)} prompts, seed {a.seed}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
