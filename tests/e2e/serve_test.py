"""The server as its clients see it: real sockets, a small real model."""
import csv
import http.client
import json
import signal
import socket
import ssl
import threading
import time

from server import *


def events(text):
    lines = [l[len("data: "):] for l in text.split("\n") if l.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1:]
    return [json.loads(l) for l in lines[:-1]]


class Answers(HobTest):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def test_health_ready_models(self):
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        self.assertEqual(self.server.ask("GET", "/ready")[0], 200)
        model = self.server.ask("GET", "/v1/models")[2]["data"][0]
        self.assertEqual(model["id"], "olmoe")
        self.assertEqual(model["max_model_len"], CTX)

    def test_chat_stream_gives_the_text_of_the_whole_answer(self):
        status, _, whole = self.server.ask("POST", "/v1/chat/completions", CHAT)
        self.assertEqual(status, 200, whole)
        text = self.server.ask("POST", "/v1/chat/completions",
                               dict(CHAT, stream=True, stream_options={"include_usage": True}))[2]
        chunks = events(text)
        streamed = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        self.assertEqual(streamed, whole["choices"][0]["message"]["content"])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])

    def test_seeds_repeat_whoever_runs_beside(self):
        body = dict(CHAT, temperature=1, seed=7, max_tokens=12)
        alone = self.server.ask("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]
        results = []
        ask = lambda b: results.append((b, self.server.ask("POST", "/v1/chat/completions", b)[2]))
        threads = [threading.Thread(target=ask, args=(dict(body, seed=7 if i % 2 else i),)) for i in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        for b, reply in results:
            if b["seed"] == 7:
                self.assertEqual(reply["choices"][0]["message"]["content"], alone)

    def test_completions_with_echo_and_logprobs_of_token_arrays(self):
        ids = self.server.ask("POST", "/tokenize", {"prompt": "Hello there"})[2]["tokens"]
        self.assertTrue(self.server.ask("POST", "/detokenize", {"tokens": ids})[2]["prompt"].endswith("Hello there"))
        body = {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0}
        status, _, reply = self.server.ask("POST", "/v1/completions", body)
        self.assertEqual(status, 200, reply)
        logprobs = reply["choices"][0]["logprobs"]
        self.assertEqual(len(logprobs["tokens"]), len(ids))
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertTrue(all(l <= 0 for l in logprobs["token_logprobs"][1:]))
        for token, own, top in list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]))[1:]:
            self.assertEqual(top[token], own)
            self.assertLessEqual(own, max(top.values()))
        body.update(max_tokens=1)
        more = self.server.ask("POST", "/v1/completions", body)[2]["choices"][0]["logprobs"]
        self.assertEqual(more["token_logprobs"][:len(ids)], logprobs["token_logprobs"])
        self.assertEqual(len(more["tokens"]), len(ids) + 1)

    def test_choices_of_several_prompts(self):
        body = {"prompt": ["one", "two"], "n": 2, "max_tokens": 3, "seed": 1}
        reply = self.server.ask("POST", "/v1/completions", body)[2]
        self.assertEqual([c["index"] for c in reply["choices"]], [0, 1, 2, 3])

    def test_too_long_names_the_numbers(self):
        status, _, reply = self.server.ask("POST", "/v1/completions", {"prompt": [5] * (CTX + 1), "max_tokens": 1})
        self.assertEqual(status, 400)
        self.assertEqual(reply["error"]["code"], "context_length_exceeded")
        self.assertIn(str(CTX), reply["error"]["message"])

    def test_ollama(self):
        body = {"model": "olmoe", "messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 4, "seed": 1}}
        text = self.server.ask("POST", "/api/chat", body)[2]
        lines = [json.loads(l) for l in text.splitlines()]
        self.assertTrue(lines[-1]["done"])
        self.assertLessEqual(lines[-1]["eval_count"], 4)
        self.assertEqual(self.server.ask("GET", "/api/tags")[2]["models"][0]["name"], "olmoe")
        whole = self.server.ask("POST", "/api/generate", {"model": "olmoe", "prompt": "x", "stream": False,
                                                          "options": {"num_predict": 2}})[2]
        self.assertTrue(whole["done"])

    def test_metrics_count(self):
        self.server.ask("POST", "/v1/chat/completions", CHAT)
        self.assertGreaterEqual(self.server.metric("vllm:generation_tokens_total"), 1)
        self.assertGreaterEqual(self.server.metric("vllm:time_to_first_token_seconds_count"), 1)
        self.assertGreater(self.server.metric("hob:expert_slots_bytes"), 0)

    def test_bad_bodies_do_not_hurt_the_next_request(self):
        for body in [b"", b"{", b"[]", b"{\"messages\":1}", b"\xff", b"{\"prompt\":[" + b"[" * 100000,
                     b'{"prompt":"x","temperature":NaN}', b'{"prompt":"x","prompt":"y"}', b'{"prompt":"x","n":16385}']:
            self.assertEqual(self.server.ask("POST", "/v1/completions", body)[0], 400, body[:40])
        self.assertEqual(self.server.ask("POST", "/v1/chat/completions", CHAT)[0], 200)


class Disconnects(HobTest):
    LONG = {"prompt": "x", "max_tokens": CTX - 8, "ignore_eos": True, "stream": True}

    def raw(self, server, body):
        data = json.dumps(body).encode()
        s = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(data) + data)
        return s

    def test_a_disconnect_frees_everything(self):
        server = Server(self)
        clients = [self.raw(server, self.LONG) for _ in range(4)]
        for s in clients:
            s.recv(100)
            s.close()
        server.until(lambda: server.metric("vllm:num_requests_running") == 0, "no request that runs")
        server.until(lambda: server.metric("vllm:kv_cache_usage_perc") == 0, "no KV block in use")
        self.assertEqual(server.ask("POST", "/v1/chat/completions", CHAT)[0], 200)

    def test_slow_clients_do_not_starve_health(self):
        server = Server(self)
        slow = []
        for _ in range(200):
            s = socket.create_connection(("127.0.0.1", server.port))
            s.sendall(b"GET /health HTTP/1.1\r\nHost: lo")
            slow.append(s)
        start = time.monotonic()
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.assertLess(time.monotonic() - start, 5)
        [s.close() for s in slow]


class Replicas(HobTest):
    """packaging/haproxy.cfg in front of two servers. scripts/deps.sh test installs haproxy."""

    def setUp(self):
        super().setUp()
        self.servers = [Server(self), Server(self)]
        text = (DATA.parents[1] / "packaging" / "haproxy.cfg").read_text()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        for old, new in [("bind :8000", f"bind 127.0.0.1:{self.port}"), ("127.0.0.1:8081", f"127.0.0.1:{self.servers[0].port}"),
                         ("127.0.0.1:8082", f"127.0.0.1:{self.servers[1].port}"), ("inter 2s", "inter 100ms")]:
            self.assertIn(old, text)
            text = text.replace(old, new)
        config = self.tmp / "haproxy.cfg"
        self.stats = str(self.tmp / "stats")
        config.write_text(text.replace("global\n", f"global\n    stats socket {self.stats}\n"))
        proxy = subprocess.Popen(["haproxy", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (proxy.kill(), proxy.wait()))
        self.servers[0].until(lambda: self.answers(), "a proxy that answers")

    def answers(self):
        try:
            return self.through("none", "GET", "/health").status == 200
        except OSError:
            return False

    def through(self, session, method="POST", path="/v1/chat/completions", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        self.addCleanup(connection.close)
        connection.request(method, path, json.dumps(body or CHAT) if method == "POST" else None,
                           {"Content-Type": "application/json", "X-Session-Id": session, "Host": "localhost"})
        return connection.getresponse()

    def n_in_proxy(self):
        """Requests that the proxy counts as being with a server; its own checks are not among them."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.stats)
            s.sendall(b"show stat\n")
            text = s.makefile().read()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return sum(int(r["scur"]) for r in rows if r["svname"].startswith("hob"))

    def counts(self):
        return [s.metric("vllm:e2e_request_latency_seconds_count") for s in self.servers]

    def test_a_session_stays_and_sessions_spread(self):
        for session in map(str, range(16)):
            before = self.counts()
            for _ in range(3):
                reply = self.through(session)
                self.assertEqual(reply.status, 200, reply.read())
                reply.read()
                # The client has its answer before the proxy counts the request as done; until then its server counts as
                # busier than the other (hash-balance-factor).
                self.servers[0].until(lambda: self.n_in_proxy() == 0, "a proxy at rest")
            added = sorted(a - b for a, b in zip(self.counts(), before))
            self.assertEqual(added, [0, 3])
        self.assertTrue(all(n > 0 for n in self.counts()), self.counts())

    def test_a_stopped_server_is_left_out(self):
        self.servers[0].process.send_signal(signal.SIGTERM)
        self.servers[0].process.wait(TIMEOUT_S)
        for session in map(str, range(8)):
            reply = self.through(session)
            self.assertEqual(reply.status, 200, reply.read())
            reply.read()

    def test_streams_pass_and_disconnects_reach_the_server(self):
        reply = self.through("s", body=dict(CHAT, stream=True))
        self.assertTrue(reply.read().decode().endswith("data: [DONE]\n\n"))
        long = {"messages": CHAT["messages"], "max_tokens": 150, "ignore_eos": True, "stream": True}
        reply = self.through("s", body=long)
        reply.read(20)
        reply.close()
        for server in self.servers:
            server.until(lambda: server.metric("vllm:num_requests_running") == 0, "no request that runs")


class RecordedRouting(HobTest):
    """--route-trace, for benches: a server of random weights with the locality of real ones."""

    def misses(self, experts, policy="lru"):
        trace = self.tmp / "trace.csv"
        trace.write_text("# model=m arch=x n_layer=1 n_expert=4 n_expert_used=1\n"
                         "turn,phase,step,layer,slot,expert,weight\n"
                         + "".join(f"0,1,{t},0,0,{e},1.0\n" for t, e in enumerate(experts)))
        one = self.json_lines("show", TINY)[0]["experts"]["bytes_per_expert"]
        server = Server(self, "--expert-cache", 3 * one, "--policy", policy, "--prefetch", "off", "--route-trace", trace)
        self.assertEqual(server.ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 32, "ignore_eos": True})[0], 200)
        return server.metric("hob:expert_misses_total")

    def test_it_decides_the_misses(self):
        self.assertGreater(self.misses([0, 1, 2, 3]), 8 * self.misses([2, 2, 2, 2]))

    def test_what_does_not_fit_is_refused(self):
        self.refused(1, "cannot open", "serve", TINY, "--port", 0, "--route-trace", self.tmp / "none.csv")


class StartAndStop(HobTest):
    def test_sigterm_finishes_what_runs(self):
        server = Server(self)
        done = []
        body = {"prompt": "x", "max_tokens": 200, "ignore_eos": True}
        thread = threading.Thread(target=lambda: done.append(server.ask("POST", "/v1/completions", body)))
        thread.start()
        server.until(lambda: server.metric("vllm:num_requests_running") == 1 or done, "a request that runs")
        server.process.send_signal(signal.SIGTERM)
        thread.join()
        self.assertEqual(done[0][0], 200)
        self.assertEqual(done[0][2]["usage"]["completion_tokens"], 200)
        self.assertEqual(server.process.wait(TIMEOUT_S), 0)

    def endless(self, server, n):
        """n requests that run for some time; gives a list that gets their replies."""
        replies = []
        def ask():
            try:
                replies.append(server.ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 2000, "ignore_eos": True}))
            except (OSError, http.client.HTTPException) as e:
                replies.append(e)
        threads = [threading.Thread(target=ask) for _ in range(n)]
        [t.start() for t in threads]
        self.addCleanup(lambda: [t.join() for t in threads])
        known = lambda: server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting")
        server.until(lambda: known() == n, f"{n} requests in the engine")
        return replies

    def test_draining_refuses_and_a_second_sigterm_stops_at_once(self):
        server = Server(self, ctx=2048)
        replies = self.endless(server, 8)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("a second signal stops")
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.assertEqual(server.ask("GET", "/ready")[0], 503)
        status, headers, reply = server.ask("POST", "/v1/chat/completions", CHAT)
        self.assertEqual(status, 503)
        self.assertEqual(reply["error"]["code"], "shutting_down")
        self.assertIn("Retry-After", headers)
        self.assertEqual(replies, [])
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(TIMEOUT_S), 1)
        server.wait_for("was stopped")

    def test_stop_now(self):
        server = Server(self, ctx=2048)
        self.endless(server, 8)
        self.ok("stop", "--now", env={"XDG_RUNTIME_DIR": str(self.tmp)})
        self.assertEqual(server.process.wait(TIMEOUT_S), 1)

    def test_idle_server_ends_at_once(self):
        server = Server(self)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(TIMEOUT_S), 0)
        self.assertEqual(list(self.tmp.glob("hob/*.json")), [])

    def test_ps_and_stop(self):
        server = Server(self, "--alias", "my-model")
        env = {"XDG_RUNTIME_DIR": str(self.tmp)}
        [entry] = self.json_lines("ps", env=env)
        self.assertEqual(entry["name"], "my-model")
        self.assertEqual(entry["pid"], server.process.pid)
        self.assertIn("my-model", self.ok("ps", env=env))
        self.refused(1, "no-such", "stop", "no-such", env=env)
        self.assertIn("stopped my-model", self.ok("stop", "my-model", env=env))
        self.assertEqual(server.process.wait(TIMEOUT_S), 0)
        self.assertEqual(self.json_lines("ps", env=env), [])
        self.refused(1, "there is none", "stop", env=env)

    def test_server_files_of_dead_processes_and_of_others(self):
        env = {"XDG_RUNTIME_DIR": str(self.tmp)}
        self.assertEqual(self.json_lines("ps", env=env), [])
        folder = self.tmp / "hob"
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        dead = {"pid": os.getpid(), "start_ticks": 1, "host": "h", "port": 1, "tls": False, "name": "n", "model": "m",
                "started": 0}
        (folder / "1.json").write_text(json.dumps(dead))  # this process, but another start: never signalled
        (folder / "2.json").write_text("{")
        self.assertEqual(self.json_lines("ps", env=env), [])
        self.assertFalse((folder / "1.json").exists())
        folder.chmod(0o777)
        self.refused(1, "0700", "ps", env=env)

    def test_keys(self):
        keys = self.tmp / "keys"
        keys.write_text("# mine\nsecret\n")
        server = Server(self, "--api-key-file", keys)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        for path in ["/v1/models", "/metrics", "/ready", "/api/tags", "/nothing"]:
            self.assertEqual(server.ask("GET", path)[0], 401, path)
        self.assertEqual(server.ask("GET", "/v1/models", headers={"Authorization": "Bearer secret"})[0], 200)
        self.assertEqual(server.ask("GET", "/v1/models", headers={"Authorization": "Bearer secrex"})[0], 401)

    def test_tls(self):
        cert, key = self.tmp / "cert.pem", self.tmp / "key.pem"
        made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                               "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], capture_output=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        server = Server(self, "--tls-cert", cert, "--tls-key", key)
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=TIMEOUT_S, context=context)
        for stream in [False, True]:
            connection.request("POST", "/v1/chat/completions", json.dumps(dict(CHAT, stream=stream)),
                               {"Content-Type": "application/json"})
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200)
            self.assertIn(b"choices", reply.read())
        connection.close()
        # Plain HTTP on the same port gets no answer and hurts nobody.
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertNotIn(b"200", s.recv(100))
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=TIMEOUT_S, context=context)
        connection.request("GET", "/health")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()

    def test_json_report(self):
        server = Server(self, "--json", wait=False)
        report = json.loads(server.process.stdout.readline())
        self.assertEqual(report["model"], "olmoe")
        self.assertEqual(report["max_model_len"], CTX)
        self.assertGreater(report["kv_bytes"], 0)

    def test_bad_usage(self):
        for flags, name in [(["--port", "70000"], "--port"), (["--max-seqs", "0"], "--max-seqs"),
                            (["--tls-cert", "x"], "--tls-key"), (["--body-limit", "1G"], "--body-limit"),
                            (["--chat-format", "klingon"], "--chat-format"), (["--alias", ""], "--alias"),
                            (["--memory", "16M"], "--memory")]:
            self.refused(2, name, "serve", TINY, *flags, "--quiet")
        self.refused(1, "keys", "serve", TINY, "--api-key-file", self.tmp / "keys", "--quiet")
        self.refused(1, "none.gguf", "serve", self.tmp / "none.gguf", "--port", "0", "--quiet",
                     env={"XDG_RUNTIME_DIR": str(self.tmp)})
        self.refused(1, "listen", "serve", TINY, "--host", "192.0.2.1", "--quiet")


main()
