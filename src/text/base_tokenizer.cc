#include "text/base_tokenizer.h"

#include <limits>

#include "base/error.h"

namespace hob {
namespace {

// A part's own whitespace behind such a token is gone already; this is for the beginning of the
// next part.
std::string_view without_leading_space(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\n\v\f\r");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

}  // namespace

BaseTokenizer::BaseTokenizer(Vocabulary vocabulary, bool add_space_prefix)
    : vocabulary_(std::move(vocabulary)),
      add_space_prefix_(add_space_prefix),
      specials_(vocabulary_) {}

std::vector<TokenId> BaseTokenizer::encode_parts(std::span<const TextPart> parts,
                                                 bool add_special) const {
  size_t n_bytes = 0;
  std::vector<Fragment> fragments;
  for (const TextPart& part : parts) {
    n_bytes += part.text.size();
    // Positions are 32-bit, and a space may grow to the three bytes of U+2581.
    if (n_bytes > std::numeric_limits<int32_t>::max() / 4) {
      fail(Code::kInvalidArgument, "[tokenizer] expected a text below 512 MiB, got more");
    }
    specials_.split(part.text, part.parse_special, fragments);
  }

  std::vector<TokenId> out;
  if (add_special && vocabulary_.add_bos()) out.push_back(vocabulary_.bos());
  bool after_special = true;  // the beginning of the text counts as such
  std::string run;            // neighbouring text fragments of several parts
  for (size_t i = 0; i < fragments.size();) {
    if (fragments[i].token >= 0) {
      out.push_back(fragments[i++].token);
      after_special = true;
      continue;
    }
    const bool strip = i > 0 && vocabulary_.strips_right(fragments[i - 1].token);
    run.clear();
    for (; i < fragments.size() && fragments[i].token < 0; ++i) {
      const std::string_view text = fragments[i].text;
      run.append(strip && run.empty() ? without_leading_space(text) : text);
    }
    if (run.empty()) continue;
    if (after_special && add_space_prefix_) run.insert(run.begin(), ' ');
    encode_plain(run, out);
    after_special = false;
  }
  if (add_special && vocabulary_.add_eos()) out.push_back(vocabulary_.eos());
  return out;
}

std::string BaseTokenizer::piece(TokenId id, bool special) const {
  if (!vocabulary_.contains(id)) {
    fail(Code::kInvalidArgument, "[tokenizer] expected a token id below {}, got {}", n_vocab(), id);
  }
  const std::string_view text = vocabulary_.text(id);
  switch (vocabulary_.type(id)) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return special ? std::string(text) : "";
    case TokenType::kUserDefined:
      return std::string(text);
    case TokenType::kNormal:
      return normal_piece(text);
    case TokenType::kByte:
      return std::string(1, static_cast<char>(parse_byte_token(text).value_or(0)));
    case TokenType::kUnused:
    case TokenType::kUndefined:
      return "";
  }
  return "";
}

std::string BaseTokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string out;
  bool drop_space = add_space_prefix_;
  for (const TokenId id : ids) {
    const std::string text = piece(id, special);
    const TokenType type = vocabulary_.type(id);
    if (type == TokenType::kControl || type == TokenType::kUserDefined ||
        type == TokenType::kUnknown) {
      out += text;
      // encode() puts a space behind every special token. Without their texts the result is prose,
      // where a space between two stretches does no harm and its absence would join words.
      drop_space = add_space_prefix_ && (special || drop_space);
      continue;
    }
    out += drop_space && text.starts_with(' ') ? text.substr(1) : text;
    if (!text.empty()) drop_space = false;
  }
  return out;
}

}  // namespace hob
