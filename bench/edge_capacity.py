#!/usr/bin/env python3
"""Who writes how many tokens for how many users, and how many requests a server bears: plain decoding, speculation on the
server and speculation on edges beside each other, real processes over an emulated WAN (bench/wan.sh, needs root).

  bench/edge_capacity.py TARGET.gguf --draft DRAFT.gguf [--rtt 15,50] [--users 1,4] [--systems AR,SRV,EDGE,OPT]
                         [--capacity] [--quick]

AR: the client talks to `hob serve`. SRV: the same with --draft. EDGE: through `hob edge --guesses 0`. OPT: with guesses of
each round's end. One binary, the same KV memory and places for all. Server on core 0; edges, relay and client on core 1.

Throughput: N users, each sends its next request when it has its answer; tokens that arrive in the window per second.
Gap: of each event of a stream that brings tokens, the time since the one before it; however many tokens it brings.
Capacity: requests arrive at random (Poisson, the same arrivals for all systems), whoever is still busy. The highest rate at
which of 95 % of the requests the time per token (first to last arrival over the tokens behind the first) is within --slo,
and the first token comes within --slo-first of the moment when the request was due: a queue is no capacity.

All answers to a prompt must be the same, whoever wrote them; others are an error. A JSON line per measurement, then tables.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import math
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time

from edge_setup import HERE, HTTP_PORT, RIGHT, WAN, cpu_s, metric, relay_pid, start_edge, start_server, wan_path

SYSTEMS = ["AR", "SRV", "EDGE", "OPT"]
PROMPTS = [f"And it came to pass in the {year} year of the king, that the word of the LORD came unto {whom}, saying,\n"
           for year, whom in [("first", "the prophet"), ("second", "Samuel"), ("third", "the priests"), ("fourth", "Jeremiah"),
                              ("fifth", "the children of Israel"), ("sixth", "Moses"), ("seventh", "David"), ("tenth", "his servant")]]
PROMPTS += [f"import networkx as nx\n\n\ndef {name}(G, {more}):\n"
            for name, more in [("shortest_cycle", "source=None"), ("is_connected", "weight=None"), ("degree_sequence", "nodes"),
                               ("all_paths", "source, target"), ("spanning_tree", "weight"), ("test_clustering", "k=2"),
                               ("relabel", "mapping, copy=True"), ("max_flow", "s, t, capacity")]]
FIRST_EDGE_PORT = 18100
SERVER_COUNTS = {"steps": "hob:steps_total", "rows": "hob:rows_total", "preemptions": "vllm:num_preemptions_total"}
DRAFTER_COUNTS = {"drafts": "vllm:spec_decode_num_drafts_total", "draft_tok": "vllm:spec_decode_num_draft_tokens_total",
                  "accepted_tok": "vllm:spec_decode_num_accepted_tokens_total", "hits": "hob:edge_guess_hits_total"}


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("target")
    p.add_argument("--draft", required=True)
    p.add_argument("--hob", default=os.path.join(HERE, "..", "build", "release", "hob"))
    p.add_argument("--rtt", default="0,2,15,50,100", help="ms")
    p.add_argument("--users", default="1,2,4,8,16")
    p.add_argument("--systems", default=",".join(SYSTEMS))
    p.add_argument("--rounds", type=int, default=1, help="all of it so often, in turns; the tables have medians")
    p.add_argument("--capacity", action="store_true", help="search the capacity too")
    p.add_argument("--quick", action="store_true", help="a minute, to see that everything works: the figures mean little")
    p.add_argument("--step-floor", type=float, default=45, help="ms that a step of the server takes at least: as a larger target's")
    p.add_argument("--draft-floor", type=float, default=0, help="ms that a pass of the draft model takes at least, on either side")
    p.add_argument("--edges", type=int, default=1, help="processes that the users share")
    p.add_argument("--guesses", type=int, default=16, help="of OPT")
    p.add_argument("--places", type=int, default=16, help="answers written together: --max-seqs, --max-answers")
    p.add_argument("--kv-tokens", type=int, default=8192, help="of the server, all answers together")
    p.add_argument("--serve-flags", default="")
    p.add_argument("--edge-flags", default="--mode tree", help="tree: without it an edge has the server write where that is faster")
    p.add_argument("--up", default="20M", help="bits per second to the server")
    p.add_argument("--temp", type=float, default=0)
    p.add_argument("-n", type=int, default=128, help="tokens of an answer")
    p.add_argument("--seconds", type=float, default=15, help="of a window")
    p.add_argument("--warm", type=float, default=5, help="seconds before it")
    p.add_argument("--trial-n", type=int, default=48, help="tokens of an answer while the capacity is searched")
    p.add_argument("--trial", type=float, default=25, help="seconds of arrivals, --warm of them unjudged")
    p.add_argument("--slo", type=float, default=100, help="ms per token")
    p.add_argument("--slo-first", type=float, default=2000, help="ms to the first token")
    p.add_argument("--precision", type=float, default=1.15, help="the search ends when the rates around the capacity are so close")
    p.add_argument("--trials", type=int, default=8, help="at most, of a search")
    a = p.parse_args()
    if a.quick:
        a.n, a.trial_n, a.warm, a.seconds, a.trial, a.trials, a.precision = 32, 24, 1, 3, 4, 4, 1.5
    a.rtt, a.users = [float(x) for x in a.rtt.split(",")], [int(x) for x in a.users.split(",")]
    a.systems, a.places = a.systems.split(","), max([a.places] + a.users)
    if not set(a.systems) <= set(SYSTEMS):
        p.error(f"--systems: expected some of {SYSTEMS}, got {a.systems}")
    return a


def percentile_ms(seconds, q):
    """The nearest rank: a value that was measured."""
    return round(sorted(seconds)[max(0, math.ceil(q * len(seconds)) - 1)] * 1e3, 1) if seconds else 0


# In the left namespace: the users.

Answer = collections.namedtuple("Answer", "prompt text due arrivals")  # arrivals: (time, tokens so far)


class Users:
    def __init__(self, spec):
        self.__dict__.update(spec)
        self.local = threading.local()
        self.turn = 0

    def answer(self, i, n, due=0):
        """Over a connection that this thread keeps, as clients do: a further handshake would cost a round trip."""
        turn, self.turn = self.turn, self.turn + 1
        host, port = self.endpoints[turn % len(self.endpoints)]
        kept = self.local.__dict__.setdefault("kept", {})
        connection = kept.setdefault(port, http.client.HTTPConnection(host, port, timeout=300))  # connects at the first request
        body = {"prompt": PROMPTS[i], "max_tokens": n, "temperature": self.temp, "seed": i, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status}: {reply.read(300)}")
        text, arrivals, n_tok = "", [], 0
        for line in reply:
            now = time.monotonic()
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(str(event["error"]))
            text += "".join(c["text"] for c in event["choices"])
            if event["usage"]["completion_tokens"] > n_tok:
                n_tok = event["usage"]["completion_tokens"]
                arrivals.append((now, n_tok))
        if n_tok != n:
            raise RuntimeError(f"expected {n} tokens, got {n_tok}")
        return Answer(i, text, due, arrivals)

    def counters(self):
        """Sums of server and edges; `cpu` by who used it."""
        found = {k: metric(RIGHT, HTTP_PORT, name) for k, name in SERVER_COUNTS.items()}
        found |= {k: sum(metric(*e, name) for e in self.endpoints) for k, name in DRAFTER_COUNTS.items()}
        found |= {f"cpu_{who}": sum(map(cpu_s, pids)) for who, pids in self.pids.items()}
        return found | {"cpu_client": time.process_time(), "at": time.monotonic()}

    def used(self, before):
        """Since then; processor time as a share of a core."""
        d = {k: v - before[k] for k, v in self.counters().items()}
        seconds = d.pop("at")
        return {k: round(v / seconds, 3) if k.startswith("cpu") else v for k, v in d.items()}

    def window(self, users):
        """`users` of them, all the time; begun one after the other, for together they would stay in step."""
        begin = time.monotonic() + self.warm
        end = begin + self.seconds

        def user(u):
            time.sleep(self.warm / 2 * u / users)
            answers, i = [], u
            while time.monotonic() < end:
                answers.append(self.answer(i % len(PROMPTS), self.n))
                i += users
            return answers

        with concurrent.futures.ThreadPoolExecutor(users) as pool:
            futures = [pool.submit(user, u) for u in range(users)]
            time.sleep(max(0, begin - time.monotonic()))
            before = self.counters()
            time.sleep(max(0, end - time.monotonic()))
            used = self.used(before)
            answers = [x for f in futures for x in f.result()]
        # (seconds since the one before it, tokens); the first of an answer has none before it
        arrived = [(t1 - t0 if n0 else None, n1 - n0) for x in answers
                   for (t0, n0), (t1, n1) in zip([(0, 0), *x.arrivals], x.arrivals) if begin <= t1 < end]
        gaps = [(seconds, n) for seconds, n in arrived if seconds is not None]
        n_gaps = max(1, len(gaps))
        return {"users": users, "tok_s": round(sum(n for _, n in arrived) / self.seconds, 2),
                "gap_p50_ms": percentile_ms([s for s, _ in gaps], .5), "gap_p95_ms": percentile_ms([s for s, _ in gaps], .95),
                "gaps": len(gaps), "tok_per_gap": round(sum(n for _, n in gaps) / n_gaps, 2), **used,
                "cpu_per_gap_ms": round(used["cpu_edges"] * self.seconds * 1e3 / n_gaps, 3),
                "answers": [[f"{x.prompt}:{self.n}", x.text] for x in answers]}

    def trial_at(self, rate):
        rng = random.Random(1)
        dues = itertools.accumulate(rng.expovariate(rate) for _ in itertools.count())
        dues = list(itertools.takewhile(lambda due: due < self.trial, dues))
        start, before, futures = time.monotonic(), self.counters(), []
        with concurrent.futures.ThreadPoolExecutor(8 * self.places) as pool:
            for i, due in enumerate(dues):
                time.sleep(max(0, start + due - time.monotonic()))
                if sum(not f.done() for f in futures) >= 4 * self.places:
                    break  # what follows would only take longer
                futures.append(pool.submit(self.answer, i % len(PROMPTS), self.trial_n, start + due))
            else:
                time.sleep(max(0, start + self.trial - time.monotonic()))
            used = self.used(before)
            answers = [f.result() for f in futures]
        judged = [x for x in answers if x.due >= start + self.warm]
        per_tok = [(x.arrivals[-1][0] - x.arrivals[0][0]) / max(1, self.trial_n - x.arrivals[0][1]) for x in judged]
        first = [x.arrivals[0][0] - x.due for x in judged]
        row = {"rate": round(rate, 3), "requests": len(judged), "tok_p95_ms": percentile_ms(per_tok, .95),
               "first_p95_ms": percentile_ms(first, .95)}
        row["beyond"] = ("places" if len(answers) < len(dues) else "tokens" if row["tok_p95_ms"] > self.slo else
                         "first" if row["first_p95_ms"] > self.slo_first else None)
        return {**row, **used, "answers": [[f"{x.prompt}:{self.trial_n}", x.text] for x in answers]}

    def search(self, rate):
        """Between the highest rate that was borne and the lowest that was not."""
        low, high = None, None
        for _ in range(self.trials):
            row = self.trial_at(rate)
            yield row
            low, high = (low, row) if row["beyond"] else (row, high)
            if low and high and high["rate"] / low["rate"] <= self.precision:
                break
            rate = math.sqrt(low["rate"] * high["rate"]) if low and high else low["rate"] * 1.6 if low else high["rate"] / 1.6
        yield {"capacity": low["rate"] if low else 0, "not_borne": high and high["rate"], "beyond": high and high["beyond"],
               **({k: low[k] for k in ("requests", "tok_p95_ms", "first_p95_ms", "cpu_server")} if low else {})}


def client():
    users = Users(json.loads(sys.argv[2]))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # caches, estimates and governors
        list(pool.map(lambda i: users.answer(i, users.trial_n), range(len(PROMPTS))))
    for n in users.users:
        print(json.dumps(row := users.window(n)), flush=True)
    # As if as many users as there are places wrote as fast as those of the last window.
    guess = .8 * row["tok_s"] / n * users.places / users.trial_n
    for row in users.search(guess) if users.capacity else []:
        print(json.dumps(row), flush=True)


# Outside: processes, comparison, tables.

def measure(system, rtt, a):
    """Yields what the client prints."""
    with wan_path(rtt, a.up, core=1) as wan, contextlib.ExitStack() as running:
        floor = ["--draft-floor", a.draft_floor]
        draft = ["--draft", a.draft, *floor] if system == "SRV" else []
        server = start_server(wan, a, "--max-seqs", a.places, "--ctx", 1024, "--kv-tokens", a.kv_tokens, *draft, *a.serve_flags.split())
        running.callback(server.stop)
        ports = range(FIRST_EDGE_PORT, FIRST_EDGE_PORT + a.edges) if system in ("EDGE", "OPT") else []
        endpoints, edges = [("127.0.0.1", port) for port in ports] or [(RIGHT, HTTP_PORT)], []
        for port in ports:
            edges.append(start_edge(wan, a, port, "--max-answers", a.places, "--guesses", a.guesses if system == "OPT" else 0,
                                    *floor, *a.edge_flags.split()))
            running.callback(edges[-1].stop)
        pids = {"server": [server.process.pid], "edges": [e.process.pid for e in edges], "relay": [relay_pid(wan)]}
        spec = json.dumps(vars(a) | {"endpoints": endpoints, "pids": pids})
        users = subprocess.Popen([WAN, "run-left", wan, "taskset", "-c", "1", sys.executable, os.path.abspath(__file__), "--client", spec],
                                 stdout=subprocess.PIPE, text=True, start_new_session=True)
        running.callback(users.wait)
        running.callback(users.kill)  # the last comes first
        for line in users.stdout:
            yield json.loads(line)
        if users.wait():
            sys.exit(f"{system} at {rtt:g} ms: the client failed")
        stats = json.loads(subprocess.run([WAN, "tell", wan, "stats"], capture_output=True, check=True).stdout)
        yield {"late_p99_ms": max(stats[way]["late_ms"]["p99"] for way in ("up", "down"))}


def print_table(title, head, rows):
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, *rows]]
    print("\n".join(["", title, "", lines[0], "|---" * len(head) + "|", *lines[1:]]))


def pass_ms(a, model, batch):
    done = subprocess.run(["taskset", "-c", "0", a.hob, "bench", model, "-p", "0", "-n", "64", "--batch", str(batch), "--threads", "1",
                           "--json"], capture_output=True, text=True, check=True)
    return batch / json.loads(done.stdout)["tok_s"] * 1e3


def print_bounds(a, median):
    """What drafting costs, and how much there is to be had from moving it."""
    print(f"\nA pass of 4 rows of the draft takes {pass_ms(a, a.draft, 4):.3f} ms, of 1 and 16 rows of the target "
          f"{pass_ms(a, a.target, 1):.3f} and {pass_ms(a, a.target, 16):.3f} ms (`hob bench`, 1 thread); a step {a.step_floor:g} ms.")
    rows = []
    for rtt, n in itertools.product(a.rtt, a.users):
        def ratio(system, users):
            return f"{found / srv:.2f}" if (found := median(rtt, system, users, "tok_s")) else ""

        srv, gap = median(rtt, "SRV", n, "tok_s"), median(rtt, "SRV", n, "gap_p50_ms")
        if srv:
            draft = max(0, gap - a.step_floor)
            rows.append([f"{rtt:g}", n, f"{draft:.2f}", f"{1 + draft / a.step_floor:.2f}", ratio("EDGE", n), ratio("OPT", n),
                         f"{(draft + a.step_floor) / max(draft, a.step_floor):.2f}", ratio("EDGE", 2 * n), ratio("OPT", 2 * n)])
    if rows:
        print_table("Bounds. t_v: the floor of a step; γ·t_d: what a round of SRV takes beyond it (median).",
                    ["RTT ms", "users N", "γ·t_d ms", "fair: 1 + γ·t_d / t_v", "EDGE / SRV", "OPT / SRV",
                     "paper's: (γ·t_d + t_v) / max(t_v, γ·t_d)", "EDGE of 2 N / SRV of N", "OPT of 2 N / SRV of N"], rows)


def print_tables(a, rows, n_answers, n_prompts):
    def values(rtt, system, users, key):  # users None: the results of searches
        found = [r for r in rows if (r["rtt_ms"], r["system"], r.get("users")) == (rtt, system, users)]
        return [r[key] for r in found if (users or "capacity" in r) and r.get(key) is not None]

    def median(*where):
        return statistics.median(found) if (found := values(*where)) else None

    def grid(form, *keys):
        return [[f"{rtt:g}", n, *(form.format(*(median(rtt, s, n, k) for k in keys)) for s in a.systems)]
                for rtt, n in itertools.product(a.rtt, a.users)]

    def capacity(rtt, s):
        rate, tried = median(rtt, s, None, "capacity"), median(rtt, s, None, "not_borne")
        limit = f"not {tried:.2f}: {'/'.join(sorted(set(values(rtt, s, None, 'beyond'))))}" if tried else "more was not tried"
        at = f"; {median(rtt, s, None, 'tok_p95_ms'):.0f}, {median(rtt, s, None, 'first_p95_ms'):.0f} ms" if rate else ""
        return f"{rate:.2f} ({limit}{at})"

    print(f"\n`bench/{os.path.basename(__file__)} {shlex.join(sys.argv[1:])}`")
    print(f"\n{n_answers} answers to {n_prompts} prompts (of a length each): to each the same text in all systems, at all loads and "
          f"round trips. The relay's packets were at most {max(r.get('late_p99_ms', 0) for r in rows):.1f} ms late (p99).")
    head = ["RTT ms", "users", *a.systems]
    print_table("Throughput, tok/s of all users", head, grid("{:.1f}", "tok_s"))
    print_table("Gap between arrivals of a stream, ms: p50 / p95 (tokens per arrival)", head,
                grid("{:.0f} / {:.0f} ({:.1f})", "gap_p50_ms", "gap_p95_ms", "tok_per_gap"))
    print_table("Processor time, % of a core: server (core 0) / edges / relay / client (core 1)", head, grid(
        "{:.0%} / {:.0%} / {:.0%} / {:.0%}", "cpu_server", "cpu_edges", "cpu_relay", "cpu_client"))
    if a.capacity:
        print_table(f"Capacity, requests/s of {a.trial_n} tokens: p95 per token <= {a.slo:g} ms, of the first <= {a.slo_first:g} ms (the "
                    "next rate and what it was beyond; places: four times as many wrote or waited; both p95 at the capacity)",
                    ["RTT ms", *a.systems], [[f"{rtt:g}", *(capacity(rtt, s) for s in a.systems)] for rtt in a.rtt])
    print_bounds(a, median)


def all_rows(a):
    for number, rtt, system in itertools.product(range(a.rounds), a.rtt, a.systems):
        with contextlib.closing(measure(system, rtt, a)) as found:
            for row in found:
                yield {"round": number, "rtt_ms": rtt, "system": system, **row}


def main():
    a = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped then too
    rows, texts, n_answers = [], {}, 0
    with contextlib.closing(all_rows(a)) as found:
        for row in found:
            for key, text in row.pop("answers", []):
                n_answers += 1
                if texts.setdefault(key, text) != text:
                    sys.exit(f"{row['system']} at {row['rtt_ms']:g} ms: to prompt {key} another answer, {text!r}, than {texts[key]!r}")
            rows.append(row)
            print(json.dumps(row), flush=True)
    print_tables(a, rows, n_answers, len(texts))


if __name__ == "__main__":
    try:
        client() if sys.argv[1:2] == ["--client"] else main()
    except KeyboardInterrupt:
        sys.exit(130)
