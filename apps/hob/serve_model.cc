#include "serve_model.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/hash.h"
#include "command.h"
#include "format/fingerprint.h"
#include "tensor/dtype.h"

namespace hob::app {
namespace {

// The type that holds most bytes.
std::string main_type(const ModelFile& file) {
  std::map<std::string_view, uint64_t> bytes;
  for (const RawTensor& t : file.tensors()) bytes[dtype_info(t.dtype).name] += t.n_bytes;
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "" : std::string(most->first);
}

// 64 hex digits, as Ollama's clients expect. Not a SHA-256 of the file, which would read all of it.
std::string digest_of(const ModelFile& file) {
  const ModelFingerprint print = fingerprint_of(file);
  std::string out;
  for (uint64_t part = 0; part < 4; part++) {
    Hash64 hash;
    hash.add(std::as_bytes(std::span(&part, 1)));
    for (const ModelFingerprint::File& f : print.files) {
      const uint64_t values[] = {f.n_bytes, f.header_hash, f.experts_hash};
      hash.add(std::as_bytes(std::span(values)));
    }
    out += fmt::format("{:016x}", hash.value());
  }
  return out;
}

constexpr ChatFormat kFormats[] = {ChatFormat::kChatMl,   ChatFormat::kLlama2, ChatFormat::kMistral,
                                   ChatFormat::kLlama3,   ChatFormat::kGemma,  ChatFormat::kPhi3,
                                   ChatFormat::kDeepSeek, ChatFormat::kZephyr};

}  // namespace

std::string model_name_of(const std::string& path) {
  std::string name = std::filesystem::path(path).stem().string();
  // "-00001-of-00003" of a split model
  constexpr size_t kShard = 15;
  if (name.size() > kShard && name[name.size() - kShard] == '-' &&
      name.substr(name.size() - 9, 4) == "-of-")
    name.resize(name.size() - kShard);
  return name;
}

ModelFacts model_facts(const ModelSession& session, const std::vector<std::string>& names) {
  const ModelSpec& spec = session.layout().spec;
  ModelFacts f;
  f.path = session.options().path;
  const std::string own = model_name_of(f.path);
  f.name = names.empty() ? own : names[0];
  if (names.size() > 1) f.aliases.assign(names.begin() + 1, names.end());
  f.arch = spec.arch;
  f.quantisation = main_type(session.file());
  f.chat_template = session.file().metadata().find_string("tokenizer.chat_template").value_or("");
  f.digest = digest_of(session.file());
  for (const RawTensor& t : session.file().tensors())
    f.n_params += static_cast<uint64_t>(t.shape.n_elements());
  f.file_bytes = session.file().total_bytes();
  f.memory_bytes = session.plan().peak_bytes;
  struct stat info {};
  if (stat(f.path.c_str(), &info) == 0) f.modified = info.st_mtime;
  f.loaded = std::time(nullptr);
  f.n_ctx_train = spec.n_ctx_train;
  f.d_model = spec.d_model;
  f.n_layers = spec.n_layers;
  return f;
}

std::optional<ChatTemplate> served_chat(const Metadata& metadata, const std::string& format) {
  if (format.empty()) {
    const auto text = metadata.find_string("tokenizer.chat_template");
    return text ? detect_chat_template(*text) : std::nullopt;
  }
  std::string known;
  for (ChatFormat f : kFormats) {
    if (chat_format_name(f) == format) return standard_chat_template(f);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", chat_format_name(f));
  }
  throw UsageError(
      fmt::format("[usage] --chat-format: expected one of {}, got '{}'", known, format));
}

}  // namespace hob::app
