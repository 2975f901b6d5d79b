"""--draft: speculation changes the speed, never the answer."""
from server import *

MODELS = ["mixtral-Q4_K_M.gguf", "olmoe.gguf", "llama.gguf"]
SAMPLING = [["--temp", "0"], ["--temp", "0.7", "--seed", "7"], ["--temp", "1.5", "--seed", "3", "--repeat-penalty", "1.3"]]
# Small random models soon go round in circles: there n-grams come true.
PROMPT = "one two three one two three one two"


class Run(HobTest):
    def answer(self, model, *args):
        return self.json_lines("run", DATA / "model" / model, "--raw", "-p", PROMPT, "-n", 64, "--ignore-eos", "--threads", 1,
                               *args)[0]

    def test_answers_are_the_same(self):
        n_accepted = 0
        for model in MODELS:
            for sampling in SAMPLING:
                plain = self.answer(model, *sampling)
                self.assertNotIn("draft", plain)
                for flags in [["--draft", "ngram"], ["--draft", "ngram", "--draft-max", 1], ["--draft", "ngram", "--draft-always"]]:
                    with self.subTest(model=model, sampling=sampling, flags=flags):
                        drafted = self.answer(model, *sampling, *flags)
                        self.assertEqual(drafted["tokens"], plain["tokens"])
                        self.assertEqual(drafted["text"], plain["text"])
                        self.assertEqual(drafted["finish"], plain["finish"])
                        n_accepted += drafted["draft"]["n_accepted_tok"]
        self.assertGreater(n_accepted, 0)

    def test_streamed_experts(self):
        plain = self.answer("mixtral-Q4_K_M.gguf", "--temp", 0)
        drafted = self.answer("mixtral-Q4_K_M.gguf", "--temp", 0, "--expert-cache", "220K", "--draft", "ngram", "--draft-always")
        self.assertEqual(drafted["tokens"], plain["tokens"])
        self.assertLess(drafted["hit_rate"], 1)

    def test_statistics_are_printed(self):
        done = hob("run", MOE, "--raw", "-p", PROMPT, "-n", 8, "--temp", 0, "--draft", "ngram")
        self.assertRegex(done.stderr.decode(), r"drafts: \d+ of \d+ tokens accepted")

    def test_a_draft_model(self):
        """The model drafts for itself: what it guesses comes true."""
        for sampling in SAMPLING[:2]:
            plain = self.answer("olmoe.gguf", *sampling)
            drafted = self.answer("olmoe.gguf", *sampling, "--draft", DATA / "model" / "olmoe.gguf", "--draft-always")
            self.assertEqual(drafted["tokens"], plain["tokens"])
            self.assertGreater(drafted["draft"]["n_accepted_tok"], 30)
            other = self.answer("olmoe.gguf", *sampling, "--draft", DATA / "model" / "llama.gguf", "--draft-always")
            self.assertEqual(other["tokens"], plain["tokens"])

    def test_bad_sources(self):
        for command in ["run", "serve"]:
            self.refused(1, "nonsense", command, MOE, *(["--raw", "-p", "x"] if command == "run" else ["--quiet"]), "--draft", "nonsense")
        self.refused(2, "--draft-max", "run", MOE, "--draft", "ngram", "--draft-max", 65)
        self.refused(2, "--kv-reserve", "serve", MOE, "--draft", "ngram", "--kv-reserve", "max")


class Serve(HobTest):
    # The first answer repeats itself: n-grams guess it.
    BODIES = [{"prompt": PROMPT, "max_tokens": 60, "temperature": 1, "seed": 2, "logit_bias": {"5": 100}, "ignore_eos": True},
              {"prompt": PROMPT, "max_tokens": 60, "temperature": 0, "ignore_eos": True},
              {"prompt": PROMPT, "max_tokens": 60, "temperature": 1, "seed": 4, "n": 2, "logprobs": 2, "ignore_eos": True},
              {"prompt": PROMPT, "max_tokens": 40, "temperature": 0.5, "seed": 1, "frequency_penalty": 0.3, "stop": ["a", "th"]}]

    def answers(self, *flags):
        server = Server(self, *flags)
        out = []
        for body in self.BODIES:
            status, _, reply = server.ask("POST", "/v1/completions", body)
            self.assertEqual(status, 200, reply)
            out.append(reply["choices"])
        return server, out

    def test_answers_are_the_same(self):
        _, plain = self.answers()
        server, drafted = self.answers("--draft", "ngram", "--draft-always")
        self.assertEqual(drafted, plain)
        self.assertGreater(server.metric("vllm:spec_decode_num_accepted_tokens_total"), 40)
        self.assertGreaterEqual(server.metric("vllm:spec_decode_num_draft_tokens_total"),
                                server.metric("vllm:spec_decode_num_accepted_tokens_total"))


main()
