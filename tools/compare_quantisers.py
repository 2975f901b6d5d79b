#!/usr/bin/env python3
"""Error of hob's quantisers beside ggml's, type by type.

usage: compare_quantisers.py --tool build/dev/quantise_rows --ggml PATH/libggml-base.so [--gguf FILE]... [--modes ...]
(needs: pip install gguf numpy; the library comes from `bench/compare_llamacpp.sh --build-peer DIR`)

Prints a line per type and source: RMSE of both relative to the weights' RMS, and their ratio (1 or less: hob is as
good). Both sides' bytes are read back by the same Python package. Sources: Gaussian weights, heavy-tailed ones (t with
4 degrees of freedom), and up to 4 matrices of each FILE that is not quantised below 8 bits already.
"""
import argparse
import ctypes
import subprocess
import sys

import gguf
import numpy as np

TYPES = "F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
N_ROWS = 256


def ggml_quantise(library, qtype, rows):
    n_rows, n_cols = rows.shape
    block, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
    packed = np.zeros((n_rows, n_cols // block * block_bytes), dtype=np.uint8)
    n_bytes = library.ggml_quantize_chunk(int(qtype), rows.ctypes.data_as(ctypes.c_void_p),
                                          packed.ctypes.data_as(ctypes.c_void_p), 0, n_rows, n_cols, None)
    assert n_bytes == packed.size, f"{qtype}: {n_bytes} bytes from ggml"
    return packed


def hob_quantise(tool, qtype, rows, mode):
    done = subprocess.run([tool, qtype.name, str(rows.shape[1]), mode], input=rows.tobytes(), stdout=subprocess.PIPE,
                          check=True)
    return np.frombuffer(done.stdout, dtype=np.uint8).reshape(rows.shape[0], -1)


def error(rows, packed, qtype):
    miss = gguf.quants.dequantize(packed, qtype).astype(np.float64).reshape(rows.shape) - rows
    return np.sqrt(np.mean(miss ** 2) / np.mean(rows.astype(np.float64) ** 2))


def sources(paths):
    rng = np.random.default_rng(1)
    yield "gaussian", (rng.standard_normal((N_ROWS, 2048)) * 0.02).astype(np.float32)
    yield "heavy-tailed", (rng.standard_t(4, (N_ROWS, 2048)) * 0.02).astype(np.float32)
    for path in paths:
        matrices = [t for t in gguf.GGUFReader(path).tensors if len(t.shape) >= 2 and t.shape[0] % 256 == 0]
        matrices = matrices[::max(1, len(matrices) // 4)][:4]
        for tensor in matrices:
            packed = tensor.data.reshape(-1, tensor.data.shape[-1])[:N_ROWS]
            rows = gguf.quants.dequantize(packed, tensor.tensor_type).astype(np.float32)
            yield tensor.name, np.ascontiguousarray(rows.reshape(len(packed), -1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--ggml", required=True)
    parser.add_argument("--gguf", action="append", default=[])
    parser.add_argument("--modes", nargs="+", default=["equal"], choices=["equal", "default", "plain"])
    args = parser.parse_args()
    library = ctypes.CDLL(args.ggml)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                            ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    # ggml fills its table of halves when the first context is made; ggml_init takes three words by value.
    class InitParams(ctypes.Structure):
        _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]
    library.ggml_init.argtypes = [InitParams]
    library.ggml_init.restype = ctypes.c_void_p
    library.ggml_init(InitParams(1 << 20, None, True))

    worst = {}
    for source, rows in sources(args.gguf):
        for name in TYPES:
            qtype = gguf.GGMLQuantizationType[name]
            theirs = error(rows, ggml_quantise(library, qtype, rows), qtype)
            for mode in args.modes:
                ours = error(rows, hob_quantise(args.tool, qtype, rows, mode), qtype)
                ratio = ours / theirs if theirs > 0 else float(ours > 0) + 1
                worst[name, mode] = max(worst.get((name, mode), 0), ratio)
                print(f"{source:32} {name:7} {mode:8} ggml {theirs:.6f}  hob {ours:.6f}  ratio {ratio:.4f}", flush=True)
    for (name, mode), ratio in worst.items():
        print(f"worst {name:7} {mode:8} {ratio:.4f}")
    if any(ratio > 1.0005 for (_, mode), ratio in worst.items() if mode == "equal"):
        sys.exit("a ratio is above 1")


if __name__ == "__main__":
    main()
