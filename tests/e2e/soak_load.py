"""What the soak test sends: requests whose answer is known, and everything that a server should survive."""
import contextlib
import http.client
import json
import random
import socket
import struct
import threading
import time

WORDS = ("the", "river", "of", "time", "and", "small", "machines", "think", "about", "every", "stone", "while", "rain",
         "falls", "on", "seven", "quiet", "houses", "near", "a", "lighthouse")
# What may come instead of an answer (docs/serving.md, "Errors"). 500 only with injected faults.
DOCUMENTED = {429: "queue_full", 503: None, 504: "deadline"}
BAD_BODIES = [b"", b"{", b"[]", b"\xff\xfe", b'{"prompt":"x","prompt":"y"}', b'{"prompt":"x","temperature":NaN}',
              b'{"prompt":"x","n":16385}', b'{"prompt":"x","max_tokens":-1}', b'{"prompt":"x","top_p":2}',
              b'{"prompt":"x","logprobs":1000000}', b'{"prompt":' + b"[" * 100_000, b'{"prompt":[99999999]}',
              b'{"prompt":"x","seed":1e400}', b'{"prompt":"x","stop":[""]}', b'{"prompt":"\\ud800"}']
BAD_HEADS = [b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10,
             b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
             b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
             b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
             b"GET /health HTTP/1.1\r\nHost: loc"]  # the last: never finished


class Wrong(Exception):
    """The server answered something that it must not answer."""


class Frozen:
    """Knows when this process was stopped for a while: what was in flight then may have run into a time limit."""

    LIMIT_S = 5

    def __init__(self):
        self.last_end = 0.0
        self.total_s = 0.0
        self.looked = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        before = time.monotonic()
        while True:
            time.sleep(0.2)
            now = time.monotonic()
            if now - before > self.LIMIT_S:
                self.last_end = now
                self.total_s += now - before
            before = self.looked = now

    def now(self):
        """Time that does not pass while this process is stopped."""
        before = time.monotonic()
        if before - self.looked > 1:
            time.sleep(0.5)
        return time.monotonic() - self.total_s

    def since(self, start):
        time.sleep(0.5)  # the watcher may not have looked yet
        return self.last_end >= start


class Case:
    """A request whose answer does not depend on who else is served."""

    def __init__(self, path, body):
        self.path, self.body, self.expected = path, body, None

    def answer(self, reply):
        return [(c.get("text", c.get("message", {}).get("content")), c["finish_reason"],
                 (c["logprobs"] or {}).get("token_logprobs")) for c in reply["choices"]]

    def streamed_answer(self, chunks):
        """The same from the chunks of a stream; logprobs are not compared."""
        texts, reasons = {}, {}
        for choice in (c for chunk in chunks for c in chunk["choices"]):
            piece = choice.get("text", choice.get("delta", {}).get("content")) or ""
            texts[choice["index"]] = texts.get(choice["index"], "") + piece
            reasons[choice["index"]] = choice["finish_reason"] or reasons.get(choice["index"])
        return [(texts[i], reasons[i]) for i in sorted(texts)]


def make_cases(ids, ctx, max_seqs, rng):
    """Greedy and seeded requests of all kinds; half of the prompts share their first 64 tokens."""
    def prompt(n):
        start = rng.randrange(len(ids) - n)
        own = ids[start:start + n]
        return (ids[:64] + own)[:max(n, 70)] if rng.random() < 0.5 else own

    cases = []
    for i in range(30):
        body = {"max_tokens": rng.randint(1, ctx // 4), "temperature": 0, "ignore_eos": rng.random() < 0.5}
        if i % 3 == 1:
            body.update(temperature=rng.uniform(0.5, 1.5), seed=i, top_k=rng.choice([0, 20]))
        if i % 6 == 2:
            body.update(n=rng.randint(2, min(4, max_seqs)), temperature=1, seed=i)
        if i % 5 == 3:
            body["stop"] = [rng.choice("abcdest")]
        if i % 7 == 4:
            body.update(repetition_penalty=1.2, frequency_penalty=0.5)
        if i % 4 == 0:
            text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, ctx // 16)))
            cases.append(Case("/v1/chat/completions", dict(body, messages=[{"role": "user", "content": text}])))
        else:
            if i % 5 == 1:
                body.update(logprobs=2, echo=i % 2 == 0)
            cases.append(Case("/v1/completions", dict(body, prompt=prompt(rng.randint(1, ctx // 2)))))
    return cases


class Client:
    """One user: does something, compares, pauses. Counts what came; raises Wrong."""

    def __init__(self, load, rng):
        self.load, self.rng, self.port = load, rng, load.port

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.load.timeout_s)

    def post(self, path, body):
        connection = self.connect()
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, data, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def error(self, status, headers, error):
        """Accepts documented errors only."""
        if set(error) != {"message", "type", "param", "code"}:
            raise Wrong(f"{status}: {error}")
        if status == 500 and self.load.faults and "injected" in error["message"]:
            return "fault injected"
        if status not in DOCUMENTED or (DOCUMENTED[status] or error["code"]) != error["code"]:
            raise Wrong(f"{status}: {error}")
        if status in (429, 503) and headers is not None and int(headers["Retry-After"]) < 1:
            raise Wrong(f"{status} without Retry-After")
        return str(status)

    # --- requests whose answer is known ---

    def known(self):
        case = self.rng.choice(self.load.cases)
        body = dict(case.body)
        if self.rng.random() < 0.3:
            body["priority"] = self.rng.randint(-3, 3)
        if self.rng.random() < 0.1:
            body["cache_salt"] = self.rng.choice("ab")
        if self.rng.random() < 0.5 and not body.get("echo"):
            return self.known_stream(case, body)
        status, headers, data = self.post(case.path, body)
        reply = json.loads(data)
        if status != 200:
            return self.error(status, headers, reply["error"])
        if case.answer(reply) != case.expected:
            raise Wrong(f"{body}: expected {case.expected}, got {case.answer(reply)}")
        return "right"

    def known_stream(self, case, body):
        status, headers, data = self.post(case.path, dict(body, stream=True))
        if status != 200:
            return self.error(status, headers, json.loads(data)["error"])
        lines = [l[len("data: "):] for l in data.decode().split("\n") if l.startswith("data: ")]
        if lines[-1] != "[DONE]":
            raise Wrong(f"a stream that ends with {lines[-1:]}")
        chunks = [json.loads(l) for l in lines[:-1]]
        failed = [c["error"] for c in chunks if "error" in c]
        if failed:
            return self.error({"server_error": 500, "timeout_error": 504}.get(failed[0]["type"], 503), None, failed[0])
        expected = [(text, reason) for text, reason, _ in case.expected]
        if case.streamed_answer(chunks) != expected:
            raise Wrong(f"stream of {body}: expected {expected}, got {case.streamed_answer(chunks)}")
        return "right"

    # --- clients that leave, dawdle, or send nonsense ---

    def long_body(self):
        n = self.rng.randint(1, self.load.ctx - 2)
        start = self.rng.randrange(len(self.load.ids) - n)
        return {"prompt": self.load.ids[start:start + n], "max_tokens": self.load.ctx - n, "ignore_eos": True,
                "n": self.rng.randint(1, self.load.max_seqs), "stream": self.rng.random() < 0.8,
                "priority": self.rng.randint(-3, 3)}

    def open(self, body):
        data = json.dumps(body).encode()
        s = socket.create_connection(("127.0.0.1", self.port), timeout=self.load.timeout_s)
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(data) + data)
        return s

    def cancel(self):
        s = self.open(self.long_body())
        with s:
            time.sleep(self.rng.expovariate(20))
            if self.rng.random() < 0.5:
                s.recv(self.rng.randint(1, 4096))
            how = self.rng.random()
            if how < 0.3:  # close() sends a reset
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how < 0.5:
                s.shutdown(socket.SHUT_WR)
                s.recv(1)
        return "left"

    def slow_reader(self):
        body = dict(self.long_body(), stream=True, logprobs=5)
        with self.open(body) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(1)  # all was read: the server waits for the next request
            end = time.monotonic() + self.rng.uniform(0.2, 4)
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < end and s.recv(512):
                    time.sleep(0.05)
        return "left"

    def bad_body(self):
        path = self.rng.choice(["/v1/completions", "/v1/chat/completions", "/tokenize", "/api/generate"])
        body = self.rng.choice(BAD_BODIES)
        if self.rng.random() < 0.5:
            text = bytearray(json.dumps(self.rng.choice(self.load.cases).body).encode())
            for _ in range(self.rng.randint(1, 5)):
                text[self.rng.randrange(len(text))] = self.rng.randrange(256)
            body = bytes(text)
        status, headers, data = self.post(path, body)
        error = json.loads(data).get("error")
        if status == 400 or status == 404 and b"model" in data:
            if not error:
                raise Wrong(f"{path} {body[:80]}: {status} {data[:200]}")
            return str(status)
        if status == 200 and body not in BAD_BODIES or status == 200 and path == "/tokenize":
            return "harmless"  # what was broken did not matter
        if isinstance(error, dict):
            return self.error(status, headers, error)
        raise Wrong(f"{path} {body[:80]}: {status} {data[:200]}")

    def bad_head(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=self.load.timeout_s) as s:
            s.sendall(self.rng.choice(BAD_HEADS))
            s.settimeout(self.rng.uniform(0.05, 1))
            try:
                reply = s.recv(4096)
            except (TimeoutError, ConnectionError):
                return "left"
        if reply and not reply.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505", b"HTTP/1.1 501")):
            raise Wrong(f"a broken head got {reply[:80]}")
        return "refused"

    def too_long(self):
        body = {"prompt": [self.load.ids[0]] * (self.load.ctx + self.rng.randint(1, 100)), "max_tokens": 1}
        status, headers, data = self.post("/v1/completions", body)
        error = json.loads(data)["error"]
        if status == 400 and error["code"] == "context_length_exceeded" and str(self.load.ctx) in error["message"]:
            return "400"
        return self.error(status, headers, error)

    def burst(self):
        """More at once than the queue takes."""
        if not self.load.bursting.acquire(blocking=False):
            return "none"
        try:
            clients = [Client(self.load, random.Random(self.rng.random())) for _ in range(self.load.burst)]
            threads = [threading.Thread(target=self.load.act, args=(c, "known")) for c in clients]
            [t.start() for t in threads]
            [t.join() for t in threads]
        finally:
            self.load.bursting.release()
        return "sent"

    def look(self):
        path = self.rng.choice(["/metrics", "/v1/models", "/api/tags", "/ready", "/nothing", "/version", "/api/ps"])
        connection = self.connect()
        try:
            for _ in range(self.rng.randint(1, 3)):  # keep-alive
                connection.request("GET", path)
                reply = connection.getresponse()
                reply.read()
                if reply.status != (404 if path == "/nothing" else 200):
                    raise Wrong(f"{path}: {reply.status}")
        finally:
            connection.close()
        return "answered"


ACTIONS = {"known": 50, "cancel": 18, "slow_reader": 3, "bad_body": 10, "bad_head": 4, "too_long": 3, "burst": 1, "look": 6}
