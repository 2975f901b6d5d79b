"""hob edge and hob serve --edge-port: real processes, real sockets. The edge's answers are the server's own."""
import signal

from server import *

PROMPT = "one two three one two three one two"
BODIES = [{"prompt": PROMPT, "max_tokens": 60, "temperature": 0, "ignore_eos": True},
          {"prompt": PROMPT, "max_tokens": 60, "temperature": 1, "seed": 2, "logit_bias": {"5": 100}, "ignore_eos": True},
          {"prompt": PROMPT, "max_tokens": 40, "temperature": 1.2, "seed": 3, "repetition_penalty": 1.3},
          {"prompt": PROMPT, "max_tokens": 30, "temperature": 0.8, "seed": 4, "n": 2, "stop": ["e"]}]


class Verifier(Server):
    """hob serve --edge-port."""

    def __init__(self, test, *args, edge_port=0, **kwargs):
        super().__init__(test, "--edge-port", edge_port, *args, **kwargs)
        self.edge_port = int(re.search(r"edges on port (\d+)", self.wait_for("edges on port")).group(1))


class Edge(Server):
    """hob edge, with HTTP on a free port."""

    def __init__(self, test, edge_port, *args, draft="ngram", host="127.0.0.1", **kwargs):
        self.to = ["--server", f"{host}:{edge_port}", "--draft", draft, *(["--tokenizer", TINY] if draft == "ngram" else [])]
        super().__init__(test, *args, **kwargs)

    def command(self, model, ctx, args):
        return ["edge", *self.to, "--port", "0", "--threads", "1", "--chat-format", "chatml", *args]


def texts(reply):
    return [(c["text"], c["finish_reason"]) for c in reply["choices"]]


class EdgeTest(HobTest):
    def answers(self, server, bodies=BODIES):
        out = []
        for body in bodies:
            status, _, reply = server.ask("POST", "/v1/completions", body)
            self.assertEqual(status, 200, reply)
            out.append((texts(reply), reply["usage"]["completion_tokens"]))
        return out

    def test_answers_are_the_servers(self):
        verifier = Verifier(self, "--edge-pad", 256)
        expected = self.answers(verifier)
        for flags in [{}, {"draft": TINY}, {"draft": DATA / "model" / "llama.gguf"}]:
            for args in [[], ["--draft-always"], ["--draft-always", "--guesses", 0], ["--pad", 256]]:
                with self.subTest(flags=flags, args=args):
                    edge = Edge(self, verifier.edge_port, *args, **flags)
                    self.assertEqual(self.answers(edge), expected)
                    edge.kill()

    def test_a_model_that_drafts_for_itself_saves_rounds_and_guesses_their_ends(self):
        verifier = Verifier(self)
        edge = Edge(self, verifier.edge_port, "--draft-always", draft=TINY)
        [(_, n_tok)] = self.answers(edge, BODIES[:1])
        n_rounds, n_accepted = edge.metric("hob:edge_rounds_total"), edge.metric("vllm:spec_decode_num_accepted_tokens_total")
        # How many depends on how fast either side is: while it waits for drafts, the server may go on alone.
        self.assertLess(n_rounds, n_tok)
        self.assertGreater(n_accepted, 0)
        self.assertGreater(edge.metric("hob:edge_sent_bytes_total"), 0)

    def stream(self, edge, body, on_first=None):
        connection = edge.connect()
        connection.request("POST", "/v1/completions", json.dumps(dict(body, stream=True)), {"Content-Type": "application/json"})
        text, first = "", True
        for line in connection.getresponse():
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            self.assertNotIn("error", event)
            text += event["choices"][0]["text"] if event["choices"] else ""
            if first and on_first:
                on_first()
            first = False
        connection.close()
        return text

    # Ends the server in the middle of an answer; another one on the same port knows nothing of it.
    def end_in_the_middle(self, how):
        body = dict(BODIES[2], max_tokens=200)
        verifier = Verifier(self)
        expected = self.answers(verifier, [body])[0][0][0][0]
        edge = Edge(self, verifier.edge_port)
        for _ in range(20):  # an answer may be over before the server is
            resumes = edge.metric("hob:edge_resumes_total")
            port = verifier.edge_port

            def replace():
                nonlocal verifier
                verifier.process.send_signal(how)
                verifier.process.wait()
                verifier = Verifier(self, edge_port=port)

            self.assertEqual(self.stream(edge, body, replace), expected)
            if edge.metric("hob:edge_resumes_total") > resumes:
                return
        self.fail("the server never ended in the middle of an answer")

    def test_killed_server(self):
        self.end_in_the_middle(signal.SIGKILL)

    def test_server_that_shuts_down(self):
        self.end_in_the_middle(signal.SIGTERM)

    def test_killed_edge_leaves_nothing_behind(self):
        verifier = Verifier(self, "--edge-resume", 1)
        edge = Edge(self, verifier.edge_port)
        connection = edge.connect()
        connection.request("POST", "/v1/completions", json.dumps(dict(BODIES[0], max_tokens=200, stream=True)),
                           {"Content-Type": "application/json"})
        connection.getresponse().readline()
        edge.kill()
        connection.close()
        verifier.until(lambda: verifier.metric("vllm:num_requests_running") == 0, "the answer of a lost edge to end")
        self.assertEqual(self.answers(verifier, BODIES[:1]), self.answers(verifier, BODIES[:1]))

    def with_another_last_token(self, model):
        """A copy whose vocabulary differs in one letter."""
        data = bytearray(model.read_bytes())
        key = b"tokenizer.ggml.tokens"
        at = data.index(key) + len(key) + 4 + 4  # types of the value and of its elements
        n = int.from_bytes(data[at:at + 8], "little")
        at += 8
        for _ in range(n):
            size = int.from_bytes(data[at:at + 8], "little")
            at += 8 + size
        data[at - 1] ^= 0x40
        other = self.tmp / "other.gguf"
        other.write_bytes(data)
        return other

    def test_another_tokenizer_is_refused(self):
        verifier = Verifier(self)
        error = self.refused(1, "vocabulary", "edge", "--server", f"127.0.0.1:{verifier.edge_port}", "--draft", "ngram",
                             "--tokenizer", self.with_another_last_token(TINY), "--port", 0, "--quiet")
        self.assertIn("[edge]", error)

    def test_bad_usage_and_no_server(self):
        self.refused(1, "to answer", "edge", "--server", "127.0.0.1:1", "--draft", "ngram", "--tokenizer", TINY, "--quiet",
                     "--port", 0, "--patience", 1)
        self.refused(2, "--offline", "edge", "--server", "127.0.0.1:1", "--draft", "ngram", "--tokenizer", TINY,
                     "--offline", "draft")
        self.refused(2, "--tokenizer", "edge", "--server", "127.0.0.1:1", "--draft", "ngram")
        self.refused(2, "--client-cert", "edge", "--server", "127.0.0.1:1", "--draft", TINY, "--client-cert", "x")
        self.refused(2, "--edge-client-ca", "serve", TINY, "--quiet", "--edge-port", 0, "--edge-client-ca", "x")

    def test_the_server_writes_alone(self):
        verifier = Verifier(self)
        expected = self.answers(verifier)
        edge = Edge(self, verifier.edge_port, "--mode", "stream")
        self.assertEqual(self.answers(edge), expected)
        self.assertGreater(edge.metric("hob:edge_streamed_tokens_total"), 100)
        strict = Verifier(self, "--edge-no-stream")
        edge = Edge(self, strict.edge_port, "--mode", "stream")
        self.assertEqual(self.answers(edge), expected)

    def test_ngrams_and_a_model_in_one_tree(self):
        verifier = Verifier(self)
        edge = Edge(self, verifier.edge_port, "--draft-always", draft=f"ngram+{TINY}")
        self.assertEqual(self.answers(edge), self.answers(verifier))

    def test_streamed_experts_behind_an_edge(self):
        verifier = Verifier(self)
        streamed = Verifier(self, "--expert-cache", 300000)  # half of them
        edge = Edge(self, streamed.edge_port, "--draft-always", draft=TINY)
        self.assertEqual(self.answers(edge), self.answers(verifier))
        self.assertGreater(streamed.metric("hob:expert_misses_total"), 0)

    def test_an_edge_waits_for_its_server(self):
        first = Verifier(self)
        port, expected = first.edge_port, self.answers(first, BODIES[:1])
        first.kill()
        edge = Edge(self, port, wait=False)
        edge.wait_for("waiting for it")
        self.assertEqual(edge.ask("GET", "/ready")[0], 503)
        Verifier(self, edge_port=port)
        edge.wait_for("hob: serving")
        self.assertEqual(self.answers(edge, BODIES[:1]), expected)

    def test_a_draft_model_answers_without_its_server(self):
        first = Verifier(self)
        port, expected = first.edge_port, self.answers(first, BODIES[:1])
        first.kill()
        edge = Edge(self, port, "--offline", "draft", "--patience", 2, draft=TINY)
        _, _, reply = edge.ask("POST", "/v1/completions", BODIES[0])
        self.assertEqual(texts(reply), expected[0][0])  # it drafts for itself
        self.assertEqual(reply["usage"]["completion_tokens_details"], {"unverified_tokens": 60})
        self.assertEqual(edge.metric("hob:edge_unverified_tokens_total"), 60)
        Verifier(self, edge_port=port)
        for _ in range(20):  # a busy machine may need more than the two seconds that an answer gives it
            _, _, reply = edge.ask("POST", "/v1/completions", BODIES[0])
            self.assertEqual(texts(reply), expected[0][0])
            if "completion_tokens_details" not in reply["usage"]:
                return
        self.fail("no answer was verified by the server that came back")

    def test_provisional_text_is_marked_and_replaced(self):
        first = Verifier(self)
        port, body = first.edge_port, dict(BODIES[0], stream=True, provisional=True)
        expected = self.answers(first, BODIES[:1])[0][0][0][0]
        first.kill()
        edge = Edge(self, port, "--offline", "draft", "--patience", 60, draft=DATA / "model" / "llama.gguf")
        connection = edge.connect()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        text, remarks, second = "", [], None
        for line in connection.getresponse():
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            self.assertNotIn("error", event)
            remarks.append(event.get("hob"))
            if remarks[-1] == {"replace": True}:
                text = ""
            text += event["choices"][0]["text"]
            second = second or Verifier(self, edge_port=port)
        connection.close()
        self.assertEqual(text, expected)
        self.assertEqual(remarks[0], {"provisional": True})
        self.assertIn({"replace": True}, remarks)  # another model's words
        self.assertIsNone(remarks[-1])

    def test_keys(self):
        keys, key = self.tmp / "keys", self.tmp / "key"
        keys.write_text("right-key\n")
        key.write_text("right-key\n")
        verifier = Verifier(self, "--api-key-file", keys)
        to = ["edge", "--server", f"127.0.0.1:{verifier.edge_port}", "--draft", "ngram", "--tokenizer", TINY, "--quiet", "--port", 0]
        self.refused(1, "key", *to)
        (self.tmp / "wrong").write_text("wrong-key\n")
        self.refused(1, "key", *to, "--server-key-file", self.tmp / "wrong")
        self.refused(2, "TLS", *to[:2], "example.org:1", *to[3:], "--server-key-file", key)
        edge = Edge(self, verifier.edge_port, "--server-key-file", key)
        self.assertEqual(len(self.answers(edge, BODIES[:1])), 1)

    def certificate(self, name, *more):
        made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                               "-keyout", self.tmp / f"{name}.key", "-out", self.tmp / f"{name}.pem", "-days", "2", "-subj",
                               f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *more], capture_output=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        return self.tmp / f"{name}.pem", self.tmp / f"{name}.key"

    def test_tls(self):
        server_cert, server_key = self.certificate("server")
        client_cert, client_key = self.certificate("client")
        other_cert, other_key = self.certificate("other")
        verifier = Server(self, "--edge-port", 0, "--tls-cert", server_cert, "--tls-key", server_key, "--edge-client-ca", client_cert)
        port = int(re.search(r"edges on port (\d+)", verifier.wait_for("edges on port")).group(1))
        mine = ["--server-ca", server_cert, "--client-cert", client_cert, "--client-key", client_key]
        edge = Edge(self, port, *mine)
        self.assertEqual(len(self.answers(edge, BODIES[:1])), 1)
        to = ["edge", "--server", f"127.0.0.1:{port}", "--draft", "ngram", "--tokenizer", TINY, "--quiet", "--port", 0]
        strict = Server(self, "--edge-port", 0, "--tls-cert", server_cert, "--tls-key", server_key, "--edge-client-ca",
                        client_cert, "--edge-deny", "someone", "--edge-deny", "127.0.0.1")
        strict_port = int(re.search(r"edges on port (\d+)", strict.wait_for("edges on port")).group(1))
        self.refused(1, "withdrawn", *to[:2], f"127.0.0.1:{strict_port}", *to[3:], *mine)
        for wrong in [[], ["--server-ca", server_cert], ["--server-ca", other_cert, *mine[2:]],
                      ["--server-ca", server_cert, "--client-cert", other_cert, "--client-key", other_key]]:
            with self.subTest(wrong=wrong):
                self.refused(1, "to answer", *to, *wrong, "--patience", 1)

    def test_rows_per_second_are_limited(self):
        verifier = Verifier(self, "--edge-rows", 200)
        edge = Edge(self, verifier.edge_port, "--draft-always")
        self.assertEqual(self.answers(edge, BODIES[:2]), self.answers(verifier, BODIES[:2]))

    def test_a_stopped_server_is_waited_for(self):
        """A black hole: nothing is closed, nothing answers. Longer than the edge's patience with a link."""
        body = dict(BODIES[2], max_tokens=200)
        verifier = Verifier(self)
        expected = self.answers(verifier, [body])[0][0][0][0]
        edge = Edge(self, verifier.edge_port)

        def freeze():
            verifier.process.send_signal(signal.SIGSTOP)
            time.sleep(8)
            verifier.process.send_signal(signal.SIGCONT)

        self.assertEqual(self.stream(edge, body, freeze), expected)


main()
