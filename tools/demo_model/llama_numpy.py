"""Forward pass of a dense llama-architecture GGUF in numpy (f32), layer by layer.

Only what make_demo_model needs: read the weights, run many equal windows of text through one layer at a time,
and hand out what goes into each FFN.
"""
from dataclasses import dataclass

import gguf
import numpy as np


@dataclass(frozen=True)
class Config:
    n_layers: int
    d_model: int
    d_ff: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    rope_base: float
    eps: float


class Model:
    """Weights of the file, dequantised on access. Matrices are [n_out, n_in] as in hob."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self._tensors = {t.name: t for t in self.reader.tensors}
        n_heads, d_model = self.meta("llama.attention.head_count"), self.meta("llama.embedding_length")
        self.config = Config(
            n_layers=self.meta("llama.block_count"), d_model=d_model, d_ff=self.meta("llama.feed_forward_length"),
            n_heads=n_heads, n_kv_heads=self.meta("llama.attention.head_count_kv"), d_head=d_model // n_heads,
            rope_base=self.meta("llama.rope.freq_base"), eps=self.meta("llama.attention.layer_norm_rms_epsilon"))

    def meta(self, key):
        return self.reader.fields[key].contents()

    def has(self, name):
        return name in self._tensors

    def tensor(self, name):
        t = self._tensors[name]
        return gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32, copy=False)


def rms_norm(x, weight, eps):
    return x * (1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)) * weight


def silu(x):
    return x / (1.0 + np.exp(-np.clip(x, -80, None)))


def ffn_hidden(x, gate, up):
    return silu(x @ gate.T) * (x @ up.T)


def ffn(x, gate, up, down):
    return ffn_hidden(x, gate, up) @ down.T


def _rope_table(config, n_tokens):
    inverse = config.rope_base ** (-np.arange(0, config.d_head, 2, dtype=np.float64) / config.d_head)
    angle = np.arange(n_tokens)[:, None] * inverse[None, :]
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _rope(x, table):
    """Rotates adjacent pairs (2i, 2i+1): llama's order in GGUF files. x: [n_windows, n_tokens, n_heads, d_head]."""
    cos, sin = (t[None, :, None, :] for t in table)
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


def attention(model, layer, x, n_tokens):
    """x: [n_windows * n_tokens, d_model], windows of n_tokens each. Returns the residual's increment."""
    c = model.config
    p = f"blk.{layer}."
    h = rms_norm(x, model.tensor(p + "attn_norm.weight"), c.eps)
    def heads(name, n):
        return (h @ model.tensor(p + name).T).reshape(-1, n_tokens, n, c.d_head)
    table = _rope_table(c, n_tokens)
    q = _rope(heads("attn_q.weight", c.n_heads), table)
    k = _rope(heads("attn_k.weight", c.n_kv_heads), table)
    v = heads("attn_v.weight", c.n_kv_heads)
    future = np.triu(np.full((n_tokens, n_tokens), -np.inf, np.float32), 1)
    out = np.empty_like(q)
    for w in range(q.shape[0]):
        for head in range(c.n_heads):
            kv = head // (c.n_heads // c.n_kv_heads)
            s = q[w, :, head] @ k[w, :, kv].T * (c.d_head ** -0.5) + future
            s = np.exp(s - s.max(axis=1, keepdims=True))
            out[w, :, head] = (s / s.sum(axis=1, keepdims=True)) @ v[w, :, kv]
    return out.reshape(x.shape) @ model.tensor(p + "attn_output.weight").T


def dense_weights(model, layer):
    return tuple(model.tensor(f"blk.{layer}.ffn_{part}.weight") for part in ("gate", "up", "down"))


def log_probs(model, x, head):
    h = rms_norm(x, model.tensor("output_norm.weight"), model.config.eps)
    logits = h @ head.T
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
