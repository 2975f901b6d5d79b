"""A small llama in PyTorch, its weights named and laid out as in GGUF files."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

EPS = 1e-5
ROPE_BASE = 10000.0
INIT_STD = 0.02


@dataclass(frozen=True)
class Shape:
    n_layers: int
    d_model: int
    d_ff: int
    n_heads: int
    n_vocab: int

    @property
    def d_head(self):
        return self.d_model // self.n_heads

    def tensors(self):
        """name -> shape, in the file's order. The embedding is the output matrix too."""
        d, ff = self.d_model, self.d_ff
        table = {"token_embd": (self.n_vocab, d), "output_norm": (d,)}
        for layer in range(self.n_layers):
            p = f"blk.{layer}."
            table |= {p + "attn_norm": (d,), p + "attn_q": (d, d), p + "attn_k": (d, d), p + "attn_v": (d, d),
                      p + "attn_output": (d, d), p + "ffn_norm": (d,), p + "ffn_gate": (ff, d), p + "ffn_up": (ff, d),
                      p + "ffn_down": (d, ff)}
        return {name + ".weight": shape for name, shape in table.items()}


def _initial(name, shape, n_layers):
    if len(shape) == 1:
        return torch.ones(shape)
    # What adds to the residual stream starts smaller, so that its size does not grow with depth.
    adds = name.endswith(("attn_output.weight", "ffn_down.weight"))
    return torch.randn(shape) * INIT_STD * ((2 * n_layers) ** -0.5 if adds else 1.0)


def _rope_table(n_tokens, d_head):
    inverse = ROPE_BASE ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angle = torch.arange(n_tokens)[:, None] * inverse
    return torch.cos(angle).float(), torch.sin(angle).float()


def _rope(x, table):
    """Rotates adjacent pairs (2i, 2i+1). x: [batch, n_heads, n_tokens, d_head]."""
    cos, sin = table
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Llama(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.names = list(shape.tensors())
        self.weights = torch.nn.ParameterList(_initial(n, s, shape.n_layers) for n, s in shape.tensors().items())

    def named(self):
        return dict(zip(self.names, self.weights))

    def n_params(self):
        return sum(w.numel() for w in self.weights)

    def forward(self, ids):
        """[batch, n_tokens] -> logits [batch, n_tokens, n_vocab]."""
        w = self.named()
        table = _rope_table(ids.shape[1], self.shape.d_head)
        x = F.embedding(ids, w["token_embd.weight"])
        for layer in range(self.shape.n_layers):
            own = lambda name: w[f"blk.{layer}.{name}.weight"]
            x = x + self._attention(F.rms_norm(x, x.shape[-1:], own("attn_norm"), EPS), own, table)
            x = x + self._ffn(F.rms_norm(x, x.shape[-1:], own("ffn_norm"), EPS), own)
        return F.rms_norm(x, x.shape[-1:], w["output_norm.weight"], EPS) @ w["token_embd.weight"].T

    def _attention(self, h, own, table):
        q, k, v = ((h @ own(name).T).unflatten(-1, (self.shape.n_heads, -1)).transpose(1, 2)
                   for name in ("attn_q", "attn_k", "attn_v"))
        out = F.scaled_dot_product_attention(_rope(q, table), _rope(k, table), v, is_causal=True)
        return out.transpose(1, 2).flatten(-2) @ own("attn_output").T

    @staticmethod
    def _ffn(h, own):
        return (F.silu(h @ own("ffn_gate").T) * (h @ own("ffn_up").T)) @ own("ffn_down").T
