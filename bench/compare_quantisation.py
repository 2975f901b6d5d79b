#!/usr/bin/env python3
"""What rounding, GPTQ and AWQ cost a model: perplexity and KL on held-out text, with paired intervals.

  bench/compare_quantisation.py --model F32.gguf --calibration TEXT --held-out TEXT [TEXT ...] [--hob build/release/hob]
                                [--bits 4 3] [--groups 32 64] [--piece 11500] [--work DIR] [--threads 2]

Standard output: a Markdown table. "gain" is what a method's ln PPL is below that of plain rounding (minimum to maximum of
the group, as in the papers), "recovered" its part of what plain rounding loses. Intervals: 95 %, paired bootstrap over
pieces of text. All results are F32 files of the rounded values, so that any bits and group can be measured; bytes are
those that codes and grids (f16 scale and offset per group) would take.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

METHODS = {
    "rounding": ["--method", "rtn", "--max-shrink", "0"],
    "rounding, best range": ["--method", "rtn"],
    "AWQ, --refine 0": ["--method", "awq", "--refine", "0"],
    "AWQ": ["--method", "awq"],
    "GPTQ, --refine 0": ["--method", "gptq", "--refine", "0"],
    "GPTQ": ["--method", "gptq"],
    "AWQ scales, GPTQ codes": ["--method", "awq+gptq"],
}


def run(*args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare_quantisation.py: {' '.join(map(str, args))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def pieces_of(texts, size, work):
    pieces = []
    for text in texts:
        content = pathlib.Path(text).read_text()
        for i in range(0, len(content) - size // 2, size):
            pieces.append(work / f"piece-{len(pieces):03}.txt")
            pieces[-1].write_text(content[i:i + size])
    return pieces


def judge(options, model, pieces, base):
    rows = []
    for piece in pieces:
        logits = piece.with_suffix(".logits")
        rows.append(run(options.hob, "perplexity", model, "-f", piece, "--ctx", 512, "--json", "--quiet", "--threads", options.threads,
                        "--save-logits" if base else "--kl-base", logits))
    return rows


def mean(rows, key, chosen=None):
    chosen = range(len(rows)) if chosen is None else chosen
    n_tok = sum(rows[i]["n_tok"] for i in chosen)
    return sum(rows[i][key] * rows[i]["n_tok"] for i in chosen) / n_tok


def interval(a, b, draws=4000):
    """95 % of mean NLL of `a` minus that of `b`, over draws of pieces."""
    rng = random.Random(1)
    found = []
    for _ in range(draws):
        chosen = [rng.randrange(len(a)) for _ in a]
        found.append(mean(a, "mean_nll", chosen) - mean(b, "mean_nll", chosen))
    found.sort()
    return found[draws // 40], found[-draws // 40 - 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--held-out", required=True, nargs="+")
    parser.add_argument("--hob", default="build/release/hob")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3])
    parser.add_argument("--groups", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--piece", type=int, default=11500, help="characters of a piece of text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", default="quantisation-work", help="folder for what is made on the way")
    options = parser.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    pieces = pieces_of(options.held_out, options.piece, work)
    base = judge(options, options.model, pieces, True)
    print(f"{sum(p.stat().st_size for p in pieces) / 1000:.0f} kB in {len(pieces)} pieces, {sum(r['n_tok'] for r in base)} tokens scored, "
          f"ln PPL of the F32 model {mean(base, 'mean_nll'):.5f}\n", flush=True)
    print("| bits, group | method | Δ ln PPL | gain on rounding | recovered | mean KL | bits a weight | s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for bits in options.bits:
        for group in options.groups:
            plain = None
            for name in options.methods:
                out = work / "quantised.gguf"
                made = run(options.hob, "quantize", options.model, out, *METHODS[name], "--bits", bits, "--group", group, "--as-f32", "--force",
                           "--json", "--quiet", "--threads", options.threads,
                           *([] if "rtn" in METHODS[name] else ["--calibration", options.calibration]))
                rows = judge(options, out, pieces, False)
                loss = mean(rows, "mean_nll") - mean(base, "mean_nll")
                gain = ""
                if plain is None:
                    plain, plain_loss = rows, loss
                else:
                    low, high = interval(plain, rows)
                    gain = f"{plain_loss - loss:.4f} [{low:.4f}, {high:.4f}] | {100 * (plain_loss - loss) / plain_loss:.0f} %"
                print(f"| {bits}, {group} | {name} | {loss:.4f} | {gain or ' | '} | {mean(rows, 'mean_kl'):.4f} | {bits + 32 / group:g} | "
                      f"{made['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
