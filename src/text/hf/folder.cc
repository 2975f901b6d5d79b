#include "text/hf/folder.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace hob::hf {
namespace {

namespace fs = std::filesystem;

struct Special {
  const char* name;  // in Hugging Face's files: name_token, name_token_id
  const char* key;   // in GGUF: tokenizer.ggml.key_token_id
  bool required;     // a text that is no token is an error
};
constexpr Special kSpecials[] = {
    {"bos", "bos", true},        {"eos", "eos", true},  {"unk", "unknown", false},
    {"sep", "seperator", false},  // sic
    {"pad", "padding", false},   {"cls", "cls", false}, {"mask", "mask", false},
};

std::string gguf_key(const std::string& key) { return "tokenizer.ggml." + key + "_token_id"; }

// An object file of the folder, an empty one when there is none.
Json read_object(const std::string& dir, const char* name) {
  const std::optional<std::string> text = read_file(dir, name);
  return text ? parse_object(*text, name) : Json::object();
}

// "bos_token": a text, or an object with "content".
std::optional<std::string> token_text(const Node& config, const std::string& key) {
  const auto node = config.find(key.c_str());
  if (!node) return std::nullopt;
  if (node->value().is_object()) return node->find_string("content");
  // Some files have false for none.
  return node->value().is_string() ? config.find_string(key.c_str()) : std::nullopt;
}

class SpecialIds {
 public:
  SpecialIds(const std::string& dir, const TokenList& list)
      : list_(list),
        config_(read_object(dir, "tokenizer_config.json")),
        map_(read_object(dir, "special_tokens_map.json")),
        generation_(read_object(dir, "generation_config.json")),
        model_(read_object(dir, "config.json")) {}

  const Json& config() const { return config_; }
  std::optional<TokenId> find(const Special& special) const {
    const std::string key = std::string(special.name) + "_token";
    for (const auto& [file, name] : texts()) {
      const auto text = token_text(Node(*file, name), key);
      if (!text || text->empty()) continue;
      const auto id = id_of(*text);
      if (!id && special.required) {
        fail(Code::kDataLoss,
             "[tokenizer] {}.{}: expected a token of the vocabulary, \"{}\" is none", name, key,
             text->substr(0, 60));
      }
      if (id) return id;
    }
    for (const auto& [file, name] : ids()) {
      const std::vector<TokenId> all = ids_at(Node(*file, name), key + "_id");
      if (!all.empty()) return all.front();
    }
    return std::nullopt;
  }
  // All that generation_config.json (or config.json) lets an answer end with.
  std::vector<TokenId> ends() const {
    for (const auto& [file, name] : ids()) {
      std::vector<TokenId> all = ids_at(Node(*file, name), "eos_token_id");
      if (!all.empty()) return all;
    }
    return {};
  }

 private:
  using File = std::pair<const Json*, const char*>;
  std::vector<File> texts() const {
    return {{&config_, "tokenizer_config.json"}, {&map_, "special_tokens_map.json"}};
  }
  std::vector<File> ids() const {
    return {{&generation_, "generation_config.json"}, {&model_, "config.json"}};
  }
  std::optional<TokenId> id_of(const std::string& text) const {
    const auto at = std::find(list_.texts.begin(), list_.texts.end(), text);
    if (at == list_.texts.end()) return std::nullopt;
    return static_cast<TokenId>(at - list_.texts.begin());
  }
  // A number, a list of them, or none (null, -1).
  std::vector<TokenId> ids_at(const Node& node, const std::string& key) const {
    const auto entry = node.find(key.c_str());
    if (!entry) return {};
    const Json list = entry->value().is_array() ? entry->value() : Json::array({entry->value()});
    std::vector<TokenId> all;
    for (const Json& id : list) {
      if (id.is_number_integer() && id == -1) continue;
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= list_.texts.size())
        entry->refuse(fmt::format("ids below {}", list_.texts.size()));
      all.push_back(id.get<TokenId>());
    }
    return all;
  }

  const TokenList& list_;
  Json config_, map_, generation_, model_;
};

void set_id(Metadata& metadata, const std::string& key, std::optional<TokenId> id) {
  if (id && !metadata.has(gguf_key(key))) metadata.set(gguf_key(key), static_cast<uint64_t>(*id));
}

// Further ends of an answer: GGUF has a key for the end of a turn and one for that of a message.
void add_more_ends(const TokenList& list, const std::vector<TokenId>& ends, Metadata& metadata) {
  const std::optional<uint64_t> eos = metadata.find_uint(gguf_key("eos"));
  for (const TokenId id : ends) {
    if (eos && *eos == static_cast<uint64_t>(id)) continue;
    const bool message = list.texts[static_cast<size_t>(id)].find("eom") != std::string::npos;
    set_id(metadata, message || metadata.has(gguf_key("eot")) ? "eom" : "eot", id);
  }
}

bool begins_with(const std::vector<TokenId>& ids, std::optional<uint64_t> id) {
  return id && !ids.empty() && static_cast<uint64_t>(ids.front()) == *id;
}

void set_template(const Node& entry, Metadata& metadata) {
  if (entry.value().is_string()) {
    metadata.set("tokenizer.chat_template", entry.value().get<std::string>());
    return;
  }
  if (!entry.value().is_array()) entry.refuse("a text or a list of templates");
  std::vector<std::string> names;
  for (size_t i = 0; i < entry.value().size(); ++i) {
    const Node item(entry.value()[i], fmt::format("{}[{}]", entry.path(), i));
    const std::string name = item.string("name");
    const std::string key = name == "default" ? "" : "." + name;
    metadata.set("tokenizer.chat_template" + key, item.string("template"));
    if (name != "default") names.push_back(name);
  }
  if (!names.empty()) metadata.set("tokenizer.chat_templates", std::move(names));
}

}  // namespace

std::optional<std::string> read_file(const std::string& dir, const std::string& name) {
  const fs::path path = fs::path(dir) / name;
  std::error_code error;
  if (!fs::exists(path, error) && !error) return std::nullopt;
  if (error || !fs::is_regular_file(path, error)) {
    fail(Code::kIo, "[tokenizer] {}: expected a file, it is none{}{}", path.string(),
         error ? ": " : "", error ? error.message() : "");
  }
  const uintmax_t size = fs::file_size(path, error);
  if (error || size > kMaxFileBytes) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected at most {} bytes, it has {}", path.string(),
         kMaxFileBytes, error ? 0 : size);
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size)) || in.peek() != EOF)
    fail(Code::kIo, "[tokenizer] {}: expected to read {} bytes, could not", path.string(), size);
  return text;
}

void add_special_ids(const std::string& dir, const Node& root, const TokenList& list,
                     Metadata& metadata) {
  const SpecialIds ids(dir, list);
  for (const Special& special : kSpecials) set_id(metadata, special.key, ids.find(special));
  // BERT's words for the same.
  set_id(metadata, "bos", ids.find(kSpecials[5]));
  set_id(metadata, "eos", ids.find(kSpecials[3]));
  add_more_ends(list, ids.ends(), metadata);

  const Frame frame = read_frame(root, list.texts.size());
  // Files without tokenizer_config.json: what the post-processor puts there must be these.
  if (frame.before.size() == 1) set_id(metadata, "bos", frame.before.front());
  if (frame.after.size() == 1) set_id(metadata, "eos", frame.after.front());
  const auto bos = metadata.find_uint(gguf_key("bos")), eos = metadata.find_uint(gguf_key("eos"));
  const Node config(ids.config(), "tokenizer_config.json");
  const bool add_bos = config.flag("add_bos_token", begins_with(frame.before, bos));
  const bool add_eos = config.flag("add_eos_token", begins_with(frame.after, eos));
  metadata.set("tokenizer.ggml.add_bos_token", add_bos && bos.has_value());
  metadata.set("tokenizer.ggml.add_eos_token", add_eos && eos.has_value());
}

void add_chat_template(const std::string& dir, Metadata& metadata) {
  const Json config = read_object(dir, "tokenizer_config.json");
  const Json alone = read_object(dir, "chat_template.json");
  if (const auto entry = Node(config, "tokenizer_config.json").find("chat_template")) {
    set_template(*entry, metadata);
  } else if (const auto text = read_file(dir, "chat_template.jinja")) {
    metadata.set("tokenizer.chat_template", *text);
  } else if (const auto other = Node(alone, "chat_template.json").find("chat_template")) {
    set_template(*other, metadata);
  }
}

}  // namespace hob::hf
