#!/usr/bin/env python3
"""Paged KV against reserving KV memory, in one engine with one budget: request rate at equal normalised latency.

  bench/compare_kv.py MODEL.gguf --kv-tokens 1280 --ctx 1024 --points none=0.4,0.6 max=0.1,0.2 oracle=0.2,0.4
                      [--seconds 60] [--scale 0.5] [--latency 0.5]

Each point is a fresh server under Poisson arrivals of ShareGPT-like lengths (bench/serve_load.py). --latency: the
normalised latency (seconds per token of the answer, mean) at which rates are compared; each mode's rate there is
interpolated between its points. Also printed: KV waste (token slots held without a token in them) and rows per step.
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--hob", default=os.path.join(HERE, "..", "build", "release", "hob"))
    p.add_argument("--kv-tokens", type=int, required=True)
    p.add_argument("--ctx", type=int, default=1024)
    p.add_argument("--points", nargs="+", required=True, help="MODE=RATE,RATE,...: none, max, oracle, oracle-buddy")
    p.add_argument("--seconds", type=float, default=60, help="of arrivals, per point")
    p.add_argument("--scale", type=float, default=1.0)
    p.add_argument("--max-seqs", type=int, default=64)
    p.add_argument("--latency", type=float, default=0.5)
    p.add_argument("--port", type=int, default=18441)
    return p.parse_args()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as r:
        return r.read().decode()


class Server:
    def __init__(self, a, mode):
        self.url = f"http://127.0.0.1:{a.port}"
        self.process = subprocess.Popen(
            [a.hob, "serve", a.model, "--port", str(a.port), "--ctx", str(a.ctx), "--kv-tokens", str(a.kv_tokens),
             "--max-seqs", str(a.max_seqs), "--kv-reserve", mode], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while True:
            if self.process.poll() is not None:
                sys.exit(self.process.stderr.read().decode())
            try:
                get(self.url + "/ready")
                return
            except OSError:
                time.sleep(0.2)

    def counters(self):
        return {m[1]: float(m[2]) for m in re.finditer(r"^([\w:]+)\{.*\} (\S+)$", get(self.url + "/metrics"), re.M)}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def point(a, mode, rate):
    server = Server(a, mode)
    try:
        before = server.counters()
        out = subprocess.run(
            [sys.executable, os.path.join(HERE, "serve_load.py"), "--url", server.url, "--requests", str(max(8, round(rate * a.seconds))),
             "--rate", str(rate), "--scale", str(a.scale), "--max-len", str(a.ctx)], check=True, capture_output=True)
        report, after = json.loads(out.stdout), server.counters()
    finally:
        server.stop()
    d = {k: after[k] - before.get(k, 0) for k in after}
    report["waste"] = 1 - d["hob:kv_token_steps_total"] / max(1, d["hob:kv_slot_steps_total"])
    report["rows_per_step"] = d["hob:rows_total"] / max(1, d["hob:steps_total"])
    report["preemptions"] = d["vllm:num_preemptions_total"]
    return report


def rate_at(points, latency):
    """The first crossing of `latency`, linear between the points; None when all lie on one side."""
    points = sorted(points)
    for (r0, l0), (r1, l1) in zip(points, points[1:]):
        if l0 <= latency < l1:
            return r0 + (r1 - r0) * (latency - l0) / (l1 - l0)
    return None


def main():
    a = parse_arguments()
    rates = {}
    for spec in a.points:
        mode, mode_rates = spec.split("=")
        points = []
        for rate in map(float, mode_rates.split(",")):
            r = point(a, mode, rate)
            points.append((rate, r["normalised"]["mean"]))
            print(f"{mode:13} rate {rate:6.3f}/s: latency {r['normalised']['mean']:.3f} s/token, ttft p95 "
                  f"{r['ttft']['p95']:.2f} s, {r['tok_s']:.0f} tok/s, rows/step {r['rows_per_step']:.1f}, waste "
                  f"{100 * r['waste']:.1f} %, {r['preemptions']:.0f} preemptions, {r['n_failed']} failed", flush=True)
            if r["normalised"]["mean"] > 2 * a.latency:
                break
        rates[mode] = rate_at(points, a.latency)
    for mode, rate in rates.items():
        ratio = f", paged has {rates['none'] / rate:.2f} times that" if rate and rates.get("none") and mode != "none" else ""
        print(f"{mode:13} {rate if rate is None else round(rate, 3)} requests/s at {a.latency} s/token{ratio}")


if __name__ == "__main__":
    main()
