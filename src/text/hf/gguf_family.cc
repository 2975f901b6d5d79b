#include "text/hf/gguf_family.h"

#include <algorithm>
#include <unordered_map>

#include "text/hf/raw_bytes.h"

namespace hob::hf {
namespace {

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (size_t i = text.find(what); i != std::string::npos; i = text.find(what, i + by.size()))
    text.replace(i, what.size(), by);
  return text;
}

// All steps of a Sequence, or the one that there is.
std::vector<Node> steps_of(const Node& root, const char* key, const char* list) {
  std::vector<Node> steps;
  const auto node = root.find(key);
  if (!node) return steps;
  if (node->type() != "Sequence") return {*node};
  for (size_t i = 0; i < node->list_size(list); ++i) steps.push_back(node->item(list, i));
  return steps;
}

std::vector<Node> normalizers_of(const Node& root) {
  return steps_of(root, "normalizer", "normalizers");
}

std::vector<Node> pre_tokenizers_of(const Node& root) {
  return steps_of(root, "pre_tokenizer", "pretokenizers");
}

bool replaces_spaces(const Node& node) {
  if (node.type() != "Replace" || node.string("content") != kMark) return false;
  const auto pattern = node.find("pattern");
  return pattern && pattern->value().is_object() && pattern->find_string("String") == " ";
}

bool is_metaspace(const Node& node) {
  return node.type() == "Metaspace" && node.string("replacement") == kMark;
}

// A space is put in front of the text.
bool adds_space(const Node& root) {
  for (const Node& node : normalizers_of(root)) {
    if (node.type() == "Prepend") return true;
  }
  for (const Node& node : pre_tokenizers_of(root)) {
    if (is_metaspace(node)) {
      return node.find_string("prepend_scheme").value_or("always") != "never" &&
             node.flag("add_prefix_space", true);
    }
  }
  return false;
}

// Nothing but spaces made visible, as GGUF's `llama` does it.
bool only_marks_spaces(const Node& root) {
  bool marks = false;
  for (const Node& node : normalizers_of(root)) {
    const bool prepends = node.type() == "Prepend" && node.string("prepend") == kMark;
    if (!prepends && !replaces_spaces(node)) return false;
    marks = marks || replaces_spaces(node);
  }
  for (const Node& node : pre_tokenizers_of(root)) {
    // Gemma's Split at spaces finds none behind the replacement.
    const auto pattern = node.find("pattern");
    const bool idle = marks && node.type() == "Split" && pattern && pattern->value().is_object() &&
                      pattern->find_string("String") == " ";
    if (!idle && !is_metaspace(node)) return false;
    marks = true;
  }
  return marks;
}

struct Merges {
  std::vector<std::string> lines;
  std::vector<double> scores;  // by token: minus the rank that makes it
  bool complete = true;  // every cut of a token into two tokens is a merge, in one run of ranks
};

int n_cuts(const std::string& text, const std::unordered_map<std::string, TokenId>& ids) {
  int n = 0;
  for (size_t i = 0; i < text.size();) {
    next_code_point(text, i);
    if (i < text.size() && ids.contains(text.substr(0, i)) && ids.contains(text.substr(i))) ++n;
  }
  return n;
}

Merges read_merges(const Node& model, const TokenList& list) {
  std::unordered_map<std::string, TokenId> ids;
  for (size_t i = 0; i < list.texts.size(); ++i) {
    if (list.own[i] && list.types[i] == TokenType::kNormal)
      ids.emplace(list.texts[i], static_cast<TokenId>(i));
  }
  Merges merges;
  merges.scores.assign(list.texts.size(), 0.0);
  std::vector<int> n_merges(list.texts.size(), 0);
  std::string previous;
  for (size_t rank = 0; rank < model.list_size("merges"); ++rank) {
    const auto [left, right] = merge_parts(model.item("merges", rank));
    // A line has one space; inside a part it is written as byte-level vocabularies do.
    merges.lines.push_back(replaced(left, " ", "Ġ") + " " + replaced(right, " ", "Ġ"));
    const std::string joined = left + right;
    const auto id = ids.find(joined);
    if (id == ids.end()) continue;
    const auto i = static_cast<size_t>(id->second);
    if (n_merges[i]++ == 0) {
      merges.scores[i] = -static_cast<double>(rank) - 1.0;
    } else if (joined != previous) {
      merges.complete = false;
    }
    previous = joined;
  }
  for (const auto& [text, id] : ids) {
    const auto i = static_cast<size_t>(id);
    merges.complete = merges.complete && n_merges[i] == n_cuts(text, ids);
  }
  return merges;
}

// Tokens that only added text makes are matched as they stand in the text: with spaces.
std::vector<std::string> with_spaces(const TokenList& list) {
  std::vector<std::string> texts = list.texts;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (list.types[i] == TokenType::kUserDefined) texts[i] = replaced(texts[i], kMark, " ");
  }
  return texts;
}

// GGUF's `bert` marks the words' beginnings, not what goes on.
std::vector<std::string> with_word_marks(const TokenList& list, const std::string& prefix) {
  std::vector<std::string> texts = list.texts;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (list.types[i] != TokenType::kNormal) continue;
    const bool goes_on = !prefix.empty() && texts[i].starts_with(prefix);
    texts[i] = goes_on ? texts[i].substr(prefix.size()) : std::string(kMark) + texts[i];
  }
  return texts;
}

bool are_distinct(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  return std::adjacent_find(texts.begin(), texts.end()) == texts.end();
}

void set_tokens(const std::vector<std::string>& marked, const TokenList& list, Metadata& metadata) {
  std::vector<int64_t> types;
  for (const TokenType type : list.types) types.push_back(static_cast<int64_t>(type));
  metadata.set("tokenizer.ggml.tokens", are_distinct(marked) ? marked : list.texts);
  metadata.set("tokenizer.ggml.token_type", std::move(types));
}

bool add_byte_level(const Node& root, const TokenList& list, Metadata& metadata) {
  Merges merges = read_merges(root.object("model"), list);
  const std::string pre = is_byte_level(root) ? pre_name(root) : "";
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  if (!pre.empty()) metadata.set("tokenizer.ggml.pre", pre);
  set_tokens(list.texts, list, metadata);
  metadata.set("tokenizer.ggml.merges", std::move(merges.lines));
  return !pre.empty();
}

bool add_sentencepiece_bpe(const Node& root, const TokenList& list, Metadata& metadata) {
  Merges merges = read_merges(root.object("model"), list);
  const bool complete = merges.complete && only_marks_spaces(root);
  metadata.set("tokenizer.ggml.model", std::string("llama"));
  if (complete) metadata.set("tokenizer.ggml.pre", std::string("default"));
  set_tokens(with_spaces(list), list, metadata);
  metadata.set("tokenizer.ggml.scores", std::move(merges.scores));
  metadata.set("tokenizer.ggml.add_space_prefix", adds_space(root));
  return complete;
}

// tokenizer.ggml.precompiled_charsmap is left out: readers want an array of bytes there, which
// Metadata does not have. The JSON holds it.
bool add_unigram(const Node& root, const TokenList& list, Metadata& metadata) {
  metadata.set("tokenizer.ggml.model", std::string("t5"));
  set_tokens(with_spaces(list), list, metadata);
  metadata.set("tokenizer.ggml.scores", list.scores);
  metadata.set("tokenizer.ggml.add_space_prefix", adds_space(root));
  bool collapses = false;
  for (const Node& node : normalizers_of(root)) {
    const auto pattern = node.find("pattern");
    if (node.type() == "Replace" && pattern && pattern->value().is_object())
      collapses = collapses || pattern->find_string("Regex") == " {2,}";
  }
  metadata.set("tokenizer.ggml.remove_extra_whitespaces", collapses);
  return false;
}

bool add_wordpiece(const Node& root, const TokenList& list, Metadata& metadata) {
  const std::string prefix =
      root.object("model").find_string("continuing_subword_prefix").value_or("##");
  metadata.set("tokenizer.ggml.model", std::string("bert"));
  set_tokens(with_word_marks(list, prefix), list, metadata);
  return false;
}

}  // namespace

bool is_sentencepiece_bpe(const Node& root) {
  const Node model = root.object("model");
  return model_kind(model) == ModelKind::kBpe && !is_byte_level(root) &&
         (model.flag("byte_fallback", false) || only_marks_spaces(root));
}

bool add_family(const Node& root, const TokenList& list, Metadata& metadata) {
  switch (model_kind(root.object("model"))) {
    case ModelKind::kUnigram:
      return add_unigram(root, list, metadata);
    case ModelKind::kWordPiece:
      return add_wordpiece(root, list, metadata);
    case ModelKind::kBpe:
      break;
  }
  return is_sentencepiece_bpe(root) ? add_sentencepiece_bpe(root, list, metadata)
                                    : add_byte_level(root, list, metadata);
}

}  // namespace hob::hf
