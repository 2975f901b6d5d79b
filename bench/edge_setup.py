"""Real processes on both sides of an emulated WAN (bench/wan.sh): what the benches of edges share."""
import contextlib
import http.client
import os
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
WAN = os.path.join(HERE, "wan.sh")
RIGHT = "10.9.0.2"
HTTP_PORT, VERIFY_PORT = 18080, 18081
STOP_S = 20  # a server that drains for longer is killed


class Process:
    """A server in a namespace, pinned to a core; ready when its line has come. Everything on the way to it is an exec, so
    `process.pid` is its own. In a session of its own: Ctrl-C comes here first, and what runs is stopped in order."""

    def __init__(self, wan, side, core, ready, *command):
        self.process = subprocess.Popen([WAN, f"run-{side}", wan, "taskset", "-c", str(core), *map(str, command)],
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.lines = []
        try:
            for line in self.process.stderr:
                self.lines.append(line)
                if ready in line:
                    break
            else:
                sys.exit(f"{command}: {self.lines}")
        except BaseException:
            self.stop()
            raise
        # A pipe that nobody reads would stop it once full.
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def to_its_end(*command):
    """Half a path is hard to remove: Ctrl-C waits for the command."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        process.wait()
    except BaseException:
        process.wait()
        raise
    return process.returncode, process.stdout.read()


@contextlib.contextmanager
def wan_path(rtt_ms, up, down="100M", core=None):
    """Yields the path's name. The relay shares `core`, but comes first there: who waits for a processor delays packets."""
    name = f"ew{os.getpid()}"
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    try:
        code, _ = to_its_end(*pinned, WAN, "make", name, "--delay", str(rtt_ms / 2), "--up", up, "--down", down)
        if code:
            sys.exit(f"{WAN} make {name}: exit status {code}")
        if core is not None:
            os.sched_setscheduler(relay_pid(name), os.SCHED_FIFO, os.sched_param(50))
        yield name
    finally:
        to_its_end(WAN, "remove", name)


def start_server(wan, a, *more):
    return Process(wan, "right", 0, "hob: verifying", a.hob, "serve", a.target, "--host", RIGHT, "--port", HTTP_PORT, "--edge-port",
                   VERIFY_PORT, "--threads", 1, "--step-floor", a.step_floor, *more)


def start_edge(wan, a, port, *more):
    tokenizer = ["--tokenizer", a.target] if a.draft == "ngram" else []
    return Process(wan, "left", 1, "hob: serving", a.hob, "edge", "--server", f"{RIGHT}:{VERIFY_PORT}", "--draft", a.draft, *tokenizer,
                   "--threads", 1, "--port", port, *more)


def metric(host, port, name):
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request("GET", "/metrics")
    return sum(float(l.rsplit(" ", 1)[1]) for l in connection.getresponse().read().decode().splitlines() if l.startswith(name + "{"))


def relay_pid(wan):
    with open(f"/run/hob-wan-{wan}/pid") as f:
        return int(f.read())


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
