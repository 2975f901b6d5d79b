"""A server for tests: `hob serve` on a free port."""
import http.client
import json
import re
import subprocess
import threading
import time

from hob import *

TINY = DATA / "model" / "olmoe.gguf"
CTX = 256


class Server:
    """`hob serve` on a free port; its stderr is collected."""

    def __init__(self, test, *args, wait=True, ctx=CTX, model=TINY, before_start=None, env=None):
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(test.tmp), **(env or {}))
        self.process = subprocess.Popen([HOB, *map(str, self.command(model, ctx, args))], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=self.env, preexec_fn=before_start)
        test.addCleanup(self.kill)
        self.lines = []
        self.seen = threading.Condition()
        threading.Thread(target=self._collect, daemon=True).start()
        self.port = int(re.search(r":(\d+), loading", self.wait_for(", loading")).group(1))
        if wait:
            self.wait_for("hob: serving")

    def command(self, model, ctx, args):
        return ["serve", model, "--port", "0", "--ctx", ctx, "--threads", "1", "--chat-format", "chatml", *args]

    def _collect(self):
        for line in self.process.stderr:
            with self.seen:
                self.lines.append(line.decode())
                self.seen.notify_all()
        with self.seen:
            self.lines.append("")
            self.seen.notify_all()

    def wait_for(self, text):
        with self.seen:
            found = lambda: next((l for l in self.lines if text in l), None)
            self.seen.wait_for(lambda: found() or "" in self.lines, TIMEOUT_S)
            if not found():
                raise AssertionError(f"expected '{text}', the server said {self.lines}")
            return found()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def ask(self, method, path, body=None, headers=None):
        """Status, headers, and the body as JSON or text."""
        connection = self.connect()
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, dict({"Content-Type": "application/json"}, **(headers or {})))
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        kind = reply.headers.get("Content-Type", "")
        return reply.status, reply.headers, json.loads(text) if kind == "application/json" else text

    def metric(self, name):
        text = self.ask("GET", "/metrics")[2]
        return sum(float(l.rsplit(" ", 1)[1]) for l in text.splitlines() if l.startswith(name + "{"))

    def until(self, condition, what):
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"expected {what}")
            time.sleep(0.01)


CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
