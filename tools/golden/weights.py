"""Random weights under the names of the published checkpoints, so scaled that every part of a model shows in its logits."""
import re

import torch

HOT = 1        # the expert that all tokens choose first
_HOT_DIM = 0   # the dimension of the residual stream that no layer writes to, for that expert's router row

# (name, gain): the standard deviation is gain / sqrt(fan in). The first that is found in a tensor's name holds.
_GAINS = [(r"mlp\.gate\.weight|block_sparse_moe\.gate\.weight|router\.", 2.5), (r"shared_expert_gate", 1.5),
          (r"experts\.gate_up_proj$", 4.0), (r"experts\.down_proj$", 0.4), (r"lm_head", 2.8), (r".", 1.3)]
_BIAS_STD = [(r"gate_up_proj_bias", 1.0), (r"router\.bias|lm_head\.bias|sinks", 0.8), (r".", 0.3)]


def _first(table, name):
    return next(value for pattern, value in table if re.search(pattern, name))


def _embedding_std(config):
    """Small where the model multiplies it, or the layers would not show beside it."""
    if "embedding_multiplier" in config:
        return 0.15
    if config["model_type"].startswith("gemma3"):
        return 0.25
    return 0.35 if config["tie_word_embeddings"] else 1.0


def _draw(name, shape, config, generator):
    noise = torch.randn(shape, generator=generator)
    if "norm" in name and name.endswith("weight"):
        return 0.2 * noise if config["model_type"].startswith("gemma3") else 1 + 0.2 * noise
    if len(shape) == 1 or name.endswith("_bias"):
        return _first(_BIAS_STD, name) * noise
    if "embed_tokens" in name:
        return _embedding_std(config) * noise
    transposed = re.search(r"experts\.(gate_up|down)_proj$", name)  # gpt-oss keeps them [expert, in, out]
    return _first(_GAINS, name) * noise / shape[-2 if transposed else -1] ** 0.5


def _is_router(name):
    return re.search(r"(block_sparse_moe|mlp)\.gate\.weight$", name)


def _pair_routers(tensors):
    """Each pair looks at one dimension, so that its two logits are the same bits in whatever order they are summed."""
    for name in filter(_is_router, tensors):
        router = tensors[name]
        half = router.shape[0] // 2
        router.zero_()
        for expert in range(router.shape[0]):
            router[expert, 7 * (expert % half) + 3] = 2.5


def _heat_routers(tensors):
    """One dimension stays as the embedding left it, positive for all tokens, and the hot expert looks at nothing else."""
    for name, tensor in tensors.items():
        if "embed_tokens" in name:
            tensor[:, _HOT_DIM] = 3.0
        elif re.search(r"o_proj|\.w2\.", name):
            tensor[_HOT_DIM] = 0
        elif _is_router(name):
            tensor[:, _HOT_DIM] = 0
            tensor[HOT] = 0
            tensor[HOT, _HOT_DIM] = 5.0


def random_weights(shapes, family, seed):
    """{name: f32 tensor} for {name: shape}."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: _draw(name, shape, family.config, generator) for name, shape in sorted(shapes.items())}
    if family.router == "pairs":
        _pair_routers(tensors)
    if family.router == "hot":
        _heat_routers(tensors)
    if family.weights != "f32":
        tensors = {name: t.bfloat16().float() for name, t in tensors.items()}
    return tensors
