"""What the commands print: JSON keys that scripts depend on, numbers that must agree with one another."""
import math
import struct

from hob import *

OLMOE = DATA / "model" / "olmoe.gguf"


class Bench(HobTest):
    KEYS = ["test", "n_tok", "batch", "depth", "tok_s", "hit_rate", "bytes_per_tok", "stall_share", "bound_tok_s",
            "peak_bytes", "peak_gb_s", "peak_gop_s", "peak_f32_gop_s", "peak_disk_gb_s", "gb_s", "gop_s", "gb_share",
            "gop_share", "stages"]
    STAGES = ["projections", "attention", "experts", "dense ffn", "head", "waiting for disk", "other", "sampling"]

    def test_json_keys(self):
        prefill, decode = self.json_lines("bench", MOE, "-p", 24, "-n", 8, "-r", 3, "--batch", 2, "--depth", 5)
        self.assertEqual(list(prefill), self.KEYS)
        self.assertEqual(list(decode), self.KEYS)
        self.assertEqual((prefill["test"], prefill["n_tok"], prefill["batch"], prefill["depth"]), ("prefill", 24, 2, 5))
        self.assertEqual((decode["test"], decode["n_tok"]), ("decode", 8))
        for line in (prefill, decode):
            self.assertGreater(line["tok_s"], 0)
            self.assertGreater(line["bound_tok_s"], 0)
            self.assertGreater(line["peak_bytes"], 1 << 20)
            self.check_stages(line)

    def check_stages(self, line):
        stages = {s["stage"]: s for s in line["stages"]}
        self.assertEqual(list(stages), self.STAGES)
        self.assertGreater(stages.pop("sampling")["share"], 0)
        self.assertAlmostEqual(sum(s["share"] for s in stages.values()), 1, places=3)
        for name in ["projections", "attention", "experts", "head"]:
            for key in ["share", "gb_s", "gop_s", "gb_share", "gop_share"]:
                self.assertGreater(stages[name][key], 0, (name, key))
        # The whole is the sum of the parts.
        for key in ["gb_s", "gop_s"]:
            self.assertAlmostEqual(sum(s["share"] * s[key] for s in stages.values()) / line[key], 1, places=3)
        for key in ["gop_s", "peak_gb_s", "peak_gop_s", "peak_f32_gop_s"]:
            self.assertGreater(line[key], 0)
        self.assertLess(line["gop_share"], 1)

    def test_text_names_the_stages(self):
        text = self.ok("bench", MOE, "-p", 8, "-n", 4, "-r", 1)
        for word in ["GB/s", "GOP/s", "% peak", "experts", "attention", "sampling"]:
            self.assertIn(word, text)

    def test_pinned_threads_compute_the_same(self):
        self.assertEqual(len(self.json_lines("bench", MOE, "-p", 4, "-n", 4, "-r", 1, "--pin", "--threads", 3)), 2)
        free, pinned = self.tmp / "free", self.tmp / "pinned"
        self.ok("logits", MOE, "--tokens", "1,2,3", "--out", free)
        self.ok("logits", MOE, "--tokens", "1,2,3", "--out", pinned, "--pin")
        self.assertEqual(free.read_bytes(), pinned.read_bytes())

    def test_zero_skips(self):
        self.assertEqual([b["test"] for b in self.json_lines("bench", MOE, "-p", 0, "-n", 4, "-r", 1)], ["decode"])
        self.assertEqual([b["test"] for b in self.json_lines("bench", MOE, "-p", 4, "-n", 0, "-r", 1)], ["prefill"])

    def test_route_trace_decides_the_hits(self):
        """One expert for all tokens hits always once it is there; a new one every token never does in one slot."""
        same, fresh = self.tmp / "same.csv", self.tmp / "fresh.csv"
        header = "# model=m arch=x n_layer=1 n_expert=4 n_expert_used=1\nturn,phase,step,layer,slot,expert,weight\n"
        same.write_text(header + "".join(f"0,1,{t},0,0,2,1.0\n" for t in range(4)))
        fresh.write_text(header + "".join(f"0,1,{t},0,0,{t},1.0\n" for t in range(4)))
        show = self.json_lines("show", MOE)[0]
        cache = ["--expert-cache", str(3 * show["experts"]["bytes_per_expert"])]
        rates = {}
        for trace in (same, fresh):
            rates[trace] = self.json_lines("bench", MOE, "-p", 0, "-n", 16, "-r", 3, "--route-trace", trace, *cache,
                                           "--policy", "lru", "--prefetch", "off")[0]["hit_rate"]
        self.assertEqual(rates[same], 1)
        self.assertLess(rates[fresh], 0.5)


class Plan(HobTest):
    def test_json(self):
        plan = self.json_lines("plan", MOE, "--memory", "256M")[0]
        for key in ["weights_bytes", "expert_cache_bytes", "kv_bytes", "scratch_bytes", "peak_bytes", "hit_rate",
                    "decode_tok_s", "prefill_tok_s", "routing"]:
            self.assertIn(key, plan)
        self.assertEqual(plan["routing"], "uniform")
        self.assertLessEqual(plan["peak_bytes"], 256 << 20)
        self.assertTrue(plan["resident"])
        self.assertGreater(plan["decode_tok_s"], 0)
        self.assertGreater(self.json_lines("plan", MOE, "--seqs", 4)[0]["kv_bytes"], 3 * plan["kv_bytes"])

    def test_cache_share_is_the_hit_rate(self):
        whole = self.json_lines("plan", OLMOE)[0]
        half = self.json_lines("plan", OLMOE, "--expert-cache", whole["experts_bytes"] // 2)[0]
        self.assertAlmostEqual(half["hit_rate"], 0.5, places=3)
        self.assertGreater(half["disk_bytes_per_s"], 0)

    def test_trace_predicts_what_bench_measures(self):
        trace = self.tmp / "t.csv"
        header = "# model=m arch=x n_layer=2 n_expert=4 n_expert_used=1\nturn,phase,step,layer,slot,expert,weight\n"
        trace.write_text(header + "".join(f"0,1,{t},{l},0,{(0, 0, 0, 1, 0, 2)[t % 6]},1.0\n" for t in range(12) for l in range(2)))
        quarter = self.json_lines("plan", OLMOE)[0]["experts_bytes"] // 4
        args = ["--route-trace", trace, "--expert-cache", quarter]
        plan = self.json_lines("plan", OLMOE, *args)[0]
        # Without prefetch: the plan counts what the cache holds, not what a timely read would add.
        bench = self.json_lines("bench", OLMOE, "-p", 0, "-n", 64, "-r", 3, "--prefetch", "off", *args)[0]
        self.assertEqual(plan["routing"], str(trace))
        self.assertGreater(plan["hit_rate"], 0.3)
        self.assertAlmostEqual(plan["hit_rate"], bench["hit_rate"], delta=0.05)

    def test_uniform_bench_hits_as_planned(self):
        half = self.json_lines("plan", OLMOE)[0]["experts_bytes"] // 2
        plan = self.json_lines("plan", OLMOE, "--expert-cache", half)[0]
        bench = self.json_lines("bench", OLMOE, "-p", 0, "-n", 400, "-r", 1, "--route-trace", "uniform",
                                "--expert-cache", half, "--prefetch", "off")[0]
        self.assertAlmostEqual(plan["hit_rate"], bench["hit_rate"], delta=0.15)  # four slots only

    def test_process_stays_inside_the_plan(self):
        smallest = self.json_lines("plan", MOE)[0]["smallest_bytes"]
        for budget in [smallest, smallest + (8 << 20)]:
            bench = self.json_lines("bench", MOE, "-p", 32, "-n", 8, "-r", 1, "--memory", budget)
            if not SANITIZERS:
                self.assertLessEqual(bench[-1]["peak_bytes"], budget)

    def test_few_slots_are_named(self):
        """Fewer slots than one token's experts: said, with a policy that still hits."""
        quarter = self.json_lines("plan", OLMOE)[0]["experts_bytes"] // 4  # two slots, a token uses four
        done = hob("run", OLMOE, "--raw", "-p", "hello", "-n", 2, "--expert-cache", quarter, "--policy", "lru")
        self.assertIn("hold less than the experts of one token", done.stderr.decode())
        self.assertIn("--policy ewma-layer", done.stderr.decode())
        done = hob("run", OLMOE, "--raw", "-p", "hello", "-n", 2)
        self.assertNotIn("hold less", done.stderr.decode())

    def test_text_explains(self):
        text = self.ok("plan", MOE, "--memory", "64M")
        for word in ["weights", "expert cache", "KV cache", "peak", "decode", "prefill", "uniform", "smallest --memory"]:
            self.assertIn(word, text)


class Tokenize(HobTest):
    SPM = DATA / "text" / "ggml-vocab-llama-spm.gguf"

    def test_round_trip(self):
        for text in ["Hello, world! 123", "naïve café 你好 🙂", "a\n\n b\t c"]:
            ids = self.ok("tokenize", self.SPM, "--no-special", stdin=text.encode())
            self.assertRegex(ids, r"^\d+(,\d+)*\n$")
            self.assertEqual(self.ok("tokenize", self.SPM, "--decode", "--no-special", stdin=ids.encode()), text)

    def test_special(self):
        with_bos = self.json_lines("tokenize", self.SPM, stdin=b"hi")[0]["tokens"]
        without = self.json_lines("tokenize", self.SPM, "--no-special", stdin=b"hi")[0]["tokens"]
        self.assertEqual(with_bos, [1] + without)
        self.assertNotEqual(self.ok("tokenize", self.SPM, stdin=b"</s>"), self.ok("tokenize", self.SPM, "--no-special", stdin=b"</s>"))

    def test_empty(self):
        self.assertEqual(self.ok("tokenize", self.SPM, "--no-special"), "\n")
        self.assertEqual(self.ok("tokenize", self.SPM, "--decode"), "")


class Families(HobTest):
    def test_the_documents_table_is_the_programs(self):
        document = (pathlib.Path(__file__).parents[2] / "docs" / "models.md").read_text()
        table = document.split("<!-- hob families --markdown -->\n")[1].split("<!-- end -->")[0]
        self.assertEqual(self.ok("families", "--markdown"), table)

    def test_json_names_both_worlds(self):
        families = {f["architecture"]: f for f in self.json_lines("families")}
        self.assertEqual(families["phimoe"]["hf_architectures"], ["PhiMoEForCausalLM", "PhimoeForCausalLM"])
        self.assertIn("gpt-oss", families)
        self.assertEqual(len(self.ok("families").splitlines()), len(families))


class Show(HobTest):
    def test_json_and_text(self):
        show = self.json_lines("show", MOE, "--tensors")[0]
        self.assertTrue(show["runnable"])
        self.assertEqual(show["n_tensors"], len(show["tensors"]))
        self.assertEqual(show["bytes"], MOE.stat().st_size)
        self.assertEqual(show["experts"]["top_k"], 2)
        self.assertIn("blk.0.ffn_gate_exps.weight", self.ok("show", MOE, "--tensors"))
        self.assertNotIn("blk.0.ffn_gate_exps.weight", self.ok("show", MOE))


class Perplexity(HobTest):
    def setUp(self):
        super().setUp()
        self.text = self.tmp / "text"
        self.text.write_text(" ".join(f"t{i * 7 % 50}" for i in range(120)))

    def run_it(self, model, *args):
        return self.json_lines("perplexity", model, "-f", self.text, "--ctx", 32, *args)[0]

    def test_matches_the_logits(self):
        """PPL of one window, computed here from `hob logits`."""
        ids = [int(t) for t in self.ok("tokenize", MOE, stdin=self.text.read_bytes()).split(",")]
        out = self.tmp / "logits"
        self.ok("logits", MOE, "--tokens", ",".join(map(str, ids[:32])), "--out", out)
        nll, n = 0.0, 0
        for position in range(16, 31):
            row = struct.unpack_from("<320f", out.read_bytes(), position * 320 * 4)
            best = max(row)
            nll += best + math.log(sum(math.exp(x - best) for x in row)) - row[ids[position + 1]]
            n += 1
        got = self.run_it(MOE, "--stride", 100000)
        self.assertEqual((got["n_tok"], got["windows"]), (n, 1))
        self.assertAlmostEqual(got["ppl"], math.exp(nll / n), delta=1e-3 * math.exp(nll / n))

    def test_kl(self):
        saved = self.tmp / "saved"
        first = self.run_it(MOE, "--save-logits", saved)
        same = self.run_it(MOE, "--kl-base", saved)
        self.assertEqual(same["ppl"], first["ppl"])
        self.assertEqual((same["mean_kl"], same["p99_kl"], same["top1_agreement"]), (0, 0, 1))
        other = self.run_it(DATA / "model" / "mixtral-Q2_K.gguf", "--kl-base", saved)
        self.assertGreater(other["mean_kl"], 1e-4)
        self.assertLess(other["top1_agreement"], 1.0001)
        self.refused(1, "stride", "perplexity", MOE, "-f", self.text, "--ctx", 32, "--stride", 8, "--kl-base", saved)
        self.refused(1, "--save-logits", "perplexity", MOE, "-f", self.text, "--ctx", 32, "--kl-base", self.text)
        saved.write_bytes(saved.read_bytes()[:-100])
        self.assertEqual(hob("perplexity", MOE, "-f", self.text, "--ctx", 32, "--kl-base", saved).returncode, 1)

    def test_bad_text(self):
        empty = self.tmp / "empty"
        empty.write_text("")
        self.refused(1, "at least 4 tokens", "perplexity", MOE, "-f", empty)
        self.refused(1, "cannot open", "perplexity", MOE, "-f", self.tmp / "none")


main()
