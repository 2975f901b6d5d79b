#include "text/hf/token_list.h"

#include <cmath>
#include <unordered_map>

#include "base/error.h"

namespace hob::hf {
namespace {

// Holes are few: a single huge id must not make a list of as many entries.
size_t max_size(size_t n_tokens) { return 2 * n_tokens + 65536; }

[[noreturn]] void bad_token(const std::string& path, TokenId id, const std::string& expected,
                            const std::string& found) {
  fail(Code::kDataLoss, "[tokenizer] {}: token {}: expected {}, file has \"{}\"", path, id,
       expected, found.substr(0, 60));
}

void put_token(TokenList& list, const std::string& path, TokenId id, const std::string& text,
               bool own) {
  const auto i = static_cast<size_t>(id);
  if (i >= list.texts.size()) {
    list.texts.resize(i + 1);
    list.types.resize(i + 1, TokenType::kUnused);
    list.own.resize(i + 1, false);
  }
  if (list.types[i] != TokenType::kUnused && list.texts[i] != text)
    bad_token(path, id, "one text, \"" + list.texts[i].substr(0, 60) + "\"", text);
  list.texts[i] = text;
  list.types[i] = TokenType::kNormal;
  if (own) list.own[i] = true;
}

void read_map(const Node& model, size_t most, TokenList& list) {
  const auto vocab = model.find("vocab");
  if (!vocab) model.refuse("an object with \"vocab\"");
  if (!vocab->value().is_object()) vocab->refuse("an object of texts and ids");
  for (const auto& [text, id] : vocab->value().items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= most) {
      fail(Code::kDataLoss, "[tokenizer] {}: expected an id below {}, file has {} for \"{}\"",
           vocab->path(), most, id.is_number() ? id.dump() : "none", text.substr(0, 60));
    }
    put_token(list, vocab->path(), id.get<TokenId>(), text, true);
  }
}

void read_pairs(const Node& model, TokenList& list) {
  const size_t n = model.list_size("vocab");
  for (size_t i = 0; i < n; ++i) {
    const Node item = model.item("vocab", i);
    const Json& pair = item.value();
    const bool good =
        pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number();
    if (!good) item.refuse("a text and a score");
    const double score = pair[1].get<double>();
    if (!std::isfinite(score)) item.refuse("a finite score");
    put_token(list, item.path(), static_cast<TokenId>(i), pair[0].get<std::string>(), true);
    list.scores.push_back(score);
  }
}

// Unused ids get a text of their own, as other readers want it.
void fill_holes(TokenList& list, const std::unordered_map<std::string, TokenId>& ids,
                size_t n_least) {
  const size_t n = std::max(n_least, list.texts.size());
  list.texts.resize(n);
  list.types.resize(n, TokenType::kUnused);
  list.own.resize(n, false);
  for (size_t i = 0; i < n; ++i) {
    if (list.types[i] != TokenType::kUnused) continue;
    list.texts[i] = fmt::format("[PAD{}]", i);
    while (ids.contains(list.texts[i])) list.texts[i] += "_";
  }
  if (!list.scores.empty()) list.scores.resize(n, -10000.0);
}

void add_added(const std::vector<AddedToken>& added, size_t most,
               std::unordered_map<std::string, TokenId>& ids, TokenList& list) {
  for (const AddedToken& token : added) {
    if (static_cast<size_t>(token.id) >= most)
      bad_token("added_tokens", token.id, fmt::format("an id below {}", most), token.text);
    const auto [known, is_new] = ids.emplace(token.text, token.id);
    if (!is_new && known->second != token.id) {
      fail(Code::kDataLoss, "[tokenizer] added_tokens: expected id {} for \"{}\", file has {}",
           known->second, token.text.substr(0, 60), token.id);
    }
    put_token(list, "added_tokens", token.id, token.text, false);
  }
}

void set_types(const Node& root, const std::vector<AddedToken>& added, TokenList& list) {
  const Node model = root.object("model");
  const bool bytes =
      model_kind(model) != ModelKind::kWordPiece && model.flag("byte_fallback", false);
  for (size_t i = 0; bytes && i < list.texts.size(); ++i) {
    const auto byte = parse_byte_token(list.texts[i]);
    if (byte && list.own[i] && list.texts[i] == fmt::format("<0x{:02X}>", *byte))
      list.types[i] = TokenType::kByte;
  }
  const std::string unknown = unknown_text(root);
  for (size_t i = 0; !unknown.empty() && i < list.texts.size(); ++i) {
    if (list.own[i] && list.texts[i] == unknown) list.types[i] = TokenType::kUnknown;
  }
  for (const AddedToken& token : added) {
    TokenType& type = list.types[static_cast<size_t>(token.id)];
    // Byte-level vocabularies never need their unknown token; there it often is the end as well.
    const bool keeps = type == TokenType::kByte ||
                       (type == TokenType::kUnknown && !(token.special && is_byte_level(root)));
    if (!keeps) type = token.special ? TokenType::kControl : TokenType::kUserDefined;
  }
}

bool names_byte_level(const Node& node, const char* list) {
  if (node.type() == "ByteLevel") return true;
  if (node.type() != "Sequence") return false;
  for (size_t i = 0; i < node.list_size(list); ++i) {
    if (names_byte_level(node.item(list, i), list)) return true;
  }
  return false;
}

TokenId frame_id(const Node& node, const Json& id, size_t n_vocab) {
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= n_vocab)
    node.refuse(fmt::format("ids below {}", n_vocab));
  return id.get<TokenId>();
}

void read_template(const Node& node, size_t n_vocab, Frame& frame) {
  bool behind = false;
  for (size_t i = 0; i < node.list_size("single"); ++i) {
    const Node item = node.item("single", i);
    if (const auto sequence = item.find("Sequence")) {
      if (behind || sequence->string("id") != "A") item.refuse("the text once");
      behind = true;
      continue;
    }
    const std::string name = item.object("SpecialToken").string("id");
    const Node known = node.object("special_tokens").object(name.c_str());
    auto& ids = behind ? frame.after : frame.before;
    for (size_t k = 0; k < known.list_size("ids"); ++k)
      ids.push_back(frame_id(known, known.value()["ids"][k], n_vocab));
  }
  if (!behind) node.refuse("a template with a place for the text");
}

// ["[CLS]", 101]
TokenId pair_id(const Node& node, const char* key, size_t n_vocab) {
  if (node.list_size(key) != 2) node.refuse("a text and an id each");
  return frame_id(node, node.value()[key][1], n_vocab);
}

void read_frame_step(const Node& node, size_t n_vocab, Frame& frame) {
  const std::string type = node.type();
  if (type == "Sequence") {
    for (size_t i = 0; i < node.list_size("processors"); ++i)
      read_frame_step(node.item("processors", i), n_vocab, frame);
  } else if (type == "TemplateProcessing") {
    Frame own;
    read_template(node, n_vocab, own);
    frame.before.insert(frame.before.begin(), own.before.begin(), own.before.end());
    frame.after.insert(frame.after.end(), own.after.begin(), own.after.end());
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    frame.before.insert(frame.before.begin(), pair_id(node, "cls", n_vocab));
    frame.after.push_back(pair_id(node, "sep", n_vocab));
  } else if (type != "ByteLevel") {  // that one only moves offsets
    fail(Code::kUnimplemented,
         "[tokenizer] {}: expected a post-processor that hob knows, file has \"{}\"", node.path(),
         type);
  }
}

}  // namespace

TokenList read_token_list(const Node& root, const std::vector<AddedToken>& added, size_t n_least) {
  const Node model = root.object("model");
  TokenList list;
  const bool pairs = model_kind(model) == ModelKind::kUnigram;
  const auto vocab = model.find("vocab");
  const size_t n_own = vocab && vocab->value().is_structured() ? vocab->value().size() : 0;
  const size_t most = max_size(n_own + added.size());
  pairs ? read_pairs(model, list) : read_map(model, most, list);
  std::unordered_map<std::string, TokenId> ids;
  for (size_t i = 0; i < list.texts.size(); ++i) {
    if (list.types[i] == TokenType::kUnused) continue;
    const auto [known, is_new] = ids.emplace(list.texts[i], static_cast<TokenId>(i));
    if (!is_new) {
      fail(Code::kDataLoss, "[tokenizer] model.vocab: expected distinct texts, \"{}\" is {} and {}",
           list.texts[i].substr(0, 60), known->second, i);
    }
  }
  add_added(added, most, ids, list);
  set_types(root, added, list);
  fill_holes(list, ids, n_least);
  if (list.texts.empty())
    fail(Code::kDataLoss, "[tokenizer] model.vocab: expected tokens, file has none");
  return list;
}

bool is_byte_level(const Node& root) {
  const auto normalizer = root.find("normalizer");
  const auto pre_tokenizer = root.find("pre_tokenizer");
  return (pre_tokenizer && names_byte_level(*pre_tokenizer, "pretokenizers")) ||
         (normalizer && names_byte_level(*normalizer, "normalizers"));
}

std::string unknown_text(const Node& root) {
  const Node model = root.object("model");
  if (model_kind(model) != ModelKind::kUnigram) {
    const bool piece = model_kind(model) == ModelKind::kWordPiece;
    return model.find_string("unk_token").value_or(piece ? "[UNK]" : "");
  }
  if (!model.find("unk_id")) return "";
  const auto n = static_cast<int64_t>(model.list_size("vocab"));
  const auto id = static_cast<size_t>(model.integer("unk_id", 0, n - 1));
  return model.item("vocab", id).value()[0].get<std::string>();
}

Frame read_frame(const Node& root, size_t n_vocab) {
  Frame frame;
  if (const auto node = root.find("post_processor")) read_frame_step(*node, n_vocab, frame);
  return frame;
}

}  // namespace hob::hf
