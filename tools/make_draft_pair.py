#!/usr/bin/env python3
"""Trains a small target model and a smaller draft of it, to measure speculative decoding with.

    make_draft_pair.py --minutes 40            train from the beginning, write the files, measure them
    make_draft_pair.py --minutes 40 --resume   go on where an interrupted run stopped (at most a minute is lost)

Writes under --out: pair-target-q8_0.gguf, pair-target-q5_0.gguf, pair-draft-f16.gguf, pair-draft-q8_0.gguf, and pair.md,
which says what they are made of. Needs tools/requirements-train.txt and about 2 GB of memory; the texts are
downloaded once (3.5 MB).
"""
import argparse
import os
import pathlib

from draft_pair.texts import SOURCES, documents

ROOT = pathlib.Path(__file__).resolve().parent.parent
N_VOCAB = 4096         # small, so that parameters go into layers
TARGET_SHARE = 0.72    # of the minutes
TARGET = dict(n_layers=5, d_model=384, d_ff=1024, n_heads=6)
DRAFT = dict(n_layers=2, d_model=192, d_ff=512, n_heads=3)
FILES = {"target": ("q8_0", "q5_0"), "draft": ("f16", "q8_0")}


def load_texts(work):
    """(vocabulary, training ids per source, held-out ids per source)."""
    from draft_pair.vocabulary import ids_of, load_or_learn
    texts = [documents(source, work) for source in SOURCES]
    vocabulary = load_or_learn(work / "vocabulary.json", [t for train, _ in texts for t in train], N_VOCAB)
    train, held_out = ([ids_of(part[i], *vocabulary) for part in texts] for i in (0, 1))
    for source, a, b in zip(SOURCES, train, held_out):
        print(f"{source.name}: {len(a)} tokens to train on, {len(b)} held out", flush=True)
    return vocabulary, train, held_out


def train_pair(train, work, minutes, resume):
    import torch
    from draft_pair.llama import Llama, Shape
    from draft_pair.training import SEED, Trainer, cross_entropy, distilled_from
    torch.manual_seed(SEED)
    target, draft = (Llama(Shape(n_vocab=N_VOCAB, **sizes)) for sizes in (TARGET, DRAFT))
    trainers = {"target": Trainer(target, cross_entropy, work / "target.pt", minutes * TARGET_SHARE),
                "draft": Trainer(draft, distilled_from(target), work / "draft.pt", minutes * (1 - TARGET_SHARE))}
    for trainer in trainers.values():
        if resume and trainer.path.exists():
            trainer.resume()
        trainer.run(train)
    return trainers


def write_files(trainers, vocabulary, out):
    from draft_pair import files
    for role, types in FILES.items():
        for type_name in types:
            path = out / f"pair-{role}-{type_name}.gguf"
            files.write(path, trainers[role].model, vocabulary, type_name)
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


def measure(out, held_out):
    """Rows of the card's table: (target's type, draft's type, source, Agreement)."""
    from draft_pair import files
    from draft_pair.measure import agreement
    for kinds in zip(*FILES.values()):
        target, draft = (files.read(out / f"pair-{role}-{kind}.gguf") for role, kind in zip(FILES, kinds))
        for source, ids in zip(SOURCES, held_out):
            yield *kinds, source.name, agreement(target, draft, ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "models")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training, both models together")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    import torch
    from draft_pair.card import card
    torch.set_num_threads(args.threads)
    work = args.out / "pair-work"
    work.mkdir(parents=True, exist_ok=True)
    vocabulary, train, held_out = load_texts(work)
    trainers = train_pair(train, work, args.minutes, args.resume)
    write_files(trainers, vocabulary, args.out)
    text = card(trainers, train, list(measure(args.out, held_out)))
    (args.out / "pair.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
