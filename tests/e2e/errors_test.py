"""Every bad file, flag or prompt: one clear line, exit code 1 or 2, never a crash."""
import re

from hob import *


class BadUsage(HobTest):
    def test_flags(self):
        self.refused(2, "--help", "run")
        self.refused(2, "hob run --help", "run", MOE, "--no-such-flag")
        self.refused(2, "--help", "no-such-command")
        self.refused(2, "--help")
        self.refused(2, "--ctx", "run", MOE, "--ctx", "0")
        self.refused(2, "--ctx", "run", MOE, "--ctx", "many")
        self.refused(2, "--memory", "run", MOE, "--memory", "lots", "-p", "x")
        self.refused(2, "--expert-cache", "run", MOE, "--expert-cache", "-5", "-p", "x")
        self.refused(2, "--policy", "run", MOE, "--policy", "best", "-p", "x")
        self.refused(2, "--kv", "run", MOE, "--kv", "q5", "-p", "x")
        self.refused(2, "both", "run", MOE, "-p", "x", "-f", "y")
        self.refused(2, "empty", "run", MOE, "--raw", "-p", "")
        self.refused(2, "ids separated by commas", "logits", MOE, "--tokens", "1,x", "--out", "/dev/null")
        self.refused(2, "at least one id", "logits", MOE, "--tokens", ",", "--out", "/dev/null")
        self.refused(2, "--out", "logits", MOE, "--tokens", "1")

    def test_sampling_ranges(self):
        for flag, value, name in [("--temp", "-1", "temperature"), ("--temp", "nan", "temperature"),
                                  ("--top-p", "0", "top_p"), ("--top-p", "1.5", "top_p"), ("--min-p", "2", "min_p"),
                                  ("--top-k", "-3", "top_k"), ("--repeat-penalty", "0", "repetition_penalty")]:
            self.refused(2, name, "run", MOE, "--raw", "-p", "x", flag, value)

    def test_what_comes_later_is_named(self):
        self.refused(2, "not supported yet", "spec-server", "x", "--y")

    def test_expert_options(self):
        for flags in [["--precision", "low"], ["--quantiles", "97/67"], ["--quantiles", "1"], ["--thresholds", "0.5/1.5"],
                      ["--prefetch", "5"], ["--prefetch", "on"], ["--predictor", "oracle"], ["--policy", "belady"]]:
            self.refused(2, flags[0], "run", MOE, "--raw", "-p", "x", *flags)
        self.refused(1, "hob pack", "run", MOE, "--raw", "-p", "x", "--precision", "mixed")
        self.refused(1, "none.hobpack", "run", MOE, "--raw", "-p", "x", "--pack", self.tmp / "none.hobpack")

    def test_q8_needs_whole_scale_blocks(self):
        self.refused(1, "multiple of 32", "run", DATA / "model" / "olmoe.gguf", "--kv", "q8", "--raw", "-p", "x")

    def test_help_and_version(self):
        for args in [["--help"], ["--version"], ["run", "--help"], ["bench", "-h"]]:
            self.assertIn("hob", self.ok(*args))


class BadFiles(HobTest):
    def write(self, name, data):
        path = self.tmp / name
        path.write_bytes(data)
        return path

    def check_all_commands(self, path, expect):
        self.refused(1, expect, "run", path, "-p", "x")
        self.refused(1, expect, "logits", path, "--tokens", "1", "--out", "/dev/null")
        self.refused(1, expect, "bench", path, "-p", 4, "-n", 1)
        self.refused(1, expect, "plan", path)

    def test_no_such_file(self):
        self.check_all_commands(self.tmp / "none.gguf", "none.gguf")
        self.refused(1, "none.gguf", "show", self.tmp / "none.gguf")
        self.refused(1, "none.gguf", "tokenize", self.tmp / "none.gguf")

    def test_directory(self):
        self.check_all_commands(self.tmp, str(self.tmp))

    def test_not_a_model(self):
        self.check_all_commands(self.write("empty.gguf", b""), "empty.gguf")
        self.check_all_commands(self.write("text.gguf", b"hello world, this is no model at all\n" * 9), "text.gguf")

    def test_truncated(self):
        data = MOE.read_bytes()
        for n in [3, 20, 1000, 9000, len(data) // 2, len(data) - 1]:
            self.check_all_commands(self.write("cut.gguf", data[:n]), "cut.gguf")

    def test_unknown_architecture(self):
        data = (DATA / "model" / "olmoe.gguf").read_bytes()
        at = data.index(b"general.architecture") + len(b"general.architecture") + 4 + 8
        self.assertEqual(data[at:at + 5], b"olmoe")
        path = self.write("new.gguf", data[:at] + b"zebra" + data[at + 5:])
        self.check_all_commands(path, "zebra")
        self.assertIn("not runnable", self.ok("show", path))  # looking at it is still possible

    def test_no_vocabulary(self):
        """A file without a vocabulary computes, but cannot talk."""
        data = MOE.read_bytes()
        path = self.write("mute.gguf", data.replace(b"tokenizer.ggml", b"tokenizex.ggml"))
        self.refused(1, "[tokenizer]", "run", path, "--raw", "-p", "x")
        self.assertEqual(len(self.json_lines("bench", path, "-p", 4, "-n", 2, "-r", 1)), 2)


class BadRequests(HobTest):
    def test_token_out_of_range(self):
        for tokens in ["320", "1,2,-1", "1,2147483647"]:
            self.refused(1, "[tokens]", "logits", MOE, f"--tokens={tokens}", "--out", self.tmp / "x")
        self.refused(2, "[tokens]", "logits", MOE, "--tokens", "99999999999", "--out", self.tmp / "x")
        self.refused(1, "[tokens]", "tokenize", MOE, "--decode", stdin=b"1,320")

    def test_context_exceeded_names_limit_and_count(self):
        error = self.refused(1, "[context]", "logits", MOE, "--ctx", 4, "--tokens", "1,2,3,4,5", "--out", self.tmp / "x")
        self.assertRegex(error, r"\b4\b.*\b5\b")
        error = self.refused(1, "[context]", "run", MOE, "--raw", "--ctx", 8, "-p", "t1 t2 t3 t4 t5 t6 t7 t8 t9 t10")
        self.assertIn("8 tokens", error)
        self.refused(1, "[context]", "bench", MOE, "--ctx", 16, "-p", 17, "-n", 0)

    def test_answer_that_fills_the_context_says_so(self):
        done = hob("run", MOE, "--raw", "-p", "hello", "--ctx", 32, "--temp", 0)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"context is full", done.stderr)

    def test_budget_too_small_names_one_that_works(self):
        for command in [["plan", MOE], ["run", MOE, "--raw", "-p", "x", "-n", 2],
                        ["logits", MOE, "--tokens", "1,2", "--out", self.tmp / "x"]]:
            error = self.refused(1, "at least", *command, "--memory", "1M")
            self.assertIn("KV cache", error)
            smallest = re.search(r"\((\d+) bytes\)", error).group(1)
            self.ok(*command, "--memory", smallest)

    def test_output_cannot_be_written(self):
        self.refused(1, "[logits]", "logits", MOE, "--tokens", "1", "--out", self.tmp / "no" / "dir")
        if os.path.exists("/dev/full"):
            self.refused(1, "[logits]", "logits", MOE, "--tokens", "1,2,3", "--out", "/dev/full")

    def test_unknown_chat_template_offers_raw(self):
        self.refused(1, "--raw", "run", MOE, "-p", "x")

    def test_trace_for_another_model(self):
        trace = self.tmp / "t.csv"
        trace.write_text("# model=m n_layer=1 n_expert=128 n_expert_used=1\n0,1,0,0,0,100,1.0,0,0\n")
        self.refused(1, "128", "bench", MOE, "-p", 4, "-n", 2, "--route-trace", trace)
        trace.write_text("nonsense\n")
        self.refused(1, "[trace]", "bench", MOE, "-p", 4, "-n", 2, "--route-trace", trace)
        self.refused(1, "cannot open", "bench", MOE, "--route-trace", self.tmp / "none.csv")

    def test_forced_isa_is_unknown(self):
        self.refused(1, "HOB_FORCE_ISA", "plan", MOE, env={"HOB_FORCE_ISA": "mmx"})


main()
