"""Watches the routers' choices of a reference run, and settles ties: of equal experts, the one with the lower number."""
import contextlib

import torch


class RouterLog:
    """`gap`: how near a choice was to another (in logits, or in SparseMixer's ratio); `ties`: neighbours in the order that are the
    same bits; `chosen`: [n_tokens, k] of each layer; `shared`: weights of SparseMixer that are below 1."""

    def __init__(self):
        self.gap, self.ties, self.chosen, self.shared = float("inf"), 0, [], 0

    def see_top_k(self, values, indices, scores, k):
        ordered = scores.sort(dim=-1, descending=True).values
        logits = ordered.log() if (scores >= 0).all() and (scores.sum(-1) - 1).abs().max() < 1e-3 else ordered
        gaps = logits[..., k - 1:k] - logits[..., k:]
        self.ties += int((ordered[..., 1:] == ordered[..., :-1]).sum())
        self.gap = min(self.gap, gaps[gaps > 0].min().item() if (gaps > 0).any() else float("inf"))
        self.chosen.append(indices.clone())

    def see_mixer(self, scores, weights, chosen, jitter):
        first = scores.max(-1, keepdim=True).values
        rest = scores.scatter(-1, chosen[:, :1], float("-inf"))
        for best, candidates in ((first, scores), (rest.max(-1, keepdim=True).values, rest)):
            ratio = (best - candidates) / scores.abs().clamp(min=best)
            near = (ratio - 2 * jitter).abs()
            ordered = candidates.sort(-1, descending=True).values
            self.gap = min(self.gap, near.min().item(), (ordered[:, 0] - ordered[:, 1]).min().item())
        self.shared += int((weights < 1).sum())
        self.chosen.append(chosen.clone())


def _stable_top_k(log):
    def top_k(scores, k, dim=-1, largest=True, sorted=True):
        values, indices = torch.sort(scores, dim=dim, descending=largest, stable=True)
        values, indices = values.narrow(dim, 0, k), indices.narrow(dim, 0, k)
        log.see_top_k(values, indices, scores, k)
        return torch.return_types.topk((values.contiguous(), indices.contiguous()))
    return top_k


@contextlib.contextmanager
def watched():
    from transformers.models.phimoe import modeling_phimoe
    log = RouterLog()
    saved = torch.topk, torch.Tensor.topk, modeling_phimoe.sparsemixer

    def mixer(scores, jitter_eps, training, *rest, **more):
        weights, chosen = saved[2](scores, jitter_eps, training, *rest, **more)
        log.see_mixer(scores, weights, chosen, jitter_eps)
        return weights, chosen

    torch.topk = torch.Tensor.topk = _stable_top_k(log)
    modeling_phimoe.sparsemixer = mixer
    try:
        yield log
    finally:
        torch.topk, torch.Tensor.topk, modeling_phimoe.sparsemixer = saved
