#include "text/hf/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/hf/raw_bytes.h"
#include "text/hf/unicode_forms.h"

namespace hob::hf {
namespace {

// As in special_split.cc: a bound keeps the search fast whatever the file says.
constexpr size_t kMaxBytes = 1024;

// Start of the white space that ends at `end`, but not before `least`.
size_t space_begin(std::string_view text, size_t end, size_t least) {
  while (end > least) {
    const size_t begin = previous_character(text, end);
    size_t i = begin;
    if (!is_white_space(next_code_point(text, i))) break;
    end = begin;
  }
  return end;
}

size_t space_end(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    size_t i = begin;
    if (!is_white_space(next_code_point(text, i))) break;
    begin = i;
  }
  return begin;
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Node& root) {
  std::vector<AddedToken> tokens;
  if (!root.find("added_tokens")) return tokens;
  for (size_t i = 0; i < root.list_size("added_tokens"); ++i) {
    const Node node = root.item("added_tokens", i);
    AddedToken token{.id = static_cast<TokenId>(node.integer("id", 0, (1 << 29) - 1)),
                     .text = node.string("content"),
                     .special = node.flag("special"),
                     .lstrip = node.flag("lstrip"),
                     .rstrip = node.flag("rstrip"),
                     .single_word = node.flag("single_word"),
                     .normalized = node.flag("normalized")};
    if (token.text.empty()) node.find("content")->refuse("a text that is not empty");
    if (token.text.size() > kMaxBytes) {
      fail(Code::kDataLoss, "[tokenizer] {}: expected a token of at most {} bytes, file has {}",
           node.path(), kMaxBytes, token.text.size());
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void PartMap::add(size_t n_bytes, bool parse_special) {
  if (n_bytes > 0)
    parts_.push_back({(parts_.empty() ? 0 : parts_.back().end) + n_bytes, parse_special});
}

bool PartMap::all(bool parse_special) const {
  return std::all_of(parts_.begin(), parts_.end(),
                     [&](const Part& part) { return part.parse_special == parse_special; });
}

size_t PartMap::index_of(size_t at) const {
  const auto part = std::upper_bound(parts_.begin(), parts_.end(), at,
                                     [](size_t x, const Part& p) { return x < p.end; });
  return static_cast<size_t>(part - parts_.begin());
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer)
    : tokens_(std::move(tokens)),
      word_(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D])", "added_tokens") {
  std::vector<PrefixTable::Entry> raw, mixed, normalized;
  normalized_texts_.resize(tokens_.size());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    const auto index = static_cast<int32_t>(i);
    const std::string written = with_carried_bytes(token.text);
    if (!token.normalized || token.special) mixed.push_back({written, index});
    if (!token.normalized) {
      raw.push_back({written, index});
      continue;
    }
    Stretch stretch{written};
    WorkBudget budget(written.size());
    if (normalizer != nullptr) normalizer->apply(stretch, budget);
    if (stretch.text != written) normalized_texts_[i] = stretch.text;
    // One of which nothing is left is never found.
    if (!stretch.text.empty()) normalized.push_back({stretch.text, index});
  }
  raw_ = PrefixTable(std::move(raw));
  raw_mixed_ = PrefixTable(std::move(mixed));
  normalized_ = PrefixTable(std::move(normalized));
}

bool AddedTokens::is_word_at(std::string_view text, size_t begin, size_t end) const {
  WorkBudget budget(1);
  return begin < end && !word_.find_all(text.substr(begin, end - begin), budget).empty();
}

// may(length, token): may this one be found here at all?
template <class May>
AddedTokens::Found AddedTokens::longest_at(const PrefixTable& table,
                                           const std::vector<AddedToken>& tokens,
                                           std::string_view text, May&& may) {
  Found found;
  table.prefixes(text, [&](size_t length, int32_t index) {
    const AddedToken& token = tokens[static_cast<size_t>(index)];
    if (may(length, token)) found = {length, &token};
  });
  return found;
}

// From the left, the longest one each. What is found but not taken (a control token where none is
// parsed, a part of a longer word) is text, and so is all inside it.
template <class May, class Parses>
std::vector<Section> AddedTokens::cut(const PrefixTable& table, std::string_view text, May&& may,
                                      Parses&& parses) const {
  std::vector<Section> sections;
  size_t done = 0;
  for (size_t i = 0; i < text.size() && !table.empty();) {
    const Found found =
        longest_at(table, tokens_, text.substr(i),
                   [&](size_t n, const auto& token) { return may(i, i + n, token); });
    if (found.token == nullptr) {
      next_code_point(text, i);
      continue;
    }
    size_t begin = i, end = i + found.length;
    i = end;
    const AddedToken& token = *found.token;
    if (token.special && !parses(begin)) continue;
    if (token.single_word) {
      const size_t before = begin > 0 ? previous_character(text, begin) : 0;
      size_t after = end;
      if (end < text.size()) next_code_point(text, after);
      if (is_word_at(text, before, begin) || is_word_at(text, end, after)) continue;
    }
    if (token.lstrip) begin = std::min(space_begin(text, begin, done), begin);
    if (token.rstrip) end = space_end(text, end);
    if (done < begin) sections.push_back({{done, begin}});
    sections.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done < text.size()) sections.push_back({{done, text.size()}});
  return sections;
}

std::vector<Section> AddedTokens::cut_input(std::string_view text, const PartMap& parts) const {
  const bool mixed = !parts.all(true) && !parts.all(false);
  return cut(
      mixed ? raw_mixed_ : raw_, text,
      [&](size_t begin, size_t end, const AddedToken& token) {
        return !token.special || parts.in_one(begin, end);
      },
      [&](size_t at) { return parts.parses(at); });
}

std::vector<Section> AddedTokens::cut_normalized(std::string_view text,
                                                 const PartMap& parts) const {
  const bool parse_special = parts.all(true);
  return cut(
      normalized_, text, [](size_t, size_t, const AddedToken&) { return true; },
      [&](size_t) { return parse_special; });
}

}  // namespace hob::hf
