#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "text/hf/model.h"
#include "text/hf/raw_bytes.h"
#include "text/merge_queue.h"

namespace hob::hf {
namespace {

struct Merge {
  int32_t rank;
  TokenId joined;
};

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

class BpeModel final : public Model {
 public:
  BpeModel(const Node& node, const ModelTokens& tokens);
  void encode(std::string_view word, std::vector<TokenId>& out) const override;

 private:
  void read_merges(const Node& node);
  TokenId merge_token(const std::string& text, const Node& merge) const;
  // Symbols of the word in `queue`.
  void add_symbols(std::string_view word, MergeQueue& queue) const;
  bool add_bytes(std::string_view symbol, size_t begin, MergeQueue& queue) const;

  const ModelTokens& tokens_;
  std::unordered_map<uint64_t, Merge> merges_;
  std::string prefix_, suffix_;  // of symbols inside a word and at its end
  TokenId unknown_ = -1;
  std::array<TokenId, 256> byte_tokens_{};
  bool fuse_unknown_, byte_fallback_, whole_word_first_;
};

BpeModel::BpeModel(const Node& node, const ModelTokens& tokens)
    : tokens_(tokens),
      prefix_(node.find_string("continuing_subword_prefix").value_or("")),
      suffix_(node.find_string("end_of_word_suffix").value_or("")),
      fuse_unknown_(node.flag("fuse_unk", false)),
      byte_fallback_(node.flag("byte_fallback", false)),
      whole_word_first_(node.flag("ignore_merges", false)) {
  if (const auto dropout = node.find("dropout"); dropout && dropout->value() != 0)
    dropout->refuse("null: hob leaves out no merges at random");
  if (const auto text = node.find_string("unk_token"); text && !text->empty()) {
    unknown_ = tokens_.vocabulary().find(*text);
    if (unknown_ < 0) node.find("unk_token")->refuse("a token of the vocabulary");
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_tokens_[static_cast<size_t>(byte)] =
        byte_fallback_ ? tokens_.byte_token(static_cast<uint8_t>(byte)) : -1;
  }
  read_merges(node);
}

TokenId BpeModel::merge_token(const std::string& text, const Node& merge) const {
  const TokenId id = tokens_.find_own(text);
  if (id < 0) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected tokens of the vocabulary, \"{}\" is none",
         merge.path(), text.substr(0, 60));
  }
  return id;
}

void BpeModel::read_merges(const Node& node) {
  const size_t n = node.list_size("merges");
  merges_.reserve(n);
  for (size_t rank = 0; rank < n; ++rank) {
    const Node merge = node.item("merges", rank);
    const auto [left, right] = merge_parts(merge);
    const TokenId left_id = merge_token(left, merge), right_id = merge_token(right, merge);
    const std::string rest = right.starts_with(prefix_) ? right.substr(prefix_.size()) : right;
    const TokenId joined = merge_token(left + rest, merge);
    // Text must not become a control token. A pair named twice has its last rank, as there.
    if (tokens_.find(left + rest) < 0) continue;
    merges_[pair_key(left_id, right_id)] = {static_cast<int32_t>(rank), joined};
  }
}

bool BpeModel::add_bytes(std::string_view symbol, size_t begin, MergeQueue& queue) const {
  const std::string bytes = without_carried_bytes(symbol);
  for (const char c : bytes) {
    if (byte_tokens_[static_cast<uint8_t>(c)] < 0) return false;
  }
  for (const char c : bytes) {
    queue.add(static_cast<uint32_t>(begin++), 1, byte_tokens_[static_cast<uint8_t>(c)]);
  }
  return true;
}

void BpeModel::add_symbols(std::string_view word, MergeQueue& queue) const {
  size_t unknown_begin = 0, unknown_size = 0;
  const auto end_unknown = [&] {
    if (unknown_size > 0)
      queue.add(static_cast<uint32_t>(unknown_begin), static_cast<uint32_t>(unknown_size),
                unknown_);
    unknown_size = 0;
  };
  std::string symbol;
  for (size_t i = 0; i < word.size();) {
    const size_t begin = i;
    next_code_point(word, i);
    symbol.assign(begin > 0 ? prefix_ : "").append(word, begin, i - begin);
    if (i == word.size()) symbol += suffix_;
    if (const TokenId id = tokens_.find(symbol); id >= 0) {
      end_unknown();
      queue.add(static_cast<uint32_t>(begin), static_cast<uint32_t>(i - begin), id);
      continue;
    }
    if (byte_fallback_ && add_bytes(symbol, begin, queue)) continue;
    if (unknown_ < 0) continue;
    if (!fuse_unknown_) end_unknown();
    if (unknown_size == 0) unknown_begin = begin;
    unknown_size += i - begin;
  }
  end_unknown();
}

void BpeModel::encode(std::string_view word, std::vector<TokenId>& out) const {
  if (whole_word_first_) {
    if (const TokenId id = tokens_.find(word); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  MergeQueue queue;
  add_symbols(word, queue);
  queue.run([&](const MergeSymbol& left, const MergeSymbol& right, MergeCandidate& candidate) {
    const auto found = merges_.find(pair_key(left.id, right.id));
    if (found == merges_.end()) return false;
    candidate.order = found->second.rank;
    candidate.id = found->second.joined;
    return true;
  });
  for (const MergeSymbol& symbol : queue.symbols()) {
    if (symbol.size > 0) out.push_back(symbol.id);
  }
}

}  // namespace

std::pair<std::string, std::string> merge_parts(const Node& merge) {
  const Json& value = merge.value();
  if (value.is_string()) {
    const std::string& line = value.get_ref<const std::string&>();
    const size_t space = line.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string::npos)
      merge.refuse("two parts with one space between them");
    return {line.substr(0, space), line.substr(space + 1)};
  }
  const bool pair = value.is_array() && value.size() == 2 && value[0].is_string() &&
                    value[1].is_string() && !value[0].get_ref<const std::string&>().empty() &&
                    !value[1].get_ref<const std::string&>().empty();
  if (!pair) merge.refuse("a list of two texts");
  return {value[0].get<std::string>(), value[1].get<std::string>()};
}

std::unique_ptr<Model> make_bpe(const Node& node, const ModelTokens& tokens) {
  return std::make_unique<BpeModel>(node, tokens);
}

}  // namespace hob::hf
