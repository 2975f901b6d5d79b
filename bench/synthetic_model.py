#!/usr/bin/env python3
"""Writes a GGUF file of a real model's shape with random weights: good for speed, never for quality.

  bench/synthetic_model.py SHAPE OUT.gguf [--type Q4_K_M|Q8_0|MXFP4] [--layers N]

SHAPE is one of the table below; --layers keeps every width, head and expert count and writes fewer layers. Q4_K_M gives each tensor
the type that llama.cpp's quantiser chooses (rows that 256 does not divide fall back to Q5_0 and Q8_0). Needs `numpy` and `gguf`.
"""
import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

_LLAMA = dict(arch="llama", eps=1e-5, ctx=131072)
SHAPES = {
    "deepseek-v2-lite": dict(arch="deepseek2", layers=27, d=2048, heads=16, kv=16, ff=10944, vocab=102400, experts=64, k=6, ff_exp=1408,
                             shared=2, dense=1, latent=512, nope=128, rope=64, dv=128, eps=1e-6, ctx=163840, yarn=(40.0, 4096)),
    "gpt-oss-20b": dict(arch="gpt-oss", layers=24, d=2880, heads=64, kv=8, hd=64, ff=2880, vocab=201088, experts=32, k=4, ff_exp=2880,
                        eps=1e-5, ctx=131072, window=128, theta=150000.0, yarn=(32.0, 4096)),
    "phi-3.5-moe": dict(arch="phimoe", layers=32, d=4096, heads=32, kv=8, hd=128, ff=6400, vocab=32064, experts=16, k=2, eps=1e-5,
                        ctx=131072, long_rope=4096),
    "gemma-3-1b": dict(arch="gemma3", layers=26, d=1152, heads=4, kv=1, hd=256, ff=6912, vocab=262144, eps=1e-6, ctx=32768, window=512,
                       theta=1000000.0, tied=True),
    "granite-3b-a800m": dict(arch="granitemoe", layers=32, d=1536, heads=24, kv=8, hd=64, ff=512, vocab=49155, experts=40, k=8, eps=1e-6,
                             ctx=4096, tied=True, scales=(12.0, 0.22, 0.015625, 6.0)),
    "mistral-7b": dict(**_LLAMA, layers=32, d=4096, heads=32, kv=8, hd=128, ff=14336, vocab=32768, theta=1000000.0),
    "llama-3.2-1b": dict(**_LLAMA, layers=16, d=2048, heads=32, kv=8, hd=64, ff=8192, vocab=128256, theta=500000.0, tied=True,
                         rope_freqs=True),
    "phi-3-mini": dict(arch="phi3", layers=32, d=3072, heads=32, kv=32, hd=96, ff=8192, vocab=32064, eps=1e-5, ctx=4096),
    "smollm2-135m": dict(**_LLAMA, layers=30, d=576, heads=9, kv=3, hd=64, ff=1536, vocab=49152, theta=100000.0, tied=True),
}


class Tensors:
    """Names, shapes (outputs first) and types of all tensors, in file order."""

    def __init__(self, shape, n_layers, kind):
        self.s, self.n_layers, self.kind, self.list = shape, n_layers, kind, []

    def more_bits(self, layer):
        n = self.n_layers
        return layer < n // 8 or layer >= 7 * n // 8 or (layer - n // 8) % 3 == 2

    def type_of(self, name, d_in, layer):
        if self.kind != "Q4_K_M":
            return T.MXFP4 if self.kind == "MXFP4" and "_exps" in name else T.Q8_0
        wanted = T.Q4_K
        if name in ("output", "tied_embd") or (layer is not None and self.more_bits(layer) and ("ffn_down" in name or name == "attn_v")):
            wanted = T.Q6_K
        elif name == "attn_qkv":
            wanted = T.Q5_K
        narrow = {T.Q4_K: T.Q5_0, T.Q5_K: T.Q5_1, T.Q6_K: T.Q8_0}
        return wanted if d_in % 256 == 0 else narrow[wanted]

    def matrix(self, name, *shape, layer=None):
        kind = self.type_of("tied_embd" if name == "token_embd" and self.s.get("tied") else name, shape[-1], layer)
        self.add(name + ".weight", shape, kind, layer)

    def floats(self, name, *shape, layer=None):
        self.add(name, shape, T.F32, layer)

    def add(self, name, shape, kind, layer):
        self.list.append((name if layer is None else f"blk.{layer}.{name}", shape, kind))

    def norm(self, name, layer=None):
        self.floats(name + ".weight", self.s["d"], layer=layer)
        if self.s["arch"] == "phimoe":
            self.floats(name + ".bias", self.s["d"], layer=layer)

    def attention(self, i):
        s = self.s
        d, heads = s["d"], s["heads"]
        if "latent" in s:
            self.matrix("attn_q", heads * (s["nope"] + s["rope"]), d, layer=i)
            self.matrix("attn_kv_a_mqa", s["latent"] + s["rope"], d, layer=i)
            self.floats("attn_kv_a_norm.weight", s["latent"], layer=i)
            self.matrix("attn_k_b", heads, s["latent"], s["nope"], layer=i)
            self.matrix("attn_v_b", heads, s["dv"], s["latent"], layer=i)
            return self.matrix("attn_output", d, heads * s["dv"], layer=i)
        hd, kv = s["hd"], s["kv"]
        if s["arch"] == "phi3":
            self.matrix("attn_qkv", (heads + 2 * kv) * hd, d, layer=i)
        else:
            for name, n in (("attn_q", heads), ("attn_k", kv), ("attn_v", kv)):
                self.matrix(name, n * hd, d, layer=i)
        self.matrix("attn_output", d, heads * hd, layer=i)
        if s["arch"] in ("gpt-oss", "phimoe"):
            for name, n in (("attn_q", heads * hd), ("attn_k", kv * hd), ("attn_v", kv * hd), ("attn_output", d)):
                self.floats(name + ".bias", n, layer=i)
        if s["arch"] == "gpt-oss":
            self.floats("attn_sinks.weight", heads, layer=i)
        if s["arch"] == "gemma3":
            for name in ("attn_q_norm", "attn_k_norm"):
                self.floats(name + ".weight", hd, layer=i)

    def gated(self, suffix, ff, i, *experts):
        for name, out, inner in (("ffn_gate", ff, self.s["d"]), ("ffn_up", ff, self.s["d"]), ("ffn_down", self.s["d"], ff)):
            self.matrix(name + suffix, *experts, out, inner, layer=i)

    def ffn(self, i):
        s = self.s
        if s["arch"] == "phi3":
            self.matrix("ffn_up", 2 * s["ff"], s["d"], layer=i)
            return self.matrix("ffn_down", s["d"], s["ff"], layer=i)
        if "experts" not in s or i < s.get("dense", 0):
            return self.gated("", s["ff"], i)
        n, ff = s["experts"], s.get("ff_exp", s["ff"])
        self.floats("ffn_gate_inp.weight", n, s["d"], layer=i)
        self.gated("_exps", ff, i, n)
        if "shared" in s:
            self.gated("_shexp", ff * s["shared"], i)
        if s["arch"] == "gpt-oss":
            self.floats("ffn_gate_inp.bias", n, layer=i)
            for name, width in (("ffn_gate_exps", ff), ("ffn_up_exps", ff), ("ffn_down_exps", s["d"])):
                self.floats(name + ".bias", n, width, layer=i)

    def all(self):
        s = self.s
        self.matrix("token_embd", s["vocab"], s["d"])
        self.norm("output_norm")
        if not s.get("tied"):
            self.matrix("output", s["vocab"], s["d"])
        if s["arch"] == "phimoe":
            self.floats("output.bias", s["vocab"])
            for which in ("long", "short"):
                self.floats(f"rope_factors_{which}.weight", s["hd"] // 2)
        if s.get("rope_freqs"):
            self.floats("rope_freqs.weight", s["hd"] // 2)
        for i in range(self.n_layers):
            self.norm("attn_norm", i)
            self.attention(i)
            self.norm("post_attention_norm" if s["arch"] == "gpt-oss" else "ffn_norm", i)
            if s["arch"] == "gemma3":
                self.norm("post_attention_norm", i)
                self.norm("post_ffw_norm", i)
            self.ffn(i)
        return self.list


def add_metadata(w, name, s, n_layers):
    w.add_name("synthetic " + name)
    w.add_context_length(s["ctx"])
    w.add_embedding_length(s["d"])
    w.add_block_count(n_layers)
    w.add_feed_forward_length(s["ff"])
    w.add_head_count(s["heads"])
    w.add_layer_norm_rms_eps(s["eps"])
    w.add_vocab_size(s["vocab"])
    w.add_rope_freq_base(s.get("theta", 10000.0))
    if "latent" in s:
        add_latent(w, s)
    else:
        w.add_head_count_kv(s["kv"])
        w.add_key_length(s["hd"])
        w.add_value_length(s["hd"])
        w.add_rope_dimension_count(s["hd"])
    if "experts" in s:
        w.add_expert_count(s["experts"])
        w.add_expert_used_count(s["k"])
        if "ff_exp" in s:
            w.add_expert_feed_forward_length(s["ff_exp"])
    if "window" in s:
        w.add_sliding_window(s["window"])
    if "yarn" in s:
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(s["yarn"][0])
        w.add_rope_scaling_orig_ctx_len(s["yarn"][1])
    if "long_rope" in s:
        w.add_rope_scaling_orig_ctx_len(s["long_rope"])
        w.add_rope_scaling_attn_factors(1.19)
    if "scales" in s:
        for add, value in zip((w.add_embedding_scale, w.add_residual_scale, w.add_attention_scale, w.add_logit_scale), s["scales"]):
            add(value)
    w.add_tokenizer_model("no_vocab")


def add_latent(w, s):
    w.add_head_count_kv(1)
    w.add_kv_lora_rank(s["latent"])
    w.add_key_length(s["latent"] + s["rope"])
    w.add_value_length(s["latent"])
    w.add_key_length_mla(s["nope"] + s["rope"])
    w.add_value_length_mla(s["dv"])
    w.add_rope_dimension_count(s["rope"])
    w.add_rope_scaling_yarn_log_mul(0.0707)
    w.add_leading_dense_block_count(s["dense"])
    w.add_expert_shared_count(s["shared"])
    w.add_expert_weights_scale(1.0)


# Bytes of the f16 scales of a block and their values: weights have a standard deviation of about .02.
_SCALES = {T.Q4_K: ((0, .00014), (2, .00105)), T.Q5_K: ((0, .00007), (2, .00105)), T.Q6_K: ((208, .0000165),), T.Q5_0: ((0, .0022),),
           T.Q5_1: ((0, .0022), (2, -.034)), T.Q8_0: ((0, .00027),), T.MXFP4: ()}
_POOL_BYTES = 64 << 20


class Blocks:
    """Random blocks, a pool for each type; a tensor begins anywhere in it, so that experts differ."""

    def __init__(self):
        self.rng, self.pools = np.random.default_rng(0), {}

    def pool(self, kind):
        if kind not in self.pools:
            size = gguf.GGML_QUANT_SIZES[kind][1]
            x = self.rng.integers(0, 256, size=(_POOL_BYTES // size, size), dtype=np.uint8)
            for at, value in _SCALES[kind]:
                x[:, at:at + 2] = np.frombuffer(np.float16(value).tobytes(), dtype=np.uint8)
            if kind == T.MXFP4:
                x[:, 0] = 120
            self.pools[kind] = x
        return self.pools[kind]

    def pieces(self, kind, n):
        pool = self.pool(kind)
        while n > 0:
            at = int(self.rng.integers(0, len(pool) // 2))
            take = min(n, len(pool) - at)
            yield pool[at:at + take]
            n -= take

    def floats(self, name, n):
        if name.endswith("gate_inp.weight"):
            return self.rng.standard_normal(n).astype(np.float32) * .05
        return np.full(n, 1 if name.endswith(".weight") and "sinks" not in name else 0, np.float32)


def write(path, name, kind, n_layers):
    s = SHAPES[name]
    w = gguf.GGUFWriter(path, s["arch"])
    add_metadata(w, name, s, n_layers)
    tensors = Tensors(s, n_layers, kind).all()
    for t, shape, dtype in tensors:
        n = int(np.prod(shape))
        if dtype == T.F32:
            w.add_tensor_info(t, shape, np.dtype(np.float32), 4 * n)
        else:
            block, size = gguf.GGML_QUANT_SIZES[dtype]
            raw = (*shape[:-1], shape[-1] // block * size)
            w.add_tensor_info(t, raw, np.dtype(np.uint8), n // block * size, raw_dtype=dtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    out, blocks = w.fout[0], Blocks()
    w.write_padding(out, out.tell())
    for t, shape, dtype in tensors:
        n = int(np.prod(shape))
        if dtype == T.F32:
            out.write(blocks.floats(t, n).tobytes())
        else:
            for piece in blocks.pieces(dtype, n // gguf.GGML_QUANT_SIZES[dtype][0]):
                out.write(piece)
        w.write_padding(out, out.tell())
    w.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out")
    parser.add_argument("--type", default="Q4_K_M", choices=("Q4_K_M", "Q8_0", "MXFP4"))
    parser.add_argument("--layers", type=int)
    a = parser.parse_args()
    write(a.out, a.shape, a.type, a.layers or SHAPES[a.shape]["layers"])


if __name__ == "__main__":
    main()
