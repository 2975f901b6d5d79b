#include "unit/text/hf_util.h"

#include <stdlib.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/unicode.h"

namespace hob::testing_text {

namespace fs = std::filesystem;

HfFolder::HfFolder() {
  std::string pattern = (fs::temp_directory_path() / "hob_hf_XXXXXX").string();
  HOB_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

HfFolder::~HfFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void HfFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
}

Metadata HfFolder::metadata(const HfTokenizerOptions& options) const {
  Metadata metadata;
  add_hf_tokenizer(path(), metadata, options);
  return metadata;
}

std::string HfFolder::error() const {
  try {
    Tokenizer::from_gguf(metadata({.for_file = false}));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string hf_json(const HfParts& parts) {
  nlohmann::json vocab = nlohmann::json::object();
  size_t n = 0;
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(byte_to_code_point(static_cast<uint8_t>(byte)), text);
    vocab[text] = n++;
  }
  for (const auto& text : nlohmann::json::parse(parts.more)) vocab[text.get<std::string>()] = n++;
  return "{\"version\": \"1.0\", \"added_tokens\": " + parts.added +
         ", \"normalizer\": " + parts.normalizer + ", \"pre_tokenizer\": " + parts.pre_tokenizer +
         ", \"post_processor\": " + parts.post_processor + ", \"decoder\": " + parts.decoder +
         ", \"model\": {\"type\": \"BPE\", " + parts.model_options + "\"vocab\": " + vocab.dump() +
         ", \"merges\": " + parts.merges + "}}";
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace hob::testing_text
