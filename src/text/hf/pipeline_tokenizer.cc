#include "text/hf/pipeline_tokenizer.h"

#include <limits>

#include "base/error.h"
#include "text/hf/raw_bytes.h"
#include "text/word_cache.h"

namespace hob::hf {
namespace {

constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token";
constexpr std::string_view kAddEos = "tokenizer.ggml.add_eos_token";

Node child(const Node& root, const char* key) {
  static const Json kNull;
  const auto node = root.find(key);
  return node ? *node : Node(kNull, key);
}

// add_bos_token and add_eos_token overrule a plain BOS or EOS of the post-processor, never a
// template of other tokens.
void overrule(std::vector<TokenId>& ids, std::optional<bool> wanted, TokenId id) {
  if (!wanted || id < 0) return;
  if (*wanted && ids.empty()) ids.push_back(id);
  if (!*wanted && ids.size() == 1 && ids.front() == id) ids.clear();
}

// The list as the metadata that Vocabulary reads. Not general.name: how tokens treat the spaces
// around them stands in this file.
Metadata as_metadata(const TokenList& list, const Metadata& given) {
  Metadata metadata;
  for (const auto& [key, value] : given.entries()) {
    if (key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id")) metadata.set(key, value);
  }
  std::vector<int64_t> types;
  for (const TokenType type : list.types) types.push_back(static_cast<int64_t>(type));
  metadata.set("tokenizer.ggml.tokens", list.texts);
  metadata.set("tokenizer.ggml.token_type", std::move(types));
  return metadata;
}

size_t n_tokens(const Metadata& metadata) {
  const auto* tokens = metadata.find_strings("tokenizer.ggml.tokens");
  return tokens == nullptr ? 0 : tokens->size();
}

}  // namespace

struct PipelineTokenizer::Parsed {
  Parsed(std::string_view text, const Metadata& metadata)
      : json(parse_object(text, "tokenizer.json")),
        root(json, ""),
        added(read_added_tokens(root)),
        list(read_token_list(root, added, n_tokens(metadata))),
        frame(read_frame(root, list.texts.size())) {
    Metadata ids = as_metadata(list, metadata);
    const Vocabulary plain = Vocabulary::from_gguf(ids, {});
    overrule(frame.before, metadata.find_bool(kAddBos), plain.bos());
    overrule(frame.after, metadata.find_bool(kAddEos), plain.eos());
    const auto is_only = [](const std::vector<TokenId>& all, TokenId id) {
      return id >= 0 && !all.empty() && all.front() == id;
    };
    ids.set(std::string(kAddBos), is_only(frame.before, plain.bos()));
    vocabulary = Vocabulary::from_gguf(ids, {});
  }

  Json json;
  Node root;
  std::vector<AddedToken> added;
  TokenList list;
  Frame frame;
  Vocabulary vocabulary;
};

PipelineTokenizer::PipelineTokenizer(std::string_view json, const Metadata& metadata)
    : PipelineTokenizer(Parsed(json, metadata)) {}

PipelineTokenizer::PipelineTokenizer(Parsed parsed)
    : vocabulary_(std::move(parsed.vocabulary)),
      tokens_(vocabulary_, std::move(parsed.list.own)),
      normalizer_(make_normalizer(child(parsed.root, "normalizer"))),
      pre_tokenizer_(make_pre_tokenizer(child(parsed.root, "pre_tokenizer"))),
      model_(make_model(parsed.root.object("model"), tokens_)),
      added_(parsed.added, normalizer_.get()),
      is_added_(static_cast<size_t>(vocabulary_.size()), false),
      frame_(std::move(parsed.frame)),
      decoder_(child(parsed.root, "decoder")) {
  for (size_t i = 0; i < parsed.added.size(); ++i) {
    const TokenId id = added_.tokens()[i].id;
    is_added_[static_cast<size_t>(id)] = true;
    if (!added_.normalized_text(i).empty()) other_texts_.emplace(id, added_.normalized_text(i));
  }
  prefix_everywhere_ = decoder_.strips_start() && later_sections_get_a_prefix();
}

bool PipelineTokenizer::later_sections_get_a_prefix() const {
  Stretch probe{"x", false};
  const WorkBudget budget(1);
  if (normalizer_) normalizer_->apply(probe, budget);
  std::vector<Stretch> words = {probe};
  if (pre_tokenizer_) {
    words.clear();
    pre_tokenizer_->split(probe, budget, words);
  }
  return !words.empty() && !words.front().text.starts_with('x');
}

std::vector<TokenId> PipelineTokenizer::encode_parts(std::span<const TextPart> parts,
                                                     bool add_special) const {
  std::string text;
  PartMap map;
  for (const TextPart& part : parts) {
    // Positions are 32-bit, and normalisation makes texts longer (WorkBudget).
    if (text.size() + part.text.size() > std::numeric_limits<int32_t>::max() / 32) {
      fail(Code::kInvalidArgument, "[tokenizer] expected a text below 64 MiB, got more");
    }
    const std::string carried = with_carried_bytes(part.text);
    map.add(carried.size(), part.parse_special);
    text += carried;
  }
  const WorkBudget budget(text.size());
  std::vector<TokenId> out;
  if (add_special) out = frame_.before;
  for (const Section& section : added_.cut_input(text, map)) {
    if (section.token >= 0) {
      out.push_back(section.token);
    } else {
      const auto [begin, end] = section.at;
      encode_section({text.substr(begin, end - begin), begin == 0}, map, budget, out);
    }
  }
  if (add_special) out.insert(out.end(), frame_.after.begin(), frame_.after.end());
  return out;
}

void PipelineTokenizer::encode_section(Stretch stretch, const PartMap& parts,
                                       const WorkBudget& budget, std::vector<TokenId>& out) const {
  if (normalizer_) normalizer_->apply(stretch, budget);
  for (const Section& section : added_.cut_normalized(stretch.text, parts)) {
    if (section.token >= 0) {
      out.push_back(section.token);
      continue;
    }
    const auto [begin, end] = section.at;
    Stretch rest{stretch.text.substr(begin, end - begin), stretch.from_start && begin == 0};
    std::vector<Stretch> words;
    if (pre_tokenizer_) {
      pre_tokenizer_->split(rest, budget, words);
    } else {
      words.push_back(std::move(rest));
    }
    encode_words(words, out);
  }
}

void PipelineTokenizer::encode_words(const std::vector<Stretch>& words,
                                     std::vector<TokenId>& out) const {
  WordCache cache;
  for (const Stretch& word : words) {
    cache.append(word.text, out, [&](std::string_view text, std::vector<TokenId>& ids) {
      model_->encode(text, ids);
    });
  }
}

std::string PipelineTokenizer::piece_at(TokenId id, bool special, bool first) const {
  if (!vocabulary_.contains(id)) {
    fail(Code::kInvalidArgument, "[tokenizer] expected a token id below {}, got {}", n_vocab(), id);
  }
  std::string text(vocabulary_.text(id));
  switch (vocabulary_.type(id)) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return special ? text : "";
    case TokenType::kUnused:
    case TokenType::kUndefined:
      return "";
    default:
      if (const auto other = other_texts_.find(id); other != other_texts_.end())
        return decoder_.decode({.text = other->second, .first = first});
      return decoder_.decode({.text = std::move(text),
                              .first = first,
                              .is_added = is_added_[static_cast<size_t>(id)]});
  }
}

std::string PipelineTokenizer::piece(TokenId id, bool special) const {
  return piece_at(id, special, false);
}

std::string PipelineTokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string out;
  bool first = true;
  for (const TokenId id : ids) {
    const bool hidden = !special && piece_at(id, special, false).empty();
    out += piece_at(id, special, first);
    if (hidden) continue;
    // With the special tokens' texts, the result is what encode() was given: behind each of them
    // it put a space.
    first = special && prefix_everywhere_ && is_added_[static_cast<size_t>(id)];
  }
  return out;
}

}  // namespace hob::hf
