#pragma once
// GGUF's words for a tokenizer.json.
#include <string>

#include "format/metadata.h"
#include "text/hf/json.h"
#include "text/hf/token_list.h"

namespace hob::hf {

// `tokenizer.ggml.pre` for a byte-level BPE, "" when GGUF names none that cuts the same way.
std::string pre_name(const Node& root);

// model, pre, tokens, token_type, scores, merges and what belongs to the family. Returns whether
// these keys say all that a reader needs; otherwise `pre` is left out.
bool add_family(const Node& root, const TokenList& list, Metadata& metadata);

// SentencePiece's BPE as Hugging Face writes it: spaces as U+2581, byte tokens.
bool is_sentencepiece_bpe(const Node& root);

}  // namespace hob::hf
