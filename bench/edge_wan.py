#!/usr/bin/env python3
"""Edge-assisted speculation over an emulated WAN, real processes on one machine (bench/wan.sh, needs root).

  bench/edge_wan.py TARGET.gguf --draft DRAFT.gguf|ngram [--rtt 0,15,50] [--users 1,4] [--rounds 3] [-n 128]
                    [--rate 20M] [--systems plain,server,edge,guess]

plain: the client talks to `hob serve`. server: the same with --draft. edge: through `hob edge --guesses 0`.
guess: through `hob edge` with guesses of each round's end. Server on core 0, edge on core 1, one thread each. Answers are
compared; different ones are an error. Prints a line per round and setting, then medians of tokens per second.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

from edge_setup import HERE, HTTP_PORT, RIGHT, WAN, metric, start_edge, start_server, wan_path

PROMPTS = ["And it came to pass in the second year of the king, that the word of the LORD came unto the prophet, saying,\n",
           "import networkx as nx\n\n\ndef shortest_cycle(G, source=None):\n"]
EDGE_PORT = 18082


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("target")
    p.add_argument("--draft", required=True)
    p.add_argument("--hob", default=os.path.join(HERE, "..", "build", "release", "hob"))
    p.add_argument("--rtt", default="0,15,50")
    p.add_argument("--users", default="1,4")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--rate", default="20M")
    p.add_argument("--systems", default="plain,server,edge,guess")
    p.add_argument("--temp", type=float, default=0.7)
    p.add_argument("--edge-flags", default="")
    p.add_argument("--guesses", type=int, default=16)
    p.add_argument("--step-floor", type=float, default=0, help="ms that a step of the server takes at least: as a larger target's")
    p.add_argument("-n", type=int, default=128)
    return p.parse_args()


def ask(host, port, prompt, seed, a):
    connection = http.client.HTTPConnection(host, port, timeout=600)
    body = {"prompt": prompt, "max_tokens": a.n, "temperature": a.temp, "seed": seed, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = json.loads(connection.getresponse().read())
    return reply["choices"][0]["text"], reply["usage"]["completion_tokens"]


def load(host, port, users, a):
    """Two answers for each user, one after the other; users at the same time."""
    with concurrent.futures.ThreadPoolExecutor(users) as pool:
        start = time.monotonic()
        answers = list(pool.map(lambda i: ask(host, port, PROMPTS[i % 2], i, a), range(2 * users)))
        seconds = time.monotonic() - start
    return [t for t, _ in answers], sum(n for _, n in answers) / seconds


def measure(system, rtt, users, a):
    """Runs itself in the left namespace as the client, so that HTTP goes over the WAN where it would."""
    with wan_path(rtt, a.rate) as wan, contextlib.ExitStack() as running:
        draft = ["--draft", a.draft] if system == "server" else []
        server = start_server(wan, a, "--max-seqs", max(4, users), "--ctx", 1024, *draft)
        running.callback(server.stop)
        host, port = RIGHT, HTTP_PORT
        if system in ("edge", "guess"):
            host, port = "127.0.0.1", EDGE_PORT
            edge = start_edge(wan, a, port, "--max-answers", max(4, users), "--guesses", a.guesses if system == "guess" else 0,
                              *a.edge_flags.split())
            running.callback(edge.stop)
        client = [WAN, "run-left", wan, sys.executable, __file__, "--client", host, port, users, a.n, a.temp]
        done = subprocess.run([*map(str, client)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads(done.stdout)


def client():
    host, port, users, n, temp = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    a = argparse.Namespace(n=n, temp=temp)
    load(host, port, 1, a)  # warms caches, estimates and governors
    texts, tok_s = load(host, port, users, a)
    names = ["hob:edge_rounds_total", "hob:edge_guessed_rounds_total", "hob:edge_guess_hits_total", "hob:edge_rtt_seconds",
             "hob:edge_verify_seconds", "hob:edge_sent_bytes_total", "hob:edge_received_bytes_total", "vllm:generation_tokens_total"]
    print(json.dumps({"texts": texts, "tok_s": tok_s, "metrics": {m: metric(host, port, m) for m in names}}))


def main():
    a = parse_arguments()
    systems = a.systems.split(",")
    settings = list(itertools.product(map(float, a.rtt.split(",")), map(int, a.users.split(","))))
    rates = {}
    for number in range(a.rounds):
        for rtt, users in settings:
            texts = None
            for system in systems:
                done = measure(system, rtt, users, a)
                if texts is not None and done["texts"] != texts:
                    sys.exit(f"{system}: other answers than {systems[0]}")
                texts = done["texts"]
                rates.setdefault((rtt, users, system), []).append(done["tok_s"])
                print(json.dumps({"round": number, "rtt_ms": rtt, "users": users, "system": system, "tok_s": round(done["tok_s"], 1),
                                  **{k.split(":")[1]: round(v, 5) for k, v in done["metrics"].items()}}), flush=True)
    print("| RTT ms | users | " + " | ".join(systems) + " |")
    print("|---" * (2 + len(systems)) + "|")
    for rtt, users in settings:
        print(f"| {rtt:g} | {users} | " + " | ".join(f"{statistics.median(rates[rtt, users, s]):.1f}" for s in systems) + " |")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--client":
        client()
    else:
        main()
