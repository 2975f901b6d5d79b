"""Streams the upcycled model into a GGUF file: header first, then layer by layer, one layer in memory at a time."""
import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from model_tools.tensor_stream import FILE_TYPES, TensorStream

from .upcycle import N_EXPERTS, TOP_K

_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")


class MoeWriter:
    def __init__(self, path, model, type_name):
        self._model, (self._type, file_type) = model, FILE_TYPES[type_name]
        self._writer = gguf.GGUFWriter(path, "llama")
        self._copy_metadata(type_name, file_type)
        self._stream = TensorStream(self._writer)
        self._declare_tensors()
        self._stream.begin()
        self._stream.write("token_embd.weight", model.tensor("token_embd.weight"))
        self._stream.write("output_norm.weight", model.tensor("output_norm.weight"))

    def _copy_metadata(self, type_name, file_type):
        own = {
            "general.name": f"hob demo MoE 8x135M {type_name.upper()}",
            "general.description": "SmolLM2-135M-Instruct upcycled to 8 experts with synthetic differences; "
                                   "for trying routing and streaming, not a better model",
            "general.size_label": "8x135M",
            "general.file_type": int(file_type),
        }
        w = self._writer
        for field in self._model.reader.fields.values():
            if field.name.startswith("GGUF.") or field.name == "general.architecture" or field.name in own:
                continue
            sub_type = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            w.add_key_value(field.name, field.contents(), field.types[0], sub_type)
        w.add_name(own["general.name"])
        w.add_description(own["general.description"])
        w.add_size_label(own["general.size_label"])
        w.add_file_type(own["general.file_type"])
        w.add_expert_count(N_EXPERTS)
        w.add_expert_used_count(TOP_K)

    def _declare_tensors(self):
        declare = self._stream.declare
        c, shape_of = self._model.config, lambda name: self._model.tensor(name).shape
        declare("token_embd.weight", shape_of("token_embd.weight"), self._type)
        declare("output_norm.weight", (c.d_model,), Type.F32)
        for layer in range(c.n_layers):
            p = f"blk.{layer}."
            declare(p + "attn_norm.weight", (c.d_model,), Type.F32)
            for name in _ATTENTION:
                declare(f"{p}{name}.weight", shape_of(f"{p}{name}.weight"), self._type)
            declare(p + "ffn_norm.weight", (c.d_model,), Type.F32)
            declare(p + "ffn_gate_inp.weight", (N_EXPERTS, c.d_model), Type.F32)
            declare(p + "ffn_gate_exps.weight", (N_EXPERTS, c.d_ff, c.d_model), self._type)
            declare(p + "ffn_up_exps.weight", (N_EXPERTS, c.d_ff, c.d_model), self._type)
            declare(p + "ffn_down_exps.weight", (N_EXPERTS, c.d_model, c.d_ff), self._type)

    def write_layer(self, layer, dense, upcycled):
        p, m = f"blk.{layer}.", self._model
        for name in ("attn_norm", *_ATTENTION, "ffn_norm"):
            self._stream.write(f"{p}{name}.weight", m.tensor(f"{p}{name}.weight"))
        self._stream.write(p + "ffn_gate_inp.weight", upcycled.router)
        experts = [upcycled.expert(dense, e) for e in range(N_EXPERTS)]
        for i, part in enumerate(("gate", "up", "down")):
            self._stream.write(f"{p}ffn_{part}_exps.weight", np.stack([expert[i] for expert in experts]))

    def close(self):
        self._stream.close()
