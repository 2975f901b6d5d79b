"""Promise 2: the bits of the logits depend on model, tokens and ISA only."""
import re

from hob import *

TOKENS = "1,17,300,42,42,99,7,256,3,128,31,5,211,64,19,77,102,300,8"
MODELS = ["mixtral-Q4_K_M.gguf", "mixtral-Q2_K.gguf", "olmoe.gguf", "qwen2moe.gguf", "qwen3moe.gguf", "llama.gguf"]


def isas():
    """ISAs that hob has and this machine too: those that it takes when they are forced."""
    known = hob("plan", MOE, env={"HOB_FORCE_ISA": "?"}).stderr.decode()
    names = re.search(r"one of (.*)", known).group(1).replace(",", " ").split()
    return [n for n in names if hob("plan", MOE, env={"HOB_FORCE_ISA": n}).returncode == 0]


class Identity(HobTest):
    def logits(self, model, *args, env=None):
        out = self.tmp / "logits.f32"
        self.ok("logits", model, "--tokens", TOKENS, "--out", out, *args, env=env)
        return out.read_bytes()

    def top_k_bytes(self, model):
        """Bytes of one layer's top-k experts in memory."""
        show = self.json_lines("show", model)[0]
        error = hob("logits", model, "--tokens", "1", "--out", "/dev/null", "--expert-cache", "1").stderr.decode()
        largest = int(re.search(r"\((\d+) bytes, the largest expert\)", error).group(1))
        return largest * show["experts"]["top_k"]

    def test_all_variants(self):
        self.assertIn("scalar", isas())
        for isa in isas():
            for name in MODELS:
                with self.subTest(isa=isa, model=name):
                    self.check_model(DATA / "model" / name, {"HOB_FORCE_ISA": isa})

    def check_model(self, model, env):
        expected = self.logits(model, env=env)
        n_vocab = 320
        self.assertEqual(len(expected), len(TOKENS.split(",")) * n_vocab * 4)
        variants = [["--chunk", 1], ["--chunk", 5], ["--batch", 8], ["--batch", 3, "--chunk", 2], ["--threads", 1],
                    ["--threads", 2], ["--threads", 5]]
        if name_is_moe(model):
            small = ["--expert-cache", self.top_k_bytes(model)]
            variants += [small, small + ["--chunk", 1], small + ["--batch", 8], small + ["--policy", "lru"],
                         small + ["--threads", 1], small + ["--prefetch", "off"],
                         small + ["--prefetch", "1", "--chunk", 1], small + ["--prefetch", "4", "--batch", 8],
                         small + ["--prefetch", "2", "--predictor", "pairs", "--chunk", 1]]
        for variant in variants:
            self.assertEqual(self.logits(model, *variant, env=env), expected, f"{variant} changed the bits")

    def test_streaming_really_streams(self):
        cache = self.top_k_bytes(MOE)
        bench = self.json_lines("bench", MOE, "-p", 16, "-n", 8, "-r", 2, "--expert-cache", cache)
        self.assertEqual([b["test"] for b in bench], ["prefill", "decode"])
        for b in bench:
            self.assertGreater(b["bytes_per_tok"], 0)
            self.assertLess(b["hit_rate"], 1)
        resident = self.json_lines("bench", MOE, "-p", 16, "-n", 8, "-r", 2)
        for b in resident:
            self.assertEqual(b["bytes_per_tok"], 0)
            self.assertEqual(b["hit_rate"], 1)

    def test_sampling_depends_on_the_seed_only(self):
        run = ["run", MOE, "--raw", "-p", "hello", "-n", 30, "--temp", 1.3, "--json"]
        texts = [json.loads(self.ok(*run, "--seed", seed, *more))["tokens"]
                 for seed, more in [(7, []), (7, ["--threads", 1]), (7, ["--expert-cache", self.top_k_bytes(MOE)]), (8, [])]]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(texts[0], texts[2])
        self.assertNotEqual(texts[0], texts[3])


def name_is_moe(model):
    return "llama" not in model.name


main()
