#!/usr/bin/env python3
"""Writes what the `gguf` package reads from random blocks of every tensor type, and how it quantises.

usage: make_dequant_golden.py OUT_DIR [N_BLOCKS]        (needs: pip install gguf numpy)

OUT_DIR/dequant_<TYPE>.bin: u32 number of elements, u32 number of bytes, the bytes, the expected f32 values.
Every bit pattern is used, so scales also become infinite, NaN and denormal. Blocks come from a fixed seed.
OUT_DIR/quantise_<TYPE>.bin: the same fields; here the values are the input and the bytes are expected.
"""
import pathlib
import sys

import gguf
import numpy as np

TYPES = ("F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4").split()

OWN = (("Q2_1", 12), ("Q3_0", 14), ("G2", 11), ("G3", 15), ("G4", 19), ("G8", 35))

QUANTISED = "F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1".split()


def write(path, raw, values):
    header = np.array([values.size, raw.size], dtype="<u4")
    path.write_bytes(header.tobytes() + raw.tobytes() + values.astype("<f4").tobytes())


def quantise_inputs():
    """Weights of many scales, zeros, and small integers (whose quotients fall on ties)."""
    rng = np.random.default_rng(2000)
    normal = rng.standard_normal((32, 32)) * np.exp2(rng.integers(-20, 8, (32, 1)))
    ties = rng.integers(-16, 17, (15, 32)) / 2.0
    return np.concatenate([normal, ties, np.zeros((1, 32))]).astype(np.float32)


def dequantise_own(name, raw):
    """hob's own types (src/tensor/blocks.h), which the package does not know: written from the layout."""
    if name[0] == "G":
        return dequantise_group(name, raw)
    halves = raw[:, :4].copy().view("<f2").astype(np.float32)
    element = np.arange(32)
    qs = raw[:, 4:12] if name == "Q2_1" else raw[:, 2:10]
    low = (qs[:, element % 8] >> (element // 8 * 2)) & 3
    if name == "Q2_1":
        return low.astype(np.float32) * halves[:, :1] + halves[:, 1:2]
    third = (raw[:, 10:14][:, element % 4] >> (element // 4)) & 1
    return ((low + 4 * third).astype(np.float32) - 4) * halves[:, :1]


def dequantise_group(name, raw):
    """scale * (q - zero)"""
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)
    if name == "G8":
        zero, q = (raw[:, part].astype(np.int8).astype(np.int32) for part in (slice(2, 3), slice(3, 35)))
        return (q - zero).astype(np.float32) * scale
    zero, codes, element = raw[:, 2:3].astype(np.int32), raw[:, 3:], np.arange(32)
    if name == "G4":
        q = codes[:, element % 16] >> (element // 16 * 4) & 15
    else:
        q = codes[:, element % 8] >> (element // 8 * 2) & 3
    if name == "G3":
        q = q + 4 * (codes[:, 8:][:, element % 4] >> (element // 4) & 1)
    return (q.astype(np.int32) - zero).astype(np.float32) * scale


def main():
    out = pathlib.Path(sys.argv[1])
    n_blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    out.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(TYPES):
        qtype = gguf.GGMLQuantizationType[name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
        if block == 1:  # one row of all sorts of values
            block, block_bytes = 64, 64 * block_bytes
        rng = np.random.default_rng(1000 + index)
        raw = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(raw, qtype).astype(np.float32)
        assert values.size == n_blocks * block
        write(out / f"dequant_{name}.bin", raw, values)
    for index, (name, block_bytes) in enumerate(OWN):
        raw = np.random.default_rng(3000 + index).integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
        with np.errstate(all="ignore"):
            write(out / f"dequant_{name}.bin", raw, dequantise_own(name, raw))
    inputs = quantise_inputs()
    for name in QUANTISED:
        raw = np.asarray(gguf.quants.quantize(inputs, gguf.GGMLQuantizationType[name]))
        write(out / f"quantise_{name}.bin", raw.view(np.uint8), inputs)


main()
