#!/usr/bin/env python3
"""How much sooner the second turn of a long conversation starts with the prefix cache.

  bench/prefix_cache.py --url http://127.0.0.1:8080 [--prompt 8192] [--more 64] [--rounds 3]

A first turn of --prompt tokens, then the same with --more tokens behind it; and that second turn again with another
cache_salt, which makes it compute everything. Time to the first token of each; one JSON line with the median ratio.
"""
import argparse
import json
import random
import statistics
import time
import urllib.request


def first_token(url, prompt, salt):
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "cache_salt": salt, "ignore_eos": True}
    with urllib.request.urlopen(url + "/v1/models") as r:
        body["model"] = json.load(r)["data"][0]["id"]
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    start = time.monotonic()
    with urllib.request.urlopen(request, timeout=3600) as r:
        json.load(r)
    return time.monotonic() - start


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", required=True)
    p.add_argument("--prompt", type=int, default=8192)
    p.add_argument("--more", type=int, default=64)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    rounds = []
    for i in range(a.rounds):
        rng = random.Random(i)
        turn = [rng.randrange(3, 1000) for _ in range(a.prompt + a.more)]
        first = first_token(a.url, turn[:a.prompt], f"a{i}")
        rounds.append({"first_s": first, "hit_s": first_token(a.url, turn, f"a{i}"), "miss_s": first_token(a.url, turn, f"b{i}")})
    report = {k: round(statistics.median(r[k] for r in rounds), 4) for k in rounds[0]}
    report["ratio"] = round(statistics.median(r["miss_s"] / r["hit_s"] for r in rounds), 2)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
