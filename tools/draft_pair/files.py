"""Models as GGUF files, there and back."""
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

from model_tools.tensor_stream import FILE_TYPES, TensorStream

from .llama import EPS, ROPE_BASE, Llama, Shape
from .training import LONG_WINDOW
from .vocabulary import END


def _add_metadata(w, name, shape, file_type):
    w.add_name(name)
    w.add_description("trained in minutes for measuring speculative decoding; knows one book and one program")
    w.add_file_type(int(file_type))
    w.add_context_length(LONG_WINDOW)
    w.add_embedding_length(shape.d_model)
    w.add_block_count(shape.n_layers)
    w.add_feed_forward_length(shape.d_ff)
    w.add_head_count(shape.n_heads)
    w.add_head_count_kv(shape.n_heads)
    w.add_rope_freq_base(ROPE_BASE)
    w.add_rope_dimension_count(shape.d_head)
    w.add_layer_norm_rms_eps(EPS)
    w.add_vocab_size(shape.n_vocab)


def _add_tokenizer(w, tokens, merges):
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types([int(gguf.TokenType.CONTROL if t == END else gguf.TokenType.NORMAL) for t in tokens])
    w.add_token_merges(merges)
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    w.add_add_space_prefix(False)


def write(path, model, vocabulary, type_name):
    dtype, file_type = FILE_TYPES[type_name]
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    _add_metadata(writer, path.stem, model.shape, file_type)
    _add_tokenizer(writer, *vocabulary)
    stream = TensorStream(writer)
    for name, shape in model.shape.tensors().items():
        stream.declare(name, shape, dtype if len(shape) == 2 else Type.F32)
    stream.begin()
    for name, weight in model.named().items():
        stream.write(name, weight.detach().numpy())
    stream.close()
    part.rename(path)


def read(path):
    """The model with the values that the file holds, rounding included."""
    reader = gguf.GGUFReader(path)
    meta = lambda key: reader.fields["llama." + key].contents()
    model = Llama(Shape(meta("block_count"), meta("embedding_length"), meta("feed_forward_length"),
                        meta("attention.head_count"), meta("vocab_size")))
    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    with torch.no_grad():
        for name, weight in model.named().items():
            weight.copy_(torch.from_numpy(stored[name]))
    return model
