#!/usr/bin/env python3
"""Writes tiny random checkpoints in Hugging Face format with the logits that transformers computes from them.

    make_golden.py [FAMILY ...] [--out DIR]     make them (all, if none is named) under tests/golden
    make_golden.py --check [FAMILY ...]         load what is there and compare (any transformers from 4.57 on)
    make_golden.py --check --configs            the same under transformers 5, and write config_v5.json

Needs tools/requirements-golden.txt (transformers 4.57.6, torch 2.13.0, on the CPU). What each directory is for:
tests/golden/README.md. Quirks of the reference:

- LongRoPE: the length of the whole sequence decides between the long and the short factors, for all its positions; the
  factor of cos and sin comes from the configuration's two lengths (Phi-3) or from short_mscale and long_mscale (PhiMoE).
  transformers 5.23's PhiMoE always takes the short factors, so `phimoe_long` is not compared there.
- SparseMixer (PhiMoE): the published rule of evaluation, not its noise of training.
- DeepSeek-V2 with YaRN: 4.57 leaves out the factor mscale_all_dim of the scores. It is put back (tools/golden/models.py), as in
  the published code and in transformers 5.
- DeepSeek V1 ("deepseek") has no class in transformers: Llama's, with the experts of the DeepSeek-V2 class.
- MXFP4 is decoded by transformers' own decoder into F32 weights.
- torch.topk leaves open which of equal experts it takes; here it is the one with the lower number.
- Of random weights those are taken whose routers decide by a margin; else a last bit would choose other experts.
"""
import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from golden import models  # noqa: E402
from golden.families import FAMILIES  # noqa: E402
from golden.mxfp4 import pack_experts  # noqa: E402
from golden.routing import watched  # noqa: E402
from golden.weights import HOT, random_weights  # noqa: E402

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
MAX_FILE_BYTES = 700_000
MIN_GAP = 1e-3  # of a router's logits
MIN_SHARED = 4  # weights of SparseMixer that are below 1, or its second half would not be seen
SPREAD = (1.5, 8.0)  # standard deviation of logits over the vocabulary
MAX_DIFFERENCE = 1e-4  # between versions of transformers and between machines
NOT_IN_V5 = {"deepseek": "put together from classes of 4.57", "phimoe_long": "5.23 takes the short factors"}


def write_config(folder, family):
    config = {"architectures": [family.architecture], **family.config,
              "torch_dtype": "bfloat16" if family.weights == "mxfp4" else "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_weights(folder, family, seed):
    model = models.empty_model(folder)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}  # tied ones once, under their first name
    tensors = random_weights(shapes, family, seed)
    if family.weights == "mxfp4":
        tensors = pack_experts(tensors, seed)
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def routing_is_clear(log, family):
    if family.router == "hot" and not all((chosen[:, 0] == HOT).all() for chosen in log.chosen):
        return False
    if family.router == "pairs":  # all of them, at every token
        assert log.ties == sum(len(chosen) for chosen in log.chosen) * models.n_experts(family.config) // 2
    if family.config["model_type"] == "phimoe" and log.shared < MIN_SHARED:
        return False
    return log.gap >= MIN_GAP


def evaluate(folder, tokens):
    with watched() as log:
        logits = models.logits_of(models.load(folder), tokens)
    return logits, log


def make(name, out):
    family = FAMILIES[name]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, family)
    rng = np.random.default_rng(family.seed)
    tokens = rng.integers(3, family.config["vocab_size"], family.n_tokens).tolist()
    for seed in range(family.seed * 1000, family.seed * 1000 + 50):
        write_weights(folder, family, seed)
        logits, log = evaluate(folder, tokens)
        if routing_is_clear(log, family):
            break
    else:
        sys.exit(f"{name}: no seed routes clearly (gap {log.gap:.1e})")
    again, _ = evaluate(folder, tokens)
    assert torch.equal(logits, again), name
    spread = logits.std(-1).mean().item()
    size = (folder / "model.safetensors").stat().st_size
    assert torch.isfinite(logits).all() and SPREAD[0] <= spread <= SPREAD[1], f"{name}: spread {spread:.2f}"
    assert size < MAX_FILE_BYTES, f"{name}: {size} bytes"
    (folder / "tokens.txt").write_text(",".join(map(str, tokens)) + "\n")
    (folder / "logits.f32").write_bytes(logits.numpy().astype("<f4").tobytes())
    print(f"{name}: seed {seed}, {size} bytes, {len(tokens)} tokens, logits' spread {spread:.2f}, routers' least gap {log.gap:.1e}",
          flush=True)


def check(name, out, write_config_v5):
    folder = out / name
    if models.IS_V5 and write_config_v5 and name != "deepseek":
        config = transformers.AutoConfig.from_pretrained(folder)
        config.to_json_file(folder / "config_v5.json")
    if models.IS_V5 and name in NOT_IN_V5:
        return print(f"{name}: not compared ({NOT_IN_V5[name]})")
    tokens = [int(token) for token in (folder / "tokens.txt").read_text().split(",")]
    expected = torch.from_numpy(np.fromfile(folder / "logits.f32", "<f4")).view(len(tokens), -1)
    difference = (evaluate(folder, tokens)[0] - expected).abs().max().item()
    print(f"{name}: greatest difference {difference:.1e}", flush=True)
    return difference <= MAX_DIFFERENCE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--out", type=pathlib.Path, default=GOLDEN)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--configs", action="store_true")
    args = parser.parse_args()
    names = args.families or list(FAMILIES)
    if unknown := set(names) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if args.check:
        sys.exit(any([check(name, args.out, args.configs) is False for name in names]))
    if models.IS_V5:
        parser.error("the checkpoints are made with transformers 4.57 (tools/requirements-golden.txt)")
    for name in names:
        make(name, args.out)


main()
