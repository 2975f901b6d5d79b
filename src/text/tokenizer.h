#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"

namespace hob {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = true;  // BOS/EOS as the file asks for
  bool parse_special =
      true;  // "<|im_end|>" in the text becomes the control token; false for user content
};

// A stretch of a prompt: markup is parsed for control tokens, user content is not.
struct TextPart {
  std::string_view text;
  bool parse_special = true;
};

// Immutable after construction: any thread.
class Tokenizer {
 public:
  // Throws Error naming an unknown tokenizer model or pre-tokenizer, inconsistent vocabularies,
  // etc. A file that names no pre-tokenizer hob knows, but holds its tokenizer.json
  // (tokenizer.huggingface.json), is read by that. A file without a vocabulary gives
  // Error(kNotFound) "[tokenizer] expected a vocabulary, file has none".
  static std::unique_ptr<Tokenizer> from_gguf(const Metadata& metadata);
  virtual ~Tokenizer() = default;

  // Any bytes: what is no UTF-8 keeps its bytes (byte tokens), so nothing is lost or replaced.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const;
  // The parts as one text, so that merges and the family's leading space work across the seams; but
  // a control token is found only within a part that allows it.
  virtual std::vector<TokenId> encode_parts(std::span<const TextPart> parts,
                                            bool add_special) const = 0;
  // Raw bytes of one token as they appear in the output. Control tokens give "" unless `special`.
  virtual std::string piece(TokenId id, bool special) const = 0;
  // All bytes of ids joined, with the family's rule for the leading space. With `special`, the
  // inverse of encode(). Both throw Error(kInvalidArgument) on an id outside the vocabulary.
  virtual std::string decode(std::span<const TokenId> ids, bool special) const = 0;

  virtual int n_vocab() const = 0;
  virtual TokenId bos() const = 0;  // -1 = none
  virtual TokenId eos() const = 0;
  virtual bool adds_bos() const = 0;  // encode() with add_special puts bos() in front
  virtual bool is_end(
      TokenId id) const = 0;  // eos, eot, eom and the family's other end-of-turn tokens
  virtual bool is_control(TokenId id) const = 0;
  virtual TokenId find(std::string_view token_text) const = 0;  // exact vocabulary entry, -1 = none
};

// Turns a stream of tokens into text without ever emitting half a UTF-8 character: all that it
// returns is valid UTF-8. One per sequence. The leading space of the first text token is dropped
// where the family adds one to every text; to continue a text, push the prompt's last token first
// and ignore what it gives. `special`: control tokens become text too.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool special = false)
      : tokenizer_(&tokenizer), special_(special) {}
  std::string push(TokenId id);  // text that is complete now, possibly ""
  std::string finish();          // what is left; broken bytes become U+FFFD

 private:
  const Tokenizer* tokenizer_;
  bool special_;
  std::string pending_;
  bool first_ = true;
};

}  // namespace hob
