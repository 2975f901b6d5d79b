#!/usr/bin/env python3
"""Compares hob with Hugging Face's package on random texts, for every kind of make_tokenizer_golden.py.

  cmake --build build/dev --target hf_encode
  V/bin/python tools/compare_hf_tokenizer.py [-n 20000] [--seed 1] [--kinds a,b] [--encoder build/dev/hf_encode]
  V/bin/python tools/compare_hf_tokenizer.py --json FOLDER ...      the tokenizer.json of a checkpoint instead

Ids must be equal, with control tokens parsed and without. One departure is meant: the package's Unigram model makes
control and byte tokens of their written texts ("</s>", "<0x41>") where no control tokens are parsed, hob never does;
there only the absence of control tokens is checked ("withheld"). Decoded texts are compared too where both can tell
(not counted as differences: see decoded_alike). Texts that are no UTF-8 exist for hob only: they must not fail, and
byte-level kinds must give them back.
"""
import argparse
import pathlib
import random
import subprocess
import tempfile
import unicodedata

from tokenizers import Tokenizer

import make_tokenizer_golden as golden

# Of characters that came after Unicode 8, the package's tables of punctuation, marks and compatibility forms know
# fewer than hob's: texts keep to older ones. Python's own tables do not tell a character's age; these do by range.
YOUNG = [(0x61D, 0x61D), (0x7FD, 0x7FF), (0x890, 0x89F), (0x8C8, 0x8E2), (0x9FC, 0x9FE), (0xA76, 0xA76), (0xC77, 0xC84),
         (0x166D, 0x166D), (0x1AB0, 0x1ACE), (0x1B7D, 0x1B7E), (0x1DC0, 0x1DFF), (0x2E43, 0x2E5D), (0x32FF, 0x32FF),
         (0xA7F2, 0xA7F4), (0xAB69, 0xAB69)]
BLOCKS = [(0x20, 0x7F)] * 6 + [(0xA0, 0x17F)] * 2 + [
    (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x45F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
    (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x214F), (0x2150, 0x218F),
    (0x2460, 0x24FF), (0x2500, 0x25A0), (0x2600, 0x26FF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x4E00, 0x4F00),
    (0xAC00, 0xAD00), (0xF900, 0xFA00), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1D400, 0x1D4FF),
    (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF), (0x20000, 0x20100), (0x0, 0x1F), (0x80, 0x9F), (0x2028, 0x2029)]
BITS = ["  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "'s", "'LL", "'t ", "123", "4567", "...", "!?", "- ", "_", "▁", "▁▁",
        "<s>", "</s>", "<unk>", "<mask>", " <mask> ", "<pad>", "<sep>", "<sep>  ", "foobar", " foobar ", "xfoobar", "Word",
        "word", "<", ">", "\u200d", "\ufe0f", "👩‍👩‍👧", "👍🏽", "🇩🇪🇫🇷", "e\u0301", "a\u0328\u0301\u0307", "\u1100\u1161\u11a8", "ﬁ", "½", "①",
        "\ufffd", "\u00a0", "\u3000", "\u200b", "\ufeff", "Å", "İ", "ß", "ǅ", "ſ", "lazy", "ISN'T", "<0x41>x", "##a", "</w>", "a\u0301"]
WORDS = " ".join(golden.CORPUS).split(" ")


def assigned(code):
    if 0xD800 <= code <= 0xDFFF or any(a <= code <= b for a, b in YOUNG):
        return False
    return unicodedata.category(chr(code)) != "Cn"


def random_text(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 30])):
        kind = rng.random()
        if kind < 0.35:
            parts.append(rng.choice(WORDS) + rng.choice(["", " ", " ", "  "]))
        elif kind < 0.6:
            parts.append(rng.choice(BITS))
        else:
            low, high = rng.choice(BLOCKS)
            codes = [rng.randint(low, high) for _ in range(rng.randint(1, 6))]
            parts.append("".join(chr(c) for c in codes if assigned(c)))
    return "".join(parts)


def hob(encoder, folder, items, more=()):
    data = b"".join(b"%d %d\n%s" % (len(t), parse, t) for t, parse in items)
    done = subprocess.run([encoder, folder, *more], input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{encoder}: {done.stderr.decode()}")
    rows = []
    for line in done.stdout.decode().split("\n")[:-1]:
        ids, text = line.split(" ")
        rows.append(([int(i) for i in ids.split(",") if i], bytes.fromhex(text)))
    if len(rows) != len(items):
        raise SystemExit(f"{encoder}: {len(rows)} answers to {len(items)} texts")
    return rows


def decoded_alike(theirs, ours):
    """Theirs drops all spaces of a first token, and writes U+FFFD for broken bytes: hob keeps both."""
    plain = ours.decode("utf-8", "replace")
    return theirs.replace("\ufffd", "").strip() == plain.replace("\ufffd", "").strip()


def withheld(name, tokenizer, text, parse):
    """May the package make tokens of this text that hob refuses to make?"""
    if not name.startswith("unigram"):
        return False
    return "<0x" in text or (not parse and any(t.content in text for t in tokenizer.get_added_tokens_decoder().values()
                                               if t.special))


def compare(name, tokenizer, args):
    rng = random.Random(f"{args.seed} {name}")
    texts = [random_text(rng) for _ in range(args.n)]
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        ours = hob(args.encoder, folder, [(t.encode(), p) for t in texts for p in (1, 0)])
        broken = [bytes(rng.randrange(256) for _ in range(rng.randint(1, 30))) for _ in range(args.n // 10)]
        odd = hob(args.encoder, folder, [(t, 0) for t in broken])
    wrong, wrong_text, n_withheld = [], 0, 0
    special = {i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special and t.content != "<unk>"}
    frame = len(tokenizer.encode("").ids)
    for i, text in enumerate(texts):
        ids, plain, decoded = golden.expected(tokenizer, text)
        for parse, theirs, mine in ((1, ids, ours[2 * i][0]), (0, plain, ours[2 * i + 1][0])):
            if withheld(name, tokenizer, text, parse):
                n_withheld += 1
                if parse or len(special & set(mine)) <= frame:
                    continue
            if theirs != mine:
                wrong.append((parse, text, theirs, mine))
        if ids == ours[2 * i][0] and not decoded_alike(decoded, ours[2 * i][1]):
            wrong_text += 1
            if wrong_text <= args.show:
                print(f"  decoded {ascii(text)}\n    theirs {ascii(decoded)}\n    ours   {ascii(ours[2 * i][1])}")
    exact = name in ("gpt2", "llama3", "gpt4o", "digits", "behaviors")
    lost = sum(exact and t != back for t, (_, back) in zip(broken, odd))
    print(f"{name:18} {2 * len(texts)} encodings, {len(wrong)} differ, {n_withheld} withheld; {wrong_text} texts decode differently; "
          f"{len(broken)} texts of random bytes, {lost} lost", flush=True)
    for parse, text, theirs, mine in wrong[:args.show]:
        at = next((i for i, (a, b) in enumerate(zip(theirs, mine)) if a != b), min(len(theirs), len(mine)))
        word = [tokenizer.id_to_token(i) for i in theirs[max(0, at - 2):at + 5]]
        mine_word = [tokenizer.id_to_token(i) for i in mine[max(0, at - 2):at + 5]]
        print(f"  parse={parse} {ascii(text)}\n    theirs {ascii(word)}\n    ours   {ascii(mine_word)}")
    return len(wrong) + lost


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(golden.KINDS))
    parser.add_argument("--json", action="append", default=[])
    parser.add_argument("--encoder", default=str(golden.ROOT / "build/dev/hf_encode"))
    args = parser.parse_args()
    todo = {name: golden.KINDS[name] for name in args.kinds.split(",")}
    if args.json:
        todo = {f: (lambda f=f: Tokenizer.from_file(str(pathlib.Path(f, "tokenizer.json")))) for f in args.json}
    raise SystemExit(1 if sum(compare(name, make(), args) for name, make in todo.items()) else 0)


if __name__ == "__main__":
    main()
