"""How well the pair does on held-out text, from the files as written and independently of any engine."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .training import WINDOW

MAX_WINDOWS = 48


@dataclass
class Agreement:
    n_tok: int
    target_loss: float    # nats per token
    draft_loss: float
    same_argmax: float    # share of positions: what greedy decoding accepts of a draft of one token
    overlap: float        # sum of min(p, q): what sampling at temperature 1 accepts at best
    run_lengths: list     # share of positions from which the draft is right for at least 1, 2, 4, 8 tokens


def _windows(ids):
    n = min(len(ids) // WINDOW, MAX_WINDOWS)
    return torch.from_numpy(ids[:n * WINDOW]).view(n, WINDOW)


def _run_share(same, length):
    """same: [n_windows, n] bool."""
    return same.float().unfold(1, length, 1).amin(dim=-1).mean().item()


@torch.no_grad()
def agreement(target, draft, ids):
    same, overlap, losses = [], [], ([], [])
    for row in _windows(ids).split(4):
        log_p, log_q = (model(row[:, :-1]).log_softmax(dim=-1) for model in (target, draft))
        for found, log in zip(losses, (log_p, log_q)):
            found.append(F.nll_loss(log.flatten(0, 1), row[:, 1:].flatten()))
        same.append(log_p.argmax(dim=-1) == log_q.argmax(dim=-1))
        overlap.append(torch.minimum(log_p.exp(), log_q.exp()).sum(dim=-1).mean())
    same = torch.cat(same)
    mean = lambda values: torch.stack(values).mean().item()
    return Agreement(same.numel(), mean(losses[0]), mean(losses[1]), same.float().mean().item(), mean(overlap),
                     [_run_share(same, n) for n in (1, 2, 4, 8)])
