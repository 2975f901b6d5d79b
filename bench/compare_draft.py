#!/usr/bin/env python3
"""Local speculation against plain decoding, in turns: the same prompts, the same answers, tokens per second.

  bench/compare_draft.py MODEL.gguf [--draft ngram] [--rounds 5] [-n 256] [--tasks repeat,prose] [-- HOB OPTIONS...]

repeat: copy a program with one name changed. prose: continue a story, sampled, since small models repeat
themselves when they are greedy. verse, library: what the pair in bench/pair has been trained on. Prints one line per
round and task, then medians of drafted / plain. Answers that differ are an error.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CODE = "\n".join(f"""def area_of_{name}(width, height):
    result = width * height
    if result < 0:
        raise ValueError("negative area of {name}")
    return result
""" for name in ["table", "window", "garden", "kitchen"])
TASKS = {
    "repeat": "Here is a program:\n\n" + CODE + "\nHere is the same program again, copied word for word:\n\n",
    "prose": "The old lighthouse keeper had not spoken to anyone for eleven days when the storm finally broke. He climbed the "
             "narrow stairs, lit the lamp, and began to write in his journal about the summer when he first came to the island.",
    "verse": "And it came to pass in the second year of the king, that the word of the LORD came unto the prophet, saying,\n",
    "library": '"""Functions for finding the shortest cycles of a graph.\n"""\n\nimport networkx as nx\n\n\n'
               "def shortest_cycle(G, source=None):\n",
}


SAMPLING = {"repeat": ["--temp", "0"]} | {task: ["--temp", "1", "--seed", "7"] for task in ("prose", "verse", "library")}


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--hob", default=os.path.join(HERE, "..", "build", "release", "hob"))
    p.add_argument("--draft", default="ngram")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("-n", type=int, default=256)
    p.add_argument("--tasks", default="repeat,prose")
    own, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    return p.parse_args(own.split(), argparse.Namespace(options=options.split()))


def run(a, task, *flags):
    command = [a.hob, "run", a.model, "--raw", "-p", TASKS[task], "-n", str(a.n), *SAMPLING[task], "--ignore-eos", "--json",
               "--quiet", *flags, *a.options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main():
    a = parse_arguments()
    ratios = {task: [] for task in a.tasks.split(",")}
    for _ in range(a.rounds):
        for task, found in ratios.items():
            plain, drafted = run(a, task), run(a, task, "--draft", a.draft)
            if plain["tokens"] != drafted["tokens"]:
                sys.exit(f"{task}: the answers differ")
            found.append(drafted["tok_s"] / plain["tok_s"])
            d = drafted["draft"]
            print(f"{task}: plain {plain['tok_s']:.2f} tok/s, drafted {drafted['tok_s']:.2f}, ratio {found[-1]:.3f} "
                  f"({d['n_accepted_tok']} of {d['n_draft_tok']} drafted tokens accepted in {d['n_drafts']} drafts)", flush=True)
    for task, found in ratios.items():
        print(f"{task}: median {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})")


main()
