#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.h"

namespace hob {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = true;    // BOS/EOS as the file asks for
  bool parse_special = true;  // "<|im_end|>" in the text becomes the control token; false for user content
};

// Immutable after construction: any thread.
class Tokenizer {
 public:
  // Throws Error naming an unknown tokenizer model or pre-tokenizer, inconsistent vocabularies, etc.
  static std::unique_ptr<Tokenizer> from_gguf(const Metadata& metadata);
  virtual ~Tokenizer() = default;

  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const = 0;
  // Raw bytes of one token as they appear in the output. Control tokens give "" unless `special`.
  virtual std::string piece(TokenId id, bool special) const = 0;
  // All bytes of ids joined, with the family's rule for the leading space.
  virtual std::string decode(std::span<const TokenId> ids, bool special) const = 0;

  virtual int n_vocab() const = 0;
  virtual TokenId bos() const = 0;  // -1 = none
  virtual TokenId eos() const = 0;
  virtual bool is_end(TokenId id) const = 0;      // eos, eot, eom and the family's other end-of-turn tokens
  virtual bool is_control(TokenId id) const = 0;
  virtual TokenId find(std::string_view token_text) const = 0;  // exact vocabulary entry, -1 = none
};

// Turns a stream of tokens into text without ever emitting half a UTF-8 character. One per sequence.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  std::string push(TokenId id);  // text that is complete now, possibly ""
  std::string finish();          // what is left; broken bytes become U+FFFD

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool first_ = true;
};

}  // namespace hob
