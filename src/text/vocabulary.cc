#include "text/vocabulary.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace hob {
namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kScores = "tokenizer.ggml.scores";

// Texts that end a turn in some family, whatever the file's ids say. The list is llama.cpp's.
constexpr std::string_view kEndTexts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};
// Fill-in-the-middle tokens behind which a model writes another file. llama.cpp ends there as well.
constexpr std::string_view kFimEndTexts[] = {
    "<|fim_pad|>",   "<fim-pad>",  "<fim_pad>", "<PAD>",      "[PAD]",        "<|fim_repo|>",
    "<|repo_name|>", "<fim-repo>", "<REPO>",    "<reponame>", "<|file_sep|>",
};
constexpr std::string_view kEndKeys[] = {
    "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
};

std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 40)) {
    if (static_cast<uint8_t>(c) < 0x20 || static_cast<uint8_t>(c) >= 0x7F) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    } else {
      out.push_back(c);
    }
  }
  return text.size() > 40 ? out + "..." : out;
}

// The id under `key`; `fallback` when the key is missing. 2^32-1 is how converters write "none".
TokenId token_id(const Metadata& metadata, std::string_view key, int n_vocab, TokenId fallback) {
  const MetaValue* value = metadata.find(key);
  if (value == nullptr) return fallback;
  if (const auto* i = std::get_if<int64_t>(value); i != nullptr && *i == -1) return -1;
  const uint64_t id = metadata.get_uint(key);
  if (id == std::numeric_limits<uint32_t>::max()) return -1;
  if (id >= static_cast<uint64_t>(n_vocab)) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected an id below {}, file has {}", key, n_vocab, id);
  }
  return static_cast<TokenId>(id);
}

}  // namespace

std::optional<uint8_t> parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

Vocabulary Vocabulary::from_gguf(const Metadata& metadata, const Defaults& defaults) {
  Vocabulary vocabulary;
  vocabulary.read_tokens(metadata);
  vocabulary.read_types(metadata);
  vocabulary.read_scores(metadata);
  vocabulary.read_special_ids(metadata, defaults);
  vocabulary.mark_end_tokens(metadata);
  vocabulary.mark_strip_tokens(metadata);
  return vocabulary;
}

TokenId Vocabulary::find(std::string_view text) const {
  return text.empty() ? -1 : texts_.find(text);
}

TokenId Vocabulary::find_ordinary(std::string_view text) const {
  const TokenId id = find(text);
  if (id < 0) return -1;
  const TokenType t = type(id);
  return t == TokenType::kControl || t == TokenType::kUnknown || t == TokenType::kByte ? -1 : id;
}

void Vocabulary::read_tokens(const Metadata& metadata) {
  const auto* tokens = metadata.find_strings(kTokens);
  if (tokens == nullptr || tokens->empty()) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected at least one token, file has none", kTokens);
  }
  // Ids are int32 everywhere; the low bound keeps "id + a few strings of merges" inside it as well.
  if (tokens->size() > std::numeric_limits<int32_t>::max() / 4) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected fewer than 2^29 tokens, file has {}", kTokens,
         tokens->size());
  }
  size_t n_bytes = 0;
  for (const std::string& text : *tokens) n_bytes += text.size();
  texts_.reserve(tokens->size(), n_bytes);
  for (const std::string& text : *tokens) {
    // An empty text is a hole in the ids: it matches nothing and prints nothing.
    const TokenId id = texts_.add(text);
    if (const TokenId first = find(text); first >= 0 && first != id) {
      fail(Code::kDataLoss,
           "[tokenizer] token {}: expected a text of its own, \"{}\" is also token {}", id,
           shown(text), first);
    }
  }
  types_.assign(tokens->size(), TokenType::kNormal);
}

void Vocabulary::read_types(const Metadata& metadata) {
  byte_tokens_.fill(-1);
  if (const auto* types = metadata.find_ints(kTypes)) {
    if (types->size() < types_.size()) {
      fail(Code::kDataLoss, "[tokenizer] {}: expected {} entries, file has {}", kTypes,
           types_.size(), types->size());
    }
    for (size_t i = 0; i < types_.size(); ++i) {
      const int64_t type = (*types)[i];
      if (type < 0 || type > 6) {
        fail(Code::kDataLoss, "[tokenizer] {}[{}]: expected 0..6, file has {}", kTypes, i, type);
      }
      types_[i] = static_cast<TokenType>(type);
    }
  }
  for (TokenId id = 0; id < size(); ++id) {
    const std::optional<uint8_t> byte = parse_byte_token(text(id));
    if (type(id) == TokenType::kByte && !byte) {
      fail(Code::kDataLoss,
           "[tokenizer] token {}: expected a byte token <0x00>..<0xFF>, file has \"{}\"", id,
           shown(text(id)));
    }
    if (byte && byte_tokens_[*byte] < 0) byte_tokens_[*byte] = id;
  }
}

void Vocabulary::read_scores(const Metadata& metadata) {
  const MetaValue* value = metadata.find(kScores);
  if (value == nullptr) return;
  scores_.reserve(types_.size());
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value)) {
    for (const int64_t score : *ints) scores_.push_back(static_cast<float>(score));
  } else {
    for (const double score : *metadata.find_floats(kScores)) {
      // NaN has no place in an order of merges.
      if (std::isnan(score)) {
        fail(Code::kDataLoss, "[tokenizer] {}[{}]: expected a number, file has NaN", kScores,
             scores_.size());
      }
      scores_.push_back(static_cast<float>(score));
    }
  }
  if (scores_.size() < types_.size()) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected {} entries, file has {}", kScores,
         types_.size(), scores_.size());
  }
}

void Vocabulary::read_special_ids(const Metadata& metadata, const Defaults& defaults) {
  const auto usable = [&](TokenId id) {
    return contains(id) && (!defaults.only_control || type(id) == TokenType::kControl) ? id : -1;
  };
  bos_ = token_id(metadata, "tokenizer.ggml.bos_token_id", size(), usable(defaults.bos));
  eos_ = token_id(metadata, "tokenizer.ggml.eos_token_id", size(), usable(defaults.eos));
  unknown_ =
      token_id(metadata, "tokenizer.ggml.unknown_token_id", size(), usable(defaults.unknown));

  const std::optional<bool> asks_bos = metadata.find_bool("tokenizer.ggml.add_bos_token");
  const std::optional<bool> asks_eos = metadata.find_bool("tokenizer.ggml.add_eos_token");
  if (asks_bos.value_or(false) && bos_ < 0) {
    fail(Code::kDataLoss, "[tokenizer] add_bos_token: expected a bos_token_id, file has none");
  }
  if (asks_eos.value_or(false) && eos_ < 0) {
    fail(Code::kDataLoss, "[tokenizer] add_eos_token: expected an eos_token_id, file has none");
  }
  add_bos_ = asks_bos.value_or(defaults.add_bos) && bos_ >= 0;
  add_eos_ = asks_eos.value_or(false);
}

void Vocabulary::mark_end_tokens(const Metadata& metadata) {
  is_end_.assign(types_.size(), false);
  const auto mark = [&](TokenId id) {
    if (id >= 0) is_end_[static_cast<size_t>(id)] = true;
  };
  const auto mark_text = [&](std::string_view text) {
    const TokenId id = find(text);
    if (id < 0) return;
    mark(id);
    // Some converters leave these "normal" or "user defined"; then user text could end the turn.
    types_[static_cast<size_t>(id)] = TokenType::kControl;
  };
  for (const std::string_view text : kEndTexts) mark_text(text);
  for (const std::string_view text : kFimEndTexts) mark_text(text);
  for (const std::string_view key : kEndKeys) mark(token_id(metadata, key, size(), -1));
  mark(eos_);
  // gpt-oss and Solar end messages inside one answer with <|end|>; the answer ends with <|return|>
  // or <|call|>.
  const bool harmony = find("<|return|>") >= 0 && find("<|call|>") >= 0;
  const bool solar = find("<|flush|>") >= 0 && (find("<|call|>") >= 0 || find("<|calls|>") >= 0);
  if (const TokenId end = find("<|end|>"); end >= 0 && (harmony || solar))
    is_end_[static_cast<size_t>(end)] = false;
}

void Vocabulary::mark_strip_tokens(const Metadata& metadata) {
  std::string name = metadata.find_string("general.name").value_or("");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  // GGUF does not carry the tokens' strip flags, so the family is known by name only (as in
  // llama.cpp).
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
  strips_right_.assign(types_.size(), false);
  for (TokenId id = 0; id < size(); ++id) {
    const TokenType t = type(id);
    const bool special =
        t == TokenType::kControl || t == TokenType::kUserDefined || t == TokenType::kUnknown;
    const bool keeps = text(id) == "<unk>" || text(id) == "<s>" || text(id) == "<|endoftext|>";
    strips_right_[static_cast<size_t>(id)] = special && !keeps;
  }
}

}  // namespace hob
