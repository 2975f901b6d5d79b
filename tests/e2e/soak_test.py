"""Random load on a real server for a long time: nothing dies, nothing leaks, no answer changes.

  soak_test.py HOB DATA [--seconds 300] [--seed 1] [--think S]
  soak_test.py HOB DATA --seconds 7200 --think 2 --faults 0.000005:1 --model MODEL.gguf -- --memory 500M     (by hand, one server)

Without --model two small servers take half of the time each: one whose model is in memory, one that streams its experts and
whose disk fails now and then. Answers are compared with those that the same server gave before the load began, alone. After
each third the load stops: then no request, no KV block and no file may be left. Exit code 0 and a last line that begins
with "soak: passed" mean: all of that held.
"""
import argparse
import collections
import contextlib
import pathlib
import random
import signal
import sys
import tempfile

OPTIONS = sys.argv[3:]
sys.argv[3:] = []

from server import *
from soak_load import *

FAULTS = "0.0005:1"
HEALTH_S = 5
# Resident memory at rest, from the end of the first third to the end. What a soak leaks grows with the number of requests:
# 64 bytes for each of the 10^5 to 10^6 requests of two hours are 6 to 64 MiB. Without a leak it still moves by less than
# 2 MiB (measured), with what the allocator happens to hold when the load stops; with AddressSanitizer's allocator and its
# bookkeeping of stacks by 3 MiB.
RSS_GROWTH_BYTES = (12 if SANITIZERS else 6) << 20


class Holder:
    """What Server wants of a test."""

    def __init__(self, stack):
        self.tmp = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.addCleanup = stack.callback


class Load:
    """The clients of one server and what they saw."""

    def __init__(self, server, options):
        self.server, self.port = server, server.port
        self.faults = options.faults
        self.max_seqs, self.burst = options.max_seqs, options.max_queue * 2
        self.timeout_s = 900 + Frozen.LIMIT_S
        self.think_s = options.think
        self.frozen = Frozen()
        self.bursting = threading.Lock()
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.slowest_s = collections.Counter()
        self.wrong = []
        self.slowest_health_s = 0
        self.running = True
        self.ctx = server.ask("GET", "/v1/models")[2]["data"][0]["max_model_len"]
        rng = random.Random(options.seed)
        text = " ".join(rng.choice(WORDS) for _ in range(2 * self.ctx))
        self.ids = server.ask("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})[2]["tokens"]
        self.cases = make_cases(self.ids, self.ctx, self.max_seqs, rng)

    def learn(self):
        """The right answers: each case alone."""
        for case in self.cases:
            for _ in range(100):
                status, _, reply = self.server.ask("POST", case.path, case.body)
                if status == 200:
                    break
                if status != 500 or not self.faults:
                    break
            if status != 200:
                raise SystemExit(f"soak: FAILED: {case.path} {case.body}, alone: {status} {reply}")
            case.expected = case.answer(reply)

    def act(self, client, name):
        start = time.monotonic()
        try:
            outcome = getattr(client, name)()
        except Exception as e:  # noqa: whatever happens to a client is part of the result
            left = isinstance(e, OSError) and name in ("cancel", "slow_reader", "bad_head")
            outcome = "left" if left else "frozen" if self.frozen.since(start) else "wrong"
            if outcome == "wrong":
                self.report(f"{name}: {type(e).__name__}: {e}"[:2000])
        with self.lock:
            self.counts[f"{name}: {outcome}"] += 1
            if name != "burst":
                self.slowest_s[name] = max(self.slowest_s[name], round(time.monotonic() - start, 3))

    def report(self, what):
        with self.lock:
            self.wrong.append(what)
        if len(self.wrong) <= 20:
            print("soak: WRONG:", what, flush=True)

    def user(self, end, seed):
        rng = random.Random(seed)
        client = Client(self, rng)
        names, weights = list(ACTIONS), list(ACTIONS.values())
        while self.frozen.now() < end and self.server.process.poll() is None:
            self.act(client, rng.choices(names, weights)[0])
            time.sleep(rng.expovariate(1 / self.think_s) if self.think_s else 0)

    def watch_health(self):
        while self.running:
            time.sleep(0.5)
            start = time.monotonic()
            try:
                status = self.server.ask("GET", "/health")[0]
            except OSError as e:
                status = e
            took = time.monotonic() - start
            if not self.running or (took > HEALTH_S or status != 200) and self.frozen.since(start):
                continue
            self.slowest_health_s = max(self.slowest_health_s, took)
            if status != 200 or took > HEALTH_S:
                self.report(f"/health: {status} after {took:.1f} s")

    def rest(self, n_files):
        """Waits until nothing runs; then nothing may be left."""
        self.server.until(lambda: self.server.metric("vllm:num_requests_running") +
                          self.server.metric("vllm:num_requests_waiting") == 0, "no request in the engine")
        if self.server.metric("vllm:kv_cache_usage_perc") != 0:
            self.report(f"KV blocks in use at rest: {self.server.metric('vllm:kv_cache_usage_perc')}")
        files = lambda: len(os.listdir(f"/proc/{self.server.process.pid}/fd"))
        with contextlib.suppress(AssertionError):
            self.server.until(lambda: files() <= n_files, "no open file more than at the start")
        if files() > n_files:
            self.report(f"{files()} open files, {n_files} at the start")


def rss_bytes(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10


def soak(name, options, *args):
    """One server for options.seconds. Returns whether all was right."""
    with contextlib.ExitStack() as stack:
        holder = Holder(stack)
        # A quarantine of the usual 256 MiB would look like a leak for as long as it fills.
        sanitizer = {"ASAN_OPTIONS": "quarantine_size_mb=4:thread_local_quarantine_size_kb=64"}
        server = Server(holder, "--max-seqs", options.max_seqs, "--max-queue", options.max_queue, *args,
                        ctx=options.ctx, model=options.model or TINY, env=sanitizer)
        load = Load(server, options)
        load.learn()
        time.sleep(1)
        n_files = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        threading.Thread(target=load.watch_health, daemon=True).start()
        rss, start = [], load.frozen.now()
        for third in range(3):
            end = start + options.seconds * (third + 1) / 3
            users = [threading.Thread(target=load.user, args=(end, f"{options.seed} {third} {i}"))
                     for i in range(options.users)]
            [u.start() for u in users]
            while any(u.is_alive() for u in users):
                for u in users:
                    u.join(10)
                if server.process.poll() is None:
                    print(f"soak: {name}: {load.frozen.now() - start:.0f} s, {sum(load.counts.values())} requests, "
                          f"RSS {rss_bytes(server.process) >> 10} KiB", flush=True)
            if server.process.poll() is not None:
                print("".join(server.lines), file=sys.stderr)
                print(f"soak: WRONG: {name}: the server ended with {server.process.poll()}", flush=True)
                return False
            load.rest(n_files)
            rss.append(rss_bytes(server.process))
        load.running = False
        return finish(name, load, rss, options)


def finish(name, load, rss, options):
    server = load.server
    metrics = {m: server.metric(m) for m in ["vllm:num_preemptions_total", "vllm:prefix_cache_hits_total",
                                             "hob:expert_read_errors_total", "vllm:generation_tokens_total"]}
    growth = rss[-1] - rss[0]
    if growth > RSS_GROWTH_BYTES:
        load.report(f"RSS grew by {growth >> 10} KiB from {rss[0] >> 10} KiB")
    for outcome in ["known: right", "known: 429", "cancel: left", "bad_body: 400", "too_long: 400"]:
        if load.counts[outcome] == 0 and not (outcome == "known: 429" and options.seconds < 60):
            load.report(f"nothing of '{outcome}': the load was no test")
    if options.faults and load.counts["known: fault injected"] == 0:
        load.report("no injected fault reached a request")
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(900)
    if code != 0:
        load.report(f"exit code {code} after SIGTERM: {''.join(server.lines[-40:])}")
    print(json.dumps({"server": name, "seconds": options.seconds, "frozen_s": round(load.frozen.total_s), "wrong": len(load.wrong), "rss_kib": [r >> 10 for r in rss],
                      "slowest_health_s": round(load.slowest_health_s, 3), "slowest_s": dict(load.slowest_s), "metrics": metrics,
                      "counts": dict(sorted(load.counts.items()))}, indent=1), flush=True)
    return not load.wrong


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--think", type=float, default=0.02, help="mean pause of a client between two requests, s")
    p.add_argument("--users", type=int, default=6)
    p.add_argument("--ctx", type=int, default=CTX)
    p.add_argument("--max-seqs", type=int, default=4)
    p.add_argument("--max-queue", type=int, default=12)
    p.add_argument("--model")
    p.add_argument("--faults", default=FAULTS, help="RATE:SEED for the streamed server; empty = none")
    p.add_argument("server", nargs="*", help="behind --: options of hob serve, with --model")
    return p.parse_args(OPTIONS)


def main():
    o = parse()
    inject = ["--inject-faults", o.faults] if o.faults else []
    if o.model:
        ok = soak("by hand", o, *inject, *o.server)
    else:
        # KV for two and a half sequences: preemptions. A sixth of the experts: every step reads.
        o.seconds /= 2
        kv = ["--kv-tokens", str(o.ctx * 5 // 2)]
        ok = soak("streamed", o, *kv, "--expert-cache", "100K", *inject)
        o.faults = ""
        ok = soak("resident, drafting", o, *kv, "--draft", "ngram", "--draft-always") and ok
    print("soak: passed" if ok else "soak: FAILED", flush=True)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
