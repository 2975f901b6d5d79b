#pragma once
// Tokens that are found in the text itself, before (or, for `normalized` ones, after) the
// normaliser, and cut it.
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/hf/json.h"
#include "text/hf/normalizer.h"
#include "text/hf/prefix_table.h"
#include "text/tokenizer.h"

namespace hob::hf {

struct AddedToken {
  TokenId id;
  std::string text;
  bool special, lstrip, rstrip, single_word, normalized;
};

// `root` is the whole file.
std::vector<AddedToken> read_added_tokens(const Node& root);

// A stretch of text, or (token >= 0) a token that was found in it.
struct Section {
  Match at;
  TokenId token = -1;
};

// Which bytes of a text belong to which part, and whether control tokens may be found there.
class PartMap {
 public:
  void add(size_t n_bytes, bool parse_special);
  bool all(bool parse_special) const;
  // Do these bytes lie in one part?
  bool in_one(size_t begin, size_t end) const { return index_of(begin) == index_of(end - 1); }
  bool parses(size_t at) const { return parts_[index_of(at)].parse_special; }

 private:
  struct Part {
    size_t end;
    bool parse_special;
  };
  size_t index_of(size_t at) const;
  std::vector<Part> parts_;
};

// Immutable after construction: any thread.
class AddedTokens {
 public:
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);

  // What the normaliser makes of the text of a normalized token; "" when that is the text itself.
  // Such a token stands for this text, with the spaces that the normaliser put there.
  const std::string& normalized_text(size_t index) const { return normalized_texts_[index]; }
  const std::vector<AddedToken>& tokens() const { return tokens_; }

  // Cuts the input. Control tokens are found only inside one part that allows them.
  std::vector<Section> cut_input(std::string_view text, const PartMap& parts) const;
  // Cuts a section that went through the normaliser. Where parts differ, control tokens were
  // looked for in the input already, because nobody knows any more which part is which.
  std::vector<Section> cut_normalized(std::string_view text, const PartMap& parts) const;

 private:
  struct Found {
    size_t length = 0;
    const AddedToken* token = nullptr;
  };
  template <class May>
  static Found longest_at(const PrefixTable& table, const std::vector<AddedToken>& tokens,
                          std::string_view text, May&& may);
  template <class May, class Parses>
  std::vector<Section> cut(const PrefixTable& table, std::string_view text, May&& may,
                           Parses&& parses) const;
  bool is_word_at(std::string_view text, size_t begin, size_t end) const;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> normalized_texts_;
  PrefixTable raw_;        // ids in these tables: indices into tokens_
  PrefixTable raw_mixed_;  // and the normalized control tokens, as they are written
  PrefixTable normalized_;
  Regex word_;  // one character of a word
};

}  // namespace hob::hf
