#!/usr/bin/env python3
"""Offline throughput of vLLM (CPU backend) on a Llama-3.2-1B shape with dummy weights.

Needs a Python with vllm for CPU. Writes config.json into a temporary folder, loads it with
load_format=dummy and times llm.generate() on random token ids: once with 1 new token
(prefill), once with --gen new tokens (the whole run); decode is the difference of the two.
"""
import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "vocab_size": 128256, "tie_word_embeddings": True, "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072,
    "attention_bias": False, "mlp_bias": False, "bos_token_id": 128000, "eos_token_id": 128001,
}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
W8A8 = {  # every linear layer but lm_head
    "quant_method": "compressed-tensors", "format": "int-quantized", "ignore": ["lm_head"],
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {**INT8, "strategy": "channel", "dynamic": False},
        "input_activations": {**INT8, "strategy": "token", "dynamic": True}}},
}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seqs", type=int, nargs="+", default=[16], help="sequences at the same time")
    ap.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    ap.add_argument("--gen", type=int, default=128, help="new tokens of each sequence")
    ap.add_argument("--repeats", type=int, default=3, help="medians are printed")
    ap.add_argument("--w8a8", action="store_true", help="int8 weights and activations instead of BF16")
    ap.add_argument("--eager", action="store_true", help="no torch.compile")
    ap.add_argument("--threads", default="0-1", help="cores of the compute threads, e.g. 0-3")
    ap.add_argument("--kv-gib", type=int, default=4)
    args = ap.parse_args()

    os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", args.threads)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(args.kv_gib))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM, SamplingParams, __version__

    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as model:
        config = dict(CONFIG, **({"quantization_config": W8A8} if args.w8a8 else {}))
        with open(os.path.join(model, "config.json"), "w") as f:
            json.dump(config, f)
        llm = LLM(model=model, load_format="dummy", skip_tokenizer_init=True, dtype="bfloat16",
                  max_model_len=max(512, args.prompt + args.gen), max_num_seqs=max(args.seqs),
                  enable_prefix_caching=False, enforce_eager=args.eager, disable_log_stats=True)

        def run(seqs, new):
            prompts = [{"prompt_token_ids": [rng.randrange(1000, 120000) for _ in range(args.prompt)]}
                       for _ in range(seqs)]
            params = SamplingParams(max_tokens=new, temperature=0, ignore_eos=True, detokenize=False)
            start = time.perf_counter()
            outs = llm.generate(prompts, params, use_tqdm=False)
            secs = time.perf_counter() - start
            assert len(outs) == seqs and all(len(o.outputs[0].token_ids) == new for o in outs)
            return secs

        for seqs in args.seqs:
            run(seqs, 4)  # warm-up
            first = [run(seqs, 1) for _ in range(args.repeats)]
            whole = [run(seqs, args.gen) for _ in range(args.repeats)]
            t1, tn = statistics.median(first), statistics.median(whole)
            print(json.dumps({
                "vllm": __version__, "weights": "w8a8" if args.w8a8 else "bf16", "eager": args.eager,
                "seqs": seqs, "prompt": args.prompt, "gen": args.gen,
                "total_tok_s": round(seqs * args.gen / tn, 2),
                "prefill_tok_s": round(seqs * args.prompt / t1, 2),
                "decode_tok_s": round(seqs * (args.gen - 1) / (tn - t1), 2),
                "whole_s": [round(x, 2) for x in whole], "first_s": [round(x, 2) for x in first],
            }), flush=True)


if __name__ == "__main__":
    sys.exit(main())
