#!/usr/bin/env python3
"""How much processor time do threads burn while the engine waits for the disk?

    bench/wait_cpu.py [--hob build/release/hob] MODEL.gguf [arguments of hob bench, e.g. --memory 2G --threads 2]

Runs `hob bench MODEL -p 0 -r 1 --json` with the given arguments (-n 64 unless they say) and reads the state of the
engine thread and the processor time of every thread (/proc/PID/task/TID/{stat,schedstat}) about 1000 times a second.
The engine thread sleeps only while it waits for an expert; between products it spins. An interval counts as waiting when
the engine slept at both of its ends and used no processor time in between. The share of a compute thread is its
processor time in those intervals over their length. The loader's thread is shown too, but it works: it submits reads
and brings experts into kernel layout. Not counted are the intervals in which the engine falls asleep: a worker spins there for at most
50 us before it parks. A wait shorter than two intervals has none that counts; their number is shown.

The test itself is measured: from n_tok / tok_s seconds before its result appeared. Last line: JSON.
"""
import json
import os
import subprocess
import sys
import threading
import time

INTERVAL_S = 0.0008


class Thread:
    def __init__(self, pid, tid):
        folder = f"/proc/{pid}/task/{tid}"
        self.stat = os.open(folder + "/stat", os.O_RDONLY)
        self.schedstat = os.open(folder + "/schedstat", os.O_RDONLY)

    def role(self):  # the loader names itself when it runs
        name = os.pread(self.stat, 400, 0).split(b"(", 1)[1].rsplit(b")", 1)[0]
        return "loader" if name == b"hob-experts" else "worker"

    def asleep(self):
        return os.pread(self.stat, 400, 0).rsplit(b")", 1)[1].split()[0] == b"S"

    def cpu_s(self):
        return int(os.pread(self.schedstat, 100, 0).split()[0]) * 1e-9


class Sampler:
    """The engine thread is the process's first; threads that come later are taken in as they come."""

    def __init__(self, pid):
        self.pid, self.threads, self.samples = pid, {pid: Thread(pid, pid)}, []
        self.roles = {}
        # samples: (time, engine asleep, {tid: cpu_s})

    def sample(self, look_for_new):
        if look_for_new:
            for tid in map(int, os.listdir(f"/proc/{self.pid}/task")):
                if tid not in self.threads:
                    self.threads[tid] = Thread(self.pid, tid)
                self.roles[tid] = self.threads[tid].role()
        asleep = self.threads[self.pid].asleep()
        self.samples.append((time.monotonic(), asleep, {tid: t.cpu_s() for tid, t in self.threads.items()}))

    def forget_the_ended(self):
        self.threads = {tid: t for tid, t in self.threads.items() if os.path.exists(f"/proc/{self.pid}/task/{tid}")}

    def run(self, until):
        i = 0
        while not until():
            try:
                self.sample(i % 256 == 0)
            except (FileNotFoundError, ProcessLookupError):  # a thread, or all of it, has ended
                self.forget_the_ended()
            i += 1
            time.sleep(INTERVAL_S)


def bench(hob, model, arguments):
    length = [] if "-n" in arguments else ["-n", "64"]
    process = subprocess.Popen([hob, "bench", model, "-p", "0", "-r", "1", "--json", *length, *arguments],
                               stdout=subprocess.PIPE, text=True)
    result = {}

    def read():
        result["line"] = process.stdout.readline()
        result["end"] = time.monotonic()

    reader = threading.Thread(target=read)
    reader.start()
    sampler = Sampler(process.pid)
    sampler.run(lambda: not reader.is_alive())
    reader.join()
    if process.wait() != 0 or not result["line"]:
        sys.exit("wait_cpu.py: hob bench failed")
    return json.loads(result["line"]), result["end"], sampler


def main():
    arguments = sys.argv[1:]
    hob = "build/release/hob"
    if arguments[:1] == ["--hob"]:
        hob, arguments = arguments[1], arguments[2:]
    if not arguments or arguments[0].startswith("-"):
        sys.exit(__doc__)
    result, end, sampler = bench(hob, arguments[0], arguments[1:])
    seconds = result["n_tok"] * result["batch"] / result["tok_s"]
    samples = [s for s in sampler.samples if end - seconds <= s[0] <= end]
    engine = sampler.pid
    if len(samples) < 2:
        sys.exit("wait_cpu.py: expected a longer test: use a larger -n")
    threads = [tid for tid in samples[0][2] if tid in samples[-1][2]]
    waited_s, n_waits, burnt = 0.0, 0, dict.fromkeys(threads, 0.0)
    for (t0, asleep0, cpu0), (t1, asleep1, cpu1) in zip(samples, samples[1:]):
        if not (asleep0 and asleep1 and cpu0[engine] == cpu1[engine]):
            continue
        waited_s += t1 - t0
        n_waits += 1
        for tid in threads:
            burnt[tid] += cpu1[tid] - cpu0[tid]
    if n_waits < 100:
        sys.exit(f"wait_cpu.py: expected at least 100 intervals of waiting, got {n_waits}: use a larger -n or a smaller "
                 "--memory")
    window = samples[-1][0] - samples[0][0]
    report = {"seconds": round(seconds, 2), "tok_s": round(result["tok_s"], 2),
              "waiting_share": next(round(s["share"], 3) for s in result["stages"] if s["stage"] == "waiting for disk"),
              "intervals": n_waits, "intervals_s": round(waited_s, 2), "threads": []}
    for tid in threads:
        role = "engine" if tid == engine else sampler.roles[tid]
        share = (samples[-1][2][tid] - samples[0][2][tid]) / window
        report["threads"].append({"role": role, "cpu_share": round(share, 4),
                                  "cpu_share_while_waiting": round(burnt[tid] / waited_s, 4)})
        print(f"{role:<8} {share:7.1%} of the test, {burnt[tid] / waited_s:7.1%} while the engine waits")
    print(json.dumps(report))


main()
