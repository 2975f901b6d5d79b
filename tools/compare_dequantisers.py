#!/usr/bin/env python3
"""hob's dequantisers beside those of the `gguf` package: every bit of every value, random blocks of all bit patterns.

usage: compare_dequantisers.py TOOL [N_BLOCKS]     (TOOL: build/dev/quantise_rows; needs: pip install gguf numpy)

N_BLOCKS per type, 1 million unless told. Values that are NaN on both sides count as equal. A block that is infinite or
NaN (its scale is) still counts. Ends with an error if one value differs.
"""
import subprocess
import sys

import gguf
import numpy as np

TYPES = "F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
AT_ONCE = 20000  # blocks


def compare(tool, name, n_blocks, rng):
    """Numbers of values, of NaNs and of differing values."""
    qtype = gguf.GGMLQuantizationType[name]
    block, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
    if block == 1:
        block, block_bytes = 32, 32 * block_bytes
    n_values = n_nan = n_different = 0
    for start in range(0, n_blocks, AT_ONCE):
        raw = rng.integers(0, 256, (min(AT_ONCE, n_blocks - start), block_bytes), dtype=np.uint8)
        with np.errstate(all="ignore"):
            expected = gguf.quants.dequantize(raw, qtype).astype(np.float32).reshape(-1)
        done = subprocess.run([tool, name, str(block), "dequantise"], input=raw.tobytes(), stdout=subprocess.PIPE,
                              check=True)
        found = np.frombuffer(done.stdout, dtype=np.float32)
        assert found.size == expected.size, f"{name}: {found.size} values, expected {expected.size}"
        nan = np.isnan(found) & np.isnan(expected)
        n_values += found.size
        n_nan += int(nan.sum())
        n_different += int(((found.view(np.uint32) != expected.view(np.uint32)) & ~nan).sum())
    return n_values, n_nan, n_different


def main():
    tool, n_blocks = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    failed = []
    for index, name in enumerate(TYPES):
        values, nan, different = compare(tool, name, n_blocks, np.random.default_rng(7000 + index))
        print(f"{name:7} {n_blocks} blocks, {values} values, {nan} NaN on both sides, {different} differ", flush=True)
        if different:
            failed.append(name)
    if failed:
        sys.exit(f"differ: {' '.join(failed)}")


if __name__ == "__main__":
    main()
