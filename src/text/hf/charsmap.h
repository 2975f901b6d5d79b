#pragma once
// SentencePiece's compiled normalisation rules (`precompiled_charsmap`): a double-array trie of
// source texts, and their replacements one behind the other with a 0 byte after each.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/hf/regex.h"

namespace hob::hf {

class Charsmap {
 public:
  // `base64`: uint32 trie size in bytes, the trie's uint32 units, the replacements. All little
  // endian.
  Charsmap(std::string_view base64, const std::string& where);

  // By grapheme clusters, as Hugging Face's reimplementation does it, which models were trained
  // and compared with.
  std::string apply(std::string_view text, const WorkBudget& budget) const;

 private:
  // What the shortest rule that `text` begins with puts in its place.
  std::optional<std::string_view> find(std::string_view text) const;
  void apply_cluster(std::string_view cluster, std::string& out) const;

  std::string blob_;
  std::vector<uint32_t> units_;
  std::string_view replacements_;  // into blob_
};

}  // namespace hob::hf
