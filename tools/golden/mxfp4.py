"""gpt-oss checkpoints as published: experts in MXFP4 blocks, the rest in BF16."""
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

_PROJECTIONS = ("gate_up_proj", "down_proj")
_GAIN = {"gate_up_proj": 4.0, "down_proj": 0.5}
_RMS_OF_NIBBLES = 3.1  # of the 16 values of E2M1, each as likely as the others


def pack_experts(tensors, seed):
    """The tensors with random blocks and scales for the experts' matrices; what these hold is nobody's rounding."""
    generator = torch.Generator().manual_seed(seed)
    packed = {}
    for name, tensor in tensors.items():
        projection = name.rsplit(".", 1)[-1]
        if projection not in _PROJECTIONS:
            packed[name] = tensor.bfloat16()
            continue
        n_experts, n_in, n_out = tensor.shape
        log2_std = torch.tensor(_GAIN[projection] / _RMS_OF_NIBBLES / n_in ** 0.5).log2().round()
        jitter = torch.randint(-1, 2, (n_experts, n_out, n_in // 32), generator=generator)
        blocks = torch.randint(0, 256, (n_experts, n_out, n_in // 32, 16), generator=generator)
        packed[name + "_blocks"] = blocks.to(torch.uint8)
        packed[name + "_scales"] = (127 + log2_std + jitter).to(torch.uint8)
    return packed


def unpack_experts(packed):
    """F32 tensors of what the file holds, with transformers' own decoder."""
    tensors = {name: t.float() for name, t in packed.items() if t.dtype != torch.uint8}
    for name in packed:
        if name.endswith("_blocks"):
            base = name.removesuffix("_blocks")
            tensors[base] = convert_moe_packed_tensors(packed[name], packed[base + "_scales"], dtype=torch.float32)
    return tensors
