"""A folder of Hugging Face files runs as it is: the same numbers as the GGUF file that is made of it."""
import shutil

from convert_test import CONFIG, random_numbers, write_checkpoint
from hob import *

GOLDENS = pathlib.Path(__file__).parent.parent / "golden"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_tokenizer(folder):
    vocab = {letter: i for i, letter in enumerate(LETTERS + "\u0120")}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": bytes_, "post_processor": None, "decoder": bytes_, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(whole))


class Folders(HobTest):
    def logits(self, model, *more):
        out = self.tmp / "logits.f32"
        self.ok("logits", model, "--tokens", "1,2,3,4,5,6,7", "--out", out, *more)
        return out.read_bytes()

    def copied(self, name):
        return pathlib.Path(shutil.copytree(GOLDENS / name, self.tmp / name))

    def test_same_bits_as_converted_resident_and_streamed(self):
        for name in ["mixtral", "qwen3_moe", "deepseek_v2", "gpt_oss_mxfp4", "gemma3", "phi3"]:
            with self.subTest(name):
                file = self.tmp / f"{name}.gguf"
                self.ok("convert", GOLDENS / name, file)
                expected = self.logits(file)
                self.assertEqual(self.logits(GOLDENS / name), expected)
                if name not in ["gemma3", "phi3"]:
                    self.assertEqual(self.logits(GOLDENS / name, "--expert-cache", "48K"), expected)

    def test_answers(self):
        model, file = self.tmp / "model", self.tmp / "model.gguf"
        write_checkpoint(model, CONFIG, random_numbers)
        write_tokenizer(model)
        self.ok("convert", model, file)
        answers = [self.ok("run", m, "--raw", "-p", "hello you", "-n", "8", "--temp", "0") for m in (model, file)]
        self.assertTrue(answers[0].strip())
        self.assertEqual(answers[0], answers[1])

    def test_a_pack_beside_it(self):
        model = self.copied("qwen3_moe")
        expected = self.logits(model)
        pack = self.json_lines("pack", model)[0]["file"]
        self.assertEqual(pathlib.Path(pack).parent, model)
        self.assertEqual(self.logits(model, "--expert-cache", "48K"), expected)
        self.ok("pack", model, "--verify", pack)
        config = json.loads((model / "config.json").read_text())
        config["rope_theta"] = 12345.0
        (model / "config.json").write_text(json.dumps(config))
        self.refused(1, "expected a pack of this model", "logits", model, "--tokens", "1", "--out", self.tmp / "x")

    def test_what_is_no_model(self):
        model = self.copied("qwen3")
        self.refused(1, "expected a GGUF file or the folder", "show", model / "config.json")
        self.refused(1, "expected a GGUF file or the folder", "show", model / "model.safetensors")
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        self.refused(1, "model.safetensors", "show", model)
        weights.unlink()
        self.refused(1, "model.safetensors", "show", model)
        (model / "config.json").unlink()
        self.refused(1, "config.json", "show", model)


if __name__ == "__main__":
    main()
