"""Models of transformers (4.57 or 5) from a directory with config.json and model.safetensors, in F32 with eager attention."""
import copy
import json
import math

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.deepseek_v2 import modeling_deepseek_v2

from .mxfp4 import unpack_experts

IS_V5 = int(transformers.__version__.split(".")[0]) >= 5
_EAGER = {"attn_implementation": "eager", **({"experts_implementation": "eager"} if IS_V5 else {})}


def read_config(folder):
    return json.loads((folder / "config.json").read_text())


def n_experts(config):
    return config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts")


def _deepseek_v1(config):
    """DeepSeekMoE (V1), which transformers has no class for: Llama with the experts of its DeepSeek-V2 from some layer on."""
    known = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "torch_dtype")}
    model = LlamaForCausalLM(LlamaConfig(**known, attn_implementation="eager"))
    experts_config = transformers.DeepseekV2Config(**{**known, "routed_scaling_factor": 1.0, "topk_method": "greedy"})
    for layer in model.model.layers[config["first_k_dense_replace"]:]:
        layer.mlp = modeling_deepseek_v2.DeepseekV2MoE(experts_config)
    return model


def _mend_deepseek_v2(model, config):
    """What 4.57 forgets and the published code (and transformers 5) does: YaRN's factor of the scores, squared."""
    scaling = config.get("rope_scaling") or {}
    if IS_V5 or not scaling.get("mscale_all_dim"):
        return
    mscale = 0.1 * scaling["mscale_all_dim"] * math.log(scaling["factor"]) + 1
    for layer in model.model.layers:
        layer.self_attn.scaling *= mscale * mscale


def empty_model(folder):
    """With weights yet to be filled in; for their names and shapes, and where from_pretrained does not serve."""
    config = read_config(folder)
    if config["model_type"] == "deepseek":
        return _deepseek_v1(config)
    hf_config = AutoConfig.from_pretrained(folder)
    if hasattr(hf_config, "quantization_config"):
        hf_config = copy.deepcopy(hf_config)
        del hf_config.quantization_config
    return AutoModelForCausalLM.from_config(hf_config, dtype=torch.float32, **_EAGER)


def load(folder):
    """The model that the files say, nothing missing and nothing left over."""
    config = read_config(folder)
    if config["model_type"] == "deepseek" or "quantization_config" in config:
        model = empty_model(folder)
        tensors = load_file(folder / "model.safetensors")
        found = model.load_state_dict(unpack_experts(tensors) if "quantization_config" in config else tensors, strict=False)
        tied = ["lm_head.weight"] if config["tie_word_embeddings"] else []
        assert found.missing_keys == tied and not found.unexpected_keys, found
    else:
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **_EAGER)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    if config["model_type"] == "deepseek_v2":
        _mend_deepseek_v2(model, config)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float().contiguous()
