#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/special_split.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace hob {

// What SPM and BPE share: vocabulary questions, special tokens, BOS and EOS, joining pieces.
// Immutable: any thread.
class BaseTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode_parts(std::span<const TextPart> parts, bool add_special) const final;
  std::string piece(TokenId id, bool special) const final;
  std::string decode(std::span<const TokenId> ids, bool special) const final;

  int n_vocab() const final { return vocabulary_.size(); }
  TokenId bos() const final { return vocabulary_.bos(); }
  TokenId eos() const final { return vocabulary_.eos(); }
  bool adds_bos() const final { return vocabulary_.add_bos(); }
  bool is_end(TokenId id) const final { return vocabulary_.is_end(id); }
  bool is_control(TokenId id) const final {
    return vocabulary_.contains(id) && vocabulary_.type(id) == TokenType::kControl;
  }
  TokenId find(std::string_view token_text) const final { return vocabulary_.find(token_text); }

 protected:
  BaseTokenizer(Vocabulary vocabulary, bool add_space_prefix);
  BaseTokenizer(const BaseTokenizer&) = delete;
  BaseTokenizer& operator=(const BaseTokenizer&) = delete;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  // Ids of text without special tokens. The prefix space is already there.
  virtual void encode_plain(std::string_view text, std::vector<TokenId>& out) const = 0;
  // Bytes of a normal token's text as the vocabulary writes it.
  virtual std::string normal_piece(std::string_view text) const = 0;

 private:
  Vocabulary vocabulary_;
  bool add_space_prefix_;
  SpecialSplitter specials_;
};

}  // namespace hob
