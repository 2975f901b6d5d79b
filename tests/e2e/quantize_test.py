"""hob quantize: a smaller file that runs, or one clear line; an interrupted run continues to the same bytes."""
import resource
import signal
import struct
import subprocess
import time

from convert_test import CONFIG, random_numbers, shapes, write_checkpoint
from folder_test import GOLDENS, write_tokenizer
from hob import *


def write_gguf(path, tensors):
    """F32 tensors of zeros but for a ramp at their start: [(name, [n_cols, n_rows, ...])]."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    header, offset = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1), 0
    header += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    sizes = []
    for name, shape in tensors:
        n = 1
        for d in shape:
            n *= d
        header += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        sizes.append(4 * n)
        offset += 4 * n
    header += b"\0" * (-len(header) % 32)
    with open(path, "wb") as file:
        file.write(header)
        for size in sizes:
            start = file.tell()
            file.write(struct.pack("<64f", *(i / 64 - 0.5 for i in range(64))))
            file.truncate(start + size)
            file.seek(start + size)


class Quantizing(HobTest):
    def setUp(self):
        super().setUp()
        self.out = self.tmp / "out.gguf"

    def left(self):
        return sorted(p.name for p in self.tmp.iterdir() if p.name.startswith("out"))

    def test_the_file_runs(self):
        for kind in ["Q8_0", "q4_k", "IQ4_XS", "F16", "MXFP4_MOE"]:
            made = self.json_lines("quantize", MOE, self.out, "--type", kind, "--force", "--quiet")[0]
            self.assertEqual(made["bytes"], self.out.stat().st_size)
            self.assertEqual(made["bytes_resumed"], 0)
            shown = self.json_lines("show", self.out)[0]
            self.assertTrue(shown["runnable"])
            self.ok("logits", self.out, "--tokens", "1,2,3", "--out", self.tmp / "logits.f32")
        self.assertEqual(self.left(), ["out.gguf"])

    def test_dry_run_says_what_would_be(self):
        lines = self.json_lines("quantize", MOE, self.out, "--type", "Q5_K_M", "--dry-run", "--quiet",
                                "--tensor-type", "blk.0.*_exps=Q8_0", "--pure")
        self.assertEqual(self.left(), [])
        types = {line["tensor"]: line["to"] for line in lines[:-1]}
        self.assertEqual(types["blk.0.ffn_up_exps.weight"], "Q8_0")
        self.assertEqual(types["blk.0.ffn_gate_inp.weight"], lines[0] and next(
            line["from"] for line in lines if line.get("tensor") == "blk.0.ffn_gate_inp.weight"))
        made = self.json_lines("quantize", MOE, self.out, "--type", "Q5_K_M", "--quiet",
                               "--tensor-type", "blk.0.*_exps=Q8_0", "--pure")[0]
        self.assertEqual(made["bytes"], lines[-1]["bytes"])
        self.assertEqual(made["types"], lines[-1]["types"])

    def test_a_folder_is_the_same_as_its_converted_file(self):
        model, file = self.tmp / "model", self.tmp / "model.gguf"
        write_checkpoint(model, CONFIG, random_numbers)
        write_tokenizer(model)
        text = self.tmp / "text.txt"
        text.write_text("hello you and all the others " * 40)
        self.ok("convert", model, file)
        for options in [["--type", "Q4_K_M"], ["--target-bpw", "6"],
                        ["--type", "Q4_1", "--method", "gptq", "--calibration", text]]:
            made = []
            for source in [model, file]:
                self.ok("quantize", source, self.out, "--force", "--quiet", *options)
                made.append(self.out.read_bytes())
            self.assertEqual(made[0], made[1], options)
        self.ok("convert", GOLDENS / "mixtral", file, "--force")
        self.ok("quantize", file, self.out, "--force", "--quiet", "--type", "Q8_0")
        expected = self.out.read_bytes()
        self.ok("quantize", GOLDENS / "mixtral", self.out, "--force", "--quiet", "--type", "Q8_0")
        self.assertEqual(self.out.read_bytes(), expected)

    def test_a_packed_folder_is_read_back_first(self):
        model = self.tmp / "model"
        config = dict(CONFIG, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32})
        packed = {}
        for name, shape in shapes(CONFIG).items():
            if "_proj" not in name:
                packed[name] = ("F32", shape)
                continue
            (n_out, n_in), stem = shape, name.removesuffix("weight")
            packed[stem + "qweight"] = ("I32", [n_in // 8, n_out])
            packed[stem + "qzeros"] = ("I32", [n_in // 32, n_out // 8])
            packed[stem + "scales"] = ("F16", [n_in // 32, n_out])
        header, data = {}, b""
        for name, (dtype, shape) in packed.items():
            n = shape[0] * (shape[1] if len(shape) > 1 else 1)
            begin = len(data)
            data += {"F32": struct.pack("<f", 0.5), "F16": struct.pack("<e", 0.01), "I32": b"\x77\x86\x75\x98"}[dtype] * n
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
        text = json.dumps(header).encode()
        model.mkdir()
        (model / "config.json").write_text(json.dumps(config))
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        done = hob("quantize", model, self.out, "--type", "Q8_0")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn("read back first", done.stderr.decode())
        self.assertTrue(self.json_lines("show", self.out)[0]["runnable"])

    def test_a_folder_of_a_folder(self):
        model, out, text = self.tmp / "model", self.tmp / "small", self.tmp / "text.txt"
        write_checkpoint(model, CONFIG, random_numbers)
        write_tokenizer(model)
        text.write_text("hello you and all the others " * 40)
        for kind in ["gptq", "awq"]:
            options = ["--format", kind, "--method", kind, "--group", "32", "--calibration", text]
            made = self.json_lines("quantize", model, out, "--force", "--quiet", *options)[-1]
            self.assertEqual(made["bytes"], (out / "model.safetensors").stat().st_size)
            config = json.loads((out / "config.json").read_text())
            self.assertEqual(config["quantization_config"]["quant_method"], kind)
            self.assertTrue(self.json_lines("show", out)[0]["runnable"])
            said = hob("run", out, "--raw", "-p", "hello", "-n", 4, "--temp", 0)
            self.assertEqual(said.returncode, 0, said.stderr.decode())
        self.refused(1, "--force replaces it", "quantize", model, out, *options)
        self.refused(2, "another folder than the model's", "quantize", model, model, "--force", *options)
        self.refused(2, "--format: expected --bits", "quantize", model, self.out, *options, "--type", "Q4_0")
        self.refused(2, "expected a Hugging Face folder", "quantize", DATA / "model" / "llama.gguf", self.out, *options)
        self.refused(1, "symmetric or has a zero point", "quantize", model, self.out, *options, "--grid", "offset")

    def test_named_types_beside_a_method(self):
        model, text = DATA / "model" / "llama.gguf", self.tmp / "text.txt"
        text.write_text("the cat and all the others sat on a mat " * 60)
        method = ["--type", "Q4_1", "--calibration", text, "--method"]
        for name in ["gptq", "awq"]:
            done = hob("quantize", model, self.out, *method, name, "--force", "--tensor-type", "ffn_up=Q8_0",
                       "--tensor-type", "attn_v=Q5_0", "--output-type", "Q8_0")
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            self.assertIn("tensors are rounded to the nearest", done.stderr.decode())
            shown = self.json_lines("show", self.out, "--tensors")[0]["tensors"]
            types = {t["name"]: t["dtype"] for t in shown}
            self.assertEqual(types["blk.0.ffn_up.weight"], "Q8_0")
            self.assertEqual(types["blk.1.attn_v.weight"], "Q5_0")
            self.assertEqual(types["blk.0.attn_q.weight"], "Q4_1")
        self.refused(1, "finds none", "quantize", model, self.out, *method, "gptq", "--force", "--tensor-type", "no=Q8_0")
        self.refused(2, "--as-f32", "quantize", model, self.out, "--method", "gptq", "--as-f32", "--calibration", text,
                     "--force", "--tensor-type", "ffn_up=Q8_0")

    def size_with(self, model, kind, *more):
        return self.json_lines("quantize", model, self.out, "--type", kind, "--dry-run", "--quiet", "--pure",
                               *more)[-1]["bytes"]

    def test_types_for_a_target_size(self):
        model, before = DATA / "model" / "olmoe.gguf", None
        for kind in ["Q4_0", "Q5_0", "Q8_0"]:
            target = self.size_with(model, kind)
            lines = self.json_lines("quantize", model, self.out, "--target-size", f"{target}B", "--dry-run", "--quiet")
            self.assertEqual(self.left(), [])
            made = self.json_lines("quantize", model, self.out, "--target-size", target, "--quiet", "--force")[0]
            self.assertEqual(made["bytes"], self.out.stat().st_size)
            self.assertLessEqual(made["bytes"], target)
            self.assertEqual(made["types"], lines[-1]["types"])
            self.assertEqual(made["loss_unit"], "relative_error")
            self.assertAlmostEqual(made["loss"], sum(line["loss"] for line in lines[:-1]))
            if before is not None:
                self.assertLess(made["loss"], before)
            before = made["loss"]
            self.out.unlink()
        lines = self.json_lines("quantize", model, self.out, "--target-bpw", 5, "--dry-run", "--quiet",
                                "--tensor-type", "attn_q\\.=Q8_0", "--candidates", "Q4_0,q5_1")
        types = {line["tensor"]: line["to"] for line in lines[:-1]}
        self.assertEqual(types["blk.0.attn_q.weight"], "Q8_0")
        self.assertEqual(set(lines[-1]["types"]) - {"Q4_0", "Q5_1", "Q8_0", "F32"}, set())
        self.refused(1, "expected at least", "quantize", model, self.out, "--target-size", "1k")
        self.refused(1, "expected less than", "quantize", model, self.out, "--target-size", "1G")
        for bad in [["--type", "Q4_0", "--target-size", "1M"], ["--target-bpw", "4", "--target-size", "1M"],
                    ["--target-bpw", "4", "--pure"], ["--target-bpw", "4", "--candidates", "Q4_X"],
                    ["--target-bpw", "4", "--losses", "x"], ["--type", "Q4_0", "--losses", "x"],
                    ["--target-bpw", "4", "--method", "gptq"]]:
            self.refused(2, "", "quantize", model, self.out, *bad)
        self.assertEqual(self.left(), [])

    def test_losses_measured_on_a_text(self):
        text = self.tmp / "text.txt"
        text.write_text(" ".join(f"{i * i % 97} the cat number {i}" for i in range(300)))
        options = ["--target-bpw", "3.6", "--calibration", text, "--calibration-tokens", "256", "--measurements", "4",
                   "--quiet"]
        made = self.json_lines("quantize", MOE, self.out, *options)[0]
        self.assertEqual(made["loss_unit"], "kl")
        self.assertGreater(made["loss"], 0)
        self.assertEqual(self.left(), ["out.gguf"])  # neither logits nor losses
        self.ok("logits", self.out, "--tokens", "1,2,3", "--out", self.tmp / "logits.f32")
        # Kept losses are used, for other targets too, and give the same file.
        first = self.out.read_bytes()
        kept = self.tmp / "losses"
        for _ in range(2):
            self.ok("quantize", MOE, self.out, *options, "--force", "--losses", kept)
            self.assertEqual(self.out.read_bytes(), first)
        lines = kept.read_text().splitlines()
        self.assertGreater(len(lines), 4)
        options[1] = "3.2"
        self.ok("quantize", MOE, self.out, *options, "--force", "--losses", kept)
        self.assertEqual(kept.read_text().splitlines(), lines)
        self.assertLess(self.out.stat().st_size, len(first))
        self.refused(1, "measured losses", "quantize", MOE, self.out, *options, "--force", "--losses", text)
        text.write_text("short")
        self.refused(1, "at least 256 tokens", "quantize", MOE, self.out, *options, "--force")
        self.assertEqual(self.left(), ["out.gguf"])

    def test_requantising_is_noted(self):
        done = hob("quantize", MOE, self.out, "--type", "Q8_0")
        self.assertEqual(done.returncode, 0)
        self.assertIn("quantised already", done.stderr.decode())

    def test_bad_usage(self):
        self.refused(2, "expected one of", "quantize", MOE, self.out, "--type", "Q4_X")
        self.refused(2, "--type", "quantize", MOE, self.out)
        for rule in ["attn_v", "=Q8_0", "attn_v=Q2_1", "attn_v=none"]:
            self.refused(2, "expected", "quantize", MOE, self.out, "--type", "Q8_0", "--tensor-type", rule)
        self.refused(1, "finds none", "quantize", MOE, self.out, "--type", "Q8_0", "--tensor-type", "nobody=Q4_0")
        self.refused(1, "regular expression", "quantize", MOE, self.out, "--type", "Q8_0", "--tensor-type", "(=Q4_0")
        self.refused(1, "none.gguf", "quantize", self.tmp / "none.gguf", self.out, "--type", "Q8_0")
        self.refused(1, "[imatrix]", "quantize", MOE, self.out, "--type", "Q8_0", "--imatrix", MOE)
        self.refused(1, "none/out", "quantize", MOE, self.tmp / "none" / "out.gguf", "--type", "Q8_0", "--quiet")
        self.assertEqual(self.left(), [])

    def test_files_are_kept(self):
        copy = self.tmp / "in.gguf"
        copy.write_bytes(MOE.read_bytes())
        self.refused(2, "another file", "quantize", copy, copy, "--type", "Q8_0", "--force")
        self.out.write_bytes(b"mine")
        self.refused(1, "--force replaces it", "quantize", copy, self.out, "--type", "Q8_0")
        self.assertEqual(self.out.read_bytes(), b"mine")
        self.assertEqual(copy.read_bytes(), MOE.read_bytes())

    def test_full_disk(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))
        done = subprocess.run([HOB, "quantize", MOE, self.out, "--type", "Q8_0", "--quiet"], capture_output=True,
                              timeout=TIMEOUT_S, preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr.decode())
        self.assertEqual(len(done.stderr.decode().splitlines()), 1, done.stderr.decode())
        self.assertEqual(self.left(), [])

    def interrupt(self, model, sign):
        command = [HOB, "quantize", model, self.out, "--type", "Q4_K_M", "--quiet"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            journal = self.tmp / "out.gguf.partial.journal"
            until = time.monotonic() + TIMEOUT_S
            while not (journal.exists() and journal.stat().st_size >= 4 * 34) and time.monotonic() < until:
                time.sleep(0.005)
            process.send_signal(sign)
            error = process.communicate(timeout=TIMEOUT_S)[1].decode()
        return process.returncode, error

    def test_interrupted_and_continued(self):
        model = self.tmp / "big.gguf"
        write_gguf(model, [(f"blk.{i}.ffn_up.weight", [1024, 1024]) for i in range(24)])
        self.ok("quantize", model, self.tmp / "whole.gguf", "--type", "Q4_K_M", "--quiet")
        whole = (self.tmp / "whole.gguf").read_bytes()
        for sign in [signal.SIGINT, signal.SIGKILL]:
            code, error = self.interrupt(model, sign)
            self.assertNotEqual(code, 0)
            if sign == signal.SIGINT:
                self.assertIn("interrupted; the same command continues", error)
            self.assertEqual(self.left(), ["out.gguf.partial", "out.gguf.partial.journal"])
            self.refused(1, "[gguf]", "show", self.tmp / "out.gguf.partial")
            made = self.json_lines("quantize", model, self.out, "--type", "Q4_K_M", "--quiet")[0]
            self.assertGreater(made["bytes_resumed"], 0)
            self.assertEqual(self.out.read_bytes(), whole)
            self.assertEqual(self.left(), ["out.gguf"])
            self.out.unlink()


if __name__ == "__main__":
    main()
