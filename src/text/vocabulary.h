#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"
#include "text/string_table.h"
#include "text/tokenizer.h"

namespace hob {

// GGUF's numbers (serving §3.3).
enum class TokenType : uint8_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// What all tokenizer families share: texts, types, scores, special ids, end-of-turn tokens. Checked
// completely when it is read, so that whoever uses it may index without asking. Immutable
// afterwards: any thread.
class Vocabulary {
 public:
  // What the family does when the file does not say.
  struct Defaults {
    TokenId bos = -1;
    TokenId eos = -1;
    TokenId unknown = -1;
    bool add_bos = false;
    bool only_control = false;  // take a default id only where the token is a control token
  };
  static Vocabulary from_gguf(const Metadata& metadata, const Defaults& defaults);

  int size() const { return static_cast<int>(types_.size()); }
  bool contains(TokenId id) const { return id >= 0 && id < size(); }
  std::string_view text(TokenId id) const { return texts_[id]; }
  TokenType type(TokenId id) const { return types_[static_cast<size_t>(id)]; }
  float score(TokenId id) const {
    return scores_.empty() ? 0.0f : scores_[static_cast<size_t>(id)];
  }

  TokenId find(std::string_view text) const;
  // As find(), but only tokens that ordinary text may turn into: no control, unknown or byte
  // tokens. So no text can be merged into "</s>".
  TokenId find_ordinary(std::string_view text) const;
  TokenId byte_token(uint8_t byte) const { return byte_tokens_[byte]; }  // <0xHH>, -1 = none

  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  TokenId unknown() const { return unknown_; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  bool is_end(TokenId id) const { return contains(id) && is_end_[static_cast<size_t>(id)]; }
  // Phi-3's special tokens swallow the whitespace that follows them.
  bool strips_right(TokenId id) const {
    return id >= 0 && !strips_right_.empty() && strips_right_[static_cast<size_t>(id)];
  }

 private:
  void read_tokens(const Metadata& metadata);
  void read_types(const Metadata& metadata);
  void read_scores(const Metadata& metadata);
  void read_special_ids(const Metadata& metadata, const Defaults& defaults);
  void mark_end_tokens(const Metadata& metadata);
  void mark_strip_tokens(const Metadata& metadata);

  StringTable texts_;
  std::vector<TokenType> types_;
  std::vector<float> scores_;  // empty: all 0
  std::array<TokenId, 256> byte_tokens_{};
  TokenId bos_ = -1, eos_ = -1, unknown_ = -1;
  bool add_bos_ = false, add_eos_ = false;
  std::vector<bool> is_end_;
  std::vector<bool> strips_right_;  // empty: none
};

// The byte of a token text `<0xHH>`, nullopt for any other text.
std::optional<uint8_t> parse_byte_token(std::string_view text);

}  // namespace hob
