#pragma once
// The decoders of tokenizer.json, token by token, so that an answer can be streamed.
#include <memory>
#include <string>
#include <vector>

#include "text/hf/json.h"
#include "text/hf/normalizer.h"

namespace hob::hf {

// What decoding needs to know about a token.
struct DecodedToken {
  std::string text;
  bool first = false;     // the first token of the text
  bool is_bytes = false;  // `text` holds bytes already: byte tokens
  bool is_added = false;  // found in the text as it is, so byte characters are characters there
};

class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void apply(DecodedToken& token) const = 0;
};

// Immutable after construction: any thread.
class Decoder {
 public:
  // `node`: "decoder", or null: then the tokens are joined with spaces. Throws on kinds that hob
  // does not know and on what cannot be done token by token.
  explicit Decoder(const Node& node);

  // The bytes of a token. `first`: it is the first of the text, which may lose a space.
  std::string decode(DecodedToken token) const;
  // Is a space cut from the beginning of the text?
  bool strips_start() const;

 private:
  void add(const Node& node);

  std::vector<std::unique_ptr<DecodeStep>> steps_;
  bool joins_with_spaces_;
  bool fused_ = false;  // while reading: behind Fuse, the tokens are one text
};

}  // namespace hob::hf
