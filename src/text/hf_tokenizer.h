#pragma once
// A Hugging Face tokenizer as GGUF metadata, so that one reader (Tokenizer::from_gguf) serves both,
// and converted files work in llama.cpp as well.
#include <cstddef>
#include <memory>
#include <string>

#include "format/metadata.h"
#include "text/tokenizer.h"

namespace hob {

inline constexpr const char* kHfTokenizerKey = "tokenizer.huggingface.json";

struct HfTokenizerOptions {
  size_t n_vocab = 0;  // rows of the model's embedding; the token list is filled up to as many
  // For a GGUF file: GGUF's own names where there are any, and the whole JSON only where there are
  // none. Without it the JSON is always there and decides: what one wants for running a folder.
  bool for_file = true;
};

// Sets from `dir`/tokenizer.json, and from tokenizer_config.json, special_tokens_map.json,
// generation_config.json, config.json and the chat template files where they exist:
// tokenizer.ggml.{model,pre,tokens,token_type,scores,merges}, the ids of special tokens,
// add_bos_token, add_eos_token, add_space_prefix, tokenizer.chat_template, and
// tokenizer.huggingface.json. Throws Error naming the file and the place.
void add_hf_tokenizer(const std::string& dir, Metadata& metadata,
                      const HfTokenizerOptions& options = {});

// The tokenizer that the JSON under kHfTokenizerKey describes.
std::unique_ptr<Tokenizer> make_hf_tokenizer(const Metadata& metadata);
// Is that the one to take: does the file have the JSON, and no tokenizer.ggml.pre that hob knows?
bool wants_hf_tokenizer(const Metadata& metadata);

}  // namespace hob
