"""hob trace: what is recorded is what ran, and what is simulated is what the cache does."""
from hob import *

OLMOE = DATA / "model" / "olmoe.gguf"
REAL = DATA / "trace" / "qwen3-30b-cut.csv"
PROMPT = ["--raw", "-p", "The quick brown fox jumps over the lazy dog", "--temp", 0]
N = 60


class Record(HobTest):
    def record(self, name, *args):
        path = self.tmp / name
        self.ok("trace", OLMOE, *PROMPT, "-n", N, "-o", path, "--quiet", *args)
        return path

    def test_the_cache_does_not_show(self):
        size = self.json_lines("show", OLMOE)[0]["experts"]["bytes_per_expert"]
        whole = self.record("whole.csv").read_text()
        self.assertEqual(self.record("small.csv", "--expert-cache", 3 * size).read_text(), whole)
        rows = [line.split(",") for line in whole.splitlines() if line[0].isdigit()]
        decode = [r for r in rows if r[1] == "1"]
        self.assertEqual(len(decode), N * 2 * 2)  # two layers, two experts
        self.assertEqual({r[3] for r in rows}, {"0", "1"})
        for row in rows:
            self.assertTrue(0 <= int(row[5]) < 4 and 0 <= float(row[6]) <= 1, row)

    def test_a_recording_predicts_the_run(self):
        """What `run` hit with so many slots is what `replay` says of the recorded routing, policy by policy."""
        trace = self.record("t.csv")
        size = self.json_lines("show", OLMOE)[0]["experts"]["bytes_per_expert"]
        for policy in ["lru", "lfu", "ewma", "ewma-layer", "hobbit:0.4,0.2,0.2,0.2"]:
            run = self.json_lines("run", OLMOE, *PROMPT, "-n", N + 1, "--ignore-eos", "--expert-cache", 5 * size,
                                  "--policy", policy, "--prefetch", "off", "--quiet")[0]
            sim = self.json_lines("trace", "replay", trace, "--cache", 5 * size, "--policy", policy)[0]
            self.assertAlmostEqual(run["hit_rate"], sim["hit_rate"], delta=0.06, msg=policy)

    def test_a_recording_can_be_replayed(self):
        trace = self.record("t.csv")
        self.assertEqual(len(self.json_lines("bench", OLMOE, "-p", 8, "-n", 8, "-r", 1, "--route-trace", trace)), 2)
        self.assertEqual(self.json_lines("plan", OLMOE, "--route-trace", trace)[0]["routing"], str(trace))

    def test_refusals(self):
        out = self.tmp / "t.csv"
        self.refused(1, "this one is dense", "trace", DATA / "model" / "llama.gguf", *PROMPT, "-o", out)
        self.refused(2, "expected a text", "trace", OLMOE, "-o", out)
        self.refused(2, "--out", "trace", OLMOE, *PROMPT)
        self.refused(1, "cannot", "trace", OLMOE, *PROMPT, "-o", self.tmp / "no" / "t.csv")
        self.assertFalse(out.exists())


class Simulate(HobTest):
    def sim(self, *args):
        return self.json_lines("trace", "replay", REAL, *args)

    def test_every_policy(self):
        rows = {row["policy"]: row for row in self.sim("--cache", "10%")}
        self.assertEqual(len(rows), 13)
        self.assertEqual(rows["lru"]["gap_share"], 0)
        self.assertEqual(rows["belady"]["gap_share"], 1)
        for row in rows.values():
            self.assertLessEqual(rows["belady"]["bytes_per_tok"], row["bytes_per_tok"])
            self.assertAlmostEqual(row["cache_share"], 0.1, places=4)
            self.assertEqual((row["low_share"], row["skipped_share"]), (0, 0))

    def test_time_is_bytes_and_latency(self):
        row = self.sim("--cache", "10%", "--policy", "lru", "--disk", 1, "--latency", 0)[0]
        self.assertAlmostEqual(row["stall_ms_per_tok"], row["bytes_per_tok"] / 1e6, places=6)
        late = self.sim("--cache", "10%", "--policy", "lru", "--disk", 1, "--latency", 1000)[0]
        layers = late["stall_ms_per_tok"] - row["stall_ms_per_tok"]  # with a miss, per token
        self.assertTrue(20 < layers <= 48, layers)

    def test_precision(self):
        exact, mixed, skip = (self.sim("--cache", "10%", "--policy", "ewma-layer", "--precision", p)[0]
                              for p in ["exact", "mixed", "mixed+skip"])
        self.assertGreater(exact["bytes_per_tok"], mixed["bytes_per_tok"])
        self.assertGreater(mixed["bytes_per_tok"], skip["bytes_per_tok"])
        self.assertGreater(mixed["low_share"], mixed["low_mass"])  # the light ones are served low
        self.assertEqual(mixed["skipped_share"], 0)
        self.assertGreater(skip["skipped_share"], 0)
        split = self.sim("--cache", "10%", "--policy", "lru", "--precision", "mixed", "--split", "80:20")[0]
        self.assertGreater(split["hit_rate_low"], 0)

    def test_text(self):
        text = self.ok("trace", "replay", REAL, "--cache", "2%,10%", "--policy", "lru,hobbit:0.4,0.2,0.2,0.2,belady")
        for word in ["less than one: lru hits nothing", "x the experts of one token", "hobbit:0.4,0.2,0.2,0.2", "gap %"]:
            self.assertIn(word, text)

    def test_fit(self):
        best = self.ok("trace", "fit", REAL, "--cache", "10%", "--steps", 2, "--quiet").splitlines()[0]
        rows = self.json_lines("trace", "fit", REAL, "--cache", "10%", "--steps", 2)
        self.assertEqual(rows[0]["policy"], best)
        self.assertEqual(len(rows), 10)
        self.assertEqual(rows, sorted(rows, key=lambda r: r["penalty_over_lru"]))
        self.sim("--cache", "10%", "--policy", best)
        other = self.tmp / "other.csv"
        self.ok("trace", "gen", "-o", other, "--layers", 4, "--experts", 16, "-k", 2, "-p", 4, "-n", 60, "--seed", 7)
        one = self.json_lines("trace", "fit", other, "--cache", "10%", "--steps", 2)
        both = {r["policy"]: r for r in self.json_lines("trace", "fit", REAL, other, "--cache", "10%", "--steps", 2)}
        alone = {r["policy"]: r["penalty_over_lru"] for r in rows}
        for row in one:
            mean = (row["penalty_over_lru"] + alone[row["policy"]]) / 2
            self.assertAlmostEqual(both[row["policy"]]["penalty_over_lru"], mean, places=9)

    def test_bad_usage(self):
        for args, expect in [(["--cache", "0%"], "--cache"), (["--cache", "x"], "--cache"), (["--cache", "101%"], "100 %"),
                             (["--cache", "nan%"], "--cache"), (["--policy", "best"], "expected one of"),
                             (["--policy", "hobbit:1,2"], "four weights"), (["--policy", ""], "expected one of"),
                             (["--precision", "low"], "exact, mixed"), (["--split", "80"], "HIGH:LOW"),
                             (["--split", "0:1"], "HIGH:LOW"), (["--t1", "0.5"], "both"),
                             (["--t1", "0.9", "--t2", "0.5"], "--t1 <="), (["--q1", "99", "--q2", "5"], "--q1 <="),
                             (["--warmup", "x"], "--warmup"), (["--low-ratio", "0"], "low-ratio"), (["--t1", "nan", "--t2", "1"], "--t1"), (["--disk", "nan"], "--disk")]:
            self.refused(2, expect, "trace", "replay", REAL, *args)
        self.refused(2, "expected a MODEL", "trace")
        self.refused(2, "hob trace replay --help", "trace", "replay")
        self.refused(2, "TRACE", "trace", "fit")

    def test_bad_traces(self):
        bad = self.tmp / "bad.csv"
        text = REAL.read_text()
        for content, expect in [("", "header"), (text[:len(text) // 2] + "x", ":"), (text.replace(",60,", ",600,", 1), "expert < 128"),
                                (text.replace("0.215", "nan", 1), "weight >= 0"),
                                ("".join(l for l in text.splitlines(True) if "expert_bytes" not in l), "expert_bytes=N")]:
            bad.write_text(content)
            self.refused(1, expect, "trace", "replay", bad)
        self.refused(1, "cannot open", "trace", "replay", self.tmp / "none.csv")


class Generate(HobTest):
    def test_more_overlap_hits_more(self):
        rates = []
        for rho in [0.3, 0.8]:
            path = self.tmp / f"{rho}.csv"
            self.ok("trace", "gen", "-o", path, "--layers", 8, "--experts", 64, "-k", 6, "-p", 4, "-n", 80, "--turns", 2,
                    "--rho", rho, "--seed", 3)
            rates.append(self.json_lines("trace", "replay", path, "--cache", "20%", "--policy", "lru")[0]["hit_rate"])
        self.assertGreater(rates[1], rates[0] + 0.1)

    def test_refusals(self):
        out = self.tmp / "t.csv"
        self.refused(1, "share in [0, 1]", "trace", "gen", "-o", out, "--rho", 2)
        self.refused(1, "at most the experts", "trace", "gen", "-o", out, "--experts", 4, "-k", 8)
        self.assertFalse(out.exists())


main()
