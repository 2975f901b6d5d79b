#!/usr/bin/env python3
"""Load for an OpenAI-compatible server: arrivals, lengths, latencies. Standard library only.

  bench/serve_load.py --url http://127.0.0.1:8080 --requests 100 --rate 2 --lengths sharegpt
  bench/serve_load.py --url ... --requests 16 --concurrency 16 --lengths 128,128

Prompts are random token ids (seeded) sent to /v1/completions as arrays with ignore_eos, so that every server computes the
same numbers of tokens. --rate: Poisson arrivals per second; --concurrency: that many at all times. --lengths: P,N (tokens
of prompt and answer) or sharegpt: log-normal with the means 161 and 338 of the ShareGPT conversations in the
PagedAttention paper, at most --max-len tokens together.

One JSON line: tok_s (answer tokens of all users per second of wall time), ttft, tpot and normalised latency
(end to end / answer tokens, its mean as in the paper) in seconds, n_failed with the first reasons.
"""
import argparse
import asyncio
import json
import random
import statistics
import time
import urllib.parse


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", required=True)
    p.add_argument("--api-key")
    p.add_argument("--model", help="default: the server's first")
    p.add_argument("--requests", type=int, default=32)
    p.add_argument("--rate", type=float)
    p.add_argument("--concurrency", type=int)
    p.add_argument("--lengths", default="sharegpt")
    p.add_argument("--scale", type=float, default=1.0, help="of the sharegpt lengths")
    p.add_argument("--max-len", type=int, default=1024)
    p.add_argument("--vocab", type=int, default=1000, help="prompt ids lie in [3, VOCAB)")
    p.add_argument("--shared-prefix", type=int, default=0, help="first tokens that all prompts share")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--outputs", help="writes each answer's text, a JSON list in the order of the requests")
    p.add_argument("--timeout", type=float, default=3600)
    return p.parse_args()


def log_normal(rng, mean, sigma=0.9):
    return rng.lognormvariate(0, sigma) * mean / 2.718281828 ** (sigma * sigma / 2)


def make_requests(a):
    rng = random.Random(a.seed)
    prefix = [rng.randrange(3, a.vocab) for _ in range(a.shared_prefix)]
    requests = []
    for i in range(a.requests):
        if a.lengths == "sharegpt":
            n_in = max(4, min(int(log_normal(rng, 161 * a.scale)), a.max_len // 2))
            n_out = max(4, min(int(log_normal(rng, 338 * a.scale)), a.max_len - n_in))
        else:
            n_in, n_out = map(int, a.lengths.split(","))
        tail = [rng.randrange(3, a.vocab) for _ in range(max(0, n_in - len(prefix)))]
        requests.append({"prompt": (prefix + tail)[:n_in], "n_out": n_out})
    if a.rate:
        at = 0.0
        for r in requests:
            r["at"] = at
            at += rng.expovariate(a.rate)
    return requests


class Client:
    def __init__(self, a):
        self.a = a
        url = urllib.parse.urlsplit(a.url)
        self.host, self.port = url.hostname, url.port or 80

    async def call(self, method, path, body=None):
        """Yields the body of the reply in pieces; the first item is the status."""
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
        try:
            data = json.dumps(body).encode() if body is not None else b""
            key = f"Authorization: Bearer {self.a.api_key}\r\n" if self.a.api_key else ""
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{key}Content-Type: application/json\r\n"
                         f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            yield int(head.split()[1])
            if "transfer-encoding: chunked" in head.lower():
                while True:
                    size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    piece = await reader.readexactly(size + 2)
                    if size == 0:
                        return
                    yield piece[:-2]
            while piece := await reader.read(1 << 16):
                yield piece
        finally:
            writer.close()

    async def get_model(self):
        pieces = [p async for p in self.call("GET", "/v1/models")]
        return json.loads(b"".join(pieces[1:]))["data"][0]["id"]

    async def complete(self, r):
        body = {"model": self.a.model, "prompt": r["prompt"], "max_tokens": r["n_out"], "ignore_eos": True, "stream": True,
                "temperature": 1.0, "seed": 1, "stream_options": {"include_usage": True}}
        start = time.monotonic()
        result = {"n_out": 0, "n_chunks": 0, "text": ""}
        buffer, status = b"", None
        async for piece in self.call("POST", "/v1/completions", body):
            if status is None:
                status = piece
                continue
            buffer += piece
            if status != 200:
                continue
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                line = line.strip()
                if not line.startswith(b"data:") or line == b"data: [DONE]":
                    continue
                event = json.loads(line[5:])
                if "error" in event:
                    raise RuntimeError(json.dumps(event["error"])[:200])
                if event.get("usage"):
                    result["n_out"] = event["usage"]["completion_tokens"]
                if event.get("choices"):
                    result["n_chunks"] += 1
                    result["text"] += event["choices"][0]["text"]
                    result.setdefault("ttft", time.monotonic() - start)
        if status != 200:
            raise RuntimeError(f"{status}: {buffer[:200].decode(errors='replace')}")
        result["e2e"] = time.monotonic() - start
        return result


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * q))]


async def run(a):
    client = Client(a)
    a.model = a.model or await client.get_model()
    requests = make_requests(a)
    limit = asyncio.Semaphore(a.concurrency or len(requests))
    start = time.monotonic()
    done, failures, texts = [], [], [None] * len(requests)

    async def one(i, r):
        if a.rate:
            await asyncio.sleep(max(0, start + r["at"] - time.monotonic()))
        async with limit:
            try:
                done.append(await asyncio.wait_for(client.complete(r), a.timeout))
                texts[i] = done[-1]["text"]
            except Exception as e:  # whatever went wrong is part of the result
                failures.append(f"{type(e).__name__}: {e}")

    await asyncio.gather(*[one(i, r) for i, r in enumerate(requests)])
    wall = time.monotonic() - start
    if a.outputs:
        with open(a.outputs, "w") as f:
            json.dump(texts, f)
    n_out = sum(d["n_out"] for d in done)
    report = {"requests": len(requests), "n_failed": len(failures), "wall_s": round(wall, 3), "n_out": n_out,
              "tok_s": round(n_out / wall, 3), "request_rate": round(len(done) / wall, 4)}
    if done:
        ttft = [d["ttft"] for d in done if "ttft" in d]
        tpot = [(d["e2e"] - d["ttft"]) / (d["n_out"] - 1) for d in done if d["n_out"] > 1]
        normalised = [d["e2e"] / d["n_out"] for d in done if d["n_out"]]
        for name, values in [("ttft", ttft), ("tpot", tpot), ("normalised", normalised)]:
            if values:
                report[name] = {"mean": round(statistics.mean(values), 4), "p50": round(percentile(values, 0.5), 4),
                                "p95": round(percentile(values, 0.95), 4)}
    if failures:
        report["failures"] = failures[:5]
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    asyncio.run(run(parse_arguments()))
