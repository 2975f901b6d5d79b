"""One trainer for both models. Its budget is time: the learning rate follows the clock, so any budget ends well.

Matrices in the layers learn by Muon, for which its authors report about half of AdamW's tokens; the rest by AdamW.
"""
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

SEED = 20250301
SAVE_EVERY_S = 60
BATCH_TOK = 4096
WINDOW = 512
LONG_WINDOW = 1024  # the model's context; seen at the end only, since attention costs more there
LONG_FROM = 0.75    # progress
WARMUP_STEPS = 20
DECAY_FROM = 0.3    # progress from which the learning rate falls linearly to LAST_RATE of itself
LAST_RATE = 0.02
MUON_RATE = 0.02    # of matrices in the layers. Ref: [MUON]
ADAM_RATE = 3e-3    # of the embedding and the norms


@dataclass
class State:
    step: int = 0
    seconds: float = 0.0
    loss: float = float("nan")  # running mean


def cross_entropy(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def distilled_from(teacher):
    """Loss of a student: cross entropy with the teacher's whole distribution, which says more than the one token of the
    text. Ref: [DISTILL]."""
    def loss(model, ids):
        with torch.no_grad():
            wanted = teacher(ids[:, :-1]).flatten(0, 1).softmax(dim=-1)
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), wanted)
    return loss


class Trainer:
    def __init__(self, model, loss, path, minutes):
        self.model, self.loss, self.path, self.seconds = model, loss, path, 60.0 * minutes
        self.state = State()
        named = model.named()
        layers = [w for name, w in named.items() if name.startswith("blk.") and w.ndim == 2]
        others = [w for name, w in named.items() if not (name.startswith("blk.") and w.ndim == 2)]
        self.optimizers = [torch.optim.Muon(layers, lr=MUON_RATE, weight_decay=0.01),
                           torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)]
        self.rates = (MUON_RATE, ADAM_RATE)

    def save(self):
        part = self.path.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers],
                    "state": vars(self.state)}, part)
        part.rename(self.path)

    def resume(self):
        saved = torch.load(self.path)
        self.model.load_state_dict(saved["model"])
        for optimizer, values in zip(self.optimizers, saved["optimizers"]):
            optimizer.load_state_dict(values)
        self.state = State(**saved["state"])

    def _set_rates(self, progress):
        scale = min(1.0, (self.state.step + 1) / WARMUP_STEPS)
        scale *= max(LAST_RATE, min(1.0, (1.0 - progress) / (1.0 - DECAY_FROM)))
        for optimizer, rate in zip(self.optimizers, self.rates):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    def _step(self, sources):
        s = self.state
        began, progress = time.monotonic(), s.seconds / self.seconds
        self._set_rates(progress)
        ids = batch(sources, s.step, WINDOW if progress < LONG_FROM else LONG_WINDOW)
        loss = self.loss(self.model, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        s.loss = loss.item() if s.step == 0 else 0.95 * s.loss + 0.05 * loss.item()
        s.step += 1
        s.seconds += time.monotonic() - began

    def run(self, sources):
        s, saved = self.state, time.monotonic()
        while s.seconds < self.seconds:
            self._step(sources)
            if s.step % 25 == 0:
                print(f"{self.path.stem}: step {s.step}, {s.seconds / 60:.1f} of {self.seconds / 60:.1f} min, "
                      f"loss {s.loss:.3f}, {s.step * BATCH_TOK / s.seconds:.0f} tok/s", flush=True)
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save()
                saved = time.monotonic()
        self.save()


def batch(sources, step, window):
    """BATCH_TOK tokens, the same number from each source. A function of the step, so that a resumed run sees new text."""
    rng = np.random.default_rng([SEED, step])
    rows = []
    for i in range(BATCH_TOK // window):
        ids = sources[i % len(sources)]
        at = rng.integers(len(ids) - window)
        rows.append(ids[at:at + window + 1])
    return torch.from_numpy(np.stack(rows))
