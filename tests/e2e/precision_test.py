"""Packs and mixed precision from the outside: exact mode keeps its bits, mixed modes say what they did."""
import array
import math
import re

from hob import *

TOKENS = "1,17,300,42,42,99,7,256,3,128,31,5,211,64,19,77,102,300,8"
MODELS = ["olmoe.gguf", "qwen2moe.gguf", "qwen3moe.gguf", "mixtral-Q4_K_M.gguf"]


class Precision(HobTest):
    def logits(self, model, *args):
        out = self.tmp / "logits.f32"
        self.ok("logits", model, "--tokens", TOKENS, "--out", out, *args)
        return out.read_bytes()

    def pack(self, model, *args):
        path = self.tmp / (model.name + ".hobpack")
        self.ok("pack", model, "-o", path, "--force", "--quiet", *args)
        return path

    def two_experts(self, model):
        """Bytes of a cache of two experts."""
        error = hob("logits", model, "--tokens", "1", "--out", "/dev/null", "--expert-cache", "1").stderr.decode()
        return 2 * int(re.search(r"\((\d+) bytes, the largest expert\)", error).group(1))

    def test_exact_mode_has_the_bits_of_the_stock_file(self):
        for name in MODELS:
            model = DATA / "model" / name
            expected = self.logits(model)
            pack = ["--pack", self.pack(model, "--no-low")]
            small = pack + ["--expert-cache", self.two_experts(model)]
            for variant in [pack, small, small + ["--batch", 8], small + ["--chunk", 1, "--prefetch", "2"],
                            small + ["--policy", "lfu"], small + ["--policy", "random:3", "--batch", 3]]:
                with self.subTest(model=name, variant=variant):
                    self.assertEqual(self.logits(model, *variant), expected)

    def test_every_policy_pack_batch_and_prefetch_gives_the_bits_of_resident(self):
        model = DATA / "model" / "olmoe.gguf"
        expected = self.logits(model)
        error = hob("run", model, "--policy", "none", "--raw", "-p", "x").stderr.decode()
        policies = re.search(r"expected one of (.*), got", error).group(1).split(", ")
        self.assertEqual(len(policies), 12)
        pack, small = self.pack(model, "--no-low"), ["--expert-cache", self.two_experts(model)]
        for source in ["none", pack]:
            for policy in policies:
                for rows in [["--chunk", 1], ["--batch", 8]]:
                    for prefetch in ["off", "2"]:
                        variant = [*small, "--pack", source, "--policy", policy, *rows, "--prefetch", prefetch]
                        with self.subTest(variant=variant):
                            self.assertEqual(self.logits(model, *variant), expected)

    def mixed_model(self):
        """A model whose experts are 8 or 16 bits, so that a low copy is smaller."""
        model = DATA / "model" / "olmoe.gguf"
        return model, ["--pack", self.pack(model, "--low", "q4")]

    def test_strict_mixed_mode_depends_on_the_row_only(self):
        model, pack = self.mixed_model()
        strict = pack + ["--precision", "mixed+skip", "--strict", "--thresholds", "0.3/0.6"]
        expected = self.logits(model, *strict)
        self.assertNotEqual(expected, self.logits(model))
        for variant in [["--chunk", 1], ["--chunk", 5], ["--batch", 8], ["--threads", 1], ["--prefetch", "off"]]:
            with self.subTest(variant=variant):
                self.assertEqual(self.logits(model, *strict, *variant), expected)

    def test_thresholds_of_one_are_exact(self):
        model, pack = self.mixed_model()
        self.assertEqual(self.logits(model, *pack, "--precision", "mixed", "--strict", "--thresholds", "1/1"), self.logits(model))

    def test_the_report_says_what_was_served(self):
        model, pack = self.mixed_model()
        text = self.tmp / "text"
        text.write_text("hello world, this is some text that has a few tokens in it. " * 4)
        args = ["perplexity", model, "-f", text, "--ctx", 64, *pack, "--precision", "mixed+skip", "--strict"]
        report = self.json_lines(*args, "--thresholds", "0/0")[0]
        self.assertAlmostEqual(report["skipped_share"], 0.5, delta=0.01)  # two experts a row, the first is always high
        self.assertEqual(report["low_share"], 0)
        report = self.json_lines(*args, "--thresholds", "0/1")[0]
        self.assertAlmostEqual(report["low_share"], 0.5, delta=0.01)
        self.assertGreater(report["low_mass"], 0)
        self.assertLess(report["low_mass"], 0.5)
        self.assertEqual(report["skipped_share"], 0)

    def measured_pack(self):
        model = DATA / "model" / "olmoe.gguf"
        text = self.tmp / "text"
        text.write_text("".join(f"Line {i} of this text is about {i * i % 97} things. " for i in range(60)))
        pack = self.pack(model, "--low", "q2", "--calibration", text, "--kl-tokens", 256)
        return model, text, pack

    def test_the_kl_table_is_what_strict_runs_give(self):
        model, text, pack = self.measured_pack()
        table = self.json_lines("show", pack)[0]["pack"]["kl_table"]
        self.assertEqual(table["n_tok"], 192)
        ids = self.json_lines("tokenize", model, stdin=text.read_bytes())[0]["tokens"][:256]

        def distributions(*args):
            out = self.tmp / "l"
            self.ok("logits", model, "--tokens", ",".join(map(str, ids)), "--out", out, *args)
            data = array.array("f", out.read_bytes())
            n_vocab = len(data) // 256
            rows = []
            for r in range(64, 256):
                row = data[r * n_vocab:(r + 1) * n_vocab]
                top = max(row)
                total = math.log(math.fsum(math.exp(x - top) for x in row)) + top
                rows.append([x - total for x in row])
            return rows

        exact = distributions()
        for row in [table["rows"][3], table["rows"][-1]]:
            mixed = distributions("--pack", pack, "--precision", row["precision"], "--strict",
                                  "--thresholds", f"{row['t1']}/{row['t2']}")
            kl = [math.fsum(math.exp(p) * (p - q) for p, q in zip(a, b)) for a, b in zip(exact, mixed)]
            self.assertAlmostEqual(math.fsum(kl) / len(kl), row["mean_kl"], delta=1e-3 * row["mean_kl"])
        self.assertGreater(table["rows"][-1]["mean_kl"], 0)
        self.assertIn("an estimate", self.ok("show", pack))

    def test_max_kl_takes_the_fastest_setting_below(self):
        model, text, pack = self.measured_pack()
        rows = self.json_lines("show", pack)[0]["pack"]["kl_table"]["rows"]
        args = ["logits", model, "--tokens", TOKENS, "--out", self.tmp / "l", "--pack", pack]

        def chosen(*more):
            done = hob(*args, *more)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stderr.decode(), (self.tmp / "l").read_bytes()

        least = min(rows, key=lambda r: r["relative_bytes"])
        note, logits = chosen("--max-kl", "1000", "--strict")
        self.assertIn(f"{least['precision']}, T1 {least['t1']:.3f}", note)
        self.assertIn("estimated KL", note)
        self.assertEqual(logits, chosen("--precision", least["precision"], "--strict", "--thresholds",
                                        f"{least['t1']}/{least['t2']}")[1])
        note, _ = chosen("--max-kl", "1000", "--precision", "mixed")
        self.assertIn("mixed, T1", note)
        note, logits = chosen("--max-kl", "0")
        self.assertIn("exact mode", note)
        self.assertEqual(logits, self.logits(model))

    def test_max_kl_needs_a_table(self):
        model, pack = self.mixed_model()
        for where in [pack, ["--pack", "none"], []]:
            self.refused(1, "--calibration", "logits", model, "--tokens", "1", "--out", self.tmp / "l", "--max-kl", "1", *where)
        self.refused(1, "--calibration", "run", DATA / "model" / "llama.gguf", "--raw", "-p", "x", "--max-kl", "1")
        for flags in [["--max-kl", "-1"], ["--max-kl", "nan"], ["--max-kl", "x"], ["--max-kl", "1", "--precision", "exact"],
                      ["--max-kl", "1", "--quantiles", "1/2"], ["--max-kl", "1", "--thresholds", "1/1"]]:
            self.refused(2, "--max-kl", "logits", model, "--tokens", "1", "--out", self.tmp / "l", *pack, *flags)

    def test_measuring_later(self):
        model, text, pack = self.measured_pack()
        unmeasured = self.pack(model, "--low", "q2", "--calibration", text, "--kl-tokens", 0)
        self.assertNotIn("kl_table", self.json_lines("show", unmeasured)[0]["pack"])
        later = self.json_lines("pack", model, "--measure", unmeasured, "--calibration", text, "--kl-tokens", 256)[0]["pack"]
        self.assertEqual(len(later["kl_table"]["rows"]), 13)
        self.assertIn("sound", self.ok("pack", model, "--verify", unmeasured))
        self.refused(2, "--calibration", "pack", model, "--measure", unmeasured)
        short = self.tmp / "short"
        short.write_text("too short")
        self.assertIn(b"no KL table", hob("pack", model, "--measure", unmeasured, "--calibration", short).stderr)

    def test_a_pack_beside_the_model_is_used(self):
        model = self.tmp / "m.gguf"
        model.write_bytes((DATA / "model" / "olmoe.gguf").read_bytes())
        self.ok("pack", model, "--quiet", "--low", "q4")
        out = self.tmp / "l"
        self.ok("logits", model, "--tokens", TOKENS, "--out", out, "--precision", "mixed")
        self.refused(1, "hob pack", "logits", model, "--tokens", "1", "--out", out, "--precision", "mixed", "--pack", "none")

    def test_a_damaged_slab_names_its_expert(self):
        model, pack = self.mixed_model()
        data = bytearray(pack[1].read_bytes())
        data[4096 + 64] ^= 1  # the first slab: layer 0, expert 0
        pack[1].write_bytes(data)
        tokens = ",".join(str(i) for i in range(3, 90))  # enough rows that somebody wants that expert
        result = hob("logits", model, "--tokens", tokens, "--out", self.tmp / "l", *pack)
        self.assertEqual(result.returncode, 1)
        self.assertIn("blk.0 expert 0 (high precision)", result.stderr.decode())


main()
