"""What to make: per directory a configuration in the published form, the number of tokens, and what is odd about the weights.

A configuration is written to config.json as it stands here (with `architectures` and `torch_dtype` added), and read from there.
"""
import dataclasses

_BASE = dict(vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_act="silu",
             max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)


@dataclasses.dataclass(frozen=True)
class Family:
    architecture: str
    config: dict
    n_tokens: int
    seed: int
    weights: str = "bf16 exact"  # or "f32" (all bits are used) or "mxfp4"; "bf16 exact" is f32 in the file, values that BF16 holds
    router: str = "random"       # or "pairs" (experts e and e + n/2 tie at every token) or "hot" (all tokens choose one expert first)


def _family(architecture, model_type, n_tokens, seed, weights="bf16 exact", router="random", **config):
    return Family(architecture, {"model_type": model_type, **_BASE, **config}, n_tokens, seed, weights, router)


def _long_rope(n_short, n_long, **more):
    return {"type": "longrope", "short_factor": [round(1 + 0.05 * i, 4) for i in range(n_short)],
            "long_factor": [round(1 + 0.9 * i * i / n_long, 4) for i in range(n_long)], **more}


def _yarn(factor, **more):
    return {"factor": factor, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 64, **more}


_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64}
_MIXTRAL = dict(intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=None, rope_theta=1000000.0,
                tie_word_embeddings=True)
_QWEN2 = dict(use_sliding_window=False, sliding_window=8, max_window_layers=2, rope_theta=1000000.0, rms_norm_eps=1e-6,
              tie_word_embeddings=True)
_QWEN3_MOE = dict(intermediate_size=96, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=3, norm_topk_prob=True,
                  num_attention_heads=3, num_key_value_heads=1, head_dim=32, decoder_sparse_step=1, mlp_only_layers=[],
                  attention_bias=False, use_sliding_window=False, sliding_window=None, rope_theta=1000000.0, rms_norm_eps=1e-6,
                  tie_word_embeddings=True)
_PHI3 = dict(intermediate_size=32, pad_token_id=0, tie_word_embeddings=True)
_PHIMOE = dict(num_key_value_heads=1, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, attention_bias=True,
               lm_head_bias=True, input_jitter_noise=0.01, sliding_window=131072, original_max_position_embeddings=24,
               rope_scaling=_long_rope(8, 8, short_mscale=1.1, long_mscale=1.3, original_max_position_embeddings=24))
_DEEPSEEK = dict(num_key_value_heads=4, intermediate_size=32, moe_intermediate_size=32, moe_layer_freq=1, norm_topk_prob=False,
                 scoring_func="softmax", attention_bias=False, rms_norm_eps=1e-6, tie_word_embeddings=True)
_DEEPSEEK_V2 = dict(q_lora_rank=None, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=16, n_group=1,
                    topk_group=1, topk_method="greedy", **_DEEPSEEK)
_GPT_OSS = dict(num_attention_heads=8, num_key_value_heads=1, head_dim=16, sliding_window=8,
                layer_types=["sliding_attention", "full_attention"], attention_bias=True, swiglu_limit=7.0, rope_theta=150000.0,
                rope_scaling=_yarn(32.0, rope_type="yarn", truncate=False))
_GEMMA3 = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=32, query_pre_attn_scalar=24,
               hidden_activation="gelu_pytorch_tanh", sliding_window=8, rope_theta=1000000.0, rope_local_base_freq=10000,
               attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=True,
               rms_norm_eps=1e-6)
_GRANITE = dict(intermediate_size=32, embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.22,
                logits_scaling=0.5, attention_bias=False, rope_scaling=None, tie_word_embeddings=True)

FAMILIES = {
    "llama3": _family("LlamaForCausalLM", "llama", 32, 1, "f32", intermediate_size=32, rope_theta=500000.0, rope_scaling=_LLAMA3,
                      attention_bias=False, mlp_bias=False),
    "smollm": _family("LlamaForCausalLM", "llama", 20, 2, num_attention_heads=8, num_key_value_heads=2, intermediate_size=32,
                      tie_word_embeddings=True),
    "mistral": _family("MistralForCausalLM", "mistral", 24, 3, num_key_value_heads=1, intermediate_size=32,
                       sliding_window=8, tie_word_embeddings=True),
    "mixtral": _family("MixtralForCausalLM", "mixtral", 20, 4, **_MIXTRAL),
    "mixtral_ties": _family("MixtralForCausalLM", "mixtral", 20, 5, router="pairs", **{**_MIXTRAL, "num_hidden_layers": 1}),
    "mixtral_hot": _family("MixtralForCausalLM", "mixtral", 20, 6, router="hot", **{**_MIXTRAL, "num_hidden_layers": 1}),
    "qwen2": _family("Qwen2ForCausalLM", "qwen2", 20, 7, intermediate_size=32, **_QWEN2),
    "qwen2_moe": _family("Qwen2MoeForCausalLM", "qwen2_moe", 20, 8, intermediate_size=96, moe_intermediate_size=32,
                         shared_expert_intermediate_size=32, num_experts=4, num_experts_per_tok=2, norm_topk_prob=False,
                         decoder_sparse_step=1, **_QWEN2),
    "qwen3": _family("Qwen3ForCausalLM", "qwen3", 20, 9, num_attention_heads=3, num_key_value_heads=1, intermediate_size=32,
                     head_dim=32, rope_theta=1000000.0, tie_word_embeddings=True, attention_bias=False, use_sliding_window=False,
                     sliding_window=None, rms_norm_eps=1e-3),
    "qwen3_moe": _family("Qwen3MoeForCausalLM", "qwen3_moe", 20, 10, "f32", **_QWEN3_MOE),
    "qwen3_moe_ties": _family("Qwen3MoeForCausalLM", "qwen3_moe", 20, 11, router="pairs",
                              **{**_QWEN3_MOE, "num_hidden_layers": 1}),
    "olmoe": _family("OlmoeForCausalLM", "olmoe", 20, 12, num_key_value_heads=4, intermediate_size=32, num_experts=4,
                     num_experts_per_tok=2, norm_topk_prob=False, clip_qkv=None, attention_bias=False, tie_word_embeddings=True),
    "phi3": _family("Phi3ForCausalLM", "phi3", 24, 13, sliding_window=9, original_max_position_embeddings=128,
                    rope_scaling=None, **_PHI3),
    "phi3_longrope_short": _family("Phi3ForCausalLM", "phi3", 24, 14, sliding_window=262144, original_max_position_embeddings=24,
                                   rope_scaling=_long_rope(8, 8), **_PHI3),
    "phi3_longrope_long": _family("Phi3ForCausalLM", "phi3", 32, 15, sliding_window=262144, original_max_position_embeddings=24,
                                  rope_scaling=_long_rope(6, 6), partial_rotary_factor=0.75, **_PHI3),
    "phimoe_short": _family("PhimoeForCausalLM", "phimoe", 24, 16, router_jitter_noise=0.01, **_PHIMOE),
    "phimoe_long": _family("PhimoeForCausalLM", "phimoe", 32, 17, router_jitter_noise=0.1, **_PHIMOE),
    "deepseek": _family("DeepseekForCausalLM", "deepseek", 20, 18, n_routed_experts=4, n_shared_experts=2, num_experts_per_tok=2,
                        first_k_dense_replace=1, rope_scaling=None, **_DEEPSEEK),
    "deepseek_v2": _family("DeepseekV2ForCausalLM", "deepseek_v2", 32, 19, n_routed_experts=5, n_shared_experts=2,
                           num_experts_per_tok=3, routed_scaling_factor=1.5, first_k_dense_replace=1,
                           rope_scaling=_yarn(40, type="yarn", mscale=0.707, mscale_all_dim=0.707), **_DEEPSEEK_V2),
    "deepseek_v2_mscale": _family("DeepseekV2ForCausalLM", "deepseek_v2", 32, 20, n_routed_experts=4, n_shared_experts=1,
                                  num_experts_per_tok=2, routed_scaling_factor=1.0, first_k_dense_replace=0,
                                  rope_scaling=_yarn(8, type="yarn", mscale=1.2, mscale_all_dim=0.8),
                                  **{**_DEEPSEEK_V2, "num_hidden_layers": 1}),
    "gpt_oss": _family("GptOssForCausalLM", "gpt_oss", 24, 21, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2,
                       tie_word_embeddings=True, **_GPT_OSS),
    "gpt_oss_mxfp4": _family("GptOssForCausalLM", "gpt_oss", 24, 22, "mxfp4", intermediate_size=64, num_local_experts=6,
                             num_experts_per_tok=4, **_GPT_OSS, quantization_config={
                                 "quant_method": "mxfp4", "modules_to_not_convert": [
                                     "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}),
    "gemma3": _family("Gemma3ForCausalLM", "gemma3_text", 24, 23, rope_scaling=None, num_hidden_layers=3,
                      sliding_window_pattern=3, **_GEMMA3),
    "gemma3_linear": _family("Gemma3ForCausalLM", "gemma3_text", 24, 24, rope_scaling={"rope_type": "linear", "factor": 8.0},
                             sliding_window_pattern=2, **_GEMMA3),
    "granite": _family("GraniteForCausalLM", "granite", 20, 25, mlp_bias=False, **_GRANITE),
    "granitemoe": _family("GraniteMoeForCausalLM", "granitemoe", 20, 26, num_local_experts=4, num_experts_per_tok=2, **_GRANITE),
}
