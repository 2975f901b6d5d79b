#!/usr/bin/env python3
"""Copies a GGUF and gives it the tokenizer of another one, padded with unused tokens to the width of its embedding.

  bench/with_vocabulary.py WEIGHTS.gguf TOKENIZER.gguf OUT.gguf

For load tests of synthetic weights: servers need a vocabulary to turn tokens into text. Needs the `gguf` package.
"""
import sys

import gguf


def value_of(field):
    return field.contents()


def copy_fields(reader, writer, wanted):
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or not wanted(field.name):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value_of(field), field.types[0], sub)


def padded(words, kinds, n):
    words, kinds = list(words), [int(k) for k in kinds]
    if len(words) > n:
        sys.exit(f"with_vocabulary: expected at most {n} tokens (rows of the embedding), got {len(words)}")
    for i in range(len(words), n):
        words.append(f"[unused{i}]")
        kinds.append(int(gguf.TokenType.UNUSED))
    return words, kinds


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    weights, vocabulary = gguf.GGUFReader(sys.argv[1]), gguf.GGUFReader(sys.argv[2])
    arch = value_of(weights.fields["general.architecture"])
    n_vocab = int(next(t for t in weights.tensors if t.name == "token_embd.weight").shape[1])
    writer = gguf.GGUFWriter(sys.argv[3], arch)
    lists = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}
    copy_fields(weights, writer, lambda k: not k.startswith("tokenizer.") and not k.endswith(".vocab_size"))
    copy_fields(vocabulary, writer, lambda k: k.startswith("tokenizer.") and k not in lists)
    words, kinds = padded(value_of(vocabulary.fields["tokenizer.ggml.tokens"]),
                          value_of(vocabulary.fields["tokenizer.ggml.token_type"]), n_vocab)
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_vocab_size(n_vocab)
    for t in weights.tensors:
        writer.add_tensor_info(t.name, t.data.shape, t.data.dtype, t.data.nbytes, raw_dtype=t.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for t in weights.tensors:
        writer.write_tensor_data(t.data)
    writer.close()


if __name__ == "__main__":
    main()
