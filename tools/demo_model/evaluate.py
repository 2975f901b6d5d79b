"""Measures the written F16 file against the dense model, in numpy and therefore independent of any engine."""
import numpy as np

from model_tools.bpe import Bpe

from . import llama_numpy as llama

WINDOW = 512
KL_TOKENS = 2 * WINDOW


def _moe_ffn(model, layer, h, rotate, counts):
    p = f"blk.{layer}."
    logits = h @ model.tensor(p + "ffn_gate_inp.weight").T
    top_k, n_experts = model.meta("llama.expert_used_count"), logits.shape[1]
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    chosen = np.take_along_axis(logits, ids, axis=1)
    weights = np.exp(chosen - chosen[:, :1])
    weights /= weights.sum(axis=1, keepdims=True)
    counts[layer] += np.bincount(ids.ravel(), minlength=n_experts)
    ids = (ids + rotate) % n_experts
    experts = [model.tensor(f"{p}ffn_{part}_exps.weight") for part in ("gate", "up", "down")]
    out = np.zeros_like(h)
    for e in range(n_experts):
        row, rank = np.nonzero(ids == e)
        if len(row):
            out[row] += weights[row, rank][:, None] * llama.ffn(h[row], *(part[e] for part in experts))
    return out


def _run(model, x, start=0, rotate=0, counts=None, keep=None):
    """Layers from `start` on. `rotate` applies to layer `start` only; keep collects the input of each layer."""
    c = model.config
    counts = np.zeros((c.n_layers, 64), int) if counts is None else counts
    is_moe = model.has("blk.0.ffn_gate_inp.weight")
    for layer in range(start, c.n_layers):
        if keep is not None:
            keep.append(x[:KL_TOKENS].copy())
        x = x + llama.attention(model, layer, x, WINDOW)
        h = llama.rms_norm(x, model.tensor(f"blk.{layer}.ffn_norm.weight"), c.eps)
        if is_moe:
            n_experts = model.meta("llama.expert_count")
            x = x + _moe_ffn(model, layer, h, rotate if layer == start else 0, counts[:, :n_experts])
        else:
            x = x + llama.ffn(h, *llama.dense_weights(model, layer))
    return x


def _log_probs(model, x):
    head = model.tensor("token_embd.weight")
    return np.concatenate([llama.log_probs(model, x[i:i + WINDOW], head) for i in range(0, len(x), WINDOW)])


def _perplexity(lp, ids):
    """Second half of each window, as `hob perplexity`."""
    position = np.arange(len(ids)) % WINDOW
    scored = np.flatnonzero((position >= WINDOW // 2) & (position < WINDOW - 1))
    return float(np.exp(-lp[scored, ids[scored + 1]].mean()))


def _kl(p, q):
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def evaluate(dense_path, moe_path, text_path):
    dense, moe = llama.Model(dense_path), llama.Model(moe_path)
    bpe = Bpe(dense.meta("tokenizer.ggml.tokens"), dense.meta("tokenizer.ggml.merges"))
    ids = bpe.encode(text_path.read_text(encoding="utf-8"))
    ids = np.array(ids[:len(ids) // WINDOW * WINDOW])
    print(f"{text_path.name}: {len(ids)} tokens")

    expected = _log_probs(dense, _run(dense, dense.tensor("token_embd.weight")[ids]))
    counts, inputs = np.zeros((moe.config.n_layers, 64), int), []
    got = _log_probs(moe, _run(moe, moe.tensor("token_embd.weight")[ids], counts=counts, keep=inputs))
    ppl_dense, ppl_moe = _perplexity(expected, ids), _perplexity(got, ids)
    print(f"perplexity: dense {ppl_dense:.3f}, MoE {ppl_moe:.3f} ({100 * (ppl_moe / ppl_dense - 1):+.2f} %)")
    print(f"mean KL(dense || MoE): {_kl(expected, got):.4f}")
    share = counts[:, :moe.meta("llama.expert_count")] / (2 * len(ids))
    print(f"expert's share of the routing, over all layers: {share.min():.3f} to {share.max():.3f}")
    reference = got[:KL_TOKENS]
    for layer, x in enumerate(inputs):
        rotated = _log_probs(moe, _run(moe, x, start=layer, rotate=1))
        print(f"expert ids of layer {layer} rotated by one: mean KL {_kl(reference, rotated):.4f}", flush=True)
