"""Packs and mixed precision from the outside: exact mode keeps its bits, mixed modes say what they did."""
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
