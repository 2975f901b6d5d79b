"""hob convert: a folder of Hugging Face files becomes a GGUF file that runs, or one clear line and no file."""
import random
import signal
import struct
import subprocess
import time

from hob import *

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 40,
          "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "num_attention_heads": 4,
          "num_key_value_heads": 2, "intermediate_size": 96, "hidden_act": "silu"}


def shapes(config):
    d, ff, kv = config["hidden_size"], config["intermediate_size"], config["hidden_size"] // 2
    out = {"model.embed_tokens.weight": [config["vocab_size"], d], "model.norm.weight": [d],
           "lm_head.weight": [config["vocab_size"], d]}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in [("self_attn.q_proj", [d, d]), ("self_attn.k_proj", [kv, d]), ("self_attn.v_proj", [kv, d]),
                            ("self_attn.o_proj", [d, d]), ("mlp.gate_proj", [ff, d]), ("mlp.up_proj", [ff, d]),
                            ("mlp.down_proj", [d, ff]), ("input_layernorm", [d]), ("post_attention_layernorm", [d])]:
            out[f"model.layers.{layer}.{name}.weight"] = shape
    return out


def write_checkpoint(folder, config, fill):
    """`fill`: what writes n_bytes of numbers."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(config).items():
        n = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + n]}
        end += n
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        fill(file, end)


def random_numbers(file, n_bytes):
    source = random.Random(1)
    file.write(struct.pack(f"<{n_bytes // 4}f", *(source.uniform(-0.3, 0.3) for _ in range(n_bytes // 4))))


def zeros(file, n_bytes):
    file.truncate(file.tell() + n_bytes)


class Converting(HobTest):
    def setUp(self):
        super().setUp()
        self.model, self.out = self.tmp / "model", self.tmp / "model.gguf"
        write_checkpoint(self.model, CONFIG, random_numbers)

    def test_the_file_runs(self):
        made = self.json_lines("convert", self.model, self.out)[0]
        self.assertEqual(made["bytes"], self.out.stat().st_size)
        self.assertEqual(made["n_tensors"], 21)
        self.assertEqual(made["architecture"], "llama")
        shown = self.json_lines("show", self.out)[0]
        self.assertTrue(shown["runnable"])
        self.assertEqual(shown["metadata"]["general.name"], "model")
        self.ok("logits", self.out, "--tokens", "1,2,3", "--out", self.tmp / "logits.f32")
        self.assertEqual((self.tmp / "logits.f32").stat().st_size, 3 * 40 * 4)

    def test_types(self):
        sizes = {}
        for kind in ["auto", "f32", "bf16", "f16", "q8_0"]:
            sizes[kind] = self.json_lines("convert", self.model, self.out, "--force", "--outtype", kind)[0]["bytes"]
        self.assertEqual(sizes["auto"], sizes["f32"])
        self.assertEqual(sizes["bf16"], sizes["f16"])
        self.assertTrue(sizes["f32"] > sizes["f16"] > sizes["q8_0"])
        self.refused(2, "--outtype", "convert", self.model, self.out, "--outtype", "q2_k")

    def test_an_existing_file_is_kept(self):
        self.out.write_bytes(b"mine")
        self.refused(1, "--force replaces it", "convert", self.model, self.out)
        self.assertEqual(self.out.read_bytes(), b"mine")
        self.refused(2, "another file", "convert", self.model, self.model / "model.safetensors", "--force")

    def test_bad_folders(self):
        self.refused(1, "config.json: cannot open", "convert", self.tmp / "none", self.out)
        (self.model / "config.json").write_text(json.dumps(CONFIG | {"intermediate_size": 97}))
        self.refused(1, "expected [97,64] (config.json), file has [96,64]", "convert", self.model, self.out)
        (self.model / "config.json").write_text("{")
        self.refused(1, "config.json: expected a JSON object", "convert", self.model, self.out)
        self.assertFalse(self.out.exists())

    def test_truncated_weights(self):
        path = self.model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        self.refused(1, "[safetensors]", "convert", self.model, self.out)
        self.assertFalse(self.out.exists())

    def test_no_place_to_write(self):
        self.refused(1, "none/model.gguf", "convert", self.model, self.tmp / "none" / "model.gguf")

    def test_ctrl_c_leaves_nothing(self):
        big = CONFIG | {"hidden_size": 4096, "intermediate_size": 8192, "vocab_size": 32000}
        write_checkpoint(self.model, big, zeros)
        target = self.tmp / "out"
        target.mkdir()
        with subprocess.Popen([HOB, "convert", self.model, target / "m.gguf", "--outtype", "q8_0"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            until = time.monotonic() + TIMEOUT_S
            while not list(target.iterdir()) and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=TIMEOUT_S)[1].decode()
        self.assertEqual(process.returncode, 1, error)
        self.assertIn("interrupted", error)
        self.assertEqual(list(target.iterdir()), [])


if __name__ == "__main__":
    main()
