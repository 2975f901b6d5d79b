#include "unit/text/vocab_util.h"

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/unicode.h"

namespace hob::testing_text {

Metadata metadata_of(const std::string& model, const std::vector<Token>& tokens) {
  std::vector<std::string> texts;
  std::vector<int64_t> types;
  std::vector<double> scores;
  for (const Token& token : tokens) {
    texts.push_back(token.text);
    types.push_back(token.type);
    scores.push_back(token.score);
  }
  Metadata metadata;
  metadata.set("tokenizer.ggml.model", model);
  metadata.set("tokenizer.ggml.tokens", texts);
  metadata.set("tokenizer.ggml.token_type", types);
  metadata.set("tokenizer.ggml.scores", scores);
  return metadata;
}

Metadata spm_metadata(const std::vector<Token>& more) {
  std::vector<Token> tokens = {{"<unk>", 2}, {"<s>", 3}, {"</s>", 3}};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back({fmt::format("<0x{:02X}>", byte), 6});
  tokens.insert(tokens.end(), more.begin(), more.end());
  return metadata_of("llama", tokens);
}

Metadata bpe_metadata(const std::string& pre, const std::vector<Token>& more,
                      const std::vector<std::string>& merges) {
  std::vector<Token> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(byte_to_code_point(static_cast<uint8_t>(byte)), text);
    tokens.push_back({text});
  }
  tokens.insert(tokens.end(), more.begin(), more.end());
  Metadata metadata = metadata_of("gpt2", tokens);
  metadata.set("tokenizer.ggml.pre", pre);
  metadata.set("tokenizer.ggml.merges", merges);
  return metadata;
}

std::unique_ptr<Tokenizer> tokenizer_of(const Metadata& metadata) {
  return Tokenizer::from_gguf(metadata);
}

std::string error_of(const Metadata& metadata) {
  try {
    Tokenizer::from_gguf(metadata);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string as_bytes(const std::string& text) {
  std::string out;
  for (const char c : text) append_utf8(byte_to_code_point(static_cast<uint8_t>(c)), out);
  return out;
}

}  // namespace hob::testing_text
