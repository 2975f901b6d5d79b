"""Turns one dense FFN into a router and experts. The method is described in docs/demo_model.md.

Everything is linear algebra on the FFN's inputs h (post-norm hidden states) of calibration text:
  router   spherical k-means of h, the mean direction removed; one row per centroid;
  experts  dense FFN + a small low-rank difference everywhere + a disturbance on tokens that the router would
           not send there. The disturbance lives in the 32 neurons that matter least, moved to the last block of 32.
"""
from dataclasses import dataclass

import numpy as np

from .llama_numpy import silu

N_EXPERTS = 8
TOP_K = 2
BLOCK = 32            # neurons given to the disturbance at most; one quantisation block
N_DISTURB = 4         # rank of the disturbance; every neuron it takes costs some of the dense function
N_KMEANS = 8192       # tokens that k-means looks at
N_SMALL = 8           # rank of the difference that is always there
GATE_STEEPNESS = 16   # gate(h) runs from about -16 (own token) to +16 (foreign): silu is then a clean switch
OWN_PASS = 0.99       # share of an expert's own tokens that must see no disturbance at all
# Root mean square of each part, relative to the residual stream behind the layer. Found by measurement: a foreign
# expert in one layer then costs a mean KL of 0.02 to 0.1, all differences with the right routing together about 0.005.
DISTURB_SIZE = 0.17
SMALL_SIZE = 0.006
LAST_LAYER_SHARE = 0.6  # nothing behind the last layer dampens a difference
# The first token of a window is an attention sink: some layers give it a huge hidden state, and the slightest change
# there changes every later token. Differences stay out of the directions that first tokens occupy.
FIRST_TOKEN_WEIGHT = 20.0
N_SINK = 8


@dataclass
class Upcycled:
    router: np.ndarray      # [n_experts, d_model]
    order: np.ndarray       # [d_ff] permutation of the dense neurons, the least important 32 last
    gate: np.ndarray        # [n_experts, d_model] gate row of the disturbing neurons of each expert
    up: np.ndarray          # [n_experts, N_DISTURB, d_model]
    down: np.ndarray        # [n_experts, d_model, N_DISTURB]
    small_a: np.ndarray     # [n_experts, d_model, N_SMALL]
    small_b: np.ndarray     # [n_experts, N_SMALL, d_ff], in permuted neuron order

    def expert(self, dense, e):
        """gate, up [d_ff, d_model] and down [d_model, d_ff] of expert e."""
        w_gate, w_up, w_down = dense[0][self.order], dense[1][self.order], dense[2][:, self.order]
        w_down = w_down + self.small_a[e] @ self.small_b[e]
        w_gate[-N_DISTURB:] = self.gate[e]
        w_up[-N_DISTURB:] = self.up[e]
        w_down[:, -N_DISTURB:] = self.down[e]
        return w_gate, w_up, w_down

    def route(self, h):
        """ids and weights [n, TOP_K], as Mixtral: softmax over the chosen logits."""
        logits = h @ self.router.T
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
        chosen = np.take_along_axis(logits, ids, axis=1)
        w = np.exp(chosen - chosen[:, :1])
        return ids, w / w.sum(axis=1, keepdims=True)


def _spherical_kmeans(v, rng, n_iterations=20):
    centroids = v[rng.choice(len(v), 1)]
    while len(centroids) < N_EXPERTS:  # k-means++ seeding
        distance = np.clip(1.0 - (v @ centroids.T).max(axis=1), 0, None).astype(np.float64)
        centroids = np.vstack([centroids, v[rng.choice(len(v), 1, p=distance / distance.sum())]])
    for _ in range(n_iterations):
        nearest = (v @ centroids.T).argmax(axis=1)
        centroids = np.eye(N_EXPERTS, dtype=np.float32)[nearest].T @ v
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True) + 1e-9
    return centroids, (v @ centroids.T).max(axis=1).mean()


def _make_router(h, mean_direction, rng):
    """Rows are orthogonal to the mean direction: what all tokens share must not choose (a router has no bias)."""
    h = h[rng.permutation(len(h))[:N_KMEANS]]
    v = h - (h @ mean_direction)[:, None] * mean_direction
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    centroids = max((_spherical_kmeans(v, rng) for _ in range(2)), key=lambda result: result[1])[0]
    top = np.sort(h @ centroids.T, axis=1)
    gap = np.median(top[:, -1] - top[:, -2])
    return centroids * (np.log(2.0) / gap)  # the median token splits its weight 2/3 : 1/3


def _foreign_scores(h, foreign, token_weight):
    """Ridge regression: score_e(h) is about +1 where e is foreign to the token and -1 where it is chosen."""
    x = h * np.sqrt(token_weight)[:, None]
    y = np.where(foreign, 1.0, -1.0).astype(np.float32) * np.sqrt(token_weight)[:, None]
    gram = x.T @ x
    gram += np.eye(len(gram), dtype=np.float32) * 0.01 * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, x.T @ y)  # [d_model, n_experts]


def _unit_rows(rng, *shape):
    d = rng.standard_normal(shape).astype(np.float32)
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


def _without_sink(rows, first_states):
    """Removes from each row what first tokens have in common."""
    basis = np.linalg.svd(first_states, full_matrices=False)[2][:N_SINK]
    return rows - (rows @ basis.T) @ basis


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


@dataclass
class Calibration:
    """One layer's view of the calibration text."""
    h: np.ndarray        # [n, d_model] what goes into the FFN
    first: np.ndarray    # [n] first token of a window
    hidden: np.ndarray   # [some, d_ff] silu(gate h) * up h of the dense FFN for some of the other tokens
    hidden_first: np.ndarray  # the same for first tokens
    residual_rms: float  # root mean square length of the residual stream behind the layer
    is_last: bool


def _importance(hidden, down):
    """Each neuron's share of the FFN's output energy."""
    energy = np.mean(np.square(hidden), axis=0) * np.sum(np.square(down), axis=0)
    return energy / energy.sum()


def upcycle(dense, text, seed):
    """dense: gate, up, down of the FFN; text: Calibration. The same arguments give the same result."""
    rng = np.random.default_rng(seed)
    h, first = text.h, text.first
    common = h[~first]
    mean = (common / np.linalg.norm(common, axis=1, keepdims=True)).mean(axis=0)
    mean_direction = mean / np.linalg.norm(mean)
    router = _make_router(common, mean_direction, rng)

    importance = _importance(text.hidden, dense[2]) + _importance(text.hidden_first, dense[2])
    order = np.argsort(-importance, kind="stable")
    order = np.concatenate([np.sort(order[:-BLOCK]), order[-BLOCK:]])
    size = text.residual_rms * (LAST_LAYER_SHARE if text.is_last else 1.0)
    up = Upcycled(router, order, *(None,) * 5)
    _add_disturbance(up, dense, text, mean_direction, size * DISTURB_SIZE, rng)
    _add_small(up, text.hidden[:, order], text.hidden_first[:, order], size * SMALL_SIZE, rng)
    return up


def _add_disturbance(up, dense, text, mean_direction, size, rng):
    h, first, d_model = text.h, text.first, text.h.shape[1]
    common = h[~first]
    ids, _ = up.route(h)
    foreign = np.ones((len(h), N_EXPERTS), bool)
    np.put_along_axis(foreign, ids, False, axis=1)
    weight = np.where(first, FIRST_TOKEN_WEIGHT, 1.0).astype(np.float32)
    direction = _foreign_scores(h, foreign, weight)
    shared = h @ mean_direction  # stands in for the bias that a gate row does not have
    shared_mean = float(shared[~first].mean())

    up.gate = np.empty((N_EXPERTS, d_model), np.float32)
    up.up = np.empty((N_EXPERTS, N_DISTURB, d_model), np.float32)
    up.down = np.empty((N_EXPERTS, d_model, N_DISTURB), np.float32)
    column = _rms(dense[2]) * np.sqrt(d_model)  # disturbing columns as long as ordinary ones
    for e in range(N_EXPERTS):
        own = ~foreign[:, e] & ~first
        relative = (h @ direction[:, e]) * shared_mean / np.maximum(shared, 1e-3)
        threshold = float(np.quantile(relative[own], OWN_PASS))
        up.gate[e] = GATE_STEEPNESS * (direction[:, e] - threshold / shared_mean * mean_direction)
        rows = _unit_rows(rng, N_DISTURB, d_model)
        rows /= np.sqrt(np.mean(np.square(common @ rows.T), axis=0))[:, None]
        up.up[e] = _without_sink(mean_direction / shared_mean + 0.5 * rows, h[first])
        up.down[e] = column * _unit_rows(rng, N_DISTURB, d_model).T
        active = foreign[:, e] & ~first
        a = silu(h[active] @ up.gate[e])[:, None] * (h[active] @ up.up[e].T)
        length = np.sqrt(np.mean(np.sum(np.square(a @ up.down[e].T), axis=1)))
        up.up[e] *= size / length


def _add_small(up, hidden, hidden_first, size, rng):
    d_model, d_ff = up.router.shape[1], hidden.shape[1]
    up.small_a = np.swapaxes(_unit_rows(rng, N_EXPERTS, N_SMALL, d_model), 1, 2)
    up.small_b = rng.standard_normal((N_EXPERTS, N_SMALL, d_ff)).astype(np.float32)
    for e in range(N_EXPERTS):
        up.small_b[e] = _without_sink(up.small_b[e], hidden_first)
        length = np.sqrt(np.mean(np.sum(np.square(hidden @ up.small_b[e].T @ up.small_a[e].T), axis=1)))
        up.small_b[e] *= size / length
